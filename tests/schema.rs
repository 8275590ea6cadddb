//! Tests of the JSON schemas: the committed ones are those of the program, they accept every
//! shipped file, and they refuse nothing that the program accepts.

mod common;

use common::{Bench, fixture};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use touchstone::experiment::{Experiment, Selection, claims_schema, experiment_schema};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file with line ends as on Unix.
fn text(path: &Path) -> String {
    let text = fs::read_to_string(path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .replace("\r\n", "\n")
}

fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn parsed(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap();
    serde_json::to_value(table).unwrap()
}

/// The faults that a schema finds, each with its place.
fn faults(schema: &Validator, document: &Value) -> Vec<String> {
    let faults = schema.iter_errors(document);
    faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::draft7::meta::validate(schema).unwrap();
    jsonschema::draft7::new(schema).unwrap()
}

#[test]
fn the_committed_schemas_are_those_of_the_program() {
    let bench = Bench::new();
    for (words, path) in [
        ("schema", "experiments/schema.json"),
        ("schema claims", "experiments/claims/schema.json"),
    ] {
        let now = bench.succeed(words).out;
        assert!(
            text(&root(path)) == now,
            "{path} is not the program's schema any more; renew it with\n  cargo run --release -- {words} > {path}"
        );
    }
}

#[test]
fn every_shipped_file_is_accepted() {
    let experiments = validator(&experiment_schema());
    let mut files = toml_files(&root("experiments"));
    files.extend(toml_files(&fixture("experiments")));
    files.extend(["benches/peer/study.toml", "benches/real/real.toml"].map(root));
    for path in files {
        let found = faults(&experiments, &parsed(&text(&path)));
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
    let claims = validator(&claims_schema());
    for path in toml_files(&root("experiments/claims")) {
        let found = faults(&claims, &parsed(&text(&path)));
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

#[test]
fn every_form_of_an_override_is_accepted() {
    let schema = validator(&experiment_schema());
    for fine in [
        "sft.tuning = \"none\"",
        "sft.as_long_as = { method = \"irl\", unit = \"flops\" }",
        "registration = { file = \"claims/mine.toml\" }",
        "registration = \"none\"",
        "[profile.x]\nseeds = \"paper\"\nppo.optimiser.clip_norm = 0",
        "[profile.x]\nseeds = [1, 2]",
        "[scale.x]\ndata.posts = \"posts\"\nppo = { updates = 2 }",
        "[models.x]\narchitecture = { rope_scaling = { factor = 8.0 } }",
        "[[method]]\nid = \"a\"\nlabel = \"A\"\nrecipe = { pairs = [\"own\"], step = \"spin\" }\nspin.beta = 1",
        "[world.posts]\nother_event = 1",
    ] {
        let document = parsed(&format!("extends = \"tldr\"\n{fine}"));
        assert_eq!(faults(&schema, &document), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn mistakes_are_refused_by_schema_and_program() {
    let schema = validator(&experiment_schema());
    let bench = Bench::new();
    for wrong in [
        "ppo.updats = 3",
        "ppo.updates = 0",
        "ppo.updates = \"3\"",
        "ppo.critic = \"no_head\"",
        "sft.tuning = \"off\"",
        "dpo.as_long_as = { method = \"irl\", unit = \"flops\" }",
        "extends = 3",
        "[profile.standard]\nseed = 3",
        "[scale.mini]\ndata.post = \"posts\"",
        "[models.\"mini-1b\"]\nhidden_size = 0",
        "[models.\"mini-1b\"]\narchitecture = { model_type = \"gpt2\" }",
        "[world.posts]\nother_event = 1.5",
        "[[method]]\nid = \"sft\"\nrecipe = \"sft\"",
        "[[method]]\nid = \"sft\"\nlabel = \"SFT\"\nrecipe = \"stf\"",
        "[[method]]\nid = \"sft\"\nlabel = \"SFT\"\nrecipe = { setp = \"ppo\" }",
        "[[claim]]\nid = \"a\"",
        "[[report.column]]\nmetric = \"gold\"",
        "[[ablation]]\nid = \"a\"",
        "method = []",
    ] {
        let extends = if wrong.starts_with("extends") {
            ""
        } else {
            "extends = \"tldr\"\n"
        };
        let content = format!("{extends}{wrong}\n");
        assert!(!schema.is_valid(&parsed(&content)), "{wrong}");
        let path = bench.write("wrong.toml", &content);
        assert!(Experiment::load(path.to_str().unwrap()).is_err(), "{wrong}");
    }
    // Without `extends` a file must be complete.
    let alone = parsed("name = \"alone\"");
    assert!(
        faults(&schema, &alone)
            .iter()
            .any(|fault| fault.contains("models"))
    );
}

/// Values that only the program refuses, because of other keys.
const BY_OTHER_KEYS: [(&str, &str); 4] = [
    ("grpo.rollouts", "1"),
    ("grpo.rollouts", "2"),
    ("rloo.rollouts", "1"),
    ("rloo.rollouts", "2"),
];

#[test]
fn bounds_are_those_of_the_program() {
    let schema = experiment_schema();
    let validator = validator(&schema);
    let study = Experiment::load("tldr").unwrap();
    let mut probed = 0;
    let mut only_the_program = Vec::new();
    for (section, key) in numbers(&schema) {
        for probe in ["-1", "0", "0.5", "1", "1.5", "2"] {
            probed += 1;
            let path = format!("{section}.{key}");
            let setting = format!("{path} = {probe}");
            let by_schema = validator.is_valid(&parsed(&format!("extends = \"tldr\"\n{setting}")));
            let searches =
                ["sft", "iq_learn", "dpo"].map(|section| format!("{section}.tuning=none"));
            // A judge is a server and a model before anything else.
            let judge = ["base_url=\"http://h/v1\"", "model=\"j\""]
                .iter()
                .filter(|_| path.starts_with("evaluation.judge."))
                .map(|of_judge| format!("evaluation.judge.{of_judge}"));
            let resolved = study.resolve(&Selection {
                set: searches
                    .into_iter()
                    .chain(judge)
                    .chain([setting.replace(' ', "")])
                    .collect(),
                ..Selection::default()
            });
            match (by_schema, resolved) {
                (true, Ok(_)) | (false, Err(_)) => {}
                (true, Err(error)) => only_the_program.push((path, probe, error.to_string())),
                (false, Ok(_)) => panic!("the schema refuses {setting}, but the program takes it"),
            }
        }
    }
    assert!(probed > 500, "{probed}");
    let expected = BY_OTHER_KEYS;
    let found: Vec<_> = only_the_program
        .iter()
        .map(|(path, probe, _)| (path.as_str(), *probe))
        .collect();
    assert_eq!(found, expected, "{only_the_program:#?}");
}

#[test]
fn a_bound_is_stated_in_words() {
    let bench = Bench::new();
    for (setting, words) in [
        ("ppo.updates = 0", "at least 1, but is 0"),
        ("ppo.clip = 0", "above 0, but is 0"),
        ("ppo.kl_coefficient = -1.5", "0 or more, but is -1.5"),
        ("ppo.gamma = 1.1", "between 0 and 1, but is 1.1"),
        (
            "ppo.optimiser.beta_1 = 1",
            "at least 0 and below 1, but is 1",
        ),
        // 1 in 32 bits.
        (
            "ppo.optimiser.beta_2 = 0.99999999999",
            "at least 0 and below 1, but is 0.99999999999",
        ),
        ("filtered_bc.keep = 0", "above 0 and at most 1, but is 0"),
        (
            "preferences.agreement = 0.5",
            "above 0.5 and below 1, but is 0.5",
        ),
        (
            "rloo.samples = 1",
            "at least 2 and a divisor of rloo.rollouts = 64, but is 1",
        ),
        ("world.posts.off_topic = -1", "between 0 and 1, but is -1"),
    ] {
        let path = bench.write("wrong.toml", format!("extends = \"tldr\"\n{setting}\n"));
        let error = Experiment::load(path.to_str().unwrap())
            .unwrap_err()
            .to_string();
        let key = setting.split(' ').next().unwrap();
        assert_eq!(error, format!("`{key}` must be {words}"));
    }
}

/// The hyper-parameters that are numbers: section, and key with the tables inside the section.
fn numbers(schema: &Value) -> Vec<(String, String)> {
    let definition = |schema: &Value| {
        let one = schema.pointer("/allOf/0").unwrap_or(schema);
        let name = one
            .get("$ref")?
            .as_str()?
            .strip_prefix("#/definitions/")?
            .to_owned();
        Some(name)
    };
    let method = &schema["properties"]["method"]["items"]["properties"];
    let mut found = Vec::new();
    for (section, entry) in method.as_object().unwrap() {
        let Some(name) = definition(entry) else {
            continue;
        };
        let mut open = vec![(String::new(), schema["definitions"][&name].clone())];
        while let Some((above, table)) = open.pop() {
            let empty = json!({});
            for (key, value) in table
                .get("properties")
                .unwrap_or(&empty)
                .as_object()
                .unwrap()
            {
                let path = format!("{above}{key}");
                match value["type"].as_str() {
                    // A flaw has two keys, neither of which can be given alone.
                    _ if ["plain", "provoked"].contains(&key.as_str()) => {}
                    Some("integer" | "number") => found.push((section.clone(), path)),
                    _ => open
                        .extend(definition(value).map(|name| {
                            (format!("{path}."), schema["definitions"][&name].clone())
                        })),
                }
            }
        }
    }
    found
}
