//! Tests of the planner on the shipped experiments.

mod leakage;
mod recipes;
mod seeds;
mod sharing;
mod tuning;

use super::*;
use crate::experiment::{Experiment, SeedChoice, Selection};
use crate::pipeline::PlannedStage;
use crate::stages::Stage;
use crate::stages::comparisons::Comparisons;
use crate::stages::hub_demonstrations::HubDemonstrations;
use std::collections::{BTreeMap, BTreeSet};

fn study(name: &str) -> Study {
    at_scale(name, "mini")
}

fn at_scale(name: &str, scale: &str) -> Study {
    let selection = Selection {
        scale: scale.into(),
        ..five_seeds()
    };
    Experiment::load(name)
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap()
}

/// A selection of seeds 1 to 5, instead of the study's own.
fn five_seeds() -> Selection {
    Selection {
        seeds: Some(SeedChoice::List((1..=5).collect())),
        ..Selection::default()
    }
}

fn plan_with(name: &str, set: &[&str]) -> Plan {
    let set = set.iter().map(|text| text.to_string()).collect();
    let study = Experiment::load(name)
        .unwrap()
        .resolve(&Selection {
            set,
            ..five_seeds()
        })
        .unwrap();
    Plan::new(&study, None).unwrap()
}

fn with(name: &str, set: &[&str]) -> Study {
    let set = set.iter().map(|text| text.to_string()).collect();
    let selection = Selection {
        set,
        ..five_seeds()
    };
    Experiment::load(name)
        .and_then(|experiment| experiment.resolve(&selection))
        .unwrap()
}

/// Adds to `seen` all stages that `key` is made from, including itself, but not those whose prompts
/// it only leaves out.
fn ancestors(graph: &Graph, key: &StageKey, seen: &mut BTreeSet<StageKey>) {
    if seen.insert(*key) {
        let spec = &graph.get(key).unwrap().spec;
        for (role, input) in &spec.inputs {
            if role.starts_with("held_out/") {
                assert!(
                    [HubDemonstrations::KIND, Comparisons::KIND].contains(&spec.kind.as_str()),
                    "{}",
                    spec.kind
                );
            } else {
                ancestors(graph, input, seen);
            }
        }
    }
}

/// Roles and kinds of a stage's inputs.
fn inputs<'a>(plan: &'a Plan, stage: &'a PlannedStage) -> BTreeMap<&'a str, &'a str> {
    let kind = |key| plan.graph.get(key).unwrap().spec.kind.as_str();
    stage
        .spec
        .inputs
        .iter()
        .map(|(role, key)| (role.as_str(), kind(key)))
        .collect()
}
