//! Planning and watching studies of many stages: time and memory grow in proportion. The store is
//! simulated: nine tenths of the stages have a manifest without files, some are claimed, some have
//! failed.
//!
//! `cargo test --release --test many_stages -- --ignored --nocapture` prints the figures for a
//! hundred thousand stages (docs/watching.md).
#![cfg(target_os = "linux")]

mod common;

use common::{Bench, fixture};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Seconds and MiB of one command.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    mebibytes: f64,
}

/// Runs the program and measures it; its output goes to `out.json`.
fn measured(bench: &Bench, words: &str) -> Cost {
    let mut command = bench.command(words);
    let out = fs::File::create(bench.path("out.json")).unwrap();
    let started = Instant::now();
    let mut process = command
        .stdout(out)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut kibibytes = 0.0_f64;
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        let stat = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
        let peak = stat.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        kibibytes = kibibytes.max(peak.unwrap_or(0.0));
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "touchstone {words}");
    Cost {
        seconds: started.elapsed().as_secs_f64(),
        mebibytes: kibibytes / 1024.0,
    }
}

/// Writes what nine tenths of the stages of a plan would have left in the store.
fn simulate(bench: &Bench) -> usize {
    let plan: Value = serde_json::from_str(&bench.read("out.json")).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    let done = stages.len() * 9 / 10;
    for (place, stage) in stages.iter().enumerate() {
        let key = stage["key"].as_str().unwrap();
        let path = |name: String| bench.path("runs").join(name);
        match place {
            _ if place < done => {
                let manifest = json!({
                    "format_version": 1, "key": key, "spec": stage["spec"], "label": stage["label"],
                    "touchstone": "0.2.0", "code_revision": "simulated", "device": "flex",
                    "started": "2026-01-01T00:00:00Z", "wall_seconds": 2.5, "cpu_seconds": 2.0,
                    "peak_memory_bytes": 1 << 26, "tokens": 1000, "flops": 1e9, "files": {},
                });
                let folder = path(format!("artifacts/{}/{key}", &key[..2]));
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
            }
            _ if place < done + 64 => {
                let claim =
                    json!({"attempt": "a", "realm": null, "beat": 3, "holder": {"host": "node1"}});
                fs::write(path(format!("claims/{key}.0")), claim.to_string()).unwrap();
            }
            _ if place < done + 80 => {
                fs::write(
                    path(format!("failures/{key}.log")),
                    "killed\n\nkind: process\n",
                )
                .unwrap();
            }
            _ => {}
        }
    }
    stages.len()
}

/// Costs of planning and watching a study of so many seeds, and its number of stages.
fn study(seeds: usize) -> (usize, Vec<(&'static str, Cost)>) {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    let chosen = format!("tiny.toml --profile smoke --seeds {seeds}");
    let mut costs = vec![
        (
            "plan --json",
            measured(&bench, &format!("plan {chosen} --json")),
        ),
        (
            "plan --json --record",
            measured(&bench, &format!("plan {chosen} --json --record")),
        ),
    ];
    let stages = simulate(&bench);
    for (name, words) in [
        (
            "plan --json, nine tenths done",
            format!("plan {chosen} --json"),
        ),
        (
            "plan --format hq, nine tenths done",
            format!("plan {chosen} --format hq"),
        ),
        ("status of the study", format!("status {chosen} --json")),
        ("status of the store", "status --json".into()),
        ("runs list --failed", "runs list --failed".into()),
    ] {
        costs.push((name, measured(&bench, &words)));
        if name == "status of the study" {
            let status: Value = serde_json::from_str(&bench.read("out.json")).unwrap();
            let counts = &status["stages"];
            assert_eq!(counts["stages"].as_u64(), Some(stages as u64));
            assert_eq!(counts["done"].as_u64(), Some(stages as u64 * 9 / 10));
            assert_eq!(counts["running"].as_u64(), Some(64));
        }
    }
    (stages, costs)
}

/// Four times the stages take less than eight times the time, where a quadratic step would take
/// sixteen times.
#[test]
fn four_times_the_stages_take_about_four_times_as_long() {
    // The machine may be busy: a second try decides.
    for attempt in 0..2 {
        let ((few, short), (many, long)) = (study(60), study(240));
        let growth = many as f64 / few as f64;
        assert!(
            few > 1000 && (3.5..4.5).contains(&growth),
            "{few} and {many} stages"
        );
        let slow: Vec<_> = short
            .iter()
            .zip(&long)
            .filter(|((_, short), (_, long))| {
                long.seconds > 0.3 + 2.0 * growth * short.seconds
                    || long.mebibytes > 40.0 + 2.0 * growth * short.mebibytes
            })
            .collect();
        if slow.is_empty() {
            return;
        }
        assert_eq!(attempt, 0, "{few} and {many} stages: {slow:?}");
    }
}

#[test]
#[ignore = "minutes, and a gigabyte of small files"]
fn a_hundred_thousand_stages() {
    let (few, _) = study(8);
    let (less, _) = study(4);
    let seeds = 4 + (100_000 - less).div_ceil((few - less) / 4);
    let (stages, costs) = study(seeds);
    println!("{stages} stages, {seeds} seeds");
    for (name, cost) in costs {
        println!("{:8.1} s {:8.0} MiB  {name}", cost.seconds, cost.mebibytes);
    }
}
