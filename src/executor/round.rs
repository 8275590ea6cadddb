//! Rounds: what the workers of one submission of a plan have tried together, and what follows from
//! it for the next attempt. It is read from the claims, so that no worker needs to know another.

use super::Failure;
use crate::error::{ErrorKind, Result};
use crate::files;
use crate::pipeline::{End, Ended, Holder, StageKey, Store};
use std::path::PathBuf;
use std::time::Duration;

/// Attempts at a stage that may end by a failure of the stage's own.
const FAILURES: usize = 2;
/// Attempts at a stage that may end without a word.
const LOSSES: usize = 5;
/// Attempts that may be killed alone, while their worker lives, before the cause is taken to be
/// memory.
const KILLS: usize = 2;

/// Ending of the round's name in the claims of workers with more memory.
const ROOMY: &str = "+room";

/// Parts of messages by which Slurm says that a job ran out of memory.
const OUT_OF_MEMORY: [&str; 4] = [
    "exceeded memory limit",
    "oom-kill",
    "oom_kill",
    "Out Of Memory",
];

/// The part of a worker in a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub name: String,
    /// True for a worker that has more memory than the others and takes only what needs it.
    pub roomy: bool,
    /// Time without anything to compute after which a worker leaves.
    pub idle: Duration,
    /// Time for which a worker leaves a stage that failed with it to others.
    pub pause: Duration,
}

/// The consequence of a round's earlier attempts for the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any worker may try it.
    Open,
    /// It ran out of memory: a worker with more may try it.
    WantsRoom,
    /// It is not tried again in this round.
    Failed(Failure),
}

impl Round {
    /// The name that the worker's stages put into their claims.
    pub fn claim_name(&self) -> String {
        let ending = if self.roomy { ROOMY } else { "" };
        format!("{}{ending}", self.name)
    }

    /// True if a worker of this kind may try a stage of which `verdict` is known.
    pub fn takes(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Open => !self.roomy,
            Verdict::WantsRoom => self.roomy,
            Verdict::Failed(_) => false,
        }
    }
}

/// The verdict on the stage `key`, which nobody computes now, after its attempts in the round
/// `round`.
///
/// # Errors
/// If the claims cannot be read.
pub fn judge(store: &Store, key: &StageKey, round: &str) -> Result<Verdict> {
    let ran_out = |holder: &Holder| {
        let job = holder.job.as_deref();
        job.is_some_and(|job| says_out_of_memory(&log_of(store, job)))
    };
    let attempts = store.ended(key)?;
    let verdict = weigh(&attempts, round, ran_out);
    Ok(match verdict {
        Weighed::Open => Verdict::Open,
        Weighed::WantsRoom => Verdict::WantsRoom,
        Weighed::Failed => Verdict::Failed(last_failure(store, key)),
        Weighed::OutOfMemory => Verdict::Failed(Failure {
            kind: ErrorKind::Memory,
            message: "it ran out of memory, and again in a worker with more memory\n\
                      give each stage more (--memory), or choose larger nodes"
                .into(),
        }),
        Weighed::Lost => Verdict::Failed(Failure {
            kind: ErrorKind::Process,
            message: format!(
                "its process was killed {LOSSES} times: does it need more memory?\n\
                 the workers' output is in {}; run the same command again to try anew",
                store.workers().display()
            ),
        }),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weighed {
    Open,
    WantsRoom,
    Failed,
    OutOfMemory,
    Lost,
}

fn weigh(attempts: &[Ended], round: &str, ran_out: impl Fn(&Holder) -> bool) -> Weighed {
    let roomy = format!("{round}{ROOMY}");
    let (mut failures, mut losses, mut kills, mut short) = (0, 0, 0, 0);
    let (mut roomy_kills, mut roomy_losses) = (0, 0);
    for Ended { holder, end } in attempts {
        let Some(holder) = holder else { continue };
        let name = holder.round.as_deref();
        let has_room = name == Some(roomy.as_str());
        if !has_room && name != Some(round) {
            continue;
        }
        match end {
            End::Released => {}
            End::Failed => failures += 1,
            End::Killed | End::Lost => {
                losses += 1;
                let memory = ran_out(holder);
                short += usize::from(memory && !has_room);
                kills += usize::from(*end == End::Killed && !has_room);
                roomy_kills += usize::from(memory && has_room);
                roomy_losses += usize::from(has_room);
            }
        }
    }
    let needs_room = short > 0 || kills >= KILLS;
    if failures >= FAILURES {
        Weighed::Failed
    } else if needs_room && (roomy_kills > 0 || roomy_losses >= KILLS) {
        Weighed::OutOfMemory
    } else if losses >= LOSSES {
        Weighed::Lost
    } else if needs_room {
        Weighed::WantsRoom
    } else {
        Weighed::Open
    }
}

/// The output of the worker that ran as Slurm job `job`.
fn log_of(store: &Store, job: &str) -> PathBuf {
    let task = if job.contains('_') {
        job.to_owned()
    } else {
        format!("{job}_0")
    };
    store.workers().join(format!("{task}.out"))
}

fn says_out_of_memory(log: &PathBuf) -> bool {
    std::fs::read(log).is_ok_and(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        OUT_OF_MEMORY.iter().any(|part| text.contains(part))
    })
}

/// The failure in the stage's log, as the worker that met it wrote it down.
fn last_failure(store: &Store, key: &StageKey) -> Failure {
    let log = store.failure_log(key);
    let text = if files::is_listed(&log) {
        files::wait_until_visible(&log);
        std::fs::read_to_string(&log).unwrap_or_default()
    } else {
        String::new()
    };
    let (message, rest) = text.split_once("\n\nkind: ").unwrap_or((&text, ""));
    let kind = rest.lines().next().unwrap_or_default();
    let message = match message {
        "" => "it failed, and its log is gone".into(),
        message => format!("{message}\nlog: {}", log.display()),
    };
    Failure {
        kind: ErrorKind::ALL
            .into_iter()
            .find(|known| known.to_string() == kind)
            .unwrap_or(ErrorKind::Internal),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(round: &str, job: &str, end: End) -> Ended {
        let holder = Holder {
            job: Some(job.into()),
            round: Some(round.into()),
            ..Holder::default()
        };
        Ended {
            holder: Some(holder),
            end,
        }
    }

    /// The verdict after `attempts`, of which those of job `oom` ran out of memory.
    fn after(attempts: &[(&str, &str, End)]) -> Weighed {
        let attempts: Vec<_> = attempts
            .iter()
            .map(|(round, job, end)| ended(round, job, *end))
            .collect();
        weigh(&attempts, "r", |holder| {
            holder.job.as_deref() == Some("oom")
        })
    }

    #[test]
    fn a_stage_that_fails_twice_has_failed_and_other_rounds_do_not_count() {
        let failed = ("r", "1", End::Failed);
        assert_eq!(after(&[failed]), Weighed::Open);
        assert_eq!(after(&[("older", "1", End::Failed), failed]), Weighed::Open);
        assert_eq!(after(&[failed, failed]), Weighed::Failed);
    }

    #[test]
    fn a_stage_that_is_released_may_be_tried_for_ever_and_a_lost_one_five_times() {
        assert_eq!(after(&[("r", "1", End::Released); 50]), Weighed::Open);
        assert_eq!(after(&[("r", "1", End::Lost); 4]), Weighed::Open);
        assert_eq!(after(&[("r", "1", End::Lost); 5]), Weighed::Lost);
    }

    #[test]
    fn a_stage_that_ran_out_of_memory_is_tried_once_with_more() {
        let short = ("r", "oom", End::Lost);
        assert_eq!(after(&[short]), Weighed::WantsRoom);
        assert_eq!(after(&[("r", "1", End::Killed); 1]), Weighed::Open);
        assert_eq!(after(&[("r", "1", End::Killed); 2]), Weighed::WantsRoom);
        let roomy = |job| ("r+room", job, End::Lost);
        assert_eq!(after(&[short, roomy("2")]), Weighed::WantsRoom);
        assert_eq!(after(&[short, roomy("oom")]), Weighed::OutOfMemory);
        assert_eq!(
            after(&[short, roomy("2"), roomy("3")]),
            Weighed::OutOfMemory
        );
    }

    #[test]
    fn each_kind_of_worker_takes_what_is_meant_for_it() {
        let round = |roomy| Round {
            name: "r".into(),
            roomy,
            idle: Duration::ZERO,
            pause: Duration::ZERO,
        };
        let verdicts = [Verdict::Open, Verdict::WantsRoom];
        assert_eq!(
            verdicts.clone().map(|verdict| round(false).takes(&verdict)),
            [true, false]
        );
        assert_eq!(
            verdicts.map(|verdict| round(true).takes(&verdict)),
            [false, true]
        );
        assert_eq!(round(true).claim_name(), "r+room");
    }
}
