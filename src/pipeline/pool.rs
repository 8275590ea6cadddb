//! Runs a graph on this machine, one process per stage.

use super::child::{Child, Failure, Message};
use super::claim::Watch;
use super::display::Display;
use super::event::Event;
use super::graph::{Graph, PlannedStage};
use super::interrupt::{EXIT_INTERRUPTED, Interrupt};
use super::key::StageKey;
use super::schedule::{Schedule, State};
use super::store::Store;
use crate::error::{Context, Error, ErrorKind, Result};
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

/// A pool that starts `<exe> <arguments> <key> --store <dir> --device <device> [--memory=<bytes>]`
/// for each missing stage, at most `jobs` at once.
#[derive(Clone, Debug)]
pub struct LocalPool {
    pub exe: PathBuf,
    /// Arguments before the key, for example `stage`.
    pub arguments: Vec<OsString>,
    pub jobs: usize,
    /// Devices of the pool. Slots are assigned to them in turn: with as many jobs as devices, each
    /// device has one stage at a time.
    pub devices: Vec<String>,
    /// Bytes of its device's memory that one stage may fill, per device as in `devices`; no limit
    /// where it is unknown.
    pub memory: Vec<Option<u64>>,
    /// Kernel threads per stage. The default is one: small models scale across processes, not
    /// across threads.
    pub threads: usize,
    /// Suppresses progress output.
    pub quiet: bool,
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
    /// True if Ctrl-C or SIGTERM stopped the run; stages in none of the lists were not finished.
    pub interrupted: bool,
}

impl Outcome {
    /// True if every stage of the graph is in the store now.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && !self.interrupted
    }

    /// The run's exit code: 0 if nothing failed; the exit code of the failures' kind if they share
    /// one, else 1; 130 after an interruption.
    pub fn exit_code(&self) -> u8 {
        let kinds: BTreeSet<ErrorKind> = self
            .failed
            .iter()
            .map(|(_, failure)| failure.kind)
            .collect();
        match kinds.first() {
            _ if self.interrupted => EXIT_INTERRUPTED,
            None => 0,
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
        let mut text = format!("stages: {}", parts.join(", "));
        if self.interrupted {
            text.push_str("\ninterrupted: run the same command again to continue");
        } else if !self.failed.is_empty() {
            text.push_str("\nrun the same command again to retry what failed and continue with what was skipped");
        }
        text
    }
}

impl LocalPool {
    /// Creates a pool that runs this program's own `stage` command, with one thread per stage and
    /// no memory limit.
    pub fn new(jobs: usize, devices: Vec<String>) -> Result<Self> {
        let exe =
            std::env::current_exe().context(|| "cannot find the program's own file".to_owned())?;
        Ok(Self {
            exe,
            arguments: vec!["stage".into()],
            jobs,
            devices,
            memory: Vec::new(),
            threads: 1,
            quiet: false,
        })
    }

    /// Computes the missing stages of `graph`. A stage that fails prevents only the stages that
    /// need it; failures are reported in the outcome.
    ///
    /// # Errors
    /// If the store cannot be written or a process cannot be started.
    pub fn run(&self, store: &Store, graph: &Graph, interrupt: &Interrupt) -> Result<Outcome> {
        store.clean()?;
        store.plan(graph)?;
        let schedule = Schedule::new(graph, |key| store.is_complete(key));
        let mut run = Run::new(self, store, graph, schedule);
        while !interrupt.is_raised() {
            run.look_elsewhere()?;
            run.start_ready()?;
            if run.running.is_empty() && run.elsewhere.is_empty() {
                break;
            }
            run.listen();
            run.reap();
        }
        let outcome = run.finish(interrupt.is_raised());
        // If leftovers cannot be removed now, the next run or `runs verify --repair` removes them.
        let _ = store.clean();
        Ok(outcome)
    }

    /// The command for one stage in one of the pool's slots.
    fn command(&self, store: &Store, key: &StageKey, place: usize) -> Result<Command> {
        let number = place % self.devices.len().max(1);
        let device = self.devices.get(number);
        let device = device.ok_or_else(|| {
            Error::store("there is no device to run stages on").hint("name one: --device")
        })?;
        let threads = self.threads.max(1).to_string();
        let mut command = Command::new(&self.exe);
        command
            .args(&self.arguments)
            .arg(key.to_string())
            .arg("--store")
            .arg(store.root())
            .args(["--device", device])
            .args(
                self.memory
                    .get(number)
                    .copied()
                    .flatten()
                    .map(|bytes| format!("--memory={bytes}")),
            )
            .env("RAYON_NUM_THREADS", &threads)
            .env("OMP_NUM_THREADS", &threads)
            // Threads that spin while they wait would occupy cores that other stages need.
            .env("OMP_WAIT_POLICY", "passive");
        Ok(command)
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
    schedule: Schedule<'a>,
    display: Display,
    /// The running children, by position in the graph.
    running: BTreeMap<usize, Child>,
    /// The stage in each of the pool's slots.
    places: Vec<Option<usize>>,
    /// Stages that other processes compute, by position.
    elsewhere: Elsewhere,
    sender: Sender<Message>,
    messages: Receiver<Message>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    fn new(
        pool: &'a LocalPool,
        store: &'a Store,
        graph: &'a Graph,
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
        let places = vec![None; pool.jobs.max(1)];
        let display = Display::new(graph.len(), outcome.cached.len(), pool.quiet);
        let elsewhere = Elsewhere {
            positions: BTreeSet::new(),
            watch: Watch::new(),
            next_look: Instant::now(),
        };
        let running = BTreeMap::new();
        Self {
            pool,
            store,
            graph,
            schedule,
            display,
            running,
            places,
            elsewhere,
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
    /// computes.
    fn start_ready(&mut self) -> Result<()> {
        while let Some(place) = self.places.iter().position(Option::is_none) {
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
            let command = self.pool.command(self.store, &stage.key, place)?;
            let child = Child::start(command, position, &self.sender)
                .context(|| format!("cannot run stage `{}`", stage.label))?;
            self.running.insert(position, child);
            self.places[place] = Some(position);
            self.display.started(position, &stage.label);
        }
        self.display.remaining(
            self.schedule.completed_cost(),
            self.schedule.wanted_cost(),
            self.running_costs(),
        );
        Ok(())
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
    fn reap(&mut self) {
        let ended: Vec<(usize, Child)> = self
            .running
            .extract_if(.., |_, child| child.has_ended())
            .collect();
        for (position, child) in ended {
            let stage = self.graph.stage(position);
            self.places
                .iter_mut()
                .filter(|place| **place == Some(position))
                .for_each(|place| *place = None);
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
            match child.verdict(self.store, &stage.key) {
                Ok(()) => {
                    self.schedule.complete(position);
                    self.outcome.finished.push(stage.key);
                    self.display
                        .finished(position, &stage.label, child.elapsed());
                }
                Err(failure) => {
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
            }
        }
    }

    /// Stops the processes that still run; only an interruption leaves any.
    fn finish(mut self, interrupted: bool) -> Outcome {
        self.running.clear();
        self.display.clear();
        self.outcome.interrupted = interrupted && self.schedule.is_unfinished();
        self.outcome
    }
}
