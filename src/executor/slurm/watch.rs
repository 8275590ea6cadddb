//! The watch over the workers of a plan, until every stage is finished or given up. Progress is read
//! from the store. Slurm's queue only says which workers there are; its silence decides nothing.

use super::crew::{Crew, Kind};
use super::need::Need;
use super::queue::{Task, summary};
use super::{Joined, barren};
use crate::error::{ErrorKind, Result};
use crate::executor::local::display::Display;
use crate::executor::local::schedule::{Schedule, State};
use crate::executor::{Failure, Interrupt, Outcome, Verdict, judge};
use crate::pipeline::{Graph, Watch};
use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Time between two checks for signals.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two looks into the store.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Factor by which the wait for the next look exceeds the time that the last one took.
const LOOKING_SHARE: u32 = 20;
/// Factor by which questions to the controller may become rarer while nothing changes.
const MOST_PATIENCE: u32 = 6;
/// Answers in a row in which workers must be missing before others are submitted.
const SURE: usize = 2;
/// Submissions in a row without a finished stage after which something else must be wrong.
const BARREN: usize = 3;

type Listed = Result<std::result::Result<Vec<Task>, String>>;

pub(super) struct Watcher<'a> {
    crew: &'a Crew<'a>,
    graph: &'a Graph,
    need: Need,
    round: String,
    /// Number of the job that this process submitted last.
    submitted: Option<String>,
    schedule: Schedule<'a>,
    display: Display,
    outcome: Outcome,
    /// Stages whose inputs are there: computed now, or about to be.
    open: BTreeSet<usize>,
    /// Open stages that ran out of memory.
    short: BTreeSet<usize>,
    claims: Watch,
    next_look: Instant,
    queue: Queue,
    /// Workers that there should be.
    workers: usize,
    /// Workers that someone has cancelled, by number.
    cancelled: BTreeSet<String>,
    /// Workers that the last answer called live, by number.
    live: BTreeSet<String>,
    missing: usize,
    submissions: usize,
}

/// The conversation with Slurm's controller.
struct Queue {
    next: Instant,
    pause: Duration,
    answer: Option<Receiver<Listed>>,
    /// The last line about the workers.
    line: String,
    silent: bool,
}

/// The consequence of the queue's state for the watch.
enum News {
    GoOn,
    /// Someone has cancelled all workers.
    Cancelled,
}

impl<'a> Watcher<'a> {
    /// # Errors
    /// If the store cannot be read.
    pub fn new(crew: &'a Crew<'a>, graph: &'a Graph, need: Need, joined: Joined) -> Result<Self> {
        let slurm = crew.slurm;
        let listing = crew.store.listing()?;
        let mut schedule = Schedule::new(graph, |key| listing.is_complete(key));
        let cached: Vec<_> = schedule
            .all(State::Complete)
            .map(|position| graph.stage(position).key)
            .collect();
        let display = Display::new(graph.len(), cached.len(), slurm.quiet);
        let open = std::iter::from_fn(|| schedule.next()).collect();
        let left = graph.len() - cached.len();
        let said = match &joined.submitted {
            Some(number) => format!("submitted job {number} (plan {})", crew.plan.id.short()),
            None => format!("workers of plan {} are there already", crew.plan.id.short()),
        };
        display.say(&said);
        let poll = slurm.poll;
        Ok(Self {
            crew,
            graph,
            need,
            round: joined.round,
            submitted: joined.submitted,
            schedule,
            display,
            outcome: Outcome {
                cached,
                ..Outcome::default()
            },
            open,
            short: BTreeSet::new(),
            claims: Watch::new(),
            next_look: Instant::now(),
            queue: Queue {
                next: Instant::now() + poll / 3,
                pause: poll,
                answer: None,
                line: String::new(),
                silent: false,
            },
            workers: slurm.settings.workers.min(left).max(1),
            cancelled: BTreeSet::new(),
            live: BTreeSet::new(),
            missing: 0,
            submissions: 0,
        })
    }

    /// Watches until every stage is finished or given up, or the user wants to do something else.
    pub fn watch(mut self, interrupt: &Interrupt) -> Result<Outcome> {
        if self.crew.slurm.detach {
            return Ok(self.detach());
        }
        loop {
            if interrupt.is_raised() {
                return self.leave();
            }
            self.look()?;
            if self.open.is_empty() {
                return self.end();
            }
            if let News::Cancelled = self.hear(interrupt)? {
                self.display.say("all workers were cancelled");
                self.outcome.interrupted = true;
                return Ok(self.close());
            }
            std::thread::sleep(TICK);
        }
    }

    /// Books what has happened in the store, if it is time for a look.
    fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        if began < self.next_look {
            return Ok(());
        }
        // Finished stages open others, which may be finished too.
        while self.look_once()? {}
        self.display.remaining(
            self.schedule.completed_cost(),
            self.schedule.wanted_cost(),
            std::iter::empty(),
        );
        self.next_look = Instant::now() + (began.elapsed() * LOOKING_SHARE).max(LOOK_EVERY);
        Ok(())
    }

    /// Books the open stages that have ended; returns whether this has opened others.
    fn look_once(&mut self) -> Result<bool> {
        let store = self.crew.store;
        let attempted = store.attempted()?;
        let listing = store.listing()?;
        for position in self.open.clone() {
            let stage = self.graph.stage(position);
            if let Some(manifest) = listing.manifest(&stage.key) {
                self.open.remove(&position);
                self.submissions = 0;
                if self.short.remove(&position) {
                    self.outcome.notes.push(format!(
                        "`{}` ran out of memory and was computed with more",
                        stage.label
                    ));
                }
                self.schedule.complete(position);
                self.outcome.finished.push(stage.key);
                let took = Duration::try_from_secs_f64(manifest.wall_seconds);
                self.display
                    .finished(position, &stage.label, took.unwrap_or_default());
            } else if attempted.contains(&stage.key)
                && !store.is_taken(&stage.key, &mut self.claims)?
            {
                match judge(store, &stage.key, &self.round)? {
                    Verdict::Open => {}
                    Verdict::WantsRoom => {
                        if self.short.insert(position) {
                            self.display
                                .say(&format!("ran out of memory: {}", stage.label));
                            self.queue.next = Instant::now();
                        }
                    }
                    Verdict::Failed(failure) => self.book_failed(position, failure),
                }
            }
        }
        let before = self.open.len();
        self.open
            .extend(std::iter::from_fn(|| self.schedule.next()));
        Ok(self.open.len() > before)
    }

    fn book_failed(&mut self, position: usize, failure: Failure) {
        let stage = self.graph.stage(position);
        self.open.remove(&position);
        self.short.remove(&position);
        let skipped = self.schedule.fail(position);
        self.display
            .failed(position, &stage.label, &failure, skipped.len());
        let keys = skipped.iter().map(|&other| self.graph.stage(other).key);
        self.outcome.skipped.extend(keys);
        self.outcome.failed.push((stage.clone(), failure));
    }

    /// Asks the controller when it is time, in a thread, since it may take long to answer; and acts
    /// on its answer.
    fn hear(&mut self, interrupt: &Interrupt) -> Result<News> {
        let Some(answer) = &self.queue.answer else {
            if Instant::now() >= self.queue.next {
                self.queue.answer = Some(self.ask());
            }
            return Ok(News::GoOn);
        };
        let listed = match answer.try_recv() {
            Err(TryRecvError::Empty) => return Ok(News::GoOn),
            Err(TryRecvError::Disconnected) => Ok(Err("squeue did not end".into())),
            Ok(listed) => listed,
        };
        self.queue.answer = None;
        self.queue.next = Instant::now() + self.queue.pause;
        match listed? {
            Err(complaint) => {
                if !self.queue.silent {
                    let first = complaint.lines().next().unwrap_or_default();
                    self.display.say(&format!(
                        "the controller does not answer ({first}); progress is read from the store"
                    ));
                }
                self.queue.silent = true;
                Ok(News::GoOn)
            }
            Ok(tasks) => self.act(&tasks, interrupt),
        }
    }

    fn ask(&self) -> Receiver<Listed> {
        let (sender, receiver) = mpsc::channel();
        let words = super::queue::arguments(&self.crew.job_name());
        let ours = self.crew.comment();
        std::thread::spawn(move || {
            let listed = super::tools::ask("squeue", &words, "").map(|answer| {
                answer.map(|text| {
                    let mut tasks = Task::parse(&text);
                    tasks.retain(|task| task.comment.starts_with(&ours));
                    tasks
                })
            });
            // If the watch is over, nobody waits for this.
            let _ = sender.send(listed);
        });
        receiver
    }

    /// Compares the workers that there are with those that there should be.
    fn act(&mut self, tasks: &[Task], interrupt: &Interrupt) -> Result<News> {
        let ours: Vec<&Task> = tasks
            .iter()
            .filter(|task| self.crew.round_of(task).as_ref() == Some(&self.round))
            .collect();
        let line = summary(&ours);
        let poll = self.crew.slurm.poll;
        if line == self.queue.line && !self.queue.silent {
            self.queue.pause = (self.queue.pause * 3 / 2).min(poll * MOST_PATIENCE);
        } else {
            self.display.say(&line);
            self.queue.pause = poll;
            self.queue.line = line;
        }
        self.queue.silent = false;
        let of_kind = |kind| {
            let live = ours.iter().filter(|task| task.is_live());
            live.filter(|task| Crew::kind_of(task) == kind).count()
        };
        let (ordinary, roomy) = (of_kind(Kind::Ordinary), of_kind(Kind::Roomy));
        // Slurm forgets ended jobs after some minutes; the wish to be rid of them stays.
        let cancelled = ours.iter().filter(|task| task.is_cancelled());
        let cancelled: BTreeSet<String> = cancelled.map(|task| task.number()).collect();
        self.cancelled.extend(cancelled.iter().cloned());
        let live = ours.iter().filter(|task| task.is_live());
        let before = std::mem::replace(&mut self.live, live.map(|task| task.number()).collect());
        if self.live.is_empty() && !cancelled.is_empty() && before.is_subset(&cancelled) {
            return Ok(News::Cancelled);
        }
        if !self.short.is_empty() && roomy == 0 {
            self.give_room(interrupt)?;
        }
        // A worker that was cancelled is not wanted.
        let ready = self.open.len() - self.short.len();
        let useful = ready.div_ceil(self.need.jobs);
        let wanted = self
            .workers
            .saturating_sub(self.cancelled.len())
            .min(useful);
        if ordinary >= wanted {
            self.missing = 0;
            return Ok(News::GoOn);
        }
        // They may have left because all is done: the next answer is weighed after another look.
        self.next_look = Instant::now();
        self.missing += 1;
        self.queue.pause = poll;
        self.queue.next = Instant::now() + poll / 3;
        if self.missing >= SURE {
            self.missing = 0;
            self.replace(wanted, wanted - ordinary, interrupt)?;
        }
        Ok(News::GoOn)
    }

    /// Submits workers in the place of those that are gone.
    fn replace(&mut self, wanted: usize, count: usize, interrupt: &Interrupt) -> Result<()> {
        // On a full disk new workers would fare no better.
        self.crew.store.probe()?;
        self.submissions += 1;
        if self.submissions > BARREN {
            let number = self.submitted.clone().unwrap_or_default();
            self.display.clear();
            return Err(barren(self.crew, &number));
        }
        self.display.say(&format!(
            "{count} worker{} missing: submitting {} anew",
            if count == 1 { " is" } else { "s are" },
            if count == 1 { "it" } else { "them" }
        ));
        let need = self.need;
        let submitted = self.submit(Kind::Ordinary, wanted, count, need, interrupt);
        match submitted {
            // Slurm took the same request before: nodes may be missing for the moment.
            Err(error) if self.submissions < BARREN => {
                self.display.say(&format!("not submitted yet: {error}"));
                Ok(())
            }
            submitted => submitted,
        }
    }

    /// Submits a worker with more memory for what ran out of it, or gives those stages up.
    fn give_room(&mut self, interrupt: &Interrupt) -> Result<()> {
        let slurm = self.crew.slurm;
        let largest = slurm.largest_node()?;
        let Some(need) = self.need.roomy(&slurm.settings.flags, largest) else {
            for position in self.short.clone() {
                let failure = Failure {
                    kind: ErrorKind::Memory,
                    message: "it ran out of memory, and no node has more\n\
                              choose a partition with larger nodes, or let stages fill less: --memory"
                        .into(),
                };
                self.book_failed(position, failure);
            }
            return Ok(());
        };
        self.display.say(&format!(
            "submitting a worker with {} MiB for what ran out of memory",
            need.memory_mib
        ));
        self.submit(Kind::Roomy, 1, 1, need, interrupt)
    }

    /// Submits `count` workers, unless another process that watches has done so meanwhile and there
    /// would be more than `wanted`.
    fn submit(
        &mut self,
        kind: Kind,
        wanted: usize,
        count: usize,
        need: Need,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let crew = self.crew;
        let request = crew.request(kind, count, &need, &self.round);
        let number = crew.alone(interrupt, || {
            let live = crew
                .insist()?
                .iter()
                .filter(|task| task.is_live())
                .filter(|task| {
                    Crew::kind_of(task) == kind && crew.round_of(task).as_ref() == Some(&self.round)
                })
                .count();
            if live + count > wanted {
                return Ok(None);
            }
            crew.submit(&request).map(Some)
        })?;
        if let Some(number) = number.flatten() {
            self.display.say(&format!("submitted job {number}"));
            self.submitted = Some(number);
        }
        self.queue.next = Instant::now() + crew.slurm.poll / 3;
        Ok(())
    }

    /// Ends the watch after the last stage: workers that have not started are not needed any more;
    /// the others see for themselves.
    fn end(mut self) -> Result<Outcome> {
        let crew = self.crew;
        let ended = crew
            .insist()
            .and_then(|tasks| crew.cancel(&tasks, Task::is_pending));
        if let Err(error) = ended {
            // A worker that starts later finds the plan done; a held one stays in the queue.
            let first = error.to_string();
            self.outcome.notes.push(format!(
                "workers that have not started may be left in the queue ({}): the same command with --cancel ends them",
                first.lines().next().unwrap_or_default()
            ));
        }
        Ok(self.close())
    }

    fn close(self) -> Outcome {
        self.display.clear();
        self.outcome
    }

    fn detach(mut self) -> Outcome {
        self.outcome.left = true;
        self.outcome
            .notes
            .push("the workers go on without this process".into());
        self.close()
    }

    /// Asks once whether the workers are to go on; without a terminal they do.
    fn leave(mut self) -> Result<Outcome> {
        self.display.clear();
        self.outcome.interrupted = true;
        if !wants_cancel() {
            return Ok(self.detach());
        }
        let tasks = self.crew.insist()?;
        let ended = self.crew.cancel(&tasks, |_| true)?;
        self.outcome
            .notes
            .push(format!("cancelled {ended} workers"));
        Ok(self.close())
    }
}

/// True if someone at the terminal wants the workers to end.
fn wants_cancel() -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(
        std::io::stderr(),
        "\nLet the workers go on without this process, or cancel them? [detach/cancel] (detach) "
    );
    if asked.is_err() || std::io::stdin().lock().read_line(&mut answer).is_err() {
        return false;
    }
    answer.trim().to_ascii_lowercase().starts_with('c')
}
