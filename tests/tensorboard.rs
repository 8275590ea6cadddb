//! Tests of `runs tensorboard`, whose event files TensorBoard's own reader must read as they were
//! meant. `PYTHON` names a Python that has TensorBoard.

mod common;

use common::{Bench, files, fixture};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// Prints every scalar that TensorBoard finds below a folder: {run: {tag: [[step, value], …]}}.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
found = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(sys.argv[1])
found.Reload()
from tensorboard.util import tensor_util
runs = {}
for run in found.Runs():
    tags = found.GetAccumulator(run).Tags()["tensors"]
    events = {tag: found.Tensors(run, tag) for tag in tags}
    runs[run] = {
        tag: [[event.step, float(tensor_util.make_ndarray(event.tensor_proto))] for event in list]
        for tag, list in events.items()
    }
print(json.dumps(runs))
"#;

fn study() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench.succeed("reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 2");
    bench
}

#[test]
fn every_artifact_is_a_run_and_is_written_once() {
    let bench = study();
    let first = bench.succeed("runs tensorboard board").out;
    let written = files(&bench.path("board"));
    let artifacts = bench.succeed("runs list").out.lines().count() - 2;
    assert_eq!(written.len(), artifacts);
    assert!(
        first.contains(&format!("{artifacts} runs with ")),
        "{first}"
    );
    assert!(first.contains("tensorboard --logdir board"), "{first}");
    let again = bench.succeed("runs tensorboard board").out;
    assert!(again.contains("0 runs with 0 scalars written"), "{again}");
    assert_eq!(files(&bench.path("board")), written);
    bench.succeed("runs tensorboard some --label /ppo");
    let some = files(&bench.path("some"));
    assert!(
        !some.is_empty()
            && some
                .keys()
                .all(|path| path.to_str().unwrap().contains("/ppo/"))
    );
}

#[test]
fn tensorboard_reads_what_stages_recorded() {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python)
        .args(["-c", "import tensorboard"])
        .stderr(Stdio::null())
        .status();
    if !has.is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED: {python} has no tensorboard (pip install tensorboard; PYTHON names another Python)"
        );
        return;
    }
    let bench = study();
    bench.succeed("runs tensorboard board");
    let mut command = Command::new(python);
    bench.prepare(&mut command);
    let output = command.args(["-c", READER, "board"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let runs: BTreeMap<String, BTreeMap<String, Vec<(i64, f64)>>> =
        serde_json::from_slice(&output.stdout).unwrap();
    let artifacts = files(&bench.path("runs/artifacts"));
    assert_eq!(
        runs.len(),
        artifacts
            .keys()
            .filter(|path| path.ends_with("manifest.json"))
            .count()
    );

    let (mut curves, mut metrics) = (0, 0);
    for (path, bytes) in &artifacts {
        let Some(folder) = path.parent() else {
            continue;
        };
        let key = folder.file_name().unwrap().to_str().unwrap();
        let run = runs.iter().find(|(name, _)| name.ends_with(&key[..12]));
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "manifest.json" {
            let manifest: Value = serde_json::from_slice(bytes).unwrap();
            let wall = run.unwrap().1["cost/wall_seconds"][0].1;
            assert!((wall / manifest["wall_seconds"].as_f64().unwrap() - 1.0).abs() < 1e-6);
        }
        if name == "curve.json" {
            let curve: Value = serde_json::from_slice(bytes).unwrap();
            let losses = match &curve {
                Value::Array(records) => records
                    .iter()
                    .map(|it| it["policy_loss"].as_f64().unwrap())
                    .collect(),
                fields => fields["loss"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|it| it.as_f64().unwrap())
                    .collect::<Vec<_>>(),
            };
            let tag = if curve.is_array() {
                "curve/policy_loss"
            } else {
                "curve/loss"
            };
            let read = &run.unwrap().1[tag];
            let expected: Vec<(i64, f64)> = losses
                .iter()
                .enumerate()
                .map(|(step, loss)| (step as i64, f64::from(*loss as f32)))
                .collect();
            assert_eq!(read, &expected, "{}", path.display());
            curves += 1;
        }
        if name == "metrics.json" {
            let rows: Vec<Value> = serde_json::from_slice(bytes).unwrap();
            for row in rows.iter().filter(|row| row["value"].is_number()) {
                let tag = format!("metric/{}", row["metric"].as_str().unwrap());
                let value = f64::from(row["value"].as_f64().unwrap() as f32);
                assert_eq!(run.unwrap().1[&tag][0].1, value, "{tag}");
                metrics += 1;
            }
        }
    }
    assert!(
        curves > 3 && metrics > 10,
        "{curves} curves, {metrics} metrics"
    );
}
