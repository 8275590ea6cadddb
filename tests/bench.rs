//! Tests of `touchstone bench` and `just bench-gpu` at a tiny shape on the processor: of their
//! output, not of speed.

mod common;

use common::Bench;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const TINY: &str = "bench --set sft.batch_size=3 --set generation.batch_size=4 --set ppo.rollouts=4 --set ppo.minibatches=2 \
                    --set ppo.epochs=1 --warm-up 0 --rounds 1";

fn lines(words: &str) -> Vec<Value> {
    let said = Bench::new().succeed(&format!("{TINY} {words}"));
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_case_says_what_was_done_and_how_fast() {
    let lines = lines("");
    assert_eq!(
        lines.iter().map(|line| &line["case"]).collect::<Vec<_>>(),
        ["sft", "generate", "ppo"]
    );
    for line in &lines {
        let number = |key: &str| {
            line[key]
                .as_f64()
                .unwrap_or_else(|| panic!("{key} of {line}"))
        };
        let (prompt, response) = (number("prompt"), number("response"));
        let tokens = match line["case"].as_str().unwrap() {
            "sft" => 3.0 * (prompt + response),
            _ => 4.0 * response,
        };
        assert_eq!(number("tokens"), tokens);
        assert_eq!(number("tokens_per_second"), tokens / number("median_s"));
        assert_eq!(
            number("flops_per_second"),
            number("flops") / number("median_s")
        );
        assert!(
            number("flops") > 1e6 && number("fastest_s") > 0.0 && number("rounds") == 1.0,
            "{line}"
        );
        assert_eq!(
            line["model_flops_utilisation"],
            Value::Null,
            "a processor has no stated peak"
        );
    }
}

#[test]
fn utilisation_counts_what_the_model_needs_against_the_peak_of_the_type() {
    let run = |words: &str| lines(&format!("--case sft --target h100-80gb {words}")).swap_remove(0);
    let plain = run("");
    let again = run("--set training.gradient_checkpointing=true");
    let halves = run("--set training.dtype=bf16");
    assert_eq!(
        plain["flops"], again["flops"],
        "what checkpointing computes again is no progress"
    );
    for (line, peak) in [(plain, 66.9e12), (halves, 989.4e12)] {
        let expected = line["flops_per_second"].as_f64().unwrap() / peak;
        let found = line["model_flops_utilisation"].as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-9, "{line}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_before_anything_is_computed() {
    let said = Bench::new().run("bench --scale paper --size pythia-1b --memory 4GiB --case sft");
    assert_eq!(said.code, Some(6));
    assert!(said.err.contains("even one row at a time"), "{}", said.err);
}

/// The comparison with the peer is not run, because it needs PyTorch, which no test has.
#[test]
fn the_dry_run_of_the_gpu_bench_examines_and_times_the_default_device() {
    let python = "python3";
    let found = Command::new(python).arg("--version").output();
    assert!(
        found.is_ok(),
        "this test needs {python} (any version, without packages): install it"
    );
    let bench = Bench::new();
    let mut command = Command::new(python);
    bench.prepare(&mut command);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/gpu.py");
    // The command `false` stands for a Python without any module.
    command
        .arg(script)
        .args(["--dry-run", "--program", env!("CARGO_BIN_EXE_touchstone")])
        .env("PYTHON", "false");
    let said = common::Said::from(command.output().unwrap());
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    assert!(said.out.contains("`flex` agrees in all"), "{}", said.out);
    assert!(
        said.out.contains(
            "a dry run, whose numbers mean nothing; without the peer: false cannot import"
        ),
        "{}",
        said.out
    );
    for case in ["sft", "generate", "ppo"] {
        let row = said
            .out
            .lines()
            .find(|line| line.starts_with(&format!("| flex | {case} | f32 |")));
        assert!(
            row.is_some_and(|row| row.contains("| touchstone |") && row.matches('|').count() == 12),
            "{}",
            said.out
        );
    }
}
