//! The choice of the next stage to start. Pure bookkeeping without processes, clock or disk.

use crate::pipeline::{Graph, StageKey};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::executor) enum State {
    /// Waits for this many inputs.
    Waiting(usize),
    Ready,
    Running,
    /// Being computed by another process.
    Elsewhere,
    Complete,
    Failed,
    /// Not tried, since one of its inputs failed or was itself skipped.
    Skipped,
    /// Not started, for want of time.
    PutOff,
}

/// A schedule that starts the ready stage with the longest remaining path first, which shortens the
/// end of a run.
pub(in crate::executor) struct Schedule<'g> {
    graph: &'g Graph,
    states: Vec<State>,
    /// Cost of each stage that was missing at the start; 0 for the others.
    costs: Vec<f64>,
    paths: Vec<f64>,
    /// Sums of costs, kept so that showing a run of many stages takes no time.
    completed_cost: f64,
    wanted_cost: f64,
    ready: BinaryHeap<(Priority, Reverse<usize>)>,
}

impl<'g> Schedule<'g> {
    pub fn new(graph: &'g Graph, is_complete: impl Fn(&StageKey) -> bool) -> Self {
        let complete: Vec<bool> = graph.iter().map(|stage| is_complete(&stage.key)).collect();
        let missing_inputs = |position| {
            let mut inputs: Vec<usize> = graph
                .inputs_of(position)
                .filter(|&input| !complete[input])
                .collect();
            inputs.sort_unstable();
            inputs.dedup();
            inputs.len()
        };
        let states: Vec<State> = (0..graph.len())
            .map(|position| match missing_inputs(position) {
                _ if complete[position] => State::Complete,
                0 => State::Ready,
                missing => State::Waiting(missing),
            })
            .collect();
        let costs: Vec<f64> = graph
            .iter()
            .zip(&complete)
            .map(|(stage, &done)| if done { 0.0 } else { stage.cost })
            .collect();
        let paths = graph.longest_paths(&costs);
        let mut schedule = Self {
            graph,
            states,
            completed_cost: 0.0,
            wanted_cost: costs.iter().sum(),
            costs,
            paths,
            ready: BinaryHeap::new(),
        };
        for position in 0..graph.len() {
            if schedule.states[position] == State::Ready {
                schedule.enqueue(position);
            }
        }
        schedule
    }

    fn enqueue(&mut self, position: usize) {
        self.states[position] = State::Ready;
        self.ready
            .push((Priority(self.paths[position]), Reverse(position)));
    }

    /// Chooses the next stage to start and marks it as running; `None` if no stage is ready.
    pub fn next(&mut self) -> Option<usize> {
        let (_, Reverse(position)) = self.ready.pop()?;
        self.states[position] = State::Running;
        Some(position)
    }

    /// Marks a running stage as being computed by another process.
    pub fn leave(&mut self, position: usize) {
        self.states[position] = State::Elsewhere;
    }

    /// Marks the stage that was chosen last as not started.
    pub fn put_off(&mut self, position: usize) {
        self.states[position] = State::PutOff;
    }

    /// Takes back a stage that another process was computing and has left.
    pub fn take_back(&mut self, position: usize) {
        self.enqueue(position);
    }

    /// Marks a stage as complete; stages that waited only for it become ready.
    pub fn complete(&mut self, position: usize) {
        self.states[position] = State::Complete;
        self.completed_cost += self.costs[position];
        let graph = self.graph;
        for &next in graph.dependents_of(position) {
            match self.states[next] {
                State::Waiting(1) => self.enqueue(next),
                State::Waiting(missing) => self.states[next] = State::Waiting(missing - 1),
                _ => {}
            }
        }
    }

    /// Marks a running stage as failed and returns the stages that need it, which are skipped.
    pub fn fail(&mut self, position: usize) -> Vec<usize> {
        self.states[position] = State::Failed;
        self.wanted_cost -= self.costs[position];
        let (graph, mut skipped) = (self.graph, Vec::new());
        let mut doomed = vec![position];
        while let Some(stage) = doomed.pop() {
            for &next in graph.dependents_of(stage) {
                if matches!(self.states[next], State::Waiting(_)) {
                    self.states[next] = State::Skipped;
                    self.wanted_cost -= self.costs[next];
                    skipped.push(next);
                    doomed.push(next);
                }
            }
        }
        skipped.sort_unstable();
        skipped
    }

    /// True if some stage was neither computed, tried nor skipped.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished().next().is_some()
    }

    /// Positions of the stages that were neither computed, tried nor skipped.
    pub fn unfinished(&self) -> impl Iterator<Item = usize> {
        let ended =
            |state: &State| matches!(state, State::Complete | State::Failed | State::Skipped);
        let states = self.states.iter().enumerate();
        states
            .filter(move |(_, state)| !ended(state))
            .map(|(position, _)| position)
    }

    /// Positions of the stages in the state `wanted`.
    pub fn all(&self, wanted: State) -> impl Iterator<Item = usize> {
        self.states
            .iter()
            .enumerate()
            .filter(move |(_, state)| **state == wanted)
            .map(|(position, _)| position)
    }

    /// Cost of one stage, if it was missing at the start.
    pub fn cost(&self, position: usize) -> f64 {
        self.costs[position]
    }

    /// Total cost of the stages that were missing at the start, except those that have failed or
    /// been skipped since.
    pub fn wanted_cost(&self) -> f64 {
        self.wanted_cost
    }

    /// Total cost of the stages completed since the start.
    pub fn completed_cost(&self) -> f64 {
        self.completed_cost
    }
}

/// The length of a path. Costs are finite, so this order is total.
#[derive(Clone, Copy, PartialEq)]
struct Priority(f64);

impl Eq for Priority {}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::StageSpec;
    use proptest::prelude::*;
    use serde_json::json;

    /// A graph whose stage `i` reads those earlier stages whose bit is set in `inputs[i]`.
    fn graph(stages: &[(u64, f64)]) -> Graph {
        let (mut graph, mut keys) = (Graph::new(), Vec::<StageKey>::new());
        for (position, (inputs, cost)) in stages.iter().enumerate() {
            let inputs = (0..position)
                .filter(|i| inputs >> i & 1 == 1)
                .map(|i| (i.to_string(), keys[i]))
                .collect();
            let spec = StageSpec {
                kind: "test".into(),
                version: 1,
                settings: json!(position),
                inputs,
                seed: None,
            };
            keys.push(graph.add(spec, position.to_string(), *cost).unwrap());
        }
        graph
    }

    #[test]
    fn the_longest_remaining_path_starts_first() {
        let graph = graph(&[(0, 5.0), (0, 1.0), (0b10, 9.0), (0, 1.0)]);
        let mut schedule = Schedule::new(&graph, |_| false);
        assert_eq!(
            std::iter::from_fn(|| schedule.next()).collect::<Vec<_>>(),
            [1, 0, 3]
        );
        schedule.complete(1);
        assert_eq!(schedule.next(), Some(2));
        assert_eq!(
            (schedule.wanted_cost(), schedule.completed_cost()),
            (16.0, 1.0)
        );
    }

    proptest! {
        /// Whichever stages fail and in whatever order stages end: inputs complete first, and
        /// exactly the descendants of a failed stage are skipped.
        #[test]
        fn every_stage_ends_as_its_ancestors_allow(
            stages in prop::collection::vec((any::<u64>(), 0.0..10.0_f64), 1..12),
            cached in any::<u64>(), failing in any::<u64>(), order in any::<u64>(), jobs in 1..4_usize,
        ) {
            let graph = graph(&stages);
            let is_cached = |position: usize| cached >> position & 1 == 1;
            let fails = |position: usize| failing >> position & 1 == 1 && !is_cached(position);
            let mut schedule = Schedule::new(&graph, |key| is_cached(graph.position(key).unwrap()));
            let (mut running, mut turn) = (Vec::new(), order);
            loop {
                while running.len() < jobs {
                    let Some(position) = schedule.next() else { break };
                    prop_assert!(graph.inputs_of(position).all(|i| schedule.states[i] == State::Complete));
                    running.push(position);
                }
                if running.is_empty() { break }
                turn = turn.rotate_left(7);
                let ended = running.swap_remove(turn as usize % running.len());
                if fails(ended) { schedule.fail(ended); } else { schedule.complete(ended) }
            }
            for position in 0..graph.len() {
                let dead_input = graph.inputs_of(position).any(|i| schedule.states[i] != State::Complete);
                let expected = if is_cached(position) { State::Complete }
                    else if dead_input { State::Skipped }
                    else if fails(position) { State::Failed }
                    else { State::Complete };
                prop_assert_eq!(schedule.states[position], expected);
            }
        }
    }
}
