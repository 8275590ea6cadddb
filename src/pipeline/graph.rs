//! The stages that are wanted, in topological order by construction.

use super::key::{StageKey, StageSpec};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A stage with its label for people and its cost for the scheduler; neither is part of the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStage {
    pub spec: StageSpec,
    pub key: StageKey,
    /// A path-like name, for example `"irl/mini-1b/seed 3/iteration 2/ppo"`.
    pub label: String,
    /// Rough relative cost (any unit, the same for a whole graph): for the ETA and for starting the
    /// longest path first.
    pub cost: f64,
}

/// A list of stages without duplicates, each after its inputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    stages: Vec<PlannedStage>,
    index: HashMap<StageKey, usize>,
    /// `dependents[i]`: positions of the stages that read stage `i`, ascending.
    dependents: Vec<Vec<usize>>,
}

impl Graph {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage and returns its key. A stage that is already there keeps its first label and
    /// cost; methods share a stage in this way. A cost that is not a finite positive number counts
    /// as 0.
    ///
    /// # Errors
    /// If one of its inputs was not added before.
    pub fn add(
        &mut self,
        spec: StageSpec,
        label: impl Into<String>,
        cost: f64,
    ) -> Result<StageKey> {
        let (key, label) = (spec.key(), label.into());
        if self.index.contains_key(&key) {
            return Ok(key);
        }
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        for (role, input) in &spec.inputs {
            inputs.push(self.position(input).ok_or_else(|| {
                Error::store(format!(
                    "stage `{label}` reads `{role}` from {}, which is not in the plan",
                    input.short()
                ))
                .hint("add a stage's inputs to the graph before the stage")
            })?);
        }
        inputs.sort_unstable();
        inputs.dedup();
        let position = self.stages.len();
        for input in inputs {
            self.dependents[input].push(position);
        }
        let cost = if cost.is_finite() { cost.max(0.0) } else { 0.0 };
        self.stages.push(PlannedStage {
            spec,
            key,
            label,
            cost,
        });
        self.index.insert(key, position);
        self.dependents.push(Vec::new());
        Ok(key)
    }

    pub fn len(&self) -> usize {
        self.stages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages in topological order: inputs first.
    pub fn iter(&self) -> std::slice::Iter<'_, PlannedStage> {
        self.stages.iter()
    }

    pub fn get(&self, key: &StageKey) -> Option<&PlannedStage> {
        self.position(key).map(|position| &self.stages[position])
    }

    /// The stages that read `key` directly.
    pub fn dependents(&self, key: &StageKey) -> impl Iterator<Item = &PlannedStage> {
        let positions = self
            .position(key)
            .map_or(&[][..], |position| &self.dependents[position]);
        positions.iter().map(|&position| &self.stages[position])
    }

    pub(crate) fn position(&self, key: &StageKey) -> Option<usize> {
        self.index.get(key).copied()
    }

    pub(crate) fn stage(&self, position: usize) -> &PlannedStage {
        &self.stages[position]
    }

    pub(crate) fn dependents_of(&self, position: usize) -> &[usize] {
        &self.dependents[position]
    }

    /// Positions of the stages that `position` reads.
    pub(crate) fn inputs_of(&self, position: usize) -> impl Iterator<Item = usize> {
        self.stages[position]
            .spec
            .inputs
            .values()
            .filter_map(|key| self.position(key))
    }

    /// For each stage, its cost plus that of the costliest chain of stages after it; `costs` are by
    /// position.
    pub(crate) fn longest_paths(&self, costs: &[f64]) -> Vec<f64> {
        let mut paths = vec![0.0_f64; self.len()];
        for position in (0..self.len()).rev() {
            let after = self.dependents[position]
                .iter()
                .map(|&next| paths[next])
                .fold(0.0, f64::max);
            paths[position] = costs[position] + after;
        }
        paths
    }
}

impl<'a> IntoIterator for &'a Graph {
    type Item = &'a PlannedStage;
    type IntoIter = std::slice::Iter<'a, PlannedStage>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(name: &str, inputs: &[StageKey]) -> StageSpec {
        let inputs = inputs
            .iter()
            .enumerate()
            .map(|(i, key)| (format!("in/{i}"), *key))
            .collect();
        StageSpec {
            kind: "test".into(),
            version: 1,
            settings: json!(name),
            inputs,
            seed: None,
        }
    }

    #[test]
    fn the_same_stage_is_added_once() {
        let mut graph = Graph::new();
        let base = graph.add(spec("base", &[]), "base", 1.0).unwrap();
        let one = graph.add(spec("sft", &[base]), "spin/sft", 2.0).unwrap();
        let other = graph.add(spec("sft", &[base]), "irl/sft", 9.0).unwrap();
        assert_eq!((one, graph.len()), (other, 2));
        assert_eq!(graph.get(&one).unwrap().label, "spin/sft");
        assert_eq!(
            graph
                .dependents(&base)
                .map(|stage| stage.key)
                .collect::<Vec<_>>(),
            [one]
        );
    }

    #[test]
    fn an_input_that_is_not_planned_is_an_error() {
        let missing = spec("missing", &[]).key();
        let error = Graph::new()
            .add(spec("late", &[missing]), "late", 1.0)
            .unwrap_err();
        assert!(error.to_string().contains("`late` reads `in/0`"), "{error}");
    }

    #[test]
    fn longest_paths_follow_the_costliest_chain() {
        let mut graph = Graph::new();
        let root = graph.add(spec("root", &[]), "root", 1.0).unwrap();
        let cheap = graph.add(spec("cheap", &[root]), "cheap", 2.0).unwrap();
        graph.add(spec("dear", &[root]), "dear", f64::NAN).unwrap();
        graph.add(spec("end", &[cheap, root]), "end", 4.0).unwrap();
        let costs: Vec<f64> = graph.iter().map(|stage| stage.cost).collect();
        assert_eq!(graph.longest_paths(&costs), [7.0, 6.0, 0.0, 4.0]);
    }
}
