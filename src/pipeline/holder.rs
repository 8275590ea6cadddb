//! The holder of a stage: the process that computes it, as its claim names it for people and for
//! `touchstone status`. Nothing is decided by it.

use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// Environment variable with the name of the round of a plan in which a stage is computed: all
/// workers of one submission share it.
pub const ROUND_ENV: &str = "TOUCHSTONE_ROUND";

/// Longest text of a field, so that a claim's record has one length.
const LONGEST: usize = 64;

/// A process that computes a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    pub host: String,
    pub process: u32,
    /// The Slurm job, `<job>` or `<array>_<task>`, if the process runs in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Name of the device that it computes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The round of a plan, if a worker started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<String>,
    /// Start in seconds since 1970, by the clock of its host.
    pub since: u64,
}

impl Holder {
    /// This process, computing on `device`.
    pub fn here(device: Option<&str>) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            host: shorten(host()),
            process: std::process::id(),
            job: slurm_job(variable).map(shorten),
            device: device.map(|name| shorten(name.to_owned())),
            round: variable(ROUND_ENV).map(shorten),
            since: since.map_or(0, |time| time.as_secs()),
        }
    }
}

/// The Slurm job that this process runs in.
pub fn job_here() -> Option<String> {
    slurm_job(|name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()))
}

/// The Slurm job that the environment names: an array's task by the array and its own number.
fn slurm_job(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    match (
        variable("SLURM_ARRAY_JOB_ID"),
        variable("SLURM_ARRAY_TASK_ID"),
    ) {
        (Some(array), Some(task)) => Some(format!("{array}_{task}")),
        _ => variable("SLURM_JOB_ID"),
    }
}

/// The machine's name, or the node's name where Slurm gives one: several nodes may share a machine.
fn host() -> String {
    let node = std::env::var("SLURMD_NODENAME").ok();
    node.filter(|name| !name.is_empty())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map_or_else(|| "unknown".into(), |name| name.trim().to_owned())
}

fn shorten(mut text: String) -> String {
    let end = text
        .char_indices()
        .map(|(start, letter)| start + letter.len_utf8())
        .take_while(|end| *end <= LONGEST)
        .last();
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_an_array_is_named_by_both_numbers() {
        let job = |variables: &[(&str, &str)]| {
            slurm_job(|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(job(&[]), None);
        assert_eq!(job(&[("SLURM_JOB_ID", "7")]).as_deref(), Some("7"));
        let array = [
            ("SLURM_JOB_ID", "9"),
            ("SLURM_ARRAY_JOB_ID", "7"),
            ("SLURM_ARRAY_TASK_ID", "2"),
        ];
        assert_eq!(job(&array).as_deref(), Some("7_2"));
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        assert_eq!(shorten("é".repeat(40)), "é".repeat(32));
        assert_eq!(shorten("node".into()), "node");
    }
}
