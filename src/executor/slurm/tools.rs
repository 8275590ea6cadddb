//! Slurm's own commands, run from here.

use crate::error::{Error, Result};
use std::io::Write;
use std::process::{Command, Stdio};

/// The answer of a command: its standard output, or what it complained of.
pub(super) type Answer = std::result::Result<String, String>;

/// Runs `tool` with `words`, and `input` on its standard input.
///
/// # Errors
/// If the command is not there or cannot be started; a refusal by Slurm is an answer.
pub(super) fn ask(tool: &str, words: &[String], input: &str) -> Result<Answer> {
    let cannot = |cause: std::io::Error| {
        Error::configuration(format!("cannot run `{tool}`"))
            .caused_by(cause)
            .hint("run this where Slurm's commands are, such as a login node of the cluster, or leave out --executor slurm")
    };
    let mut process = Command::new(tool)
        .args(words)
        // Listings that users have set up otherwise could not be read.
        .env_remove("SQUEUE_FORMAT")
        .env_remove("SQUEUE_FORMAT2")
        .env_remove("SINFO_FORMAT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let Some(mut stdin) = process.stdin.take() {
        // A command that does not read it may be gone already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = process.wait_with_output().map_err(cannot)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(Ok(text(&output.stdout)));
    }
    let (said, printed) = (text(&output.stderr), text(&output.stdout));
    Ok(Err(match (said.as_str(), printed.as_str()) {
        ("", "") => format!("{tool} ended with {} and said nothing", output.status),
        ("", printed) => printed.to_owned(),
        (said, _) => said.to_owned(),
    }))
}

/// True if a complaint means that the controller could not be reached, rather than that it refused.
pub(super) fn is_unreachable(complaint: &str) -> bool {
    const SIGNS: [&str; 5] = [
        "Unable to contact slurm controller",
        "Socket timed out",
        "Connection refused",
        "Zero Bytes were transmitted",
        "temporarily unable to accept",
    ];
    SIGNS.iter().any(|sign| complaint.contains(sign))
}
