//! Real posts from a file: the study runs without network and without gold, and says what it therefore cannot measure.

mod common;

use common::{Bench, fixture, planned_stages};
use serde_json::Value;
use std::fs;
use touchstone::pipeline::{Manifest, Store};

const RUN: &str = "reproduce tiny.toml --profile smoke --methods sft,irl,spin --seeds 1,2 --jobs 2 \
                   --data posts.jsonl --tokenizer tok --set sft.epochs=12 --set sft.batch_size=2 \
                   --set sft.optimiser.learning_rate=0.005 --set reward.epochs=6";

/// Twelve invented posts and a tokenizer that was trained on them.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("tiny.toml", fs::read(fixture("experiments/tiny.toml")).unwrap());
    bench.write("posts.jsonl", fs::read(fixture("tldr/posts.jsonl")).unwrap());
    bench.write("tok/tokenizer.json", fs::read(fixture("tldr/tokenizer.json")).unwrap());
    bench
}

fn curve(store: &Store, manifest: &Manifest, key: &str) -> Vec<f64> {
    let path = store.artifact(&manifest.key).unwrap().join("curve.json");
    let curve: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    curve[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn real_posts_run_to_a_report_that_says_what_is_missing() {
    let bench = bench();
    let said = bench.succeed(RUN);
    assert!(!said.err.contains("failed"), "{}", said.err);

    let store = Store::open_existing(bench.path("runs")).unwrap();
    let manifests = store.list().unwrap();
    let of_kind = |kind: &'static str| manifests.iter().filter(move |manifest| manifest.spec.kind == kind);
    assert_eq!(of_kind("sft").count(), 2);
    for manifest in of_kind("sft") {
        let loss = curve(&store, manifest, "loss");
        let quarter = loss.len() / 4;
        let (early, late) = (mean(&loss[..quarter]), mean(&loss[loss.len() - quarter..]));
        assert!(late < 0.8 * early, "{}: the loss went from {early} to {late}", manifest.label);
    }
    // A random model's samples are told from human summaries by anything that learns at all.
    for manifest in of_kind("reward") {
        let loss = curve(&store, manifest, "loss");
        assert!(loss.last() < loss.first(), "{}: {loss:?}", manifest.label);
    }
    no_post_is_both_trained_on_and_held_out(&store, &manifests);

    let report = bench.read("reports/tiny-smoke/report.md");
    let unwrapped = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in
        ["Real posts from posts.jsonl", "no known gold reward", "no preferences were given", "randomly initialised"]
    {
        assert!(unwrapped.contains(expected), "`{expected}` is not in:\n{report}");
    }
    let metrics = bench.read("reports/tiny-smoke/metrics.csv");
    let has = |metric: &str| metrics.lines().any(|line| line.split(',').any(|field| field == metric));
    for measured in ["demo_log_likelihood", "demonstration_accuracy", "kl", "length", "eos_rate", "learned_reward"] {
        assert!(has(measured), "{measured} is missing");
    }
    for unknown in
        ["gold", "gold_greedy", "win_rate", "tie_rate", "copy_accuracy", "preference_accuracy", "on_policy_accuracy"]
    {
        assert!(!has(unknown), "{unknown} cannot be known of real text");
    }
}

fn no_post_is_both_trained_on_and_held_out(store: &Store, manifests: &[Manifest]) {
    let corpus = manifests.iter().find(|manifest| manifest.spec.kind == "corpus").unwrap();
    let folder = store.artifact(&corpus.key).unwrap();
    let ids = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (trained, held_out) = (ids("demonstrations.jsonl"), ids("held_out.jsonl"));
    assert_eq!((trained.len(), held_out.len()), (10, 2));
    assert!(held_out.iter().all(|id| !trained.contains(id)));
}

#[test]
fn a_changed_file_is_another_study() {
    let bench = bench();
    let plan = RUN.replace("reproduce", "plan").replace("--jobs 2", "") + " --stages";
    let planned = |bench: &Bench| planned_stages(&bench.succeed(&plan).out);
    let before = planned(&bench);
    assert_eq!(before, planned(&bench));
    let changed = bench.read("posts.jsonl").replace("plastic", "paper");
    bench.write("posts.jsonl", changed);
    let after = planned(&bench);
    assert_eq!(before.len(), after.len());
    let same: Vec<_> = before.iter().filter(|stage| after.contains(stage)).collect();
    assert!(same.iter().all(|stage| stage.kind == "random"), "made from other posts, yet the same: {same:?}");
}

#[test]
fn methods_that_need_the_embedded_world_are_refused_before_anything_runs() {
    let bench = bench();
    let said = bench.run(&RUN.replace("--methods sft,irl,spin", "--methods sft,irl,rlhf,spin"));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("method `rlhf` needs labelled preferences"), "{}", said.err);
    assert!(said.err.contains("--methods sft,irl,spin"), "{}", said.err);
    assert!(!bench.path("runs").exists());
}

#[test]
fn the_shipped_experiment_has_a_plan_for_real_posts() {
    let bench = bench();
    let plan = bench.succeed("plan tldr --data posts.jsonl --tokenizer tok").out;
    assert!(plan.contains("scale local, profile local"), "{plan}");
    assert!(plan.contains("corpus") && !plan.contains("preferences") && !plan.contains("pretrain"), "{plan}");
}
