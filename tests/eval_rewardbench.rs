//! RewardBench: item by item what transformers computes by the references' rules, their section
//! arithmetic, their result file, and what is refused.

mod common;
#[cfg(feature = "hub")]
mod hub_server;

use common::{Bench, fixture};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use touchstone::benchmarks::rewardbench::Convention;
use touchstone::benchmarks::rewardbench::encode::Kind;
use touchstone::benchmarks::rewardbench::result_file::{About, result};
use touchstone::benchmarks::rewardbench::scores::Rewards;
use touchstone::benchmarks::rewardbench::sections::section_scores;
use touchstone::benchmarks::{Evaluation, MODEL};
use touchstone::data::rows;

/// The miniature with all 23 subsets.
fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/rewardbench-mini.jsonl")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn goldens() -> Value {
    json_of(&fixture("rewardbench/goldens.json"))
}

/// A file of the references' data, which is not in this repository.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn shared(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TOUCHSTONE_SHARED_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: there is no {}", path.display());
    None
}

/// The models of the fixtures, with the tokenizer's configuration of one case and its padding id.
fn models(bench: &Bench, tokenizer_config: &Value) {
    for name in ["classifier", "policy", "reference"] {
        bench.copy(&fixture(&format!("rewardbench/{name}")), name);
        bench.copy(&fixture("chat/llama"), name);
        bench.write(
            format!("{name}/tokenizer_config.json"),
            tokenizer_config.to_string(),
        );
        if let Some(pad) = tokenizer_config["pad_id"].as_u64() {
            let mut config = json_of(&bench.path(format!("{name}/config.json")));
            config["pad_token_id"] = json!(pad);
            bench.write(format!("{name}/config.json"), config.to_string());
        }
    }
}

/// The folder with the models of the case `name`.
fn bench(name: &str) -> Bench {
    let goldens = goldens();
    let cases = goldens["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["name"] == name).unwrap();
    let bench = Bench::new();
    models(&bench, &case["tokenizer_config"]);
    bench.write("mini.jsonl", fs::read(mini()).unwrap());
    bench
}

/// A row of a subset, whose prompt and responses are `cells`.
fn row(subset: &str, cells: &str) -> String {
    format!(r#"{{"subset": "{subset}", {cells}}}"#)
}

const CELLS: &str = r#""prompt": "one", "chosen": "two", "rejected": "three four""#;

/// Rewards agree to 1e-4, and to 1e-6 of a sum of hundreds of log-probabilities: transformers computed
/// in float64. Verdicts are equal.
#[test]
fn rewards_are_those_of_transformers() {
    let bench = Bench::new();
    let rows = [mini(), fixture("rewardbench/rows.jsonl")].map(|path| fs::read(path).unwrap());
    bench.write("rows.jsonl", rows.concat());
    for case in goldens()["cases"].as_array().unwrap() {
        models(&bench, &case["tokenizer_config"]);
        let (name, args) = (&case["name"], case["args"].as_str().unwrap());
        bench.succeed(&format!(
            "eval rewardbench {args} --data rows.jsonl --out out"
        ));
        let scores = json_of(&bench.path("out/eval-set-scores.json"));
        let evaluation = Evaluation::read(&bench.path("out")).unwrap();
        let items: Vec<_> = evaluation
            .items
            .iter()
            .filter(|it| it.scorer == MODEL)
            .collect();
        let expected = |side: &str| case[side].as_array().unwrap().clone();
        let (chosen, rejected) = (expected("chosen"), expected("rejected"));
        assert_eq!((items.len(), chosen.len()), (41, 41));
        let tie = match evaluation.summary.convention.as_str() {
            "rlhflow" => 0.5,
            _ => 0.0,
        };
        for (index, item) in items.iter().enumerate() {
            let sides = [("chosen", &chosen), ("rejected", &rejected)].map(|(side, expected)| {
                let (ours, theirs) = (
                    scores[format!("scores_{side}")][index].as_f64().unwrap(),
                    expected[index].as_f64().unwrap(),
                );
                assert!(
                    (ours - theirs).abs() <= 1e-4 + 1e-6 * theirs.abs(),
                    "{name}, item {}: {side} has {ours}, not {theirs}",
                    item.item
                );
                theirs
            });
            let verdict = match sides {
                [chosen, rejected] if chosen > rejected => 1.0,
                [chosen, rejected] if chosen == rejected => tie,
                _ => 0.0,
            };
            assert_eq!(item.value, Some(verdict), "{name}, item {}", item.item);
            assert_eq!(scores["results"][index], verdict);
        }
    }
}

/// The published data set's files in miniature (`fixtures/rewardbench/hub.py`) have the rows of the
/// miniature.
#[cfg(feature = "hub")]
#[test]
fn the_published_data_set_is_read_from_the_hub() {
    use hub_server::{COMMIT, Server};
    let case = &goldens()["cases"][0];
    let bench = bench(case["name"].as_str().unwrap());
    let folder = bench.copy(&fixture("rewardbench/hub"), "repository");
    bench.write("repository/README.md", "---\n");
    let server = Server::start("datasets/allenai/reward-bench", &folder);
    let words = |data: &str| {
        let args = case["args"].as_str().unwrap();
        format!("eval rewardbench {args} --data {data} --out out")
    };
    let items = |words: &str| {
        let mut command = bench.command(words);
        command
            .env_remove("HF_TOKEN")
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_HOME", "hf")
            .env("HF_ENDPOINT", server.endpoint())
            .env("NO_PROXY", "127.0.0.1,localhost");
        let said = common::Said::from(command.output().unwrap());
        assert_eq!(said.code, Some(0), "{}", said.err);
        bench.read("out/items.jsonl")
    };
    let local = items(&words("mini.jsonl"));
    assert_eq!(items(&words("hub")), local);
    let evaluation = json_of(&bench.path("out/evaluation.json"));
    assert_eq!(evaluation["identity"]["commit"], COMMIT);
    let address = "hf:datasets/allenai/reward-bench@main";
    assert_eq!(items(&words(address)), local);
    // The other split has a pair more.
    let raw = items(&words(&format!("{address} --split raw")));
    assert!(raw.lines().count() > local.lines().count());
}

fn section_case(accuracies: &BTreeMap<String, f64>, shares: &Value, percents: &Value) {
    let number = |value: &Value| value.as_f64();
    for score in section_scores(accuracies, Convention::Allenai) {
        assert_eq!(score.share(), number(&shares[score.name]), "{}", score.name);
    }
    for score in section_scores(accuracies, Convention::Rlhflow) {
        assert_eq!(
            score.percent(),
            number(&percents[score.name]),
            "{}",
            score.name
        );
    }
}

fn accuracies(value: &Value) -> BTreeMap<String, f64> {
    let numbers = value.as_object().unwrap().iter();
    numbers
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
        .collect()
}

/// Equality to the last bit with Python's sums.
#[test]
fn sections_are_those_of_both_references() {
    for case in goldens()["sections"].as_array().unwrap() {
        section_case(
            &accuracies(&case["accuracies"]),
            &case["allenai"],
            &case["rlhflow"],
        );
    }
}

#[test]
fn published_sections_are_reproduced() {
    let (Some(goldens), Some(published)) = (
        shared("evals/rewardbench/section_goldens.json"),
        shared("rewardbench/results_GPM-Gemma-2B.json"),
    ) else {
        return;
    };
    let (goldens, text) = (json_of(&goldens), fs::read_to_string(published).unwrap());
    let gpm = accuracies(&serde_json::from_str(&text).unwrap());
    let beaver = &goldens["beaver"];
    section_case(
        &accuracies(&beaver["results"]),
        &beaver["sections_allenai"],
        &beaver["sections_rlhflow_swapped_percent"],
    );
    let of_gpm = &goldens["GPM-Gemma-2B"];
    section_case(
        &gpm,
        &of_gpm["sections_allenai"],
        &of_gpm["sections_rlhflow_swapped_percent"],
    );
    let zero_if_absent = |accuracies: &BTreeMap<String, f64>, expected: &Value| {
        for score in section_scores(accuracies, Convention::Allenai) {
            assert_eq!(
                score.share().unwrap_or(0.0),
                expected[score.name].as_f64().unwrap()
            );
        }
    };
    let without = gpm.iter().filter(|(name, _)| *name != "math-prm");
    zero_if_absent(
        &without
            .map(|(name, value)| (name.clone(), *value))
            .collect(),
        &goldens["GPM-Gemma-2B without math-prm"]["sections_allenai"],
    );
    zero_if_absent(
        &[("llmbar-natural".to_owned(), 0.71)].into(),
        &goldens["only llmbar-natural 0.71"]["sections_allenai"],
    );
    let average = |accuracies: &BTreeMap<String, f64>| {
        let shares = section_scores(accuracies, Convention::Allenai).map(|it| it.share().unwrap());
        shares.iter().sum::<f64>() / 4.0
    };
    assert_eq!(average(&gpm), of_gpm["average_of_4"].as_f64().unwrap());
    assert_eq!(
        average(&accuracies(&beaver["results"])),
        beaver["average_of_4"].as_f64().unwrap()
    );
    let rules = &goldens["tie rules"];
    for (index, pair) in rules["pairs"].as_array().unwrap().iter().enumerate() {
        let [chosen, rejected] = [0, 1].map(|side| pair[side].as_f64().unwrap());
        for convention in [Convention::Allenai, Convention::Rlhflow] {
            let expected = rules[convention.name()][index].as_f64().unwrap();
            assert_eq!(convention.score(chosen, rejected), expected);
        }
    }
    // A published file of a custom classifier; only the name of its kind is not one of ours.
    let about = About {
        model: "general-preference/GPM-Gemma-2B".into(),
        kind: Kind::Reward,
        reference: None,
        template: "tokenizer".into(),
    };
    let ours = result(&about, &gpm).unwrap();
    assert_eq!(ours.replace("Seq. Classifier", "Custom Classifier"), text);
}

/// Averages that an [`Evaluation`] implies for the model.
fn implied(evaluation: &Evaluation, name: &str) -> f64 {
    let aggregate = evaluation
        .summary
        .aggregates
        .iter()
        .find(|it| it.name == name);
    let parts = &aggregate.unwrap().parts;
    let mean = |task: &str, metric: &str| {
        let values: Vec<f64> = evaluation
            .scores(MODEL, task, metric)
            .map(|it| it.value.unwrap())
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let total: f64 = parts.iter().map(|part| part.weight).sum();
    let weighted = parts
        .iter()
        .map(|part| part.weight * mean(&part.task, &part.metric));
    weighted.sum::<f64>() / total
}

#[test]
fn aggregates_imply_the_sections_of_the_result_file() {
    let bench = bench("classifier");
    for convention in [Convention::Allenai, Convention::Rlhflow] {
        let said = bench.succeed(&format!(
            "eval rewardbench --model classifier --kind reward --data mini.jsonl --convention {convention} --out out"
        ));
        let evaluation = Evaluation::read(&bench.path("out")).unwrap();
        let accuracies = accuracies(&json_of(&bench.path("out/eval-set.json")));
        assert_eq!(accuracies.len(), 23);
        let sections = section_scores(&accuracies, convention);
        for score in &sections {
            let share = score.share().unwrap();
            assert!((implied(&evaluation, score.name) - share).abs() < 1e-12);
        }
        let average = sections.iter().map(|it| it.share().unwrap()).sum::<f64>() / 4.0;
        assert!((implied(&evaluation, "average") - average).abs() < 1e-12);
        let line = said
            .out
            .lines()
            .find(|line| line.starts_with("sections ("))
            .unwrap();
        let printed = match convention {
            Convention::Allenai => sections[2].share(),
            Convention::Rlhflow => sections[2].percent(),
        };
        assert!(
            line.contains(&format!("Safety {}", printed.unwrap())),
            "{line}"
        );
        assert!(
            said.out
                .contains("note: no ties: the rewards of all 37 pairs differ")
        );
        let clusters: Vec<&str> = ["alpacaeval-easy", "alpacaeval-hard"]
            .iter()
            .flat_map(|task| evaluation.scores(MODEL, task, "accuracy"))
            .filter(|it| ["0", "36"].contains(&it.item.as_str()))
            .map(|it| it.cluster.as_str())
            .collect();
        assert!(clusters.len() == 2 && clusters[0] == clusters[1]);
    }
}

#[test]
fn an_interrupted_evaluation_goes_on_and_another_one_starts_anew() {
    let bench = bench("implicit");
    let words = "eval rewardbench --model policy --kind implicit --reference reference --data mini.jsonl --out out";
    bench.succeed(words);
    assert!(!bench.path("out.unfinished").exists());
    let identity = json_of(&bench.path("out/evaluation.json"))["identity"].clone();
    // Rewards that no model gave stand for those of an interrupted run.
    let kept = Rewards {
        chosen: Some(7.0),
        rejected: Some(7.0),
        log_probabilities: Some([Some(-1.0), Some(-2.0)]),
    };
    let interrupt = || {
        bench.write("out.unfinished/identity.json", identity.to_string());
        let path = bench.write("out.unfinished/rewards.jsonl", "");
        rows::append(&path, 0, &[kept; 20]).unwrap();
    };
    interrupt();
    let said = bench.succeed(words);
    assert!(
        said.err.contains("going on with 20 of 37 pairs"),
        "{}",
        said.err
    );
    assert!(
        said.out.contains("note: 20 of 37 pairs tie exactly"),
        "{}",
        said.out
    );
    interrupt();
    let said = bench.succeed(&format!("{words} --max-length 300"));
    assert!(!said.err.contains("going on"), "{}", said.err);
    assert!(said.out.contains("note: no ties"), "{}", said.out);
}

/// Output of a run that fails, with the folder left out.
fn refused(bench: &Bench, words: &str) -> String {
    let said = bench.run(&format!("eval rewardbench {words} --out out"));
    assert_ne!(said.code, Some(0), "{words}: {}", said.out);
    assert!(!bench.path("out").exists(), "{words}");
    said.err
}

#[test]
fn what_cannot_be_ranked_is_refused_with_a_remedy() {
    let bench = bench("classifier without a template");
    let lines = |rows: &[String]| rows.join("\n");
    bench.write("good.jsonl", row("hep-go", CELLS));
    bench.write(
        "subset.jsonl",
        lines(&[row("hep-go", CELLS), row("hep-c", CELLS)]),
    );
    bench.write(
        "schema.jsonl",
        r#"{"question": "q", "chosen": "a", "rejected": "b"}"#,
    );
    bench.write("empty.jsonl", "");
    let long = CELLS.replace("one", &"one ".repeat(600));
    bench.write("long.jsonl", row("hep-go", &long));
    bench.write("none.jsonl", format!("{{{CELLS}}}"));
    bench.write("other/notes.txt", "mine");
    let (rm, policy) = (
        "--model classifier --kind reward --template tulu",
        "--model policy --kind implicit --template tulu",
    );
    let told = [
        format!("{rm} --data subset.jsonl"),
        format!("{rm} --data schema.jsonl"),
        format!("{rm} --data empty.jsonl"),
        format!("{rm} --data long.jsonl"),
        format!("{rm} --data none.jsonl"),
        format!("{rm} --data good.jsonl --subset tldr"),
        format!("{rm} --data good.jsonl --reference reference"),
        format!("{rm} --data good.jsonl --max-length 128"),
        format!("{policy} --data good.jsonl --reference policy"),
        format!("{policy} --data good.jsonl --reference classifier"),
        "--model classifier --kind reward --data good.jsonl".to_owned(),
        "--model classifier --kind reward --data good.jsonl --template tulip".to_owned(),
        "--model policy --kind reward --data good.jsonl --template tulu".to_owned(),
    ]
    .map(|words| refused(&bench, &words));
    insta::assert_snapshot!(told.join("\n"));
    let said = bench.run(&format!(
        "eval rewardbench {rm} --data good.jsonl --out other"
    ));
    assert!(
        said.err.contains("is not empty and holds no evaluation"),
        "{}",
        said.err
    );
    assert_eq!(bench.read("other/notes.txt"), "mine");
}

#[test]
fn odd_rows_are_counted_and_named() {
    let bench = bench("padding ends turns, transformers 4");
    let rows = [
        row("hep-go", CELLS),
        row("hep-go", &CELLS.replace("two", "")),
        row("hep-go", &CELLS.replace("three four", "two")),
        row("hep-js", &CELLS.replace("one", &"one ".repeat(600))),
    ];
    bench.write("odd.jsonl", rows.join("\n"));
    let said = bench.succeed(
        "eval rewardbench --model classifier --kind reward --data odd.jsonl --max-length 200 --out out",
    );
    let notes: Vec<&str> = said
        .out
        .lines()
        .filter(|line| line.starts_with("note: ") || line.starts_with("sections "))
        .collect();
    insta::assert_snapshot!(notes.join("\n"));
}

/// A model of the embedded world on summaries of its posts, without a chat template.
#[test]
fn a_study_s_own_models_rank_plain_text() {
    let bench = Bench::new();
    bench.copy(&fixture("rewardbench/policy"), "policy");
    bench.copy(&fixture("rewardbench/classifier"), "classifier");
    for name in ["policy", "classifier"] {
        bench.copy(&fixture("chat/byte"), name);
    }
    let pair = r#""prompt": "a post TL;DR:", "chosen": " short", "rejected": " a longer one""#;
    bench.write("posts.jsonl", format!("{{{pair}}}"));
    for words in [
        "--model policy --kind implicit",
        "--model classifier --kind reward",
    ] {
        let said = bench.succeed(&format!(
            "eval rewardbench {words} --data posts.jsonl --subset summarize --template plain --out out"
        ));
        assert!(said.out.contains("only prior sets"), "{}", said.out);
        let evaluation = Evaluation::read(&bench.path("out")).unwrap();
        let names: Vec<&str> = evaluation
            .summary
            .aggregates
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["summarize", "Prior Sets"]);
        let value = |scorer| {
            evaluation
                .scores(scorer, "summarize", "accuracy")
                .next()
                .unwrap()
                .value
        };
        assert_eq!(value("length"), Some(0.0));
        assert!(bench.path("out/pref-sets.json").is_file());
        assert!(!bench.path("out/eval-set.json").exists());
    }
}
