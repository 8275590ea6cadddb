//! The pool as one of several workers of a plan: which stages it leaves to others, and when it
//! leaves itself.

use super::child::Child;
use super::{Failure, Round, Run};
use crate::error::{ErrorKind, Result};
use crate::executor::{Verdict, judge};
use crate::pipeline::End;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A worker's knowledge of its round.
pub(super) struct Shared<'a> {
    round: &'a Round,
    /// Stages that only another kind of worker takes.
    not_mine: BTreeSet<usize>,
    /// When stages failed here: another worker should try them first.
    failed_here: BTreeMap<usize, Instant>,
    /// Since when nothing runs here.
    idle_since: Option<Instant>,
}

impl<'a> Shared<'a> {
    pub fn new(round: &'a Round) -> Self {
        Self {
            round,
            not_mine: BTreeSet::new(),
            failed_here: BTreeMap::new(),
            idle_since: None,
        }
    }

    /// Notes that another worker computes the stage, for which this one may wait.
    pub fn note_taken(&mut self, position: usize) {
        self.not_mine.remove(&position);
    }
}

impl Run<'_> {
    /// True if this pool may start the stage, which nobody computes now. A stage that it may not
    /// start is booked here: as failed for good, or as left to others.
    pub(super) fn may_start(&mut self, position: usize) -> Result<bool> {
        let Some(shared) = &mut self.shared else {
            return Ok(true);
        };
        let key = self.graph.stage(position).key;
        let verdict = judge(self.store, &key, &shared.round.name)?;
        let rests = shared
            .failed_here
            .get(&position)
            .is_some_and(|when| when.elapsed() < shared.round.pause);
        match verdict {
            Verdict::Failed(failure) => {
                shared.not_mine.remove(&position);
                self.book_failed(position, failure);
                return Ok(false);
            }
            verdict if shared.round.takes(&verdict) => {
                shared.not_mine.remove(&position);
            }
            _ => {
                shared.not_mine.insert(position);
                self.leave_to_others(position);
                return Ok(false);
            }
        }
        if rests {
            self.leave_to_others(position);
        }
        Ok(!rests)
    }

    /// Writes down how a stage's process ended that left no artifact. The claims decide later
    /// whether the stage is tried again, and where.
    ///
    /// # Errors
    /// If the store has no room or cannot be written: the worker then leaves, rather than try stage
    /// after stage in vain.
    pub(super) fn note_end(
        &mut self,
        position: usize,
        child: &Child,
        failure: &Failure,
    ) -> Result<()> {
        let stage = self.graph.stage(position);
        if matches!(failure.kind, ErrorKind::Files | ErrorKind::Disk) {
            self.store.probe()?;
        }
        let end = child.end();
        self.store.mark_end(&stage.key, child.process(), end)?;
        self.display.left(position);
        let first = failure.message.lines().next().unwrap_or_default();
        match end {
            End::Failed => {
                self.display
                    .say(&format!("failed here: {}: {first}", stage.label));
                if let Some(shared) = &mut self.shared {
                    shared.failed_here.insert(position, Instant::now());
                }
            }
            End::Released | End::Killed | End::Lost => {
                self.display
                    .say(&format!("stopped here: {}: {first}", stage.label));
            }
        }
        self.leave_to_others(position);
        Ok(())
    }

    /// True if a worker has had nothing to compute for so long that it should leave, or if only
    /// another kind of worker can go on.
    pub(super) fn is_idle(&mut self) -> bool {
        let Some(shared) = &mut self.shared else {
            return false;
        };
        if !self.running.is_empty() {
            shared.idle_since = None;
            return false;
        }
        let positions = &self.elsewhere.positions;
        if positions
            .iter()
            .all(|position| shared.not_mine.contains(position))
        {
            return true;
        }
        let since = *shared.idle_since.get_or_insert_with(Instant::now);
        since.elapsed() >= shared.round.idle
    }

    /// Stops the processes that still run. Those of a worker are marked as released, so that other
    /// machines need not wait for their silence.
    pub(super) fn stop_children(&mut self) {
        for (position, child) in std::mem::take(&mut self.running) {
            let process = child.process();
            drop(child);
            if self.shared.is_some() {
                let key = self.graph.stage(position).key;
                // If this fails, the silence of the claim says the same.
                let _ = self.store.mark_end(&key, process, End::Released);
            }
        }
    }
}
