//! Tests of watching a study: `status`, `runs list --failed`, `runs log`, and that none of them
//! writes to the store.

mod common;

use common::{Bench, files, fixture};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const STUDY: &str = "tiny.toml --profile smoke --methods sft,irl --seeds 1,2";
/// A part of the study.
const PART: &str = "tiny.toml --profile smoke --methods sft,irl --seeds 1,";

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench
}

fn status(bench: &Bench, words: &str) -> Value {
    serde_json::from_str(&bench.succeed(&format!("status {words} --json")).out).unwrap()
}

/// Keys of the planned stages of a kind.
fn keys(bench: &Bench, kind: &str) -> Vec<String> {
    let plan = bench.succeed(&format!("plan {STUDY} --json")).out;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let stages = plan["stages"].as_array().unwrap().iter();
    stages
        .filter(|stage| stage["spec"]["kind"] == kind)
        .map(|stage| stage["key"].as_str().unwrap().to_owned())
        .collect()
}

fn failure(bench: &Bench, key: &str) -> PathBuf {
    let text = "cannot write x\nmore\n\nkind: disk\n\nstandard error:\nlast words\n";
    bench.write(format!("runs/failures/{key}.log"), text)
}

#[test]
fn a_study_is_watched_from_its_plan_to_its_end() {
    let bench = tiny();
    bench.succeed(&format!("plan {STUDY} --record"));
    let planned = status(&bench, STUDY);
    let all = planned["stages"]["stages"].as_u64().unwrap();
    assert!(all > 5);
    assert_eq!(planned["stages"]["left"].as_u64(), Some(all));
    assert_eq!(planned["left"].as_array().unwrap().len() as u64, all);
    assert_eq!(planned["time_left"], Value::Null);
    let text = bench.succeed(&format!("status {STUDY}")).out;
    assert!(
        text.contains("unknown until stages have finished"),
        "{text}"
    );

    // A part of it, from which the time of the rest is reckoned.
    bench.succeed(&format!("reproduce {PART} --jobs 2"));
    let part = status(&bench, STUDY);
    let done = part["stages"]["done"].as_u64().unwrap();
    assert!((1..all).contains(&done));
    let left = part["time_left"]["seconds_one_at_a_time"].as_f64().unwrap();
    let chain = part["time_left"]["seconds_of_the_longest_chain"].as_f64();
    assert!(left > 0.0 && chain.unwrap() <= left);
    assert_eq!(part["time_left"]["seconds_to_the_end"], Value::Null);
    assert!(part["hours_spent"]["wall"].as_f64().unwrap() > 0.0);
    assert_eq!(part["hours_spent"]["gpu"], 0.0);
    let text = bench.succeed(&format!("status {STUDY}")).out;
    assert!(text.contains("nothing runs now"), "{text}");

    bench.succeed(&format!("reproduce {STUDY} --jobs 2"));
    let end = status(&bench, STUDY);
    assert_eq!(end["stages"]["done"].as_u64(), Some(all));
    // Without a name: everything that the store has recorded, which is the same here.
    let recorded = status(&bench, "");
    assert_eq!(recorded["stages"], end["stages"]);
    // The order of the stages is another, and with it the last digits of sums.
    let hours = |status: &Value| status["hours_spent"]["wall"].as_f64().unwrap();
    assert!((hours(&recorded) / hours(&end) - 1.0).abs() < 1e-9);
    assert_eq!(recorded["damaged_records"], 0);
}

#[test]
fn failures_and_holders_are_shown_and_found_by_key() {
    let bench = tiny();
    bench.succeed(&format!("plan {STUDY} --record"));
    let (failed, held, silent) = (
        keys(&bench, "demonstrations")[0].clone(),
        keys(&bench, "pretrain")[0].clone(),
        keys(&bench, "preferences").first().cloned(),
    );
    failure(&bench, &failed);
    let claim = r#"{"attempt":"f00","realm":null,"beat":6,"holder":{"host":"node7"}}"#;
    bench.write(format!("runs/claims/{held}.0"), claim);

    let seen = status(&bench, STUDY);
    assert_eq!(seen["stages"]["failed"], 1);
    assert_eq!(seen["stages"]["running"], 1);
    assert!(seen["stages"]["blocked"].as_u64().unwrap() > 0, "{seen}");
    let one = &seen["failed"][0];
    assert_eq!(
        (one["key"].as_str(), one["reason"].as_str()),
        (Some(&*failed), Some("cannot write x"))
    );
    let one = &seen["held"][0];
    assert_eq!(
        (
            one["key"].as_str(),
            one["runs"].as_bool(),
            one["place"]["host"].as_str()
        ),
        (Some(&*held), Some(true), Some("node7"))
    );
    let text = bench.succeed(&format!("status {STUDY}")).out;
    for part in ["host node7", "cannot write x", "1 running, 1 failed"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }

    let list = bench.succeed("runs list --failed").out;
    assert!(
        list.contains(&failed[..12]) && list.contains("disk") && list.contains("1 failed stage\n"),
        "{list}"
    );
    let log = bench.succeed(&format!("runs log {}", &failed[..8])).out;
    assert!(log.contains("last words"), "{log}");
    bench.write(format!("runs/logs/{held}.77.log"), "said on node7\n");
    let log = bench.succeed(&format!("runs log {held}")).out;
    assert!(
        log.contains("host node7") && log.contains("said on node7") && log.contains(".77.log"),
        "{log}"
    );
    if let Some(other) = silent {
        let said = bench.run(&format!("runs log {other}"));
        assert_eq!(said.code, Some(8), "{said:?}");
        assert!(said.err.contains("has no log"), "{}", said.err);
    }

    // Otherwise the run would wait until this claim has been silent for long enough.
    fs::remove_file(bench.path(format!("runs/claims/{held}.0"))).unwrap();
    // Success takes the failure away, and the stage that was waiting for it is no longer blocked.
    bench.succeed(&format!("reproduce {STUDY} --jobs 2"));
    let end = status(&bench, STUDY);
    assert_eq!(end["stages"]["done"], end["stages"]["stages"]);
    assert!(
        bench
            .succeed("runs list --failed")
            .out
            .contains("0 failed stages\n")
    );
}

/// The store is the same to the byte before and after.
#[test]
fn watching_writes_nothing() {
    let bench = tiny();
    bench.succeed(&format!("reproduce {PART} --jobs 2"));
    failure(&bench, &keys(&bench, "preferences")[0]);
    let before = files(&bench.path("runs"));
    for words in [
        &format!("status {STUDY}"),
        "status",
        "status --json",
        "runs list",
        "runs list --failed",
        &format!("runs log {}", keys(&bench, "preferences")[0]),
        &format!("plan {STUDY}"),
    ] {
        bench.succeed(words);
    }
    assert_eq!(files(&bench.path("runs")), before);
}

#[test]
fn a_store_that_is_not_there_is_an_error() {
    let bench = tiny();
    for words in [
        "status",
        "status tiny.toml --store nowhere",
        "runs list --failed",
    ] {
        let said = bench.run(words);
        assert_eq!(said.code, Some(8), "{said:?}");
        assert!(said.err.contains("there is no store"), "{}", said.err);
    }
    let said = bench.run("status nothing.toml");
    assert_ne!(said.code, Some(0));
    assert!(!bench.path("runs").exists());
}

#[test]
fn a_choice_without_an_experiment_is_refused() {
    let bench = tiny();
    bench.succeed(&format!("plan {STUDY} --record"));
    for choice in [
        "--profile smoke",
        "--seeds 3",
        "--scale paper",
        "--leaderboard-limit 3",
    ] {
        let said = bench.run(&format!("status {choice}"));
        assert_ne!(said.code, Some(0), "{choice}: {}", said.out);
        let told = said.told();
        assert!(told.contains("but no experiment"), "{told}");
    }
}
