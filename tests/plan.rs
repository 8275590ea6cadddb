//! Tests of `touchstone plan`: the cost of a study, before anything is downloaded or run.

mod common;

use common::{Bench, fixture};
use serde_json::Value;
use std::collections::BTreeSet;

/// The message of a command that must fail.
#[track_caller]
fn refused(bench: &Bench, words: &str, code: i32) -> String {
    let said = bench.run(words);
    assert_eq!(said.code, Some(code), "{words}: {}{}", said.out, said.err);
    said.err
}

/// Exit codes of the kinds of failure (docs/errors.md).
const MEMORY: i32 = 6;
const DEVICE: i32 = 10;

const PAPER: &str = "plan tldr --scale paper";

#[test]
fn the_paper_s_scale_is_planned_without_a_network() {
    let bench = Bench::new();
    let said = bench.succeed(PAPER);
    insta::assert_snapshot!("paper", said.out);
    assert!(!bench.path("runs").exists(), "looking is not making");
}

#[test]
fn what_cannot_fit_is_refused_with_the_switch_that_makes_it_fit() {
    let bench = Bench::new();
    let refused = |words: &str| refused(&bench, &format!("{PAPER} {words}"), MEMORY);
    insta::assert_snapshot!("needs_one_switch", refused("--target h100-80gb"));
    insta::assert_snapshot!("needs_two_switches", refused("--target l40s-48gb"));
    insta::assert_snapshot!("cannot_fit", refused("--memory 4GiB"));
    // The suggested remedies are valid.
    bench.succeed(&format!(
        "{PAPER} --target h100-80gb --set ppo.critic=zero_head"
    ));
    bench.succeed(&format!(
        "{PAPER} --target l40s-48gb --set ppo.critic=zero_head --set training.lora_rank=16"
    ));
}

/// The second half of the paper: every weight of the 7B model is trained on one GPU of 141 GB, and
/// one of 80 GB is told what would do.
#[test]
fn the_paper_s_second_half_is_planned_with_its_hyper_parameters() {
    let bench = Bench::new();
    let words = "plan ultrachat --scale paper";
    insta::assert_snapshot!("ultrachat_paper", bench.succeed(words).out);
    let told = refused(&bench, &format!("{words} --target h100-80gb"), MEMORY);
    assert!(told.contains("--set training.lora_rank=16"), "{told}");
    bench.succeed(&format!(
        "{words} --target h100-80gb --set training.lora_rank=16"
    ));
    let told = bench.run(&format!("{words} --target a10g-24gb")).told();
    assert!(
        told.contains("no switch of touchstone makes it fit"),
        "{told}"
    );
    // SPIN's schedule is in the stages of its iterations alone.
    let json: Value =
        serde_json::from_str(&bench.succeed(&format!("{words} --json --seeds 1")).out).unwrap();
    let stages = json["stages"].as_array().unwrap();
    let of_kind = |kind: &'static str| {
        stages
            .iter()
            .filter(move |stage| stage["spec"]["kind"] == kind)
    };
    let spin = of_kind("spin");
    let schedule: Vec<(f64, f64)> = spin
        .map(|stage| {
            let spin = &stage["spec"]["settings"]["spin"];
            assert!(spin["betas"].is_null() && spin["learning_rates"].is_null());
            let rate = &spin["optimiser"]["learning_rate"];
            (rate.as_f64().unwrap(), spin["beta"].as_f64().unwrap())
        })
        .collect();
    let beta = f64::from(0.1f32);
    assert_eq!(
        schedule,
        [(5e-7, beta), (5e-7, beta), (1e-7, beta), (1e-7, 5.0)]
    );
    // The start is an SFT policy already: what is fine-tuned are the winners of Best-of-N.
    let sft: Vec<_> = of_kind("sft")
        .map(|stage| stage["label"].as_str().unwrap())
        .collect();
    assert!(
        !sft.is_empty() && sft.iter().all(|label| label.contains("/iteration ")),
        "{sft:?}"
    );
}

#[test]
fn names_of_hardware_and_amounts_of_memory_are_checked() {
    let bench = Bench::new();
    assert!(refused(&bench, &format!("{PAPER} --target h100"), DEVICE).contains("h100-80gb"));
    let usage = bench.run(&format!("{PAPER} --memory 3apples"));
    assert_eq!(usage.code, Some(2));
    assert!(usage.err.contains("16GiB"), "{}", usage.err);
}

#[test]
fn values_that_nobody_can_mean_are_refused_and_cost_nothing() {
    let bench = Bench::new();
    for (words, code) in [
        ("--seeds 5000000000", 3),
        ("--seeds 18446744073709551615,", 3),
        ("--seeds 99999999999999999999", 2),
        ("--seeds=-1", 2),
        ("--jobs 99999999999999999999", 2),
        ("--jobs=-1", 2),
        ("--memory 99999999999999999999GiB", 2),
        ("--memory nan", 2),
        ("--memory=-1GiB", 2),
        ("--device gpu", 2),
        ("--device flex,", 2),
        ("--device cuda:-1", 2),
    ] {
        let said = bench.run(&format!("plan tldr {words}"));
        assert_eq!(said.code, Some(code), "{words}: {}{}", said.out, said.err);
    }
    for (variable, value) in [
        ("TOUCHSTONE_DEVICE", "gpu"),
        ("TOUCHSTONE_MEMORY", "much"),
        ("TOUCHSTONE_JOBS", "all"),
    ] {
        let said = common::Said::from(
            bench
                .command("plan tldr")
                .env(variable, value)
                .output()
                .unwrap(),
        );
        assert_eq!(said.code, Some(2), "{variable}: {}{}", said.out, said.err);
        assert!(said.err.contains(value), "{}", said.err);
    }
    // The number of jobs is limited to the number of stages.
    bench.succeed("plan tldr --jobs 18446744073709551615 --memory 1GiB");
}

#[cfg(unix)]
#[test]
fn an_experiment_is_a_file_and_nothing_that_has_no_end() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("folder.toml")).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(bench.path("pipe.toml"))
            .status()
            .unwrap()
            .success()
    );
    for path in ["/dev/zero", "./pipe.toml", "./folder.toml"] {
        let said = bench.run(&format!("plan {path}"));
        assert_eq!(said.code, Some(3), "{path}: {}", said.err);
        assert!(
            said.err.contains("is not the file of an experiment"),
            "{}",
            said.err
        );
    }
}

/// Allocators and kernels differ, so the bounds are below the values that docs/memory.md measured:
/// the test checks that no part is forgotten.
#[test]
fn what_stages_take_is_near_what_was_planned() {
    let bench = Bench::new();
    const STUDY: &str = "tldr --profile smoke --sizes mini-2.8b --seeds 1, --methods sft,irl,spin";
    bench.succeed(&format!("reproduce {STUDY} --jobs 2"));
    let plan = bench.succeed(&format!("plan {STUDY}")).out;
    let (_, table) = plan
        .split_once("Memory of the widest stage")
        .expect("a table of memory");
    let mut compared = 0;
    for line in table
        .lines()
        .skip(2)
        .take_while(|line| !line.trim().is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., planned, measured, _] = words.as_slice() else {
            panic!("{line}")
        };
        let (planned, measured): (f64, f64) = (planned.parse().unwrap(), measured.parse().unwrap());
        assert!((planned / measured - 1.0).abs() < 0.2, "{line}");
        compared += 1;
    }
    assert!(compared >= 7, "{plan}");
}

// --- For programs ---

fn document(bench: &Bench, words: &str) -> Value {
    serde_json::from_str(&bench.succeed(words).out).unwrap()
}

#[test]
fn a_document_has_every_stage_behind_its_inputs_with_its_resources() {
    let bench = Bench::new();
    let plan = document(&bench, "plan tldr --scale paper --json");
    assert!(!bench.path("runs").exists(), "looking is not making");
    assert_eq!(
        (&plan["format"], &plan["experiment"], &plan["scale"]),
        (&1.into(), &"tldr".into(), &"paper".into())
    );
    let mut seen = BTreeSet::new();
    for stage in plan["stages"].as_array().unwrap() {
        let inputs = stage["spec"]["inputs"].as_object().unwrap();
        assert!(
            inputs
                .values()
                .all(|key| seen.contains(key.as_str().unwrap())),
            "{stage}"
        );
        assert!(seen.insert(stage["key"].as_str().unwrap()), "{stage}");
        assert_eq!(stage["resources"]["processors"], 1, "{stage}");
        let trains = stage["spec"]["kind"] == "ppo";
        assert!(
            !trains
                || stage["resources"]["memory_bytes"]["optimiser"]
                    .as_f64()
                    .unwrap()
                    > 0.0,
            "{stage}"
        );
    }
    let left: f64 = plan["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["resources"]["seconds"].as_f64().unwrap())
        .sum();
    assert!(
        (plan["seconds_left"].as_f64().unwrap() / left - 1.0).abs() < 1e-9,
        "nothing is done"
    );
}

/// The document and `touchstone stage` are all that an executor needs.
#[test]
fn another_program_can_run_the_stages() {
    let bench = Bench::new();
    bench.copy(&fixture("experiments"), "experiments");
    let words = "plan experiments/tiny.toml --profile smoke --methods sft,irl --seeds 1, --json";
    let planned = document(&bench, &format!("{words} --record"));
    for stage in planned["stages"].as_array().unwrap() {
        bench.succeed(&format!(
            "stage {} --store runs",
            stage["key"].as_str().unwrap()
        ));
    }
    let finished = document(&bench, words);
    assert!(
        finished["stages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|stage| stage["done"] == true)
    );
    assert_eq!(finished["seconds_left"], 0.0);
}
