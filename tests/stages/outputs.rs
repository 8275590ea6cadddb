//! The output of every kind of stage under its version.

use crate::common::conversations;
use crate::common::published::{self, published};
use crate::common::{Bench, fixture};
use crate::digest::{Columns, OTHER_ROUNDING, SAME_INPUTS, columns, differences};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use touchstone::experiment::{Experiment, Selection};
use touchstone::pipeline::{Manifest, StageKey, Store};
use touchstone::plan::Plan;
use touchstone::stages::STAGES;

const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stages/outputs.json");
/// The command that accepts the current outputs, and snapshots too.
const ACCEPT: &str = "INSTA_UPDATE=always cargo test --release --test stages";

/// A stage's output, and a record of its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Output {
    version: u32,
    /// Hash of kind, version, settings, seed and all ancestors. It equals the stage's key if none
    /// of these contains a path.
    made_from: String,
    /// Hash of the bytes of the inputs.
    read: String,
    columns: Columns,
    /// Hashes of all stages that the output is made from.
    #[serde(skip)]
    ancestors: BTreeSet<String>,
}

/// Outputs by kind and the roles of inputs, which together determine what a stage does.
type Outputs = BTreeMap<String, Output>;

#[test]
fn no_output_changes_under_its_version() {
    let found = found();
    for entry in STAGES {
        let made = found
            .keys()
            .any(|name| name.starts_with(&format!("{} (", entry.kind)));
        assert!(
            made,
            "no study of this test has a stage of kind `{}`",
            entry.kind
        );
    }
    let accepts = std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always");
    let goldens: Outputs = match fs::read_to_string(GOLDENS) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) if accepts => Outputs::new(),
        Err(error) => panic!("{GOLDENS}: {error}"),
    };
    let changes = changes(&goldens, &found);
    assert!(changes.is_empty(), "{}", changes.join("\n"));
    let hashes = |outputs: &Outputs| -> BTreeMap<String, String> {
        outputs
            .iter()
            .map(|(name, output)| (name.clone(), output.made_from.clone()))
            .collect()
    };
    if accepts && hashes(&found) != hashes(&goldens) {
        let taken = found
            .into_iter()
            .map(|(name, is)| match goldens.get(&name) {
                // The old output is kept, so that tolerated differences do not accumulate.
                Some(was) if was.made_from == is.made_from => (name, was.clone()),
                _ => (name, is),
            });
        let taken: Outputs = taken.collect();
        fs::write(
            GOLDENS,
            serde_json::to_string_pretty(&taken).unwrap() + "\n",
        )
        .unwrap();
        return;
    }
    assert_eq!(
        hashes(&found),
        hashes(&goldens),
        "the goldens are of other stages; take these with {ACCEPT}"
    );
}

/// Complaints about outputs that differ although their origin is the same, except those with such
/// an output among their ancestors.
fn changes(goldens: &Outputs, found: &Outputs) -> Vec<String> {
    let changed = found.iter().filter_map(|(name, is)| {
        let was = goldens
            .get(name)
            .filter(|was| was.made_from == is.made_from)?;
        let within = if was.read == is.read {
            SAME_INPUTS
        } else {
            OTHER_ROUNDING
        };
        let differences = differences(&was.columns, &is.columns, &within);
        (!differences.is_empty()).then_some((name, is, differences))
    });
    let changed: Vec<_> = changed.collect();
    let hashes: BTreeSet<String> = changed
        .iter()
        .map(|(_, is, _)| is.made_from.clone())
        .collect();
    let first = changed
        .into_iter()
        .filter(|(_, is, _)| is.ancestors.is_disjoint(&hashes));
    let said = first.map(|(name, is, differences)| {
        let kind = name.split_once(' ').map_or(name.as_str(), |(kind, _)| kind);
        let file = STAGES.iter().find(|entry| entry.kind == kind).map(|entry| entry.file()).unwrap_or_default();
        format!(
            "the output of `{name}` changed and its version is still {}: raise VERSION in {file}, then take the new output \
             with {ACCEPT}\n{}\n",
            is.version,
            differences.join("\n"),
        )
    });
    said.collect()
}

// --- The outputs of now ---

fn found() -> Outputs {
    let mut found = Outputs::new();
    for bench in [world(), conversations(), bundled(), local(), chat(), hub()] {
        for (name, output) in outputs(&bench) {
            found.entry(name).or_insert(output);
        }
    }
    found
}

fn world() -> Bench {
    let bench = Bench::new();
    for name in ["tiny.toml", "tiny-kinds.toml"] {
        bench.write(name, fs::read(fixture("experiments").join(name)).unwrap());
    }
    bench.succeed("reproduce tiny-kinds.toml --profile smoke --jobs 2");
    bench
}

/// A bench with the stages that only the world of conversations has.
fn conversations() -> Bench {
    let bench = Bench::new();
    for name in ["tiny.toml", "tiny-chat.toml"] {
        bench.write(name, fs::read(fixture("experiments").join(name)).unwrap());
    }
    bench.succeed("reproduce tiny-chat.toml --profile smoke --jobs 2");
    bench
}

/// A bench with only the base that comes with touchstone: the stages that build on it are too large
/// for a test.
fn bundled() -> Bench {
    let bench = Bench::new();
    let selection = Selection {
        profile: "smoke".into(),
        ..Selection::default()
    };
    let plan = Plan::new(
        &Experiment::load("tldr")
            .unwrap()
            .resolve(&selection)
            .unwrap(),
        None,
    )
    .unwrap();
    Store::open(bench.path("runs"))
        .unwrap()
        .plan(&plan.graph)
        .unwrap();
    let base = plan
        .graph
        .iter()
        .find(|stage| stage.spec.kind == "bundled")
        .unwrap();
    bench.succeed(&format!("stage {}", base.key));
    bench
}

fn local() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench.copy(&fixture("tldr"), "posts");
    bench.succeed(
        "reproduce tiny.toml --profile smoke --seeds 1, --methods sft,irl --set irl.iterations=1 --jobs 2 \
         --set sft.tuning=none --data posts/posts.jsonl --tokenizer posts",
    );
    bench
}

fn chat() -> Bench {
    let bench = Bench::new();
    conversations::write(&bench);
    conversations::write_benchmarks(&bench);
    bench.succeed(&format!(
        "reproduce tiny-conversations.toml --methods sft,irl,rlhf --set sft.epochs=1 --set reward.epochs=1 --jobs 2 \
         --data chats.jsonl --tokenizer tok --preferences pairs.jsonl {}",
        conversations::BENCHMARKS
    ));
    bench
}

fn hub() -> Bench {
    let bench = published();
    let said = published::run(
        &bench,
        &published::RUN.replace("sft,irl,spin,rlhf", "sft,irl,rlhf"),
    );
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    bench
}

/// One output of each name: the first by label.
fn outputs(bench: &Bench) -> Outputs {
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let mut manifests = store.list().unwrap();
    manifests.sort_by(|one, other| (&one.label, one.key).cmp(&(&other.label, other.key)));
    let root = bench.path("");
    let origins = Origins {
        root: &root,
        manifests: manifests.iter().map(|it| (it.key, it)).collect(),
    };
    let mut outputs = Outputs::new();
    for manifest in &manifests {
        outputs.entry(name(manifest)).or_insert_with(|| Output {
            version: manifest.spec.version,
            made_from: origins.hash(&manifest.key),
            read: origins.read(manifest),
            columns: columns(
                &store.artifact(&manifest.key).unwrap(),
                manifest.files.keys(),
                &root.to_string_lossy(),
            ),
            ancestors: origins.ancestors(&manifest.key),
        });
    }
    outputs
}

/// A kind with the roles of its inputs, without the numbers in them.
fn name(manifest: &Manifest) -> String {
    let role = |role: &String| role.trim_end_matches(char::is_numeric).to_owned();
    let roles: BTreeSet<String> = manifest.spec.inputs.keys().map(role).collect();
    let roles: Vec<String> = roles.into_iter().collect();
    format!("{} ({})", manifest.spec.kind, roles.join(", "))
}

/// Origins of the stages of one store, independent of the store's folder.
struct Origins<'a> {
    root: &'a Path,
    manifests: BTreeMap<StageKey, &'a Manifest>,
}

impl Origins<'_> {
    fn hash(&self, key: &StageKey) -> String {
        let spec = &self.manifests[key].spec;
        let settings = spec
            .settings
            .to_string()
            .replace(&*self.root.to_string_lossy(), "");
        let inputs: BTreeMap<&String, String> = spec
            .inputs
            .iter()
            .map(|(role, key)| (role, self.hash(key)))
            .collect();
        let all = json!([spec.kind, spec.version, settings, inputs, spec.seed]).to_string();
        blake3::hash(all.as_bytes()).to_hex()[..16].to_owned()
    }

    fn read(&self, manifest: &Manifest) -> String {
        let files = manifest
            .spec
            .inputs
            .iter()
            .map(|(role, key)| (role, &self.manifests[key].files));
        let all = json!(files.collect::<BTreeMap<_, _>>()).to_string();
        blake3::hash(all.as_bytes()).to_hex()[..16].to_owned()
    }

    fn ancestors(&self, key: &StageKey) -> BTreeSet<String> {
        let inputs = self.manifests[key].spec.inputs.values();
        inputs
            .flat_map(|key| self.ancestors(key).into_iter().chain([self.hash(key)]))
            .collect()
    }
}

#[test]
fn a_change_is_laid_at_the_door_of_the_first_stage_that_changed() {
    let output = |made_from: &str, value: &str, ancestors: &[&str]| Output {
        version: 3,
        made_from: made_from.into(),
        read: String::new(),
        columns: serde_json::from_value(json!({ "curve.json loss": format!("1: {value}") }))
            .unwrap(),
        ancestors: ancestors.iter().map(|it| it.to_string()).collect(),
    };
    let outputs = |reward: Output, ppo: Output| {
        Outputs::from([("reward ()".into(), reward), ("ppo (reward)".into(), ppo)])
    };
    let was = outputs(output("r", "1", &[]), output("p", "1", &["r"]));
    let changed = changes(
        &was,
        &outputs(output("r", "2", &[]), output("p", "2", &["r"])),
    );
    assert_eq!(changed.len(), 1);
    assert!(
        changed[0].contains("the output of `reward ()` changed and its version is still 3"),
        "{}",
        changed[0]
    );
    assert!(
        changed[0].contains("raise VERSION in src/stages/reward.rs"),
        "{}",
        changed[0]
    );
    let raised = outputs(
        output("r, raised", "2", &[]),
        output("p, of another reward", "2", &["r, raised"]),
    );
    assert!(changes(&was, &raised).is_empty());
}
