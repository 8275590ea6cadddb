//! The state of every stage of a graph, and sums over them.

use super::is_gpu;
use crate::Result;
use crate::executor::{Forecast, TimeLeft};
use crate::pipeline::{Graph, PlannedStage, Sighting, StageKey, Store};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Done,
    /// Held by an attempt that has given a sign of life lately.
    Running,
    Failed,
    /// Needs a stage that has failed.
    Blocked,
    Left,
}

/// Numbers of stages by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub stages: usize,
    pub done: usize,
    pub running: usize,
    pub failed: usize,
    /// Stages that need one that has failed.
    pub blocked: usize,
    pub left: usize,
}

impl Counts {
    fn add(&mut self, state: State) {
        self.stages += 1;
        *match state {
            State::Done => &mut self.done,
            State::Running => &mut self.running,
            State::Failed => &mut self.failed,
            State::Blocked => &mut self.blocked,
            State::Left => &mut self.left,
        } += 1;
    }
}

/// The work of finished stages, lost work not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Hours {
    pub processor: f64,
    pub gpu: f64,
    /// Hours of stages, one after another.
    pub wall: f64,
}

/// The stages of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    pub counts: Counts,
    pub mean_seconds: Option<f64>,
    pub seconds_left: f64,
}

/// A stage that an attempt holds.
pub struct Held<'g> {
    pub stage: &'g PlannedStage,
    pub holder: Sighting,
    /// False if the attempt is over, or has been silent for too long to be alive.
    pub alive: bool,
}

/// A stage whose last attempt failed.
pub struct Failed<'g> {
    pub stage: &'g PlannedStage,
    pub log: PathBuf,
}

impl Failed<'_> {
    /// The first line of the log.
    pub fn reason(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().next().unwrap_or("?").to_owned()
    }
}

/// The state of a graph's stages in a store.
pub struct Tally<'g> {
    pub counts: Counts,
    pub kinds: BTreeMap<&'g str, Kind>,
    pub held: Vec<Held<'g>>,
    pub failed: Vec<Failed<'g>>,
    pub hours: Hours,
    /// The state of each stage, by position.
    states: Vec<State>,
    /// Time for all that is not done; `None` if nothing has finished that it could be reckoned from.
    pub time: Option<TimeLeft>,
    /// Stages of other graphs that attempts hold.
    pub others: usize,
}

impl<'g> Tally<'g> {
    /// Looks at `graph` in `store`, each folder of which is read once.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn of(graph: &'g Graph, store: &Store) -> Result<Self> {
        // Claims first: a stage that finishes meanwhile is done and no longer held.
        let sightings = store.sightings()?;
        let failures = store.failures()?;
        let listing = store.listing()?;
        let there: Vec<StageKey> = graph
            .iter()
            .map(|stage| stage.key)
            .filter(|key| listing.has(key))
            .collect();
        let spent = store.spent(&there);
        let (mut forecast, mut hours) = (Forecast::default(), Hours::default());
        for stage in graph {
            let Some(cost) = spent.get(&stage.key) else {
                continue;
            };
            forecast.learn(stage, cost.wall_seconds);
            hours.wall += cost.wall_seconds / 3600.0;
            hours.processor += cost.cpu_seconds.unwrap_or(cost.wall_seconds) / 3600.0;
            if is_gpu(&cost.device) {
                hours.gpu += cost.wall_seconds / 3600.0;
            }
        }
        let is_done = |key: &StageKey| spent.contains_key(key);
        let mut held = held(graph, sightings.iter().filter(|(key, _)| !is_done(key)));
        let alive: HashMap<StageKey, usize> = held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.alive)
            .map(|(at, held)| (held.stage.key, at))
            .collect();
        let mut states: Vec<State> = Vec::with_capacity(graph.len());
        let (mut counts, mut kinds) = (Counts::default(), BTreeMap::<&str, Kind>::new());
        let mut failed = Vec::new();
        let mut seconds = Vec::with_capacity(graph.len());
        for (position, stage) in graph.iter().enumerate() {
            let lost = |input: usize| matches!(states[input], State::Failed | State::Blocked);
            let state = match &stage.key {
                key if is_done(key) => State::Done,
                key if alive.contains_key(key) => State::Running,
                key if failures.contains_key(key) => State::Failed,
                _ if graph.inputs_of(position).any(lost) => State::Blocked,
                _ => State::Left,
            };
            if state == State::Failed {
                let log = failures[&stage.key].clone();
                failed.push(Failed { stage, log });
            }
            let needs = match state {
                State::Done => 0.0,
                _ => forecast.seconds(stage).unwrap_or(0.0),
            };
            let passed = alive.get(&stage.key).map(|&at| held[at].holder.passed());
            let needs = (needs - passed.unwrap_or_default().as_secs_f64()).max(0.0);
            let kind = kinds.entry(&stage.spec.kind).or_default();
            kind.counts.add(state);
            kind.seconds_left += needs;
            kind.mean_seconds = forecast.mean(&stage.spec.kind);
            counts.add(state);
            seconds.push(needs);
            states.push(state);
        }
        held.sort_by_key(|held| (!held.alive, graph.position(&held.stage.key)));
        Ok(Self {
            counts,
            kinds,
            failed,
            hours,
            time: (counts.done > 0).then(|| TimeLeft::of(graph, &seconds)),
            others: sightings.len()
                - sightings
                    .keys()
                    .filter(|key| graph.get(key).is_some())
                    .count(),
            held,
            states,
        })
    }

    /// Keys of the stages that are to be computed and need none that failed, held ones excluded.
    pub fn left(&self, graph: &Graph) -> Vec<StageKey> {
        let left = graph.iter().zip(&self.states);
        left.filter(|(_, state)| **state == State::Left)
            .map(|(stage, _)| stage.key)
            .collect()
    }

    /// Number of stages that run.
    pub fn running(&self) -> usize {
        self.counts.running
    }
}

fn held<'g, 'h>(
    graph: &'g Graph,
    sightings: impl Iterator<Item = (&'h StageKey, &'h Sighting)>,
) -> Vec<Held<'g>> {
    let of_graph = sightings.filter_map(|(key, holder)| Some((graph.get(key)?, holder)));
    of_graph
        .map(|(stage, holder)| Held {
            stage,
            holder: holder.clone(),
            alive: holder.may_live(),
        })
        .collect()
}
