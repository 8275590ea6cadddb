//! Tests with real posts from a file: the study runs without network and without gold, and the
//! report says what it therefore cannot measure.

mod common;

use common::{Bench, fixture, planned_stages};
use serde_json::Value;
use std::fs;
use touchstone::pipeline::{Manifest, Store};

const RUN: &str = "reproduce tiny.toml --profile smoke --methods sft,irl,spin --seeds 1,2 --jobs 2 \
                   --data posts.jsonl --tokenizer tok --set sft.tuning=none --set sft.epochs=12 --set sft.batch_size=2 \
                   --set sft.optimiser.learning_rate=0.005 --set reward.epochs=6";

/// A bench with twelve invented posts and a tokenizer trained on them.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench.write(
        "posts.jsonl",
        fs::read(fixture("tldr/posts.jsonl")).unwrap(),
    );
    bench.write(
        "tok/tokenizer.json",
        fs::read(fixture("tldr/tokenizer.json")).unwrap(),
    );
    bench
}

fn curve(store: &Store, manifest: &Manifest, key: &str) -> Vec<f64> {
    let path = store.artifact(&manifest.key).unwrap().join("curve.json");
    let curve: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    curve[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
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
    let of_kind = |kind: &'static str| {
        manifests
            .iter()
            .filter(move |manifest| manifest.spec.kind == kind)
    };
    assert_eq!(of_kind("sft").count(), 2);
    for manifest in of_kind("sft") {
        let loss = curve(&store, manifest, "loss");
        let quarter = loss.len() / 4;
        let (early, late) = (mean(&loss[..quarter]), mean(&loss[loss.len() - quarter..]));
        assert!(
            late < 0.8 * early,
            "{}: the loss went from {early} to {late}",
            manifest.label
        );
    }
    // Any working reward distinguishes a random model's samples from human summaries.
    for manifest in of_kind("reward") {
        let loss = curve(&store, manifest, "loss");
        assert!(loss.last() < loss.first(), "{}: {loss:?}", manifest.label);
    }
    no_post_is_both_trained_on_and_held_out(&store, &manifests);

    let report = bench.read("reports/tiny-smoke/report.md");
    let unwrapped = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "Real rows from posts.jsonl",
        "no known gold reward",
        "No preferences were given",
        "randomly initialised",
    ] {
        assert!(
            unwrapped.contains(expected),
            "`{expected}` is not in:\n{report}"
        );
    }
    let metrics = bench.read("reports/tiny-smoke/metrics.csv");
    let has = |metric: &str| {
        metrics
            .lines()
            .any(|line| line.split(',').any(|field| field == metric))
    };
    for measured in [
        "demo_log_likelihood",
        "demonstration_accuracy",
        "kl",
        "length",
        "eos_rate",
        "learned_reward",
    ] {
        assert!(has(measured), "{measured} is missing");
    }
    for unknown in [
        "gold",
        "gold_greedy",
        "win_rate",
        "tie_rate",
        "copy_accuracy",
        "preference_accuracy",
        "on_policy_accuracy",
    ] {
        assert!(!has(unknown), "{unknown} cannot be known of real text");
    }
}

fn no_post_is_both_trained_on_and_held_out(store: &Store, manifests: &[Manifest]) {
    let corpus = manifests
        .iter()
        .find(|manifest| manifest.spec.kind == "corpus")
        .unwrap();
    let folder = store.artifact(&corpus.key).unwrap();
    let ids = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        text.lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
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
    let same: Vec<_> = before
        .iter()
        .filter(|stage| after.contains(stage))
        .collect();
    assert!(
        same.iter().all(|stage| stage.kind == "random"),
        "made from other posts, yet the same: {same:?}"
    );
}

#[test]
fn methods_that_need_the_embedded_world_are_refused_before_anything_runs() {
    let bench = bench();
    let said = bench.run(&RUN.replace("--methods sft,irl,spin", "--methods sft,irl,rlhf,spin"));
    assert_eq!(said.code, Some(3));
    assert!(
        said.err
            .contains("method `rlhf` needs labelled preferences"),
        "{}",
        said.err
    );
    assert!(said.err.contains("--methods sft,irl,spin"), "{}", said.err);
    assert!(!bench.path("runs").exists());
}

#[test]
fn the_shipped_experiment_has_a_plan_for_real_posts() {
    let bench = bench();
    let plan = bench
        .succeed("plan tldr --data posts.jsonl --tokenizer tok")
        .out;
    assert!(plan.contains("scale local, profile local"), "{plan}");
    assert!(
        plan.contains("corpus") && !plan.contains("preferences") && !plan.contains("pretrain"),
        "{plan}"
    );
}

/// The smallest possible study.
const SHORT: &str = "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 1 --data posts.jsonl --tokenizer tok";

fn rows(store: &Store, kind: &str, name: &str) -> Vec<Value> {
    let manifests = store.list().unwrap();
    let manifest = manifests
        .iter()
        .find(|manifest| manifest.spec.kind == kind)
        .unwrap();
    let text = fs::read_to_string(store.artifact(&manifest.key).unwrap().join(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Ids are unreliable: a post may occur twice, once with other white space and once as another
/// sequence of code points.
#[test]
fn one_prompt_is_on_one_side_whatever_its_id_and_spelling() {
    let bench = bench();
    let posts: Vec<Value> = bench
        .read("posts.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let twice = posts.iter().enumerate().flat_map(|(index, post)| {
        let mut again = post.clone();
        again["id"] = format!("again {index}").into();
        let text = format!("{} caf\u{e9}", post["post"].as_str().unwrap());
        again["post"] = text.replace(' ', "  ").replace('\u{e9}', "e\u{301}").into();
        let mut post = post.clone();
        post["post"] = text.into();
        [post, again]
    });
    bench.write(
        "posts.jsonl",
        twice.map(|row| format!("{row}\n")).collect::<String>(),
    );
    bench.succeed(SHORT);
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let (trained, held_out) = (
        rows(&store, "corpus", "demonstrations.jsonl"),
        rows(&store, "corpus", "held_out.jsonl"),
    );
    assert_eq!(
        (trained.len(), held_out.len()),
        (20, 4),
        "a fifth of 24 rows, in pairs"
    );
    let watched = SHORT
        .replace("reproduce", "status")
        .replace("--jobs 1 ", "--json ");
    let status: Value = serde_json::from_str(&bench.succeed(&watched).out).unwrap();
    assert_eq!(status["stages"]["left"], 0, "{status}");
    assert!(status["stages"]["done"].as_u64().unwrap() > 3, "{status}");
    let title = |row: &Value| {
        row["prompt"]
            .as_str()
            .unwrap()
            .split("\n\n")
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert!(
        held_out
            .iter()
            .all(|row| trained.iter().all(|other| title(row) != title(other)))
    );
    let report = bench
        .read("reports/tiny-smoke/report.md")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        report.contains("The 24 rows of `posts` have 12 different prompts"),
        "{report}"
    );
}

#[test]
fn one_prompt_alone_cannot_be_split() {
    let bench = bench();
    let first = bench.read("posts.jsonl").lines().next().unwrap().to_owned();
    bench.write("posts.jsonl", [first.as_str(); 12].join("\n"));
    let said = bench.run(SHORT);
    assert_eq!(said.code, Some(4));
    assert!(
        said.err
            .contains("posts.jsonl has 12 rows of 1 different prompt, too few to hold some out"),
        "{}",
        said.err
    );
    assert!(!bench.path("runs").exists(), "nothing was begun");
}

#[test]
fn a_title_that_leaves_no_room_is_named_before_anything_runs() {
    let bench = bench();
    let mut lines: Vec<String> = bench
        .read("posts.jsonl")
        .lines()
        .map(str::to_owned)
        .collect();
    let mut long: Value = serde_json::from_str(&lines[4]).unwrap();
    long["title"] = "water ".repeat(200).into();
    lines[4] = long.to_string();
    bench.write("posts.jsonl", lines.join("\n"));
    let said = bench.run(SHORT);
    assert_eq!(said.code, Some(4), "{}", said.err);
    assert!(
        said.err
            .contains("posts.jsonl, line 5: its title is too long"),
        "{}",
        said.err
    );
    assert!(!bench.path("runs").exists(), "nothing was begun");
}

/// A planned stage reads its files later; changed contents must not be stored under the planned
/// key.
#[test]
fn what_a_stage_reads_is_what_its_key_names() {
    let bench = bench();
    bench.succeed(SHORT);
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let key = |kind: &str| {
        store
            .list()
            .unwrap()
            .iter()
            .find(|found| found.spec.kind == kind)
            .unwrap()
            .key
    };
    let keys = [key("corpus"), key("random")];
    let says_all_is_well = bench.succeed("runs verify").out;
    assert!(
        says_all_is_well.contains("all as written") && !says_all_is_well.contains("has changed"),
        "{says_all_is_well}"
    );
    let posts = bench.read("posts.jsonl");
    let tokenizer = bench.read("tok/tokenizer.json");

    bench.write("posts.jsonl", posts.replace("plastic", "paper"));
    let verified = bench.succeed("runs verify").out;
    assert!(
        verified.contains("posts.jsonl: has changed since it was read for posts"),
        "{verified}"
    );
    store.remove(&keys[0]).unwrap();
    let said = bench.run(&format!("stage {} --store runs", keys[0]));
    assert_eq!(said.code, Some(4), "{}", said.err);
    assert!(
        said.err
            .contains("posts.jsonl has changed since this study was planned"),
        "{}",
        said.err
    );
    assert!(!store.is_complete(&keys[0]));

    bench.write("posts.jsonl", posts);
    bench.write("tok/tokenizer.json", format!("{tokenizer}\n"));
    store.remove(&keys[1]).unwrap();
    for key in keys {
        let said = bench.run(&format!("stage {key} --store runs"));
        assert_eq!(said.code, Some(4), "{}", said.err);
        assert!(
            said.err.contains("the tokenizer in") && said.err.contains("has changed since"),
            "{}",
            said.err
        );
    }
    bench.write("tok/tokenizer.json", tokenizer);
    for key in keys {
        bench.succeed(&format!("stage {key} --store runs"));
        assert!(store.is_complete(&key));
    }
}
