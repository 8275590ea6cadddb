//! Passes two facts to the program: the revision it is built from, for every artifact's manifest,
//! and the place of LibTorch.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    revision();
    libtorch();
}

/// Sets `TOUCHSTONE_REVISION` to the revision that git reports, unless the environment sets it
/// already.
fn revision() {
    println!("cargo:rerun-if-env-changed=TOUCHSTONE_REVISION");
    if env::var_os("TOUCHSTONE_REVISION").is_some() {
        return;
    }
    // This log is written by every commit and checkout; a linked worktree keeps it elsewhere. Cargo
    // treats a missing path as changed and would rebuild every time.
    if let Some(log) =
        git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists())
    {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(described) = git(&["describe", "--always", "--tags"]) {
        println!("cargo:rustc-env=TOUCHSTONE_REVISION={described}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let said = Command::new("git")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

/// Adds LibTorch's folder to the libraries' search path at run time: torch-sys links the libraries
/// but leaves finding them to the program.
fn libtorch() {
    if env::var_os("CARGO_FEATURE_TCH").is_none() {
        return;
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Some(folder) = env::var_os("LIBTORCH").map(PathBuf::from) {
        println!(
            "cargo:rustc-link-arg=-Wl,-rpath,{}",
            folder.join("lib").display()
        );
    }
}
