//! The executor of a Slurm cluster: an array of jobs, each of which runs `touchstone work` on a plan
//! in a store that all nodes see.
//!
//! Slurm starts, limits, preempts and requeues the workers; what is done is read from the store. A
//! process that submits or watches may end at any time: the same command finds the workers again by
//! the name and comment of their jobs.
//!
//! | file | idea |
//! |---|---|
//! | `request`, `time` | the words of `sbatch` and the script |
//! | `need`, `nodes`, `place` | what a worker asks for; what is checked before anything is submitted |
//! | `tools`, `queue` | Slurm's commands and what `squeue` lists |
//! | `crew` | the workers of a plan: found, started once, ended |
//! | `watch` | progress from the store, news from the queue, until all is done |

mod crew;
mod need;
mod nodes;
mod place;
mod queue;
mod request;
mod time;
mod tools;
mod watch;

use super::{Executor, Interrupt, Outcome, Resources, StoredPlan};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::pipeline::{Graph, StageKey, Store};
use crew::{Crew, Kind};
use need::{Missing, Need};
use nodes::Largest;
pub use place::check_shared;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
pub use time::TimeLimit;
use watch::Watcher;

/// Seconds between two questions to Slurm's controller.
pub const POLL_ENV: &str = "TOUCHSTONE_POLL_SECONDS";
const POLL: f64 = 30.0;

/// Settings of a request to the cluster. None of them moves a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub workers: usize,
    pub cpus: Option<usize>,
    pub gpus: usize,
    pub time: Option<TimeLimit>,
    pub partition: Option<String>,
    pub account: Option<String>,
    /// Further words for `sbatch`; later ones outrank earlier ones and those above.
    pub flags: Vec<String>,
    /// Lines of shell before a worker starts.
    pub setup: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 4,
            cpus: None,
            gpus: 0,
            time: None,
            partition: None,
            account: None,
            flags: Vec::new(),
            setup: Vec::new(),
        }
    }
}

/// An executor that lets workers in the jobs of a Slurm cluster compute the stages.
#[derive(Clone, Debug)]
pub struct Slurm {
    pub settings: Settings,
    /// This program, as nodes find it.
    pub program: PathBuf,
    /// The study's name, for the name of the jobs.
    pub study: String,
    pub devices: Vec<String>,
    /// Stages at once in a worker, if chosen.
    pub jobs: Option<usize>,
    /// Bytes that a stage may fill, if chosen.
    pub stage_memory: Option<u64>,
    /// Returns once the workers are submitted.
    pub detach: bool,
    /// Suppresses progress output.
    pub quiet: bool,
    /// Shortest time between two questions to the controller.
    pub poll: Duration,
}

impl Slurm {
    /// An executor for the study `study` on `devices`, with default settings.
    ///
    /// # Errors
    /// If the system does not say where the program's file is.
    pub fn new(study: &str, devices: Vec<String>) -> Result<Self> {
        let program =
            std::env::current_exe().context(|| "cannot find the program's own file".to_owned())?;
        let seconds = std::env::var(POLL_ENV).ok();
        let seconds = seconds
            .and_then(|text| text.trim().parse::<f64>().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Self {
            settings: Settings::default(),
            program,
            study: study.into(),
            devices,
            jobs: None,
            stage_memory: None,
            detach: false,
            quiet: false,
            poll: seconds.unwrap_or(Duration::from_secs_f64(POLL)),
        })
    }

    /// Ends the workers of `graph` in `store`; returns how many there were.
    ///
    /// # Errors
    /// If Slurm does not answer or refuses.
    pub fn cancel(&self, store: &Store, graph: &Graph) -> Result<usize> {
        let plan = StoredPlan::new(&self.study, graph, &BTreeMap::new())?;
        let crew = Crew {
            slurm: self,
            store,
            plan: &plan,
        };
        let tasks = crew.insist()?;
        crew.cancel(&tasks, |_| true)
    }

    /// The largest node that workers may get, as far as `sinfo` tells.
    fn largest_node(&self) -> Result<Option<Largest>> {
        let words = nodes::ARGUMENTS.map(str::to_owned);
        let settings = &self.settings;
        let listed = tools::ask("sinfo", &words, "")?.unwrap_or_default();
        Ok(nodes::largest(
            &listed,
            settings.partition.as_deref(),
            &settings.flags,
        ))
    }
}

/// The workers that a run found or started.
struct Joined {
    round: String,
    /// The job's number, if this run submitted it.
    submitted: Option<String>,
}

impl Executor for Slurm {
    fn run(
        &self,
        store: &Store,
        graph: &Graph,
        resources: &BTreeMap<StageKey, Resources>,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        let listing = store.listing()?;
        let missing: Vec<Missing> = graph
            .iter()
            .filter(|stage| !listing.is_complete(&stage.key))
            .map(|stage| {
                let needs = resources.get(&stage.key).cloned().unwrap_or_default();
                (stage, needs)
            })
            .collect();
        if missing.is_empty() {
            return Ok(Outcome {
                cached: graph.iter().map(|stage| stage.key).collect(),
                ..Outcome::default()
            });
        }
        store.probe()?;
        let plan = StoredPlan::new(&self.study, graph, resources)?;
        let need = Need::of(self, &missing);
        let crew = Crew {
            slurm: self,
            store,
            plan: &plan,
        };
        let joined = crew.alone(interrupt, || self.join(&crew, graph, &need, &missing))?;
        let Some(joined) = joined else {
            return Ok(Outcome {
                interrupted: true,
                ..Outcome::default()
            });
        };
        Watcher::new(&crew, graph, need, joined)?.watch(interrupt)
    }
}

impl Slurm {
    /// Finds the live workers of the plan, or submits some.
    fn join(&self, crew: &Crew, graph: &Graph, need: &Need, missing: &[Missing]) -> Result<Joined> {
        let tasks = crew.insist()?;
        let live = tasks.iter().find(|task| task.is_live());
        if let Some(round) = live.and_then(|task| crew.round_of(task)) {
            // Those that are requeued read the plan anew.
            if let Ok(found) = StoredPlan::read(crew.store, &crew.plan.id.to_string()) {
                found.check_program().map_err(|error| {
                    error.hint("workers of the other program are at work: let them finish, or end them with --cancel first")
                })?;
            }
            return Ok(Joined {
                round,
                submitted: None,
            });
        }
        self.check(need, missing, self.largest_node()?)?;
        crew.store.clean()?;
        crew.store.plan(graph)?;
        crew.plan.write(crew.store)?;
        files::create_dir(&crew.store.workers())?;
        let round = Crew::new_round();
        let useful = self.settings.workers.min(missing.len()).max(1);
        let request = crew.request(Kind::Ordinary, useful, need, &round);
        let number = crew.submit(&request)?;
        Ok(Joined {
            round,
            submitted: Some(number),
        })
    }
}

/// The error of workers that end again and again without having computed anything.
fn barren(crew: &Crew, number: &str) -> Error {
    let log = crew.store.workers().join(format!("{number}_0.out"));
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n  | ");
    let said = if last.is_empty() {
        "it printed nothing".to_owned()
    } else {
        format!("its last words:\n  | {last}")
    };
    Error::store(format!(
        "workers end without having computed anything; the output of one is in {}, {said}",
        log.display()
    ))
    .hint(format!(
        "mend what it complains of, then run the same command again; `scontrol show job {number}` says how Slurm saw it"
    ))
}
