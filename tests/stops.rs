//! Tests of runs that stop before everything is done: for want of time, and because the disk takes
//! nothing more.

mod common;

use common::{Bench, Said, files, fixture};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const RUN: &str =
    "reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 2 --out reports";

fn tiny() -> Bench {
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    bench
}

#[test]
fn a_budget_starts_no_stage_that_would_end_after_it() {
    let bench = tiny();
    let said = bench.run(&format!("{RUN} --budget 1ms"));
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in [
        "0 finished",
        "left",
        "after the budget",
        "same command again",
    ] {
        assert!(said.err.contains(part), "{part} is not in {}", said.err);
    }
    assert!(files(&bench.path("runs/artifacts")).is_empty());
    let said = bench.succeed(&format!("{RUN} --budget 2h"));
    assert!(said.err.contains(" 0 cached"), "{}", said.err);
    // Nothing is left, so that nothing can be too long.
    let said = bench.succeed(&format!("{RUN} --budget 1ms"));
    assert!(
        said.err.contains("0 finished") && !said.err.contains("left"),
        "{}",
        said.err
    );
    let said = bench.run(&format!("{RUN} --budget soon"));
    assert_eq!(said.code, Some(2), "{said:?}");
}

/// A file system in memory that is mounted for a test.
#[cfg(target_os = "linux")]
struct Mount {
    place: PathBuf,
}

#[cfg(target_os = "linux")]
impl Mount {
    /// Mounts one with `options`; the error is the reason why this machine does not.
    fn new(place: PathBuf, options: &str) -> Result<Self, String> {
        fs::create_dir(&place).unwrap();
        let mount = Self { place };
        mount.mount(&["-t", "tmpfs", "-o", options, "tmpfs"])?;
        Ok(mount)
    }

    fn mount(&self, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new("mount");
        let output = command.args(words).arg(&self.place).output();
        let output = output.map_err(|cause| cause.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

#[cfg(target_os = "linux")]
fn results(folder: PathBuf) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(&folder);
    all.retain(|path, _| !path.ends_with("manifest.json"));
    all
}

/// The disk has names for the folders of a store and some files more. One stage or two fail, the
/// others are left alone, and the same command ends the study once there is room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_run_and_does_not_fail_every_stage() {
    let bench = tiny();
    let mount = match Mount::new(bench.path("disk"), "size=256m,nr_inodes=330") {
        Ok(mount) => mount,
        Err(reason) => return eprintln!("SKIPPED: nothing can be mounted here: {reason}"),
    };
    let run = format!("{RUN} --store disk/runs");
    let said = bench.run(&run);
    assert_eq!(said.code, Some(15), "{said:?}");
    assert!(
        said.err.contains("disk") && said.err.contains("same command again"),
        "{}",
        said.err
    );
    // Two stages at once can fail; what follows is not tried.
    let failed = said.err.matches("FAILED").count();
    assert!(failed <= 2, "{failed} stages failed: {}", said.err);

    mount
        .mount(&["-o", "remount,size=256m,nr_inodes=9000"])
        .unwrap();
    bench.succeed(&run);
    bench.succeed(&format!("{RUN} --store elsewhere"));
    assert!(
        results(bench.path("disk/runs/artifacts")) == results(bench.path("elsewhere/artifacts")),
        "other bytes than an undisturbed run"
    );
}

/// On a store that cannot be written a run ends at once, and everything that only looks works.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_store_can_be_watched_and_not_run() {
    let bench = tiny();
    let mount = match Mount::new(bench.path("disk"), "size=256m") {
        Ok(mount) => mount,
        Err(reason) => return eprintln!("SKIPPED: nothing can be mounted here: {reason}"),
    };
    let store = "--store disk/runs";
    bench.succeed(&format!("reproduce tiny.toml --profile smoke --methods sft,irl --seeds 1, --jobs 2 --out reports {store}"));
    mount.mount(&["-o", "remount,ro"]).unwrap();
    let more = RUN.replace("--seeds 1,", "--seeds 1,2");
    let said = bench.run(&format!("{more} {store}"));
    assert_eq!(said.code, Some(15), "{said:?}");
    assert!(said.err.contains("read-only"), "{}", said.err);
    let Said { out, .. } = bench.succeed(&format!(
        "status tiny.toml --profile smoke --methods sft,irl --seeds 1,2 {store}"
    ));
    assert!(out.contains(" done, ") && out.contains(" left"), "{out}");
    for words in [
        "status",
        "runs list",
        "runs list --failed",
        "runs verify",
        "runs tensorboard board",
    ] {
        bench.succeed(&format!("{words} {store}"));
    }
}
