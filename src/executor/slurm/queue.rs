//! Workers as `squeue` lists them.

use std::collections::{BTreeMap, BTreeSet};

/// The words of `squeue`: one line for each task of an array, ended ones included for as long as
/// Slurm remembers them, with what follows the comment left as it is.
pub(super) fn arguments(job_name: &str) -> Vec<String> {
    let name = format!("--name={job_name}");
    ["--me", "--noheader", "--array", "--states=all"]
        .into_iter()
        .map(str::to_owned)
        .chain([name, "--format=%F|%K|%T|%r|%N|%k".into()])
        .collect()
}

/// A worker's job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Task {
    pub array: String,
    pub index: String,
    pub state: String,
    pub reason: String,
    pub node: String,
    pub comment: String,
}

impl Task {
    /// The tasks in the output of `squeue`; lines of another form are skipped.
    pub fn parse(text: &str) -> Vec<Self> {
        let parse = |line: &str| {
            let mut parts = line.splitn(6, '|').map(|part| part.trim().to_owned());
            Some(Self {
                array: parts.next()?,
                index: parts.next()?,
                state: parts.next()?,
                reason: parts.next()?,
                node: parts.next()?,
                comment: parts.next()?,
            })
        };
        text.lines().filter_map(parse).collect()
    }

    /// The number by which Slurm's commands know it.
    pub fn number(&self) -> String {
        match self.index.parse::<u32>() {
            Ok(index) => format!("{}_{index}", self.array),
            Err(_) => self.array.clone(),
        }
    }

    /// True if it runs or may run yet.
    pub fn is_live(&self) -> bool {
        const ENDED: [&str; 13] = [
            "BOOT_FAIL",
            "CANCELLED",
            "COMPLETED",
            "COMPLETING",
            "DEADLINE",
            "FAILED",
            "LAUNCH_FAILED",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "PREEMPTED",
            "RECONFIG_FAIL",
            "REVOKED",
            "TIMEOUT",
        ];
        !ENDED.contains(&self.state.as_str())
    }

    pub fn is_pending(&self) -> bool {
        self.state == "PENDING"
    }

    /// True if someone cancelled it.
    pub fn is_cancelled(&self) -> bool {
        self.state == "CANCELLED"
    }

    fn is_held(&self) -> bool {
        self.is_pending() && self.reason.to_ascii_lowercase().contains("held")
    }
}

/// A line that says what the workers are doing, with the reasons of those that wait.
pub(super) fn summary(tasks: &[&Task]) -> String {
    let mut states: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.is_live()) {
        let state = states.entry(task.state.to_ascii_lowercase()).or_default();
        state.0 += 1;
        let note = if task.is_pending() {
            &task.reason
        } else {
            &task.node
        };
        if !note.is_empty() && note != "None" {
            state.1.insert(note);
        }
    }
    let mut parts = states.into_iter().map(|(state, (count, notes))| {
        let notes: Vec<_> = notes.into_iter().collect();
        match notes.as_slice() {
            [] => format!("{count} {state}"),
            notes => format!("{count} {state} ({})", notes.join(", ")),
        }
    });
    let mut text = match parts.next() {
        None => "workers: none".to_owned(),
        Some(first) => parts.fold(format!("workers: {first}"), |text, part| {
            format!("{text}, {part}")
        }),
    };
    let held: Vec<String> = tasks
        .iter()
        .filter(|task| task.is_held())
        .map(|task| task.number())
        .collect();
    if !held.is_empty() {
        text += &format!(
            "; held jobs start after `scontrol release {}`",
            held.join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
7|0|RUNNING|None|node1|touchstone:a:b:c
7|1|PENDING|Resources||touchstone:a:b:c
7|2|PENDING|launch_failed_requeued_held||touchstone:a:b:c
7|3|CANCELLED|None|node2|touchstone:a:b:c
9|N/A|COMPLETING|None|node2|a | b
slurm_load_jobs error
";

    #[test]
    fn a_line_is_a_task() {
        let tasks = Task::parse(LISTED);
        assert_eq!(tasks.len(), 5);
        assert_eq!(
            tasks.iter().map(Task::number).collect::<Vec<_>>(),
            ["7_0", "7_1", "7_2", "7_3", "9"]
        );
        let live: Vec<bool> = tasks.iter().map(Task::is_live).collect();
        assert_eq!(live, [true, true, true, false, false]);
        assert_eq!(tasks[4].comment, "a | b");
    }

    #[test]
    fn the_summary_says_why_workers_wait() {
        let tasks = Task::parse(LISTED);
        let all: Vec<&Task> = tasks.iter().collect();
        insta::assert_snapshot!(summary(&all), @"workers: 2 pending (Resources, launch_failed_requeued_held), 1 running (node1); held jobs start after `scontrol release 7_2`");
        insta::assert_snapshot!(summary(&[]), @"workers: none");
    }
}
