//! Tells the program which revision it is built from, for every artifact's manifest, and where LibTorch is.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    revision();
    libtorch();
}

/// `TOUCHSTONE_REVISION` is what git says, unless the environment has it already.
fn revision() {
    println!("cargo:rerun-if-env-changed=TOUCHSTONE_REVISION");
    if env::var_os("TOUCHSTONE_REVISION").is_some() {
        return;
    }
    // Written by every commit and checkout; in a linked worktree it is elsewhere. Cargo takes a path that does not exist
    // for one that has changed, and would build again each time.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(described) = git(&["describe", "--always", "--tags"]) {
        println!("cargo:rustc-env=TOUCHSTONE_REVISION={described}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

/// torch-sys links LibTorch's libraries but leaves it to the program to find them when it starts.
fn libtorch() {
    if env::var_os("CARGO_FEATURE_TCH").is_none() {
        return;
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
    }
}
