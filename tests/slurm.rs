//! Tests of studies on a cluster, with a stand-in for Slurm's commands whose workers are processes
//! of this machine. `scripts/test-slurm.sh` tries a real Slurm.
#![cfg(target_os = "linux")]

mod common;

use common::{Bench, Said, files, fixture};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const STUDY: &str =
    "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1 --store runs --out reports";
const CLUSTER: &str = "--executor slurm --shared-store --workers 2";
const MOST: Duration = Duration::from_secs(120);

/// A folder with a study, and a cluster of which only the commands are there.
struct Cluster {
    bench: Bench,
}

impl Cluster {
    fn new() -> Self {
        let bench = Bench::new();
        bench.write(
            "tiny.toml",
            fs::read(fixture("experiments/tiny.toml")).unwrap(),
        );
        let script = bench.write("bin/slurm.py", include_str!("slurm/slurm.py"));
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        for tool in ["sbatch", "squeue", "scancel", "scontrol", "sinfo"] {
            symlink("slurm.py", bench.path("bin").join(tool)).unwrap();
        }
        fs::create_dir(bench.path("state")).unwrap();
        Self { bench }
    }

    /// The program with `words`, with the stand-in's commands on its path.
    fn command(&self, words: &str) -> Command {
        let mut command = self.bench.command(words);
        let path = std::env::var("PATH").unwrap();
        command
            .env(
                "PATH",
                format!("{}:{path}", self.bench.path("bin").display()),
            )
            .env("STANDIN", self.bench.path("state"))
            .env("TOUCHSTONE_POLL_SECONDS", "0.6")
            .env("XDG_CONFIG_HOME", self.bench.path("none"))
            .env_remove("TOUCHSTONE_CLUSTER")
            .env_remove("TOUCHSTONE_MEMORY");
        command
    }

    fn run(&self, words: &str) -> Said {
        Said::from(self.command(words).output().unwrap())
    }

    fn start(&self, words: &str) -> Child {
        let mut command = self.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Changes what the stand-in does.
    fn set(&self, name: &str, text: &str) {
        fs::write(self.bench.path("state").join(name), text).unwrap();
    }

    fn unset(&self, name: &str) {
        fs::remove_file(self.bench.path("state").join(name)).unwrap();
    }

    /// Calls of Slurm's commands that begin with `words`, with this folder's path as `HERE`.
    fn calls(&self, words: &str) -> Vec<String> {
        let here = self.bench.path("").canonicalize().unwrap();
        let here = here.to_str().unwrap().trim_end_matches('/');
        let text = fs::read_to_string(self.bench.path("state/calls")).unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with(words))
            .map(|line| line.replace(here, "HERE"))
            .collect()
    }

    fn tasks(&self) -> Vec<PathBuf> {
        let folder = self.bench.path("state/jobs");
        if folder.exists() {
            files(&folder).into_keys().collect()
        } else {
            Vec::new()
        }
    }

    fn results(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        results(&files(&self.bench.path("")))
    }
}

/// No worker outlives its test.
impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.run(&format!("{STUDY} {CLUSTER} --cancel"));
    }
}

/// Artifacts without their manifests, which contain times, and the report's numbers.
fn results(all: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_interest = |path: &Path| {
        (path.starts_with("runs/artifacts") && !path.ends_with("manifest.json"))
            || path.ends_with("metrics.csv")
    };
    all.iter()
        .filter(|(path, _)| of_interest(path))
        .map(|(path, bytes)| (path.clone(), bytes.clone()))
        .collect()
}

fn local() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static RESULTS: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let cluster = Cluster::new();
        let said = cluster.run(STUDY);
        assert_eq!(said.code, Some(0), "{said:?}");
        cluster.results()
    })
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + MOST;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn finished_stages(cluster: &Cluster) -> usize {
    let all = files(&cluster.bench.path("runs/artifacts"));
    all.keys()
        .filter(|path| path.ends_with("manifest.json"))
        .count()
}

#[test]
fn a_study_on_workers_has_the_bytes_of_a_local_one() {
    let cluster = Cluster::new();
    let said = cluster.run(&format!(
        "{STUDY} {CLUSTER} --cpus 2 --time 1:00:00 -- --qos=long"
    ));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(cluster.results() == *local(), "other bytes");
    assert!(said.err.contains("submitted job 1"), "{}", said.err);
    assert_eq!(cluster.tasks().len(), 2);
    assert_eq!(
        cluster.calls("sbatch").len(),
        2,
        "a trial and one submission"
    );
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{16}:[0-9a-f]{8}:[0-9a-f]{8}", "PLAN:PLACE:ROUND");
    settings.add_filter(r"--round [0-9a-f]{8}", "--round ROUND");
    settings.add_filter(r"work [0-9a-f]{16}", "work PLAN");
    settings.add_filter(r"exec \S+/touchstone", "exec /path/touchstone");
    settings.add_filter(r"--store \S+/runs", "--store HERE/runs");
    settings.bind(|| {
        insta::assert_snapshot!(cluster.calls("sbatch --parsable").join("\n").replace(" --", "\n--"), @"
        sbatch
        --parsable
        --job-name=touchstone-tiny
        --comment=touchstone:PLAN:PLACE:ROUND
        --array=0-1
        --nodes=1
        --ntasks=1
        --cpus-per-task=2
        --mem=124M
        --requeue
        --open-mode=append
        --signal=B:USR1@120
        --output=HERE/runs/workers/%A_%a.out
        --time=01:00:00
        --qos=long
        ");
        insta::assert_snapshot!(cluster.bench.read("state/script"), @"
        #!/bin/bash
        exec /path/touchstone work PLAN --store HERE/runs --device flex --jobs 2 --round ROUND --memory 30958462
        ");
    });
    // All is done: the same command asks nothing of Slurm and writes the report.
    fs::remove_file(cluster.bench.path("state/calls")).unwrap();
    let again = cluster.run(&format!("{STUDY} {CLUSTER}"));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(cluster.calls(""), [""; 0]);
}

#[test]
fn the_same_command_finds_the_workers_again_and_says_why_they_wait() {
    let cluster = Cluster::new();
    cluster.set("hold", "QOSMaxCpuPerUserLimit");
    let said = cluster.run(&format!("{STUDY} {CLUSTER} --detach"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("the workers go on without this process"),
        "{}",
        said.err
    );
    let watching = cluster.start(&format!("{STUDY} {CLUSTER}"));
    wait_until("a question to the queue", || {
        cluster.calls("squeue").len() >= 6
    });
    // Without a terminal a request to stop means to detach.
    assert!(
        Command::new("kill")
            .args(["-TERM", &watching.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let said = Said::from(watching.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{said:?}");
    for part in [
        "are there already",
        "workers: 2 pending (QOSMaxCpuPerUserLimit)",
        "the workers go on",
    ] {
        assert!(said.err.contains(part), "{part} is not in:\n{}", said.err);
    }
    assert_eq!(cluster.calls("sbatch --parsable").len(), 1);
    assert_eq!(cluster.calls("scancel"), [""; 0]);
    let said = cluster.run(&format!("{STUDY} {CLUSTER} --cancel"));
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "cancelled 2 workers\n")
    );
    insta::assert_snapshot!(cluster.calls("scancel").join("\n"), @"scancel --name=touchstone-tiny 1_0 1_1");
}

#[test]
fn two_commands_at_once_submit_once() {
    let cluster = Cluster::new();
    let both = [(); 2].map(|()| cluster.start(&format!("{STUDY} {CLUSTER}")));
    for run in both {
        let said = Said::from(run.wait_with_output().unwrap());
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert_eq!(cluster.tasks().len(), 2);
    assert!(cluster.results() == *local(), "other bytes");
}

#[test]
fn a_controller_that_falls_silent_stops_nothing() {
    let cluster = Cluster::new();
    let run = cluster.start(&format!("{STUDY} {CLUSTER}"));
    wait_until("a submission", || {
        !cluster.calls("sbatch --parsable").is_empty() && cluster.tasks().len() == 2
    });
    cluster.set("silent", "");
    let said = Said::from(run.wait_with_output().unwrap());
    cluster.unset("silent");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("the controller does not answer"),
        "{}",
        said.err
    );
    assert!(cluster.results() == *local(), "other bytes");
}

#[test]
fn workers_that_the_scheduler_has_forgotten_are_submitted_anew() {
    let cluster = Cluster::new();
    cluster.set("hold", "Resources");
    let run = cluster.start(&format!("{STUDY} {CLUSTER}"));
    wait_until("a submission", || cluster.tasks().len() == 2);
    cluster.unset("hold");
    for task in cluster.tasks() {
        fs::remove_file(cluster.bench.path("state/jobs").join(task)).unwrap();
    }
    let said = Said::from(run.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("missing: submitting"), "{}", said.err);
    assert!(cluster.results() == *local(), "other bytes");
}

#[test]
fn workers_that_end_at_once_are_not_submitted_for_ever() {
    let cluster = Cluster::new();
    cluster.bench.write(
        "cluster.toml",
        "[cluster]\nsetup = [\"echo no such module; exit 3\"]\n",
    );
    let said = cluster.run(&format!("{STUDY} {CLUSTER} --cluster cluster.toml"));
    assert_eq!(said.code, Some(8), "{said:?}");
    for part in ["end without having computed", "no such module"] {
        assert!(said.err.contains(part), "{part} is not in:\n{}", said.err);
    }
    assert_eq!(cluster.calls("sbatch --parsable").len(), 4);
}

#[test]
fn cancelled_workers_are_not_replaced() {
    let cluster = Cluster::new();
    cluster.set("hold", "Priority");
    let run = cluster.start(&format!("{STUDY} {CLUSTER}"));
    wait_until("a submission", || cluster.tasks().len() == 2);
    let said = cluster.run(&format!("{STUDY} {CLUSTER} --cancel"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = Said::from(run.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{said:?}");
    assert!(
        said.err.contains("all workers were cancelled") && said.err.contains("same command again"),
        "{}",
        said.err
    );
    assert_eq!(cluster.calls("sbatch --parsable").len(), 1);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_submitted() {
    let cluster = Cluster::new();
    cluster.set("sinfo", "main*|4|2000|(null)\nsmall|1|20|(null)");
    cluster.bench.write(
        "cluster.toml",
        "[cluster]\npartition = \"small\"\nqueue = 3\n",
    );
    let refused = |words: &str, parts: &[&str]| {
        let said = cluster.run(&format!("{STUDY} {words}"));
        let text = said.told();
        assert!(said.code > Some(1), "{said:?}");
        for part in parts {
            assert!(text.contains(part), "{part} is not in:\n{}", said.err);
        }
        assert!(cluster.calls("sbatch --parsable").is_empty());
    };
    refused(
        "--workers 2",
        &["--workers means something on a cluster only"],
    );
    refused("-- --qos=a", &["flags for sbatch means something"]);
    refused(
        &format!("{CLUSTER} --budget 3h"),
        &["--budget counts the time of this machine's stages"],
    );
    refused(
        &format!("{CLUSTER} --cluster cluster.toml"),
        &["cluster.toml", "queue", "docs/clusters.md"],
    );
    refused(
        &format!("{CLUSTER} -- -p small"),
        &["MiB, and the largest node has 20 MiB", "--memory"],
    );
    refused(&format!("{CLUSTER} --cpus 5"), &["no node has more than 4"]);
    refused(&format!("{CLUSTER} --gpus 1"), &["no node has more than 0"]);
    let long =
        format!("reproduce tldr --methods sft,irl --seeds 1 --store runs --out reports {CLUSTER}");
    let said = cluster.run(&format!("{long} --time 0:01"));
    let text = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.code > Some(1) && text.contains("by the plan's estimate"),
        "{said:?}"
    );
    cluster.set(
        "refuse",
        "Batch job submission failed: Invalid account or account/partition combination specified",
    );
    refused(CLUSTER, &["Invalid account", "sacctmgr show associations"]);
    cluster.unset("refuse");
    cluster.set("silent", "");
    refused(
        CLUSTER,
        &["Unable to contact slurm controller", "nothing was lost"],
    );
    cluster.unset("silent");
    let mut without = cluster.command(&format!("{STUDY} {CLUSTER}"));
    let said = Said::from(without.env("PATH", "/nowhere").output().unwrap());
    assert!(
        said.code > Some(1) && said.err.contains("cannot run `squeue`"),
        "{said:?}"
    );
    if Path::new("/dev/shm").is_dir() {
        let said = cluster.run("reproduce tiny.toml --executor slurm --store /dev/shm/none");
        assert!(said.err.contains("on tmpfs at /dev/shm"), "{said:?}");
        assert!(!Path::new("/dev/shm/none").exists());
    }
}

/// Writes the plan of the study without starting a worker.
fn planned() -> (Cluster, String) {
    let cluster = Cluster::new();
    cluster.set("hold", "Resources");
    let said = cluster.run(&format!("{STUDY} {CLUSTER} --detach"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let plans = files(&cluster.bench.path("runs/plans"));
    let name = plans.into_keys().next().unwrap();
    let id = name.file_stem().unwrap().to_str().unwrap().to_owned();
    (cluster, id)
}

#[test]
fn a_worker_of_another_program_is_refused() {
    let (cluster, id) = planned();
    let name = format!("runs/plans/{id}.json");
    let other = cluster
        .bench
        .read(&name)
        .replace("\"code_revision\": \"", "\"code_revision\": \"other-");
    cluster.bench.write(&name, other);
    let said = cluster.run(&format!("work {} --store runs", &id[..12]));
    assert!(said.code > Some(1), "{said:?}");
    assert!(said.err.contains("revision other-"), "{}", said.err);
    let said = cluster.run("work ffff --store runs");
    assert!(
        said.err.contains("no plan whose id begins with"),
        "{said:?}"
    );
}

#[test]
fn a_worker_that_is_asked_to_make_room_leaves_and_another_goes_on() {
    let (cluster, id) = planned();
    let mut worker = cluster.command(&format!("work {id} --store runs"));
    worker
        .env("SLURM_ARRAY_JOB_ID", "7")
        .env("SLURM_ARRAY_TASK_ID", "3");
    let worker = worker
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a stage", || finished_stages(&cluster) >= 2);
    assert!(
        Command::new("kill")
            .args(["-USR1", &worker.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let said = Said::from(worker.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("asked to make room") && said.err.contains("job 7_3 will start again"),
        "{}",
        said.err
    );
    assert_eq!(cluster.calls("scontrol"), ["scontrol requeue 7_3"]);
    let said = cluster.run(&format!("work {id} --store runs --jobs 2"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("left: the plan is done"), "{}", said.err);
    let report = cluster.run(STUDY);
    assert_eq!(report.code, Some(0), "{report:?}");
    assert!(cluster.results() == *local(), "other bytes");
}
