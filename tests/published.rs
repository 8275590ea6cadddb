//! Tests of a study of published models and data sets: the base, the demonstrator and the judge
//! come from a hub, posts and comparisons from data sets in their hub columns. All of them are tiny
//! and already in the hub's cache.
#![cfg(feature = "hub")]

mod common;

use common::published::{COMMIT, RUN, published as bench, run};
use common::{Bench, planned_stages};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use touchstone::pipeline::{Manifest, Store};

fn manifests(bench: &Bench) -> (Store, Vec<Manifest>) {
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    (store, manifests)
}

fn rows(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_study_of_published_models_runs_to_a_report_with_the_judge_for_gold() {
    let bench = bench();
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);

    let report = bench.read("reports/tiny-smoke/report.md");
    assert!(
        report.contains("Gold, sampled") && report.contains("SFT + RLHF"),
        "{report}"
    );
    let metrics = bench.read("reports/tiny-smoke/metrics.csv");
    for metric in [
        "gold",
        "win_rate",
        "preference_accuracy",
        "on_policy_accuracy",
        "learned_reward",
    ] {
        assert!(
            metrics
                .lines()
                .any(|line| line.split(',').any(|cell| cell == metric)),
            "{metric}: {metrics}"
        );
    }

    let (store, manifests) = manifests(&bench);
    let of_kind = |kind: &'static str| {
        manifests
            .iter()
            .filter(move |manifest| manifest.spec.kind == kind)
    };
    // The demonstrations are written by the demonstrator, on posts of the training split.
    let made = of_kind("hub_demonstrations")
        .find(|manifest| manifest.spec.seed.is_some())
        .unwrap();
    let demonstrations = rows(
        &store
            .artifact(&made.key)
            .unwrap()
            .join("demonstrations.jsonl"),
    );
    let human = bench.read("posts/train.jsonl");
    assert_eq!(demonstrations.len(), 6);
    let evaluation_set = of_kind("hub_demonstrations")
        .find(|manifest| manifest.spec.seed.is_none())
        .unwrap();
    let evaluation_set = rows(
        &store
            .artifact(&evaluation_set.key)
            .unwrap()
            .join("held_out.jsonl"),
    );
    assert_eq!(evaluation_set.len(), 3);
    for row in &demonstrations {
        assert!(
            evaluation_set
                .iter()
                .all(|post| post["prompt"] != row["prompt"]),
            "trained on and in the evaluation set: {row}"
        );
        assert!(
            human.contains(&format!("\"id\":\"{}\"", row["id"].as_str().unwrap())),
            "{row}"
        );
        assert!(
            !human.contains(row["response"].as_str().unwrap().trim()),
            "{row}"
        );
    }
    // All sources are recorded: files with their hashes, models with their commits.
    let sources = serde_json::to_string(&made.sources).unwrap();
    assert!(
        sources.contains("train.jsonl") && sources.contains("blake3"),
        "{sources}"
    );
    assert_eq!(of_kind("checkpoint").count(), 3);
    assert!(
        of_kind("checkpoint")
            .all(|manifest| manifest.sources[0].as_str().unwrap().ends_with(COMMIT))
    );

    assert!(
        report.contains("Gold is the score of a published reward model"),
        "{report}"
    );
    assert!(!report.contains("synthetic world"), "{report}");

    // Nothing is computed twice, and nothing is downloaded or copied: the store holds only
    // pointers.
    let again = run(&bench, RUN);
    assert!(again.err.contains("0 finished"), "{}", again.err);
    assert!(of_kind("checkpoint").all(|manifest| manifest.bytes() < 1000));
}

/// Keys of the stages of a kind, from `plan`.
fn planned(bench: &Bench, kind: &str) -> Vec<String> {
    let words = RUN
        .replace("reproduce", "plan")
        .replace("--jobs 2", "--stages");
    let said = run(bench, &words);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let stages = planned_stages(&said.out)
        .into_iter()
        .filter(|stage| stage.kind == kind);
    stages.map(|stage| stage.key).collect()
}

/// The path of a folder does not identify its contents.
#[test]
fn a_folder_with_other_rows_is_another_study() {
    let bench = bench();
    let (demonstrations, preferences) = (
        planned(&bench, "hub_demonstrations"),
        planned(&bench, "comparisons"),
    );
    assert_eq!(demonstrations, planned(&bench, "hub_demonstrations"));
    let edited = bench
        .read("posts/train.jsonl")
        .replacen("plastic", "paper", 1);
    assert_ne!(edited, bench.read("posts/train.jsonl"));
    bench.write("posts/train.jsonl", edited);
    let changed = planned(&bench, "hub_demonstrations");
    let same = demonstrations
        .iter()
        .filter(|key| changed.contains(key))
        .count();
    assert_eq!(
        (demonstrations.len(), same),
        (2, 1),
        "the posts of the evaluation set are as they were, and they alone"
    );
    assert_eq!(preferences, planned(&bench, "comparisons"));
}

/// Puts a repository into the hub's cache, with its branch `main` at `commit`.
fn cached(bench: &Bench, repository: &str, commit: &str, files: &[(&str, String)]) {
    for (name, text) in files {
        bench.write(
            format!("hf/hub/{repository}/snapshots/{commit}/{name}"),
            text,
        );
    }
    bench.write(format!("hf/hub/{repository}/refs/main"), commit);
}

/// A study keeps reading the commit that it read first, even if the branch moves; the manifest
/// names the commit.
#[test]
fn a_branch_that_moves_is_read_at_the_commit_that_the_study_began_with() {
    const LATER: &str = "ffffffffffffffffffffffffffffffffffffffff";
    let bench = bench();
    let posts =
        ["train.jsonl", "test.jsonl"].map(|name| (name, bench.read(format!("posts/{name}"))));
    cached(&bench, "datasets--o--posts", COMMIT, &posts);
    bench.write("hf/hub/models--o--base/refs/main", COMMIT);
    let text = bench
        .read("tiny.toml")
        .replace("posts = \"posts\"", "posts = \"hf:datasets/o/posts@main\"");
    bench.write(
        "tiny.toml",
        text.replace(&format!("hf:o/base@{COMMIT}"), "hf:o/base@main"),
    );
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let metrics = bench.read("reports/tiny-smoke/metrics.csv");

    // Now `main` has other posts and another model, and all results of the first ones are deleted.
    let others = posts.map(|(name, text)| (name, text.replace('e', "o")));
    cached(&bench, "datasets--o--posts", LATER, &others);
    bench.copy(
        &bench.path(format!("hf/hub/models--o--demonstrator/snapshots/{COMMIT}")),
        format!("hf/hub/models--o--base/snapshots/{LATER}"),
    );
    bench.write("hf/hub/models--o--base/refs/main", LATER);
    let (store, manifests) = manifests(&bench);
    for manifest in &manifests {
        match manifest.spec.kind.as_str() {
            "checkpoint" | "dataset" => {
                let here = manifest.label.starts_with("comparisons");
                assert!(
                    here || json!(manifest.sources).to_string().contains(COMMIT),
                    "{:?}",
                    manifest.sources
                );
            }
            _ => store.remove(&manifest.key).unwrap(),
        }
    }
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert_eq!(bench.read("reports/tiny-smoke/metrics.csv"), metrics);

    // Another seed of the same study reads the same posts.
    let said = run(&bench, &RUN.replace("--seeds 1,", "--seeds 5,"));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let made = self::manifests(&bench)
        .1
        .into_iter()
        .filter(|manifest| manifest.spec.kind == "hub_demonstrations");
    let sources: Vec<String> = made
        .map(|manifest| json!(manifest.sources).to_string())
        .collect();
    assert_eq!(sources.len(), 3, "two seeds and the evaluation set");
    assert!(
        sources
            .iter()
            .all(|sources| sources.contains(COMMIT) && !sources.contains(LATER)),
        "{sources:?}"
    );
}

#[test]
fn a_model_of_another_shape_is_refused_with_both_shapes() {
    let bench = bench();
    let text = bench.read("tiny.toml");
    let (head, models) = text.split_once("[models.base]").unwrap();
    bench.write(
        "tiny.toml",
        format!("{head}[models.base]{}", models.replacen("= 32", "= 64", 1)),
    );
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(5));
    assert!(
        said.err
            .contains("is not the model that the experiment describes"),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("\"intermediate_size\":32")
            && said.err.contains("\"intermediate_size\":64")
    );
}

#[test]
fn more_posts_than_there_are_and_a_model_that_is_not_cached_are_named() {
    let bench = bench();
    let said = run(
        &bench,
        &RUN.replace("demonstrations.count=6", "demonstrations.count=9"),
    );
    assert!(
        said.err.contains("posts has 8 posts in `train`, not 9"),
        "{}",
        said.err
    );
    let text = bench
        .read("tiny.toml")
        .replace("hf:o/judge@", "hf:o/other@");
    bench.write("tiny.toml", text);
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(9));
    assert!(
        said.err.contains("hf:o/other@") && said.err.contains("HF_HUB_OFFLINE"),
        "{}",
        said.err
    );
}

/// An evaluation post that also occurs among the training posts under another id, and among the
/// comparisons, is not trained on.
#[test]
fn prompts_that_are_held_out_train_nothing() {
    let bench = bench();
    let evaluation_set: Value =
        serde_json::from_str(bench.read("posts/test.jsonl").lines().next().unwrap()).unwrap();
    let mut copy = evaluation_set.clone();
    copy["id"] = "copy".into();
    copy["post"] = format!("{}  ", evaluation_set["post"].as_str().unwrap()).into();
    let train = bench.read("posts/train.jsonl");
    bench.write("posts/train.jsonl", format!("{copy}\n{train}"));
    let comparisons = bench.read("comparisons/train.jsonl");
    let mut other: Value = serde_json::from_str(comparisons.lines().next().unwrap()).unwrap();
    for key in ["title", "post", "subreddit"] {
        other["info"][key] = copy[key].clone();
    }
    bench.write("comparisons/train.jsonl", format!("{other}\n{comparisons}"));
    let run = |words: &str| run(&bench, words);
    let words = RUN.replace("preferences.pairs=4", "preferences.pairs=6");
    let said = run(&words);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);

    let (store, manifests) = manifests(&bench);
    let of = |label: &str, name: &str| -> Vec<String> {
        let manifest = manifests
            .iter()
            .find(|manifest| manifest.label == label)
            .unwrap_or_else(|| panic!("no {label}"));
        let rows = rows(&store.artifact(&manifest.key).unwrap().join(name));
        rows.iter()
            .map(|row| {
                row["prompt"]
                    .as_str()
                    .unwrap()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    };
    let held_out = [
        of("evaluation set", "held_out.jsonl"),
        of("preferences/test", "pairs.jsonl"),
    ]
    .concat();
    for (label, name, count) in [
        ("demonstrations/seed 1", "demonstrations.jsonl", 6),
        ("preferences/seed 1", "pairs.jsonl", 6),
    ] {
        let trained = of(label, name);
        assert_eq!(trained.len(), count, "{label}");
        assert!(
            trained.iter().all(|prompt| !held_out.contains(prompt)),
            "{label}: {trained:?}"
        );
    }
    let report = bench
        .read("reports/tiny-smoke/report.md")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        report.contains("passed over because their prompts are held out"),
        "{report}"
    );

    let said = run(&words.replace("demonstrations.count=6", "demonstrations.count=7"));
    assert!(
        said.err
            .contains("posts has 6 posts in `train` whose prompts are not held out, not 7"),
        "{}",
        said.err
    );
}

/// Every row is checked before the first stage.
#[test]
fn a_row_without_a_title_is_named_before_anything_runs() {
    let bench = bench();
    let train = bench.read("posts/train.jsonl");
    let mut last: Value = serde_json::from_str(train.lines().last().unwrap()).unwrap();
    last["title"] = Value::Null;
    bench.write("posts/train.jsonl", format!("{train}{last}\n"));
    let said = run(&bench, RUN);
    assert_eq!(said.code, Some(4));
    assert!(
        said.err.contains("posts/train.jsonl, line 9: no title"),
        "{}",
        said.err
    );
    assert!(!bench.path("runs").exists(), "nothing was begun");
}
