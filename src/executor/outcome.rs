//! The result of running a graph.

use super::interrupt::EXIT_INTERRUPTED;
use crate::error::ErrorKind;
use crate::pipeline::{PlannedStage, StageKey};
use std::collections::BTreeSet;

/// The reason why a stage is not in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: ErrorKind,
    /// The error with its causes, its hint and the path of its log.
    pub message: String,
}

/// A reason to start no more stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// A stage failed because the disk takes nothing more, and so would the others.
    Disk,
    /// The other stages would probably end after the run's time.
    Time,
}

/// The result of every stage of a graph.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Stages computed by this run.
    pub finished: Vec<StageKey>,
    /// Stages that were in the store already, or that another run added meanwhile.
    pub cached: Vec<StageKey>,
    /// Stages that failed, each with its error.
    pub failed: Vec<(PlannedStage, Failure)>,
    /// Stages that were not tried because something they need failed.
    pub skipped: Vec<StageKey>,
    /// The reason why no more stages were started although some were left, if there is one.
    pub halted: Option<Halt>,
    /// Stages that were not started for that reason, or that need one that was not.
    pub put_off: Vec<StageKey>,
    /// True if Ctrl-C or SIGTERM stopped the run; stages in none of the lists were not finished.
    pub interrupted: bool,
    /// True if the run ended before its stages because others compute them: stages in none of the
    /// lists were not finished yet.
    pub left: bool,
    /// Sentences about the run that its stages do not show.
    pub notes: Vec<String>,
}

impl Outcome {
    /// True if every stage of the graph is in the store now.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && !self.is_partial() && self.halted.is_none()
    }

    /// True if stages are left that were neither finished nor given up.
    pub fn is_partial(&self) -> bool {
        self.interrupted || self.left
    }

    /// The run's exit code: 0 if nothing failed; the exit code of the failures' kind if they share
    /// one, else 1; 1 if stages were left for want of time; 130 after an interruption.
    pub fn exit_code(&self) -> u8 {
        let kinds: BTreeSet<ErrorKind> = self
            .failed
            .iter()
            .map(|(_, failure)| failure.kind)
            .collect();
        match kinds.first() {
            _ if self.interrupted => EXIT_INTERRUPTED,
            None => match self.halted {
                None => 0,
                Some(Halt::Disk) => ErrorKind::Disk.exit_code(),
                Some(Halt::Time) => 1,
            },
            Some(kind) if kinds.len() == 1 => kind.exit_code(),
            Some(_) => 1,
        }
    }

    /// A one-line summary for people, with advice if something is missing.
    pub fn summary(&self) -> String {
        let mut parts = vec![
            format!("{} finished", self.finished.len()),
            format!("{} cached", self.cached.len()),
        ];
        parts.extend((!self.failed.is_empty()).then(|| format!("{} failed", self.failed.len())));
        parts.extend((!self.skipped.is_empty()).then(|| format!("{} skipped", self.skipped.len())));
        parts.extend((!self.put_off.is_empty()).then(|| format!("{} left", self.put_off.len())));
        let mut text = format!("stages: {}", parts.join(", "));
        for note in &self.notes {
            text.push_str(&format!("\n{note}"));
        }
        if self.left {
            text.push_str("\nothers compute the rest: the same command again waits for it");
        } else if self.interrupted {
            text.push_str("\ninterrupted: run the same command again to continue");
        } else if let Some(halt) = self.halted {
            text.push_str(match halt {
                Halt::Disk => "\nstopped, since the disk of the store takes nothing more: make room, then run the same command again to continue",
                Halt::Time => "\nstopped, since what is left would end after the budget: run the same command again to continue",
            });
        } else if !self.failed.is_empty() {
            text.push_str("\nrun the same command again to retry what failed and continue with what was skipped");
        }
        text
    }
}
