//! The ends of attempts: the word in the end mark of a claim, and what the claims of a stage tell
//! together.

use super::claim;
use super::holder::Holder;
use super::key::StageKey;
use super::store::{Store, attempt_at};
use crate::error::Result;
use crate::files;
use std::collections::BTreeSet;

/// The end of an attempt that left the stage unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The stage reported a failure of its own.
    Failed,
    /// Its worker stopped it in order to leave, or someone asked the process to stop.
    Released,
    /// Its process was killed, and the worker that had started it went on.
    Killed,
    /// Its process ended with its worker or fell silent, and nothing says why.
    Lost,
}

impl End {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Killed => "killed",
            Self::Lost => "lost",
        }
    }

    /// The end that a mark's contents tell. Marks of earlier programs are empty and tell nothing.
    pub(super) fn of_word(word: &str) -> Self {
        match word.trim() {
            "failed" => Self::Failed,
            "released" => Self::Released,
            "killed" => Self::Killed,
            _ => Self::Lost,
        }
    }
}

/// An attempt that is over, in a stage's claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub holder: Option<Holder>,
    pub end: End,
}

impl Store {
    /// The attempts at `key`, oldest first. An attempt without an
    /// end mark counts as lost; the caller knows that nobody holds the stage.
    ///
    /// # Errors
    /// If the folder of claims cannot be read.
    pub fn ended(&self, key: &StageKey) -> Result<Vec<Ended>> {
        claim::ended(&self.claims(), key)
    }

    /// The stages that were attempted and are not known to be finished.
    ///
    /// # Errors
    /// If the folder of claims cannot be read.
    pub fn attempted(&self) -> Result<BTreeSet<StageKey>> {
        let names = files::names_in(&self.claims())?;
        Ok(names.iter().filter_map(|name| attempt_at(name)).collect())
    }

    /// Marks the newest attempt at `key` as over, if it is that of process `process` of this
    /// machine, which has ended.
    ///
    /// # Errors
    /// If the claims cannot be read or the mark cannot be written.
    pub fn mark_end(&self, key: &StageKey, process: u32, end: End) -> Result<()> {
        let Some(lock) = self.try_lock(key)? else {
            return Ok(());
        };
        claim::mark(&self.claims(), &lock, process, end)
    }
}
