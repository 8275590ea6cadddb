//! Tests of a study through the program, from an empty folder to a report: complete, repeated,
//! killed, interrupted, changed, damaged, and on a full disk. Tests that need signals or file
//! systems of Linux run only there.

mod common;

use common::{Bench, Said, files, fixture, planned_stages};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use touchstone::device::hardware::BackendProfile;
use touchstone::experiment::{Experiment, Selection};
use touchstone::pipeline::{Manifest, Store};
use touchstone::plan::Plan;

const RUN: &str =
    "reproduce tiny.toml --profile smoke --methods sft,irl --jobs 2 --store runs --out reports";
const PLAN: &str = "plan tiny.toml --profile smoke --methods sft,irl --store runs";
/// Exit codes of the kinds of failure (docs/errors.md).
const STORE: i32 = 8;
const FILES: i32 = 11;
const METRICS: &str = "reports/tiny-smoke/metrics.csv";

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench
}

/// Store and report of an undisturbed run, computed once for all tests of this file.
fn undisturbed() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let bench = tiny();
        bench.succeed(RUN);
        files(&bench.path(""))
    })
}

/// A bench of its own for each test, with a finished run.
fn finished() -> Bench {
    let bench = Bench::new();
    for (name, bytes) in undisturbed() {
        bench.write(name, bytes);
    }
    bench
}

fn assert_metrics_as_undisturbed(bench: &Bench) {
    let expected = std::str::from_utf8(&undisturbed()[Path::new(METRICS)]).unwrap();
    assert!(
        bench.read(METRICS) == expected,
        "other numbers than those of an undisturbed run"
    );
}

/// The counts of `finished`, `cached`, `failed` and `skipped` in the summary line.
fn stages(said: &Said) -> BTreeMap<String, usize> {
    let line = said
        .err
        .lines()
        .find_map(|line| line.strip_prefix("stages: "));
    let line = line.unwrap_or_else(|| panic!("no summary in:\n{}", said.err));
    let count = |part: &str| {
        let (count, what) = part.split_once(' ').unwrap();
        (what.to_owned(), count.parse().unwrap())
    };
    line.split(", ").map(count).collect()
}

/// Kind of every stage that `plan --stages` prints, and whether it is done.
fn planned(bench: &Bench, words: &str) -> Vec<(String, bool)> {
    let stages = planned_stages(&bench.succeed(&format!("{words} --stages")).out);
    stages
        .into_iter()
        .map(|stage| (stage.kind, stage.done))
        .collect()
}

fn kinds(stages: &[(String, bool)], done: bool) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for (kind, _) in stages.iter().filter(|stage| stage.1 == done) {
        *kinds.entry(kind.as_str()).or_default() += 1;
    }
    kinds
}

// --- Whole ---

#[test]
fn every_method_and_metric_reaches_the_report() {
    let bench = tiny();
    // Pre-training is a little longer than elsewhere, until samples differ in gold; otherwise no
    // pair of them can be labelled.
    let all = "reproduce tiny.toml --profile smoke --jobs 2 --store runs --out reports --set pretrain.steps=150";
    let said = bench.succeed(all);
    assert!(
        said.out.contains("report: reports/tiny-smoke/report.md"),
        "{}",
        said.out
    );
    assert_eq!(stages(&said).get("failed"), None);

    let text = bench.read(METRICS);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let place = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let (method, seed, metric, value, iteration) = (
        place("method"),
        place("seed"),
        place("metric"),
        place("value"),
        place("iteration"),
    );
    let mut seen: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(fields[value].parse::<f64>().unwrap().is_finite(), "{line}");
        let cell = (
            fields[method].to_owned(),
            fields[seed].to_owned(),
            fields[iteration].to_owned(),
        );
        assert!(
            seen.entry(cell)
                .or_default()
                .insert(fields[metric].to_owned()),
            "twice: {line}"
        );
    }
    let policy = [
        "demo_log_likelihood",
        "entropy",
        "eos_rate",
        "gold",
        "gold_greedy",
        "kl",
        "length",
        "tie_rate",
        "win_rate",
    ];
    let accuracy = [
        "demonstration_accuracy",
        "on_policy_accuracy",
        "preference_accuracy",
    ];
    for seed in ["1", "2"] {
        let metrics = |method: &str, iteration: &str| {
            let cell = (method.to_owned(), seed.to_owned(), iteration.to_owned());
            seen.get(&cell)
                .unwrap_or_else(|| panic!("{cell:?} is missing"))
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>()
        };
        for (method, iteration) in [
            ("sft", "0"),
            ("irl", "1"),
            ("irl", "2"),
            ("irl-eq10", "2"),
            ("spin", "1"),
            ("rlhf", "0"),
        ] {
            let found = metrics(method, iteration);
            assert!(
                policy.iter().all(|metric| found.contains(metric)),
                "{method}: {found:?}"
            );
            // Only the last iteration has further decodings.
            for metric in ["gold_tuned", "tuned_temperature"] {
                assert_eq!(
                    found.contains(metric),
                    (method, iteration) != ("irl", "1"),
                    "{method} {iteration}: {metric}"
                );
            }
            let with_reward = method != "sft";
            assert_eq!(
                accuracy.iter().all(|metric| found.contains(metric)),
                with_reward,
                "{method}: {found:?}"
            );
            let explicit = with_reward && method != "spin";
            assert_eq!(
                found.contains("learned_reward"),
                explicit,
                "{method}: {found:?}"
            );
        }
        for heuristic in [
            "chance",
            "shorter",
            "longer",
            "log_probability",
            "copy_overlap",
        ] {
            // Among heuristics, only a likelihood is a sum over tokens.
            let per_token =
                (heuristic == "log_probability").then_some("preference_accuracy_per_token");
            let found = metrics(heuristic, "0");
            let shares: BTreeSet<_> = accuracy.into_iter().chain(per_token).collect();
            let (beside, found): (BTreeSet<_>, BTreeSet<_>) = found
                .into_iter()
                .partition(|metric| metric.contains("ties") || metric.ends_with("_strict"));
            assert_eq!(found, shares, "{heuristic}");
            assert_eq!(
                beside.len(),
                2 * shares.len(),
                "ties and the strict count of each: {heuristic} {beside:?}"
            );
        }
    }
    let report = bench.read("reports/tiny-smoke/report.md");
    assert!(
        report.contains("IRL (eq. 10)") && report.contains("SPIN") && report.contains("SFT + RLHF")
    );
    for file in ["report.html", "metrics.parquet"] {
        assert!(
            fs::metadata(bench.path("reports/tiny-smoke").join(file))
                .unwrap()
                .len()
                > 0,
            "{file}"
        );
    }
    let verified = bench.succeed("runs verify --store runs");
    assert!(verified.out.contains("all as written"), "{}", verified.out);
}

#[test]
fn what_a_search_chose_is_trained_with_and_shown() {
    let bench = finished();
    let experiment = Experiment::load(fixture("experiments/tiny.toml").to_str().unwrap()).unwrap();
    let methods = vec!["sft".into(), "irl".into()];
    let study = experiment
        .resolve(&Selection {
            profile: "smoke".into(),
            methods,
            ..Selection::default()
        })
        .unwrap();
    let (plan, store) = (
        Plan::new(&study, None).unwrap(),
        Store::open_existing(bench.path("runs")).unwrap(),
    );
    let table = bench.read("reports/tiny-smoke/tables/tuning.csv");
    let read = |key, name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(store.file(key, name).unwrap().unwrap()).unwrap()).unwrap()
    };
    let trained = plan.graph.iter().filter(|stage| stage.spec.kind == "sft");
    for (stage, row) in trained.zip(table.lines().skip(1)) {
        let search = &stage.spec.inputs["tuning"];
        let (chosen, trace) = (read(search, "chosen.json"), read(search, "trace.json"));
        let epochs = chosen["settings"]["epochs"].as_u64().unwrap();
        // There are 24 demonstrations in batches of 8; the search trained on 18 of them.
        let losses = read(&stage.key, "curve.json")["loss"]
            .as_array()
            .unwrap()
            .len() as u64;
        assert_eq!(
            (losses, chosen["steps"].as_u64().unwrap()),
            (3 * epochs, 3 * epochs)
        );
        assert_eq!(
            (trace["held_out"].as_u64(), trace["trained_on"].as_u64()),
            (Some(6), Some(18))
        );
        assert_eq!(trace["trials"].as_array().unwrap().len(), 2);
        let seed = stage.spec.seed.unwrap();
        assert!(row.contains(&format!("SFT,{seed},sft,{epochs},")), "{row}");
    }
    assert_eq!(
        table.lines().count(),
        3,
        "a heading and two seeds:\n{table}"
    );
    let page = bench.read("reports/tiny-smoke/report.md");
    assert!(
        page.contains("held out, without gold") && page.contains("figures/curve-tuning-sft.svg")
    );
    // The cost of the search is counted once, for the method that it serves.
    let costs = bench.read("reports/tiny-smoke/tables/costs.csv");
    let searches: Vec<&str> = costs
        .lines()
        .filter(|line| line.contains(",tune,"))
        .collect();
    assert!(
        searches.len() == 1 && searches[0].contains(",SFT,tune,2,2,"),
        "{searches:?}"
    );
}

#[test]
fn a_second_run_computes_nothing_and_changes_no_byte() {
    let bench = finished();
    let before = files(&bench.path(""));
    let said = bench.succeed(RUN);
    assert_eq!(stages(&said)["finished"], 0, "{}", said.err);
    let after = files(&bench.path(""));
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    let changed: Vec<_> = before
        .iter()
        .filter(|(name, bytes)| after[*name] != **bytes)
        .map(|(name, _)| name)
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    // The report alone, written again to another folder, is also the same.
    bench.succeed("report tiny.toml --profile smoke --methods sft,irl --store runs --out again");
    assert_eq!(files(&bench.path("again")), files(&bench.path("reports")));
}

#[test]
fn another_number_of_jobs_gives_the_same_numbers() {
    let bench = tiny();
    bench.succeed(&RUN.replace("--jobs 2", "--jobs 3"));
    assert_metrics_as_undisturbed(&bench);
}

// --- Machines ---

/// Jobs and memory are not part of any key: results of one machine serve another.
#[test]
fn other_jobs_and_memory_compute_nothing_anew() {
    let bench = finished();
    let said = bench.succeed(&RUN.replace("--jobs 2", "--jobs 1 --memory 2GiB"));
    assert_eq!(stages(&said)["finished"], 0, "{}", said.err);
}

/// The plan of the study in [`NARROW`], and the least memory in which each of its stages can be
/// computed.
fn narrow() -> (Plan, u64) {
    let experiment = Experiment::load(fixture("experiments/tiny.toml").to_str().unwrap()).unwrap();
    let set = NARROW.split(" --set ").skip(1).map(str::to_owned).collect();
    let methods = vec!["sft".into(), "irl".into()];
    let study = experiment
        .resolve(&Selection {
            profile: "smoke".into(),
            methods,
            set,
            ..Selection::default()
        })
        .unwrap();
    let plan = Plan::new(&study, None).unwrap();
    let needs = plan.graph.iter().map(|stage| {
        plan.work(&stage.key)
            .memory(1, BackendProfile::FLEX)
            .total()
    });
    let most = needs.fold(0.0, f64::max) as u64 + 1;
    (plan, most)
}

/// A study with batches that dominate the memory of its stages, so that a memory limit splits them.
const NARROW: &str = "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 2 --store runs --out reports \
                      --set generation.batch_size=2 --set demonstrations.count=64 --set sft.batch_size=64 \
                      --set reward.batch_size=64 --set ppo.rollouts=64 --set irl.iterations=1 --set evaluation.posts=8 \
                      --set evaluation.on_policy_pairs=8 --set evaluation.preference_pairs=8";

/// The curve of every stage of a kind, by label.
fn curves(bench: &Bench, kind: &str, key: &str) -> BTreeMap<String, Vec<f64>> {
    let store = Store::open_existing(bench.path("runs")).unwrap();
    let of_kind = store
        .list()
        .unwrap()
        .into_iter()
        .filter(|manifest| manifest.spec.kind == kind);
    let curve = |manifest: Manifest| {
        let path = store.artifact(&manifest.key).unwrap().join("curve.json");
        let curve: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        (
            manifest.label,
            serde_json::from_value(curve[key].clone()).unwrap(),
        )
    };
    of_kind.map(curve).collect()
}

/// A batch has the size in the file on every machine; the number of its rows in one pass depends on
/// memory.
#[test]
fn little_memory_splits_batches_and_moves_the_last_digits_only() {
    let (plan, least) = narrow();
    for kind in ["sft", "reward", "ppo"] {
        let stage = plan
            .graph
            .iter()
            .find(|stage| stage.spec.kind == kind)
            .unwrap();
        let rows = plan
            .work(&stage.key)
            .micro_batch(least, BackendProfile::FLEX)
            .unwrap()
            .get();
        assert!(
            rows < 64,
            "{kind} takes {rows} rows at once: nothing is split"
        );
    }
    let (much, little) = (tiny(), tiny());
    much.succeed(NARROW);
    little.succeed(&format!("{NARROW} --memory {least}"));
    for kind in ["sft", "reward"] {
        let (whole, parts) = (curves(&much, kind, "loss"), curves(&little, kind, "loss"));
        assert!(!whole.is_empty() && whole.keys().eq(parts.keys()));
        for (label, losses) in &whole {
            // 64 demonstrations in batches of 64, two epochs.
            assert_eq!(
                (losses.len(), parts[label].len()),
                (2, 2),
                "{label}: optimiser steps"
            );
            let mut pairs = losses.iter().zip(&parts[label]);
            assert!(
                pairs.all(|(a, b)| (a - b).abs() < 1e-5),
                "{label}: {losses:?} and {:?}",
                parts[label]
            );
        }
    }
    let numbers = |bench: &Bench| -> BTreeMap<String, f64> {
        let text = bench.read(METRICS);
        let rows = text
            .lines()
            .skip(1)
            .map(|line| line.rsplit_once(',').unwrap());
        rows.map(|(cell, value)| (cell.to_owned(), value.parse().unwrap()))
            .collect()
    };
    let (whole, parts) = (numbers(&much), numbers(&little));
    assert!(whole.len() > 20 && whole.keys().eq(parts.keys()));
    for (cell, value) in &whole {
        assert!(
            (value - parts[cell]).abs() < 1e-3,
            "{cell}: {value} and {}",
            parts[cell]
        );
    }
    let keys = |bench: &Bench| -> Vec<_> {
        let store = Store::open_existing(bench.path("runs")).unwrap();
        store
            .list()
            .unwrap()
            .into_iter()
            .map(|manifest| manifest.key)
            .collect()
    };
    assert_eq!(keys(&much), keys(&little));
}

/// A stage's peak memory is stored with its artifact and shown in the report.
#[cfg(target_os = "linux")]
#[test]
fn every_result_says_how_much_memory_it_took() {
    let bench = finished();
    let store = Store::open_existing(bench.path("runs")).unwrap();
    for manifest in store.list().unwrap() {
        let peak = manifest.peak_memory_bytes.unwrap_or_default();
        assert!(
            (1 << 22..1 << 30).contains(&peak),
            "{}: {peak} bytes",
            manifest.label
        );
    }
    let costs = bench.read("reports/tiny-smoke/tables/costs.csv");
    assert!(costs.lines().next().unwrap().contains("memory"), "{costs}");
    let plan = bench.succeed(&format!("{PLAN} --stages")).out;
    assert!(
        plan.contains("measured") && plan.contains("at most"),
        "{plan}"
    );
}

// --- Looking ---

#[test]
fn plan_and_runs_show_what_is_there() {
    let bench = tiny();
    let nothing = planned(&bench, PLAN);
    assert!(kinds(&nothing, true).is_empty());
    assert!(!bench.path("runs").exists(), "looking is not making");

    let bench = finished();
    let all = planned(&bench, PLAN);
    assert!(kinds(&all, false).is_empty());
    assert_eq!(kinds(&all, true), kinds(&nothing, false));
    let (plan, listed) = (
        bench.succeed(PLAN).out,
        bench.succeed("runs list --store runs").out,
    );
    assert!(
        plan.contains(&format!(
            "2 methods × 1 sizes × 2 seeds: {0} stages, {0} done",
            all.len()
        )),
        "{plan}"
    );
    assert!(
        listed.contains(&format!("{} artifacts", all.len())),
        "{listed}"
    );

    let line = listed
        .lines()
        .find(|line| line.contains("sft/tiny/seed 1 "))
        .unwrap_or_else(|| panic!("{listed}"));
    let shown = bench
        .succeed(&format!(
            "runs show {} --store runs",
            line.split_whitespace().next().unwrap()
        ))
        .out;
    for expected in [
        "kind      sft",
        "seed      1",
        "input     base",
        "model.safetensors",
        "learning_rate",
    ] {
        assert!(shown.contains(expected), "{shown}");
    }
    let unknown = bench.run("runs show ffffffffffffffff --store runs");
    assert_eq!(unknown.code, Some(STORE));
    assert!(unknown.err.contains("runs list"), "{}", unknown.err);
}

// --- Changing ---

#[test]
fn a_method_s_own_setting_reruns_what_depends_on_it_and_no_more() {
    let bench = finished();
    let with = |own: &str| {
        // Methods are a list, which replaces the whole list of the extended file.
        let tldr = include_str!("../experiments/tldr.toml");
        let methods = &tldr[tldr.find("[[method]]").unwrap()..tldr.find("[report]").unwrap()];
        let changed = methods.replace("id = \"irl\"\n", &format!("id = \"irl\"\n{own}\n"));
        assert_ne!(changed, methods);
        let tiny = fs::read_to_string(fixture("experiments/tiny.toml")).unwrap();
        bench.write("tiny.toml", format!("{tiny}\n{changed}"));
        planned(&bench, PLAN)
    };
    assert!(
        kinds(&with(""), false).is_empty(),
        "spelling the methods out changes no stage"
    );
    // There are two seeds with two iterations each. The first reward does not depend on the policy
    // step, the second does.
    let ppo = with("ppo.optimiser.learning_rate = 0.001");
    let again = [("pairs", 2), ("agreement", 2), ("ppo", 4), ("evaluate", 4)];
    let expected = again
        .into_iter()
        .chain([("evaluate_reward", 2), ("reward", 2)])
        .collect();
    assert_eq!(kinds(&ppo, false), expected);
    // The pairs of the first iteration are the same.
    let reward = with("reward.epochs = 3");
    let expected = again
        .into_iter()
        .chain([("evaluate_reward", 4), ("reward", 4)])
        .collect();
    assert_eq!(kinds(&reward, false), expected);
    let evaluation = with("evaluation.temperature = 0.5");
    assert!(
        kinds(&evaluation, false)
            .keys()
            .all(|kind| kind.starts_with("evaluate") || *kind == "heldout_pairs")
    );

    with("ppo.optimiser.learning_rate = 0.001");
    let said = bench.succeed(RUN);
    let counts = stages(&said);
    assert_eq!((counts["finished"], counts["cached"]), (16, ppo.len() - 16));
    // Only the changed method has other numbers.
    let rows = |text: &str, method: &str| {
        let key = format!("{method},");
        text.lines()
            .filter(|line| line.starts_with(&key))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (before, after) = (
        std::str::from_utf8(&undisturbed()[Path::new(METRICS)]).unwrap(),
        bench.read(METRICS),
    );
    assert!(!rows(before, "sft").is_empty(), "{before}");
    assert_eq!(rows(before, "sft"), rows(&after, "sft"));
    assert_ne!(rows(before, "irl"), rows(&after, "irl"));
}

// --- Killing ---

/// Starts the run in the background.
fn start(bench: &Bench) -> Child {
    let mut command = bench.command(RUN);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn artifacts(bench: &Bench) -> usize {
    let shards = fs::read_dir(bench.path("runs/artifacts"))
        .into_iter()
        .flatten()
        .flatten();
    shards
        .flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten())
        .count()
}

/// Waits until `parent` has made `count` artifacts and is making another.
fn wait_for(bench: &Bench, parent: &mut Child, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let at_work =
        || fs::read_dir(bench.path("runs/tmp")).is_ok_and(|mut folder| folder.next().is_some());
    while artifacts(bench) < count || !at_work() {
        assert!(Instant::now() < deadline, "{count} artifacts did not come");
        assert!(
            parent.try_wait().unwrap().is_none(),
            "the run ended before it could be disturbed"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn signal(name: &str, process: u32) {
    // A process may have ended by itself, which is as good as a kill.
    let _ = Command::new("kill")
        .args([name, &process.to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbered
        .filter(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The format is: pid (name) state parent …; the name may contain any characters.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            rest.split_whitespace().nth(1) == Some(&parent.to_string())
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_killed_again_and_again_ends_with_the_same_numbers() {
    let bench = tiny();
    let mut killed_children = 0;
    for count in [0, 1, 3, 6, 10, 15, 20] {
        let mut parent = start(&bench);
        wait_for(&bench, &mut parent, count);
        // Every second time the stages are killed first, while their parent lives; otherwise they
        // are left without a parent.
        if count % 2 == 1 {
            let children = children(parent.id());
            killed_children += children.len();
            children
                .into_iter()
                .for_each(|child| signal("-KILL", child));
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
    }
    assert!(killed_children > 0, "no stage was killed at work");
    let said = bench.succeed(RUN);
    assert!(stages(&said)["cached"] >= 20, "{}", said.err);
    assert_metrics_as_undisturbed(&bench);
    assert!(
        bench
            .succeed("runs verify --store runs")
            .out
            .contains("all as written")
    );
    assert!(
        fs::read_dir(bench.path("runs/tmp"))
            .unwrap()
            .next()
            .is_none(),
        "something half-written is left"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_stops_with_a_hint_and_the_same_command_continues() {
    let bench = tiny();
    let mut parent = start(&bench);
    wait_for(&bench, &mut parent, 4);
    signal("-INT", parent.id());
    let said = Said::from(parent.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{}", said.err);
    assert!(
        said.err
            .contains("interrupted: run the same command again to continue"),
        "{}",
        said.err
    );
    assert!(!bench.path("reports").exists(), "no report of half a run");
    let said = bench.succeed(RUN);
    assert!(stages(&said)["cached"] >= 4);
    assert_metrics_as_undisturbed(&bench);
}

// --- Damage ---

/// The weights file of one of the SFT policies.
fn some_weights(bench: &Bench) -> PathBuf {
    let listed = bench.succeed("runs list --store runs").out;
    let key = listed
        .lines()
        .find(|line| line.contains("sft/tiny/seed 2 "))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let found = files(&bench.path("runs/artifacts")).into_keys();
    let mut found = found.filter(|path| {
        path.components()
            .nth(1)
            .is_some_and(|dir| dir.as_os_str().to_str().unwrap().starts_with(key))
    });
    let weights = found
        .find(|path| path.ends_with("model.safetensors"))
        .unwrap();
    bench.path("runs/artifacts").join(weights)
}

#[test]
fn a_changed_file_is_found_by_verify_and_computed_again_after_repair() {
    let bench = finished();
    let path = some_weights(&bench);
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&path, changed).unwrap();

    let said = bench.run("runs verify --store runs");
    assert_eq!(said.code, Some(1));
    assert!(
        said.out
            .contains("model.safetensors: changed since it was written"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("1 problem") && said.out.contains("--repair"),
        "{}",
        said.out
    );
    bench.succeed("runs verify --repair --store runs");
    assert_eq!(
        stages(&bench.succeed(RUN))["finished"],
        1,
        "what was computed from it is the same and stays"
    );
    assert!(
        fs::read(&path).unwrap() == whole,
        "computed again to the same bytes"
    );
    assert_metrics_as_undisturbed(&bench);
    assert!(
        bench
            .succeed("runs verify --store runs")
            .out
            .contains("all as written")
    );
}

#[test]
fn files_cut_short_or_lost_are_noticed_by_the_next_run() {
    let bench = finished();
    let path = some_weights(&bench);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(stages(&bench.succeed(RUN))["finished"], 1);
    assert!(fs::read(&path).unwrap() == whole);
    fs::remove_file(path.with_file_name("manifest.json")).unwrap();
    fs::remove_file(path.with_file_name("tokenizer.json")).unwrap();
    assert_eq!(stages(&bench.succeed(RUN))["finished"], 1);
    assert_metrics_as_undisturbed(&bench);
}

// --- Disks ---

#[test]
fn a_store_that_cannot_be_made_is_an_error_that_names_it() {
    let bench = tiny();
    bench.write("file", "");
    let mut impossible = vec!["file/below".to_owned()];
    if cfg!(target_os = "linux") {
        // Nobody, not even root, can create folders there.
        impossible.push("/proc/touchstone".into());
    }
    let closed = bench.path("closed");
    fs::create_dir(&closed).unwrap();
    let mut permissions = fs::metadata(&closed).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&closed, permissions).unwrap();
    if fs::write(closed.join("probe"), "").is_err() {
        // Permissions do not stop root.
        impossible.push("closed/store".into());
    }
    for store in impossible {
        let said = bench.run(&RUN.replace("--store runs", &format!("--store {store}")));
        assert_eq!(said.code, Some(FILES), "{}", said.err);
        assert!(
            said.err.contains(&store),
            "{store} is not named in:\n{}",
            said.err
        );
        assert!(!bench.path("reports").exists());
    }
    bench.write("mine/notes.txt", "not yours");
    let said = bench.run(&RUN.replace("--store runs", "--store mine"));
    assert_eq!(said.code, Some(STORE));
    assert!(
        said.err.contains("mine is not a store") && said.err.contains("notes.txt"),
        "{}",
        said.err
    );
    assert_eq!(
        files(&bench.path("mine")).len(),
        1,
        "a stranger's folder is left alone"
    );
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_before_the_first_stage() {
    let bench = tiny();
    bench.write("file", "");
    bench.write("own/tiny-smoke/notes.txt", "not yours");
    let mut places = vec![
        ("file/below", "file/below"),
        ("file", "file"),
        ("own", "notes.txt"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", bench.path("link")).unwrap();
        places.push(("link", "link"));
    }
    if cfg!(target_os = "linux") {
        places.push(("/proc/touchstone", "/proc/touchstone"));
    }
    for (place, named) in places {
        let said = bench.run(&RUN.replace("--out reports", &format!("--out {place}")));
        assert_eq!(said.code, Some(FILES), "{place}: {}", said.err);
        assert!(said.err.contains(named), "{place}: {}", said.err);
        assert_eq!(artifacts(&bench), 0, "{place}: a stage ran");
    }
}

#[test]
fn what_a_snapshot_or_a_base_will_write_is_checked_before_the_first_stage() {
    let bench = tiny();
    bench.write("file", "");
    let study = "tiny.toml --methods sft,irl --store runs --out reports";
    for (words, code) in [
        (format!("snapshot accept {study} --file ."), FILES),
        (
            format!("snapshot accept {study} --file file/below/x.json"),
            FILES,
        ),
        (
            format!("snapshot accept {study} --file x.json --tolerance gold=nan"),
            2,
        ),
        (format!("snapshot check {study} --file absent.json"), FILES),
        (
            "base tiny.toml --store runs --folder absent".to_owned(),
            FILES,
        ),
        (
            "base tiny.toml --store runs --folder file --update".to_owned(),
            FILES,
        ),
    ] {
        let said = bench.run(&words);
        assert_eq!(said.code, Some(code), "{words}: {}", said.err);
        assert_eq!(artifacts(&bench), 0, "{words}: a stage ran");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_cannot_compute_is_an_error_before_the_first_stage() {
    let bench = tiny();
    let said = bench.run(&format!("{RUN} --device flex,cuda:0"));
    assert_eq!(said.code, Some(10), "{}", said.err);
    assert!(
        said.err.contains("--features cuda") && !bench.path("runs").exists(),
        "{}",
        said.err
    );
}

// --- Signals, pipes and names ---

/// Starts the run in the background of a shell that ignores `signal`; child processes inherit this.
#[cfg(target_os = "linux")]
fn start_deaf(bench: &Bench, signal: &str) -> Child {
    let mut command = Command::new("sh");
    let script = format!(
        "trap '' {signal}; exec {} {RUN}",
        env!("CARGO_BIN_EXE_touchstone")
    );
    bench.prepare(command.args(["-c", &script]));
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    for name in ["HUP", "INT"] {
        let bench = tiny();
        let mut parent = start_deaf(&bench, name);
        wait_for(&bench, &mut parent, 2);
        for _ in 0..2 {
            children(parent.id())
                .into_iter()
                .chain([parent.id()])
                .for_each(|process| signal(&format!("-{name}"), process));
        }
        let said = Said::from(parent.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{name}: {}", said.err);
        assert_eq!(stages(&said).get("failed"), None);
        assert_metrics_as_undisturbed(&bench);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_not_ignored_stops_the_run_and_its_stages() {
    for name in ["HUP", "TERM"] {
        let bench = tiny();
        let mut parent = start(&bench);
        wait_for(&bench, &mut parent, 2);
        let stages = children(parent.id());
        signal(&format!("-{name}"), parent.id());
        let said = Said::from(parent.wait_with_output().unwrap());
        assert_eq!(said.code, Some(130), "{name}: {}", said.err);
        assert!(
            said.err.contains("run the same command again to continue"),
            "{}",
            said.err
        );
        for stage in stages {
            assert!(
                !Path::new(&format!("/proc/{stage}")).exists(),
                "{name}: a stage lives on"
            );
        }
    }
}

/// Exit code of the finished run in a shell, with redirections.
#[cfg(target_os = "linux")]
fn redirected(bench: &Bench, words: &str, redirection: &str) -> Option<i32> {
    let mut command = Command::new("bash");
    let script = format!(
        "set -o pipefail; {} {words} {redirection}",
        env!("CARGO_BIN_EXE_touchstone")
    );
    bench.prepare(command.args(["-c", &script]));
    command.output().unwrap().status.code()
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_pipe_changes_no_exit_code_and_lost_results_do() {
    let bench = finished();
    for words in [
        RUN,
        "doctor",
        "runs list --store runs",
        "runs verify --store runs",
        PLAN,
        "--help",
        "plan --help",
    ] {
        for quiet in [
            "| true",
            "2>&1 | true",
            "| head -1",
            ">&-",
            "2>&-",
            ">&- 2>&-",
            "2>/dev/full",
        ] {
            assert_eq!(redirected(&bench, words, quiet), Some(0), "{words} {quiet}");
        }
        assert_eq!(
            redirected(&bench, words, ">/dev/full"),
            Some(FILES),
            "{words}"
        );
    }
    for quiet in ["2>&1 | true", "2>&-", "2>/dev/full"] {
        assert_eq!(
            redirected(&bench, "doctor --colour", quiet),
            Some(2),
            "{quiet}"
        );
        assert_eq!(
            redirected(&bench, "runs list --store absent", quiet),
            Some(STORE),
            "{quiet}"
        );
    }
}

/// A name that is not UTF-8, and names that need quoting in a shell.
#[cfg(target_os = "linux")]
#[test]
fn names_may_be_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"b\xffd"[..], b"a b\nc", "ü".as_bytes()] {
        let (bench, name) = (tiny(), OsStr::from_bytes(name));
        let (mut command, mut report) = (bench.command("reproduce tiny.toml"), name.to_owned());
        report.push("-reports");
        let words =
            "--profile smoke --methods sft,irl --seeds 1, --jobs 2 --set irl.iterations=1 --store";
        command
            .args(words.split(' '))
            .arg(name)
            .arg("--out")
            .arg(&report)
            .env("TMPDIR", bench.path(name));
        let said = Said::from(command.output().unwrap());
        assert_eq!(said.code, Some(0), "{name:?}: {}", said.err);
        assert!(
            bench.path(&report).join("tiny-smoke/report.md").is_file(),
            "{name:?}"
        );
        for words in ["runs list", "runs verify", "plan tiny.toml"] {
            let said = Said::from(
                bench
                    .command(words)
                    .arg("--store")
                    .arg(name)
                    .output()
                    .unwrap(),
            );
            assert_eq!(said.code, Some(0), "{words}, {name:?}: {}", said.err);
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_is_gone_is_an_error() {
    let bench = tiny();
    for words in ["plan tldr", "doctor", RUN, "runs list", "report tldr"] {
        fs::create_dir(bench.path("gone")).unwrap();
        let mut command = Command::new("sh");
        let script = format!(
            "cd gone && rmdir ../gone && exec {} {words}",
            env!("CARGO_BIN_EXE_touchstone")
        );
        bench.prepare(command.args(["-c", &script]));
        let said = Said::from(command.env_remove("HOME").output().unwrap());
        assert!(
            matches!(said.code, Some(FILES | STORE)),
            "{words}: {:?} {}",
            said.code,
            said.err
        );
    }
}

/// No file may grow beyond 12 KiB (24 if the shell counts in whole KiB), as on a disk that is
/// nearly full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_the_stages_that_need_room_and_is_survived() {
    let bench = tiny();
    let mut limited = Command::new("sh");
    // If the signal is ignored, a write beyond the limit is an ordinary error.
    let script = format!(
        "trap '' XFSZ; ulimit -f 24; exec {} {RUN}",
        env!("CARGO_BIN_EXE_touchstone")
    );
    bench.prepare(limited.args(["-c", &script]));
    let said = Said::from(limited.output().unwrap());
    assert!(
        matches!(said.code, Some(1 | STORE | FILES)),
        "{:?}: {}",
        said.code,
        said.err
    );
    assert!(
        said.err.contains("model.safetensors"),
        "the file is not named in:\n{}",
        said.err
    );
    let counts = stages(&said);
    assert!(
        counts["failed"] >= 1 && counts["skipped"] >= 1,
        "{counts:?}"
    );
    bench.succeed(RUN);
    assert_metrics_as_undisturbed(&bench);
}
