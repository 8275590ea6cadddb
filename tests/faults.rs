//! Tests of a study whose store and processes are damaged at random: repeating the same command
//! always produces the numbers and bytes of an undisturbed run, or ends with a clear error and
//! succeeds after `runs verify --repair`.
//!
//! `TOUCHSTONE_FAULTS` is the number of cases, `TOUCHSTONE_FAULTS_SEED` the first seed; `just
//! faults` tries a thousand. `TOUCHSTONE_FAULTS_TWO_MOUNTS` is the number of times that two runs
//! meet on two mounts (`just faults-two-mounts`).
#![cfg(target_os = "linux")]

mod common;

use common::{Bench, Said, files, fixture};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use touchstone::rng::stream;

const RUN: &str = "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1 --jobs 2 --store runs --out reports";
const METRICS: &str = "reports/tiny-smoke/metrics.csv";
/// A time limit that no run reaches here.
const MOST: Duration = Duration::from_secs(300);

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench
}

/// Store and report of an undisturbed run.
fn undisturbed() -> &'static BTreeMap<PathBuf, Vec<u8>> {
    static FILES: OnceLock<BTreeMap<PathBuf, Vec<u8>>> = OnceLock::new();
    FILES.get_or_init(|| {
        let bench = tiny();
        bench.succeed(RUN);
        files(&bench.path(""))
    })
}

/// The results in a folder with a store: all files of artifacts except their manifests, which
/// contain times.
fn results(all: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<&Path, &[u8]> {
    let results = all
        .iter()
        .filter(|(path, _)| path.starts_with("runs/artifacts") && !path.ends_with("manifest.json"));
    results
        .map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
        .collect()
}

/// The number in an environment variable, or `usual` if it is not set.
fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number"))
    })
}

// --- Processes ---

fn start(bench: &Bench, words: &str) -> Child {
    let mut command = bench.command(words);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn kill(process: u32) {
    // A process may have ended by itself, which is as good as a kill.
    let _ = Command::new("kill")
        .args(["-KILL", &process.to_string()])
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

fn pause(rng: &mut ChaCha8Rng, most: u64) {
    std::thread::sleep(Duration::from_millis(rng.random_range(0..most)));
}

/// Waits for the end of a run, which must be one of the expected ones: success, a clear error, or a
/// kill by this test.
fn end(mut run: Child, killed: bool) {
    let deadline = Instant::now() + MOST;
    while run.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "a run does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = Said::from(run.wait_with_output().unwrap());
    assert!(
        said.code == Some(0) || killed && said.code.is_none() || is_clear(&said),
        "{said:?}"
    );
}

/// True if a failure has a clear message and is not a crash.
fn is_clear(said: &Said) -> bool {
    said.code.is_some_and(|code| code != 101)
        && !said.err.trim().is_empty()
        && !said.err.contains("panicked")
}

// --- Faults ---

type Fault = fn(&Bench, &mut ChaCha8Rng);

const FAULTS: [(&str, Fault); 11] = [
    ("the run is killed", |bench, rng| {
        let mut run = start(bench, RUN);
        pause(rng, 900);
        run.kill().unwrap();
        end(run, true);
    }),
    ("stages are killed", |bench, rng| {
        let run = start(bench, RUN);
        for _ in 0..rng.random_range(1..4) {
            pause(rng, 500);
            if let Some(stage) = children(run.id()).choose(rng) {
                kill(*stage);
            }
        }
        end(run, false);
    }),
    ("two runs at once", |bench, _| two_runs(bench, |_| None)),
    ("two runs at once, one is killed", |bench, rng| {
        pause(rng, 2);
        let after = Duration::from_millis(rng.random_range(0..900));
        two_runs(bench, |_| Some(after));
    }),
    ("a bit turns", |bench, rng| {
        change(&some_file(bench, "runs/artifacts", rng), rng, flip)
    }),
    ("a bit turns during a run", |bench, rng| {
        let run = start(bench, RUN);
        pause(rng, 500);
        if let Some(path) = any_file(bench, "runs/artifacts", rng) {
            change(&path, rng, flip);
        }
        end(run, false);
    }),
    ("a file is cut or longer", |bench, rng| {
        let path = some_file(bench, "runs/artifacts", rng);
        let how = if rng.random() { cut } else { lengthen };
        change(&path, rng, how);
    }),
    ("a file is gone", |bench, rng| {
        fs::remove_file(some_file(bench, "runs/artifacts", rng)).unwrap()
    }),
    ("an artifact is a file", |bench, rng| {
        let file = some_file(bench, "runs/artifacts", rng);
        let artifact = file
            .ancestors()
            .find(|path| path.join("manifest.json").exists())
            .unwrap_or(&file)
            .to_owned();
        let _ = fs::remove_dir_all(&artifact);
        let _ = fs::write(&artifact, "what is this");
    }),
    ("the disk is full", |bench, rng| {
        // If the signal is ignored, a write beyond the limit is an ordinary error.
        let limit = rng.random_range(1..80);
        let script = format!(
            "trap '' XFSZ; ulimit -f {limit}; exec {} {RUN}",
            env!("CARGO_BIN_EXE_touchstone")
        );
        let mut command = Command::new("sh");
        bench.prepare(command.args(["-c", &script]));
        end(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
            false,
        );
    }),
    ("a write is torn", |bench, rng| {
        let mut run = start(bench, RUN);
        pause(rng, 900);
        run.kill().unwrap();
        end(run, true);
        // Leftovers of the kill, and files next to the artifacts.
        for folder in [
            "runs/scratch",
            "runs/tmp",
            "runs/claims",
            "runs/specs",
            "runs/failures",
            "runs/locks",
        ] {
            if let Some(path) = any_file(bench, folder, rng) {
                let how = *[cut as Change, flip, lengthen].choose(rng).unwrap();
                change(&path, rng, how);
            }
        }
    }),
];

fn two_runs(bench: &Bench, kill_after: impl Fn(usize) -> Option<Duration>) {
    let runs = [RUN.to_owned(), RUN.replace("--out reports", "--out others")];
    let mut runs = runs.map(|words| start(bench, &words));
    let killed = kill_after(0);
    if let Some(after) = killed {
        std::thread::sleep(after);
        runs[0].kill().unwrap();
    }
    let [first, second] = runs;
    end(first, killed.is_some());
    end(second, false);
}

/// A random file below `folder`, if there is one.
fn any_file(bench: &Bench, folder: &str, rng: &mut ChaCha8Rng) -> Option<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![bench.path(folder)];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => found.push(path),
            }
        }
    }
    found.sort();
    found.choose(rng).cloned()
}

/// A random file below `folder` as [`any_file`] finds it; the study is run if there is none.
fn some_file(bench: &Bench, folder: &str, rng: &mut ChaCha8Rng) -> PathBuf {
    any_file(bench, folder, rng).unwrap_or_else(|| {
        // Everything is missing, so the tests' own experiment is run again to get a first artifact.
        bench.succeed(RUN);
        any_file(bench, folder, rng).unwrap()
    })
}

type Change = fn(&mut Vec<u8>, &mut ChaCha8Rng);

fn change(path: &Path, rng: &mut ChaCha8Rng, how: Change) {
    // The run may have removed the file already.
    let Ok(mut bytes) = fs::read(path) else {
        return;
    };
    how(&mut bytes, rng);
    // The file is overwritten in place, as a faulty disk would.
    if let Ok(file) = fs::OpenOptions::new().write(true).truncate(true).open(path) {
        let _ = std::io::Write::write_all(&mut { file }, &bytes);
    }
}

#[expect(clippy::ptr_arg, reason = "all changes are of one type")]
fn flip(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    if !bytes.is_empty() {
        let place = rng.random_range(0..bytes.len());
        bytes[place] ^= 1 << rng.random_range(0..8);
    }
}

fn cut(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    bytes.truncate(rng.random_range(0..=bytes.len()));
}

fn lengthen(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    let more = rng.random_range(1..100);
    bytes.extend((0..more).map(|_| rng.random::<u8>()));
}

// --- Cases ---

/// A folder with a finished run from which some artifacts are missing.
fn partly_finished(rng: &mut ChaCha8Rng) -> Bench {
    let all = undisturbed();
    let artifact = |path: &Path| {
        path.strip_prefix("runs/artifacts")
            .ok()?
            .components()
            .nth(1)
            .map(|key| key.as_os_str().to_owned())
    };
    let mut keys: Vec<_> = all.keys().filter_map(|path| artifact(path)).collect();
    keys.dedup();
    let missing = if rng.random_ratio(1, 12) {
        keys.len()
    } else {
        rng.random_range(1..6)
    };
    let missing: Vec<_> = keys.choose_multiple(rng, missing).cloned().collect();
    let bench = Bench::new();
    for (path, bytes) in all {
        if !path.starts_with("reports") && artifact(path).is_none_or(|key| !missing.contains(&key))
        {
            bench.write(path, bytes);
        }
    }
    bench
}

/// Repeats the run until it succeeds. Every refusal must be clear, and the remedy that it suggests
/// must help.
fn recover(bench: &Bench) {
    for _ in 0..6 {
        let said = bench.run(RUN);
        if said.code == Some(0) {
            return;
        }
        assert!(is_clear(&said), "{said:?}");
        let repaired = bench.run("runs verify --repair --store runs");
        assert_eq!(
            repaired.code,
            Some(0),
            "after\n{}\nno repair:\n{repaired:?}",
            said.err
        );
    }
    panic!("no repair helps: {:?}", bench.run(RUN));
}

fn assert_as_undisturbed(bench: &Bench) {
    let expected = undisturbed();
    assert!(
        bench.read(METRICS).as_bytes() == expected[Path::new(METRICS)],
        "other numbers, and no word about it"
    );
    // Damage in artifacts that no stage has read is found and repaired.
    let verified = bench.run("runs verify --store runs");
    if verified.code != Some(0) {
        assert!(verified.out.contains("problem"), "{verified:?}");
        bench.succeed("runs verify --repair --store runs");
        recover(bench);
    }
    let found = files(&bench.path(""));
    let (found_results, expected_results) = (results(&found), results(expected));
    assert!(
        found_results.keys().eq(expected_results.keys()),
        "other files"
    );
    let other: Vec<_> = found_results
        .iter()
        .filter(|(path, bytes)| expected_results[*path] != **bytes)
        .collect();
    assert!(
        other.is_empty(),
        "other bytes: {:?}",
        other.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
    let said = bench.succeed("runs verify --store runs").out;
    assert!(
        said.contains("all as written") && !said.contains("left by"),
        "{said}"
    );
    for folder in ["runs/tmp", "runs/scratch", "runs/claims"] {
        let names = fs::read_dir(bench.path(folder))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        // A kill between the two steps of writing a claim leaves a hidden file, which is never
        // read.
        let left: Vec<_> = names
            .filter(|name| !name.to_string_lossy().starts_with(".writing-"))
            .collect();
        assert!(left.is_empty(), "{folder} holds {left:?}");
    }
}

/// Runs one case and returns its faults.
fn case(seed: u64) -> Vec<&'static str> {
    let rng = &mut stream(seed, "test/faults", &[]);
    let bench = partly_finished(rng);
    let mut met = Vec::new();
    for _ in 0..rng.random_range(1..=2) {
        let (name, fault) = FAULTS.choose(rng).unwrap();
        met.push(*name);
        let injected = catch_unwind(AssertUnwindSafe(|| fault(&bench, rng)));
        assert!(injected.is_ok(), "in case {seed}: {met:?}");
    }
    let recovered = catch_unwind(AssertUnwindSafe(|| {
        recover(&bench);
        assert_as_undisturbed(&bench);
    }));
    assert!(
        recovered.is_ok(),
        "case {seed} after: {met:?} (TOUCHSTONE_FAULTS=1 TOUCHSTONE_FAULTS_SEED={seed})"
    );
    met
}

#[test]
fn whatever_breaks_the_numbers_are_those_of_an_undisturbed_run() {
    let (count, first) = (
        number("TOUCHSTONE_FAULTS", 5),
        number("TOUCHSTONE_FAULTS_SEED", 1),
    );
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    for done in 0..count {
        for fault in case(first + done) {
            *met.entry(fault).or_default() += 1;
        }
        if (done + 1) % 50 == 0 {
            println!("{} cases", done + 1);
        }
    }
    println!(
        "{count} cases from seed {first} on, all with the numbers and bytes of an undisturbed run"
    );
    for (fault, times) in met {
        println!("{times:6}  {fault}");
    }
}

// --- Two mounts ---

/// A folder seen through two mounts, each with its own locks and caches.
struct TwoMounts {
    bench: Bench,
}

impl TwoMounts {
    /// Mounts the folder twice; the error is the reason why this machine cannot.
    fn new() -> Result<Self, String> {
        let mounts = Self { bench: tiny() };
        fs::create_dir(mounts.bench.path("real")).unwrap();
        for name in ["a", "b"] {
            let mount = mounts.bench.path(name);
            fs::create_dir(&mount).unwrap();
            let options = "attr_timeout=20,entry_timeout=20,negative_timeout=20";
            let mut command = Command::new("bindfs");
            command
                .args(["-o", options])
                .arg(mounts.bench.path("real"))
                .arg(&mount)
                .stdin(Stdio::null());
            match command.output() {
                Err(cause) => return Err(format!("bindfs cannot be started: {cause}")),
                Ok(output) if !output.status.success() => {
                    return Err(String::from_utf8_lossy(&output.stderr).into_owned());
                }
                Ok(_) => {}
            }
        }
        Ok(mounts)
    }

    fn command(&self, mount: &str) -> String {
        RUN.replace("--store runs", &format!("--store {mount}/runs"))
            .replace("--out reports", &format!("--out {mount}-reports"))
    }

    fn start(&self, mount: &str) -> Child {
        let mut command = self.bench.command(&self.command(mount));
        command
            .env("TOUCHSTONE_SILENCE_SECONDS", "4")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for TwoMounts {
    fn drop(&mut self) {
        for name in ["a", "b"] {
            let unmount = |program: &str, words: &[&str]| {
                let mut command = Command::new(program);
                command
                    .args(words)
                    .arg(self.bench.path(name))
                    .stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            };
            let _ = unmount("fusermount3", &["-u"])
                || unmount("fusermount", &["-u"])
                || unmount("umount", &["-l"]);
        }
    }
}

/// Starts two runs without any store, one on each mount, whose processes are killed at random and
/// restarted. Both must succeed, with the bytes of an undisturbed run.
fn two_mounts_case(seed: u64) -> Result<u32, String> {
    let rng = &mut stream(seed, "test/faults/two_mounts", &[]);
    let mounts = TwoMounts::new()?;
    let names = ["a", "b"];
    let mut runs = names.map(|mount| mounts.start(mount));
    let (kills, mut killed) = (
        if seed.is_multiple_of(3) {
            0
        } else {
            rng.random_range(1..5)
        },
        0,
    );
    for _ in 0..kills {
        pause(rng, 1500);
        let which = rng.random_range(0..2);
        if runs[which].try_wait().unwrap().is_some() {
            continue;
        }
        killed += 1;
        if rng.random() {
            children(runs[which].id()).into_iter().for_each(kill);
        }
        runs[which].kill().unwrap();
        runs[which].wait().unwrap();
        // The run is restarted at once, or after a pause that gives the other one time to notice.
        if rng.random() {
            pause(rng, 6000);
        }
        runs[which] = mounts.start(names[which]);
    }
    for (run, mount) in runs.into_iter().zip(names) {
        let said = Said::from(run.wait_with_output().unwrap());
        // A stage that this test has killed under a living run has failed there.
        assert_eq!(
            said.code,
            Some(0),
            "on mount {mount}, case {seed}:\n{}",
            said.err
        );
    }
    let found: BTreeMap<PathBuf, Vec<u8>> = files(&mounts.bench.path("real"));
    let (found, expected) = (results(&found), results(undisturbed()));
    assert!(found.keys().eq(expected.keys()), "case {seed}: other files");
    for (path, bytes) in found {
        assert!(
            bytes == expected[path],
            "case {seed}: other bytes in {}",
            path.display()
        );
    }
    let metrics = &undisturbed()[Path::new(METRICS)];
    for mount in names {
        let found = mounts
            .bench
            .read(METRICS.replace("reports", &format!("{mount}-reports")));
        assert!(
            found.as_bytes() == metrics,
            "case {seed}: other numbers on mount {mount}"
        );
    }
    let verified = mounts.bench.succeed("runs verify --store real/runs").out;
    assert!(
        verified.contains("all as written"),
        "case {seed}: {verified}"
    );
    Ok(killed)
}

#[test]
fn two_runs_on_two_mounts_end_with_the_same_bytes() {
    let (count, first) = (
        number("TOUCHSTONE_FAULTS_TWO_MOUNTS", 1),
        number("TOUCHSTONE_FAULTS_SEED", 1),
    );
    let mut killed = 0;
    for done in 0..count {
        match two_mounts_case(first + done) {
            Ok(kills) => killed += kills,
            Err(reason) => {
                assert!(
                    std::env::var_os("TOUCHSTONE_FAULTS_TWO_MOUNTS").is_none(),
                    "no two mounts here: {reason}"
                );
                eprintln!(
                    "SKIPPED: no two mounts here (apt-get install bindfs fuse3; needs /dev/fuse): {reason}"
                );
                return;
            }
        }
    }
    println!(
        "{count} times two runs on two mounts from seed {first} on, {killed} kills: the bytes of an undisturbed run"
    );
}
