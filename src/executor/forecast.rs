//! The time that stages will take, from the times that finished ones took.

use crate::pipeline::{Graph, PlannedStage};
use std::collections::HashMap;

/// Measured seconds beside planned costs.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    seconds: f64,
    cost: f64,
    stages: usize,
}

impl Rate {
    fn add(&mut self, cost: f64, seconds: f64) {
        self.seconds += seconds;
        self.cost += cost;
        self.stages += 1;
    }

    /// Seconds of a stage of this cost, in proportion; the mean where costs are not known.
    fn seconds(&self, cost: f64) -> Option<f64> {
        match self.stages {
            0 => None,
            _ if self.cost > 0.0 && cost > 0.0 => Some(cost * self.seconds / self.cost),
            stages => Some(self.seconds / stages as f64),
        }
    }
}

/// A forecast of stages' times: in proportion to their planned costs, as finished stages of the
/// same kind took, else as all finished stages took.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    kinds: HashMap<String, Rate>,
    all: Rate,
}

impl Forecast {
    /// Learns from a finished stage.
    pub fn learn(&mut self, stage: &PlannedStage, seconds: f64) {
        let kind = self.kinds.entry(stage.spec.kind.clone()).or_default();
        kind.add(stage.cost, seconds);
        self.all.add(stage.cost, seconds);
    }

    /// The probable seconds of `stage`; `None` if no stage has finished yet.
    pub fn seconds(&self, stage: &PlannedStage) -> Option<f64> {
        let same_kind = self.kinds.get(&stage.spec.kind);
        same_kind
            .and_then(|rate| rate.seconds(stage.cost))
            .or_else(|| self.all.seconds(stage.cost))
    }

    /// The mean seconds of the finished stages of a kind.
    pub fn mean(&self, kind: &str) -> Option<f64> {
        self.kinds
            .get(kind)
            .map(|rate| rate.seconds / rate.stages as f64)
    }
}

/// Seconds until the end of what is missing of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeLeft {
    /// One stage at a time.
    pub alone: f64,
    /// The longest chain of stages that need each other: less is not possible with any number of
    /// processes.
    pub longest_chain: f64,
}

impl TimeLeft {
    /// The time left for `graph`, whose stages still need `seconds` each, by position; 0 for those
    /// that need nothing more.
    pub fn of(graph: &Graph, seconds: &[f64]) -> Self {
        Self {
            alone: seconds.iter().sum(),
            longest_chain: graph.longest_paths(seconds).into_iter().fold(0.0, f64::max),
        }
    }

    /// Seconds to the end with `at_once` stages at once.
    pub fn with(&self, at_once: usize) -> f64 {
        (self.alone / at_once.max(1) as f64).max(self.longest_chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::StageSpec;
    use serde_json::json;

    fn stage(graph: &mut Graph, kind: &str, cost: f64, inputs: &[usize]) -> usize {
        let keys: Vec<_> = inputs.iter().map(|&at| graph.stage(at).key).collect();
        let spec = StageSpec {
            kind: kind.into(),
            version: 1,
            settings: json!(graph.len()),
            inputs: keys.iter().map(|key| (key.to_string(), *key)).collect(),
            seed: None,
        };
        graph.add(spec, kind, cost).unwrap();
        graph.len() - 1
    }

    #[test]
    fn a_stage_takes_what_its_kind_took_in_proportion_to_its_cost() {
        let mut graph = Graph::new();
        let [small, large, rows, other] = [
            stage(&mut graph, "sft", 2.0, &[]),
            stage(&mut graph, "sft", 6.0, &[]),
            stage(&mut graph, "rows", 0.0, &[]),
            stage(&mut graph, "ppo", 4.0, &[]),
        ];
        let mut forecast = Forecast::default();
        assert_eq!(forecast.seconds(graph.stage(large)), None);
        forecast.learn(graph.stage(small), 10.0);
        forecast.learn(graph.stage(rows), 1.0);
        assert_eq!(forecast.seconds(graph.stage(large)), Some(30.0));
        assert_eq!(forecast.seconds(graph.stage(rows)), Some(1.0));
        // Of the other kind nothing has finished: 11 seconds for a cost of 2.
        assert_eq!(forecast.seconds(graph.stage(other)), Some(22.0));
        assert_eq!(
            (forecast.mean("sft"), forecast.mean("ppo")),
            (Some(10.0), None)
        );
    }

    #[test]
    fn the_end_is_not_before_the_longest_chain() {
        let mut graph = Graph::new();
        let first = stage(&mut graph, "a", 1.0, &[]);
        stage(&mut graph, "b", 1.0, &[first]);
        stage(&mut graph, "c", 1.0, &[]);
        let left = TimeLeft::of(&graph, &[10.0, 20.0, 6.0]);
        assert_eq!((left.alone, left.longest_chain), (36.0, 30.0));
        assert_eq!(
            (left.with(1), left.with(0), left.with(9)),
            (36.0, 36.0, 30.0)
        );
    }
}
