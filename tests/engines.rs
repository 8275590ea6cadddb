//! Tests of the contract with other engines: each takes a plan from this program, computes its
//! stages with `touchstone stage`, and ends with the bytes of a local run.

mod common;

use common::{Bench, Said, files, fixture};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const STUDY: &str = "tiny.toml --profile smoke --methods sft,irl --seeds 1,";

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench
}

/// All files of artifacts but their manifests, which contain times.
fn results(bench: &Bench) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(&bench.path("runs/artifacts"));
    all.retain(|path, _| !path.ends_with("manifest.json"));
    all
}

/// The results of a local run.
fn expected() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let bench = tiny();
        bench.succeed(&format!("reproduce {STUDY} --jobs 2"));
        results(&bench)
    })
}

/// An example of the folder `examples/cluster`.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/cluster")
        .join(name)
}

/// True if a program can be started.
fn is_there(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    tried.is_ok_and(|output| output.status.success())
}

fn document(bench: &Bench) -> Value {
    let plan = bench.succeed(&format!("plan {STUDY} --json --record")).out;
    bench.write("plan.json", &plan);
    serde_json::from_str(&plan).unwrap()
}

/// Every fact that an engine needs stands in the document.
#[test]
fn a_plan_says_what_an_engine_must_know() {
    let bench = tiny();
    let plan = document(&bench);
    assert_eq!(plan["devices"], serde_json::json!(["flex"]));
    let store = plan["store"].as_str().unwrap();
    assert!(Path::new(store).is_absolute() && Path::new(store).ends_with("runs"));
    let mut before = BTreeSet::new();
    for stage in plan["stages"].as_array().unwrap() {
        for input in stage["spec"]["inputs"].as_object().unwrap().values() {
            assert!(before.contains(input.as_str().unwrap()), "{stage}");
        }
        before.insert(stage["key"].as_str().unwrap());
        let needs = &stage["resources"];
        for number in ["seconds", "processors"] {
            assert!(needs[number].is_number(), "{number} of {stage}");
        }
        assert!(needs["memory_bytes"]["total"].is_number(), "{stage}");
        assert!(stage["done"].is_boolean() && stage["label"].is_string());
    }
}

/// A stand-in for Slurm: `sbatch` writes down its arguments and runs the job at once, whose inputs are
/// done since they were submitted before it; `squeue` knows no job.
fn slurm(bench: &Bench) -> String {
    let sbatch = "#!/bin/sh
number=$(cat number 2>/dev/null || echo 100)
number=$((number + 1))
echo $number > number
for word; do printf '%s\\n' \"$word\"; done >> sbatch.log
while [ \"$1\" != --wrap ]; do shift; done
sh -c \"$2\" > last.log 2>&1 || exit 1
echo \"$number;cluster\"
";
    for (name, text) in [
        ("sbatch", sbatch),
        ("squeue", "#!/bin/sh\ncat queue 2>/dev/null\nexit 0\n"),
    ] {
        let path = bench.write(format!("bin/{name}"), text);
        let status = Command::new("chmod").arg("+x").arg(path).status();
        assert!(status.unwrap().success());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", bench.path("bin").display())
}

fn per_stage(bench: &Bench, path: &str, words: &[&str]) -> Said {
    let mut command = Command::new("python3");
    bench.prepare(&mut command);
    command
        .env("PATH", path)
        .arg(example("sbatch_per_stage.py"));
    command.args([
        "plan.json",
        "--touchstone",
        env!("CARGO_BIN_EXE_touchstone"),
    ]);
    Said::from(command.args(words).output().unwrap())
}

#[cfg(unix)]
#[test]
fn one_slurm_job_for_each_stage() {
    if !is_there("python3") {
        eprintln!("SKIPPED: no python3 here");
        return;
    }
    let bench = tiny();
    let plan = document(&bench);
    let path = slurm(&bench);
    let dry = per_stage(&bench, &path, &["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert_eq!(
        dry.out.lines().count(),
        plan["stages"].as_array().unwrap().len()
    );
    assert!(!bench.path("sbatch.log").exists());

    let said = per_stage(&bench, &path, &["--", "--partition=cpu"]);
    assert_eq!(
        said.code,
        Some(0),
        "{said:?}\n{}",
        fs::read_to_string(bench.path("last.log")).unwrap_or_default()
    );
    assert!(
        &results(&bench) == expected(),
        "other bytes than a local run"
    );
    let log = bench.read("sbatch.log");
    assert!(
        log.contains("--dependency=afterok:10") && log.contains("--partition=cpu"),
        "{log}"
    );
    assert!(
        !log.contains(";cluster"),
        "the number alone names a job: {log}"
    );

    // Nothing is submitted again: neither what is done nor what is in the queue.
    document(&bench);
    let again = per_stage(&bench, &path, &[]);
    assert!(again.out.contains("0 jobs submitted"), "{again:?}");
    let fresh = tiny();
    let plan = document(&fresh);
    let path = slurm(&fresh);
    let first = plan["stages"][0]["key"].as_str().unwrap();
    fresh.write("queue", format!("7 touchstone:{first}\n"));
    let dry = per_stage(&fresh, &path, &[]);
    // The first stage is only said to be queued, so that the stage that needs it fails at once.
    assert!(dry.err.contains("sbatch refused stage"), "{dry:?}");
    let log = fresh.read("sbatch.log");
    let behind = |line: &str| {
        let numbers = line.strip_prefix("--dependency=afterok:");
        numbers.is_some_and(|numbers| numbers.split(':').any(|number| number == "7"))
    };
    assert!(log.lines().any(behind), "{log}");
    // A stage that no pool watches leaves its log in the store.
    assert!(
        fresh
            .succeed("runs list --failed")
            .out
            .contains("1 failed stage\n")
    );
}

#[test]
fn snakemake_computes_a_plan() {
    if !is_there("snakemake") {
        eprintln!("SKIPPED: no snakemake here (pip install snakemake)");
        return;
    }
    let bench = tiny();
    let plan = document(&bench);
    let snakemake = || {
        let mut command = Command::new("snakemake");
        bench.prepare(&mut command);
        command
            .env("HOME", bench.path(""))
            .arg("--snakefile")
            .arg(example("Snakefile"));
        command.args(["--cores", "2", "--config", "plan=plan.json"]);
        command.arg(format!("touchstone={}", env!("CARGO_BIN_EXE_touchstone")));
        Said::from(command.output().unwrap())
    };
    let said = snakemake();
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    assert!(
        &results(&bench) == expected(),
        "other bytes than a local run"
    );
    let steps = plan["stages"].as_array().unwrap().len() + 1;
    assert!(
        said.err.contains(&format!("{steps} of {steps} steps")),
        "{}",
        said.err
    );
    let again = snakemake();
    assert!(again.err.contains("Nothing to be done"), "{}", again.err);
}

/// Every task of the job file, in the order of the file, with its own command and environment.
#[test]
fn a_job_file_of_hyperqueue_has_every_stage_behind_its_inputs() {
    let bench = tiny();
    let text = bench.succeed(&format!("plan {STUDY} --format hq")).out;
    let job: toml::Table = text.parse().unwrap();
    assert_eq!(job["name"].as_str(), Some("touchstone-tiny"));
    let tasks = job["task"].as_array().unwrap();
    let mut before = BTreeSet::new();
    for task in tasks {
        let deps = task.get("deps").and_then(toml::Value::as_array);
        for dep in deps.into_iter().flatten() {
            assert!(before.contains(&dep.as_integer().unwrap()), "{task}");
        }
        assert!(before.insert(task["id"].as_integer().unwrap()), "{task}");
        assert_eq!(task["stderr"]["on_close"].as_str(), Some("rm-if-finished"));
        let request = &task["request"].as_array().unwrap()[0]["resources"];
        assert!(request["cpus"].as_integer() >= Some(1) && request["mem"].as_integer() >= Some(1));
        let words: Vec<&str> = task["command"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        let mut command = Command::new(words[0]);
        bench.prepare(&mut command);
        let variables = task["env"].as_table().unwrap().iter();
        command
            .args(&words[1..])
            .envs(variables.map(|(name, value)| (name, value.as_str().unwrap())));
        let said = Said::from(command.output().unwrap());
        assert_eq!(said.code, Some(0), "{task}: {said:?}");
    }
    assert!(
        &results(&bench) == expected(),
        "other bytes than a local run"
    );
    // Finished stages are no tasks of a later job.
    let text = bench.succeed(&format!("plan {STUDY} --format hq")).out;
    assert!(!text.contains("[[task]]"), "{text}");
}

#[test]
fn hyperqueue_itself_takes_the_job_file() {
    if !is_there("hq") {
        eprintln!("SKIPPED: no hq here (its releases have the program)");
        return;
    }
    let bench = tiny();
    let text = bench.succeed(&format!("plan {STUDY} --format hq")).out;
    bench.write("job.toml", text);
    let hq = |words: &[&str]| {
        let mut command = Command::new("hq");
        bench.prepare(&mut command);
        command.env("HQ_SERVER_DIR", bench.path("hq")).args(words);
        command
    };
    let quiet = |mut command: Command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = quiet(hq(&["server", "start"])).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let mut worker = quiet(hq(&["worker", "start", "--cpus=2"])).unwrap();
    let said = Said::from(hq(&["job", "submit-file", "job.toml"]).output().unwrap());
    let _ = hq(&["job", "wait", "last"]).output();
    for process in [&mut worker, &mut server] {
        let _ = process.kill();
        let _ = process.wait();
    }
    assert!(&results(&bench) == expected(), "{said:?}");
}
