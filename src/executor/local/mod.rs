//! The executor of this machine: one process per stage, as many at once as there are slots.
//!
//! `schedule` chooses the next stage, `slot` its place, `child` starts and watches its process,
//! `display` shows the run, `shared` is what a worker among others does differently.

mod child;
pub(super) mod display;
pub(super) mod schedule;
mod shared;
mod slot;

use super::{Executor, Failure, Halt, Interrupt, Outcome, Resources, Round};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::pipeline::{Event, Graph, ROUND_ENV, StageKey, Store, Watch};
use child::{Child, Message};
use display::Display;
use schedule::{Schedule, State};
use shared::Shared;
pub use slot::Slot;
use slot::free_slot;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Time between two checks for signals and ended processes while no event comes.
const POLL: Duration = Duration::from_millis(50);

/// Shortest time between two checks of stages that other processes compute.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Factor by which the wait for the next check exceeds the time that the last one took.
const LOOKING_SHARE: u32 = 20;

/// An executor that starts `<exe> <arguments> <key> --store <dir> --device <device>
/// [--memory=<bytes>]` for each missing stage, in each slot one at a time.
#[derive(Clone, Debug)]
pub struct LocalPool {
    pub exe: PathBuf,
    /// Arguments before the key, for example `stage`.
    pub arguments: Vec<OsString>,
    pub slots: Vec<Slot>,
    /// Suppresses progress output.
    pub quiet: bool,
    /// The pool's part among the workers of a plan; `None` for a pool that works for itself.
    pub round: Option<Round>,
}

impl LocalPool {
    /// Creates a pool that runs this program's own `stage` command.
    ///
    /// # Errors
    /// If the system does not say where the program's file is.
    pub fn new(slots: Vec<Slot>) -> Result<Self> {
        let exe =
            std::env::current_exe().context(|| "cannot find the program's own file".to_owned())?;
        Ok(Self {
            exe,
            arguments: vec!["stage".into()],
            slots,
            quiet: false,
            round: None,
        })
    }

    /// The command for one stage in `slot`.
    fn command(
        &self,
        store: &Store,
        key: &StageKey,
        slot: &Slot,
        resources: &Resources,
    ) -> Command {
        let threads = resources.processors.max(1).to_string();
        let mut command = Command::new(&self.exe);
        command
            .args(&self.arguments)
            .arg(key.to_string())
            .arg("--store")
            .arg(store.root())
            .args(["--device", &slot.device])
            .args(slot.memory.map(|bytes| format!("--memory={bytes}")))
            .env("RAYON_NUM_THREADS", &threads)
            .env("OMP_NUM_THREADS", &threads)
            // Threads that spin while they wait would occupy cores that other stages need.
            .env("OMP_WAIT_POLICY", "passive");
        match &self.round {
            Some(round) => command.env(ROUND_ENV, round.claim_name()),
            None => command.env_remove(ROUND_ENV),
        };
        command
    }
}

impl Executor for LocalPool {
    fn run(
        &self,
        store: &Store,
        graph: &Graph,
        resources: &BTreeMap<StageKey, Resources>,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        store.clean()?;
        if self.round.is_none() {
            // A worker has its graph from the store.
            store.plan(graph)?;
        }
        let listing = store.listing()?;
        let schedule = Schedule::new(graph, |key| listing.is_complete(key));
        if self.slots.is_empty() && schedule.is_unfinished() {
            return Err(
                Error::store("there is no device to run stages on").hint("name one: --device")
            );
        }
        let mut run = Run::new(self, store, graph, resources, schedule);
        while !interrupt.is_raised() {
            run.look_elsewhere()?;
            run.start_ready(interrupt)?;
            let waits = !run.elsewhere.is_empty() && !run.disk_is_full() && !run.is_idle();
            if run.running.is_empty() && !waits {
                break;
            }
            run.listen();
            run.reap()?;
        }
        let outcome = run.finish(interrupt.is_raised());
        // If leftovers cannot be removed now, the next run or `runs verify --repair` removes them.
        let _ = store.clean();
        Ok(outcome)
    }
}

/// Stages that other processes compute, and the time of the next check.
struct Elsewhere {
    positions: BTreeSet<usize>,
    watch: Watch,
    next_look: Instant,
}

impl Elsewhere {
    fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

/// A pool at work on one graph.
struct Run<'a> {
    pool: &'a LocalPool,
    store: &'a Store,
    graph: &'a Graph,
    resources: &'a BTreeMap<StageKey, Resources>,
    schedule: Schedule<'a>,
    display: Display,
    /// The running children, by position in the graph.
    running: BTreeMap<usize, Child>,
    /// The stage in each of the pool's slots.
    slots: Vec<(&'a Slot, Option<usize>)>,
    /// Stages that other processes compute, by position.
    elsewhere: Elsewhere,
    /// A worker's knowledge of the others of its round; `None` for a pool by itself.
    shared: Option<Shared<'a>>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(
        pool: &'a LocalPool,
        store: &'a Store,
        graph: &'a Graph,
        resources: &'a BTreeMap<StageKey, Resources>,
        schedule: Schedule<'a>,
    ) -> Self {
        let cached = schedule
            .all(State::Complete)
            .map(|position| graph.stage(position).key)
            .collect();
        let outcome = Outcome {
            cached,
            ..Outcome::default()
        };
        let (sender, messages) = mpsc::channel();
        let slots = pool.slots.iter().map(|slot| (slot, None)).collect();
        let display = Display::new(graph.len(), outcome.cached.len(), pool.quiet);
        let elsewhere = Elsewhere {
            positions: BTreeSet::new(),
            watch: Watch::new(),
            next_look: Instant::now(),
        };
        let running = BTreeMap::new();
        let shared = pool.round.as_ref().map(Shared::new);
        Self {
            pool,
            store,
            graph,
            resources,
            schedule,
            display,
            running,
            slots,
            elsewhere,
            shared,
            sender,
            messages,
            outcome,
        }
    }

    /// Checks the stages that other processes compute: they may have finished, or those processes
    /// may have left them.
    fn look_elsewhere(&mut self) -> Result<()> {
        let began = Instant::now();
        if self.elsewhere.is_empty() || began < self.elsewhere.next_look {
            return Ok(());
        }
        for position in self.elsewhere.positions.clone() {
            let key = self.graph.stage(position).key;
            if self.store.is_complete(&key) {
                self.elsewhere.positions.remove(&position);
                self.book_cached(position);
            } else if !self.store.is_taken(&key, &mut self.elsewhere.watch)? {
                self.elsewhere.positions.remove(&position);
                self.schedule.take_back(position);
            } else if let Some(shared) = &mut self.shared {
                shared.note_taken(position);
            }
        }
        self.elsewhere.next_look =
            Instant::now() + (began.elapsed() * LOOKING_SHARE).max(LOOK_EVERY);
        Ok(())
    }

    /// Records that a stage's artifact has come from another run.
    fn book_cached(&mut self, position: usize) {
        self.outcome.cached.push(self.graph.stage(position).key);
        self.schedule.complete(position);
        self.display.cached();
    }

    fn leave_to_others(&mut self, position: usize) {
        self.schedule.leave(position);
        self.elsewhere.positions.insert(position);
    }

    /// Fills the free slots, longest remaining path first, with stages that no other process
    /// computes; none if the disk is full, and none that would end after the run's deadline.
    fn start_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        while !self.disk_is_full() && self.slots.iter().any(|(_, held)| held.is_none()) {
            let Some(position) = self.schedule.next() else {
                break;
            };
            let stage = self.graph.stage(position);
            if self.store.is_complete(&stage.key) {
                // Another run on the same store was faster.
                self.book_cached(position);
                continue;
            }
            if self.store.is_taken(&stage.key, &mut self.elsewhere.watch)? {
                self.leave_to_others(position);
                continue;
            }
            if !self.may_start(position)? {
                continue;
            }
            let resources = self.resources.get(&stage.key).cloned().unwrap_or_default();
            if !interrupt.leaves_time_for(resources.seconds) {
                self.schedule.put_off(position);
                self.outcome.halted = Some(Halt::Time);
                continue;
            }
            let Some((slot, held)) = free_slot(&mut self.slots, &resources) else {
                break;
            };
            let command = self.pool.command(self.store, &stage.key, slot, &resources);
            let child = Child::start(command, position, &self.sender)
                .context(|| format!("cannot run stage `{}`", stage.label))?;
            self.running.insert(position, child);
            *held = Some(position);
            self.display.started(position, &stage.label);
        }
        self.display.remaining(
            self.schedule.completed_cost(),
            self.schedule.wanted_cost(),
            self.running_costs(),
        );
        Ok(())
    }

    /// True if a stage has failed because the disk takes nothing more: every other would fail too.
    fn disk_is_full(&self) -> bool {
        self.outcome.halted == Some(Halt::Disk)
    }

    fn running_costs(&self) -> impl Iterator<Item = (usize, f64)> {
        self.running
            .keys()
            .map(|&position| (position, self.schedule.cost(position)))
    }

    /// Waits briefly for messages from the children and handles all of them.
    fn listen(&mut self) {
        let first = self.messages.recv_timeout(POLL).ok();
        for message in first.into_iter().chain(self.messages.try_iter()) {
            match message {
                Message::Closed(position) => {
                    self.running.entry(position).and_modify(Child::note_closed);
                }
                Message::Event(position, Event::Failed { kind, error }) => {
                    let failure = Failure {
                        kind,
                        message: error,
                    };
                    self.running
                        .entry(position)
                        .and_modify(|child| child.note_failure(failure));
                }
                Message::Event(position, event) => {
                    if event == Event::Waiting {
                        self.running.entry(position).and_modify(Child::note_left);
                    }
                    self.display.event(position, &event);
                }
            }
        }
    }

    /// Records the results of stages whose processes have ended.
    fn reap(&mut self) -> Result<()> {
        let ended: Vec<(usize, Child)> = self
            .running
            .extract_if(.., |_, child| child.has_ended())
            .collect();
        for (position, child) in ended {
            let stage = self.graph.stage(position);
            self.slots
                .iter_mut()
                .filter(|(_, held)| *held == Some(position))
                .for_each(|(_, held)| *held = None);
            let complete = self.store.is_complete(&stage.key);
            // The failure does not count if another node took this attempt for dead and is
            // computing the stage now.
            let mut claimed = || {
                self.store
                    .is_claimed(&stage.key, &mut self.elsewhere.watch)
                    .unwrap_or(false)
            };
            if !complete && (child.has_left() || claimed()) {
                self.display.left(position);
                self.leave_to_others(position);
                continue;
            }
            let verdict = child.verdict(self.store, &stage.key);
            if matches!(&verdict, Err(failure) if failure.kind == ErrorKind::Disk) {
                self.outcome.halted = Some(Halt::Disk);
            }
            if let (Err(failure), Some(_)) = (&verdict, &self.shared) {
                self.note_end(position, &child, failure)?;
                continue;
            }
            match verdict {
                Ok(()) => {
                    self.schedule.complete(position);
                    self.outcome.finished.push(stage.key);
                    self.display
                        .finished(position, &stage.label, child.elapsed());
                }
                Err(failure) => self.book_failed(position, failure),
            }
        }
        Ok(())
    }

    /// Records that a stage has failed, and with it those that need it.
    fn book_failed(&mut self, position: usize, failure: Failure) {
        let stage = self.graph.stage(position);
        let skipped = self.schedule.fail(position);
        self.display
            .failed(position, &stage.label, &failure, skipped.len());
        self.outcome.skipped.extend(
            skipped
                .iter()
                .map(|&position| self.graph.stage(position).key),
        );
        self.outcome.failed.push((stage.clone(), failure));
    }

    /// Stops the processes that still run; only an interruption leaves any.
    fn finish(mut self, interrupted: bool) -> Outcome {
        self.stop_children();
        self.display.clear();
        let unfinished = self.schedule.is_unfinished();
        let halted = self.outcome.halted.is_some();
        self.outcome.interrupted = interrupted && unfinished;
        self.outcome.left = !interrupted && unfinished && !halted;
        if halted {
            let left = self.schedule.unfinished();
            self.outcome.put_off = left
                .map(|position| self.graph.stage(position).key)
                .collect();
        }
        self.outcome
    }
}
