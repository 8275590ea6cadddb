//! Tests of recipes that are written out, and of what is measured of their policies.

use super::super::*;
use super::{inputs, plan_with, study};
use crate::data::world::Split;
use crate::experiment::{Experiment, Metric, SeedChoice, Selection};
use crate::stages::Stage;
use crate::stages::dpo::Dpo;
use crate::stages::pairs::Pairs;
use crate::stages::reward::Reward;
use crate::stages::rloo::Rloo;
use crate::stages::spin::Spin;
use serde_json::json;
use std::collections::BTreeSet;

/// `tldr` with the recipe of RLHF written as `recipe`, planned under one seed.
fn rlhf_as(recipe: &str) -> Plan {
    let text = include_str!("../../../experiments/tldr.toml");
    let text = text.replacen("recipe = \"rlhf\"", &format!("recipe = {recipe}"), 1);
    let study = Experiment::parse("t.toml", &text)
        .and_then(|experiment| {
            experiment.resolve(&Selection {
                seeds: Some(SeedChoice::List(vec![1])),
                ..Selection::default()
            })
        })
        .unwrap();
    Plan::new(&study, None).unwrap()
}

/// Kinds of the stages that made the last cell of RLHF, in order.
fn rlhf_made_by(plan: &Plan) -> Vec<&str> {
    let cell = plan
        .cells
        .iter()
        .rfind(|cell| cell.method == "rlhf")
        .unwrap();
    let kind = |key| plan.graph.get(key).unwrap().spec.kind.as_str();
    cell.made_by.iter().map(kind).collect()
}

/// Methods that nobody shipped are points of the same axes: no code of theirs.
#[test]
fn a_new_recipe_is_planned_without_code_of_its_own() {
    let both = rlhf_as(r#"{ pairs = ["own", "preferences"], judge = "learned", step = "rloo" }"#);
    let rounds: Vec<_> = both
        .cells
        .iter()
        .filter(|cell| cell.method == "rlhf")
        .collect();
    let iterations = both
        .graph
        .iter()
        .filter(|stage| stage.label.starts_with("rlhf/mini-1b/") && stage.spec.kind == Rloo::KIND)
        .count();
    assert_eq!(iterations, rounds.last().unwrap().iteration);
    assert_eq!(rlhf_made_by(&both), [Pairs::KIND, Reward::KIND, Rloo::KIND]);
    let reward = both
        .graph
        .iter()
        .rfind(|stage| stage.label.starts_with("rlhf/") && stage.spec.kind == Reward::KIND)
        .unwrap();
    let learned_from: BTreeSet<_> = inputs(&both, reward).into_values().collect();
    assert!(learned_from.contains("pairs") && learned_from.contains("preferences"));

    let judged = rlhf_as(r#"{ pairs = ["preferences"], judge = "learned", step = "dpo" }"#);
    assert_eq!(
        rlhf_made_by(&judged),
        [Reward::KIND, "judged_pairs", Dpo::KIND]
    );
    let grpo = rlhf_as(r#"{ start = "spin", pairs = ["spin"], judge = "learned", step = "grpo" }"#);
    let mut kinds = rlhf_made_by(&grpo);
    let tail = kinds.split_off(kinds.len() - 2);
    assert_eq!(tail, [Reward::KIND, "grpo"]);
    assert!(
        kinds
            .chunks(2)
            .all(|round| round == [Pairs::KIND, Spin::KIND])
    );
}

/// With `order = "in_turn"` each source of pairs has a reward of its own, which goes on from the one
/// before.
#[test]
fn rewards_learn_from_their_sources_in_turn() {
    let plan = rlhf_as(
        r#"{ pairs = ["irl", "preferences"], order = "in_turn", judge = "learned", step = "best_of_n" }"#,
    );
    let kinds = rlhf_made_by(&plan);
    let rewards = kinds
        .iter()
        .rposition(|kind| *kind == Reward::KIND)
        .unwrap();
    assert_eq!(kinds[rewards - 1..=rewards], [Reward::KIND; 2]);
    let labelled: Vec<_> = plan
        .graph
        .iter()
        .filter(|stage| stage.label.starts_with("rlhf/mini-1b/") && stage.spec.kind == Reward::KIND)
        .collect();
    let [first, second] = labelled[labelled.len() - 2..] else {
        panic!("two rewards are planned")
    };
    let kinds = |stage| inputs(&plan, stage).into_values().collect::<BTreeSet<_>>();
    assert!(kinds(first).contains("pairs") && !kinds(first).contains("preferences"));
    let second = kinds(second);
    assert!(second.contains("preferences") && second.contains(Reward::KIND));
    assert!(!second.contains("pairs"));
}

/// A report's reader must see that a policy stopped ending its responses.
#[test]
fn how_often_responses_end_is_shown_in_every_report() {
    for name in ["tldr", "tldr-ablations", "world-controls"] {
        let report = study(name).report;
        let shown = report
            .tables
            .iter()
            .any(|table| table.columns.contains(&Metric::EosRate));
        assert!(shown, "no table of {name} has the column eos_rate");
    }
}

/// Only a method's last policy has further decodings.
#[test]
fn the_last_policy_of_a_method_is_decoded_at_every_temperature() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let mut decoded = BTreeSet::new();
    for cell in &plan.cells {
        for key in &cell.measured_by {
            let spec = &plan.graph.get(key).unwrap().spec;
            if !spec.settings["decoding"].is_null() {
                decoded.insert((cell.method.as_str(), cell.iteration));
                assert_eq!(
                    spec.settings["decoding"]["validation"]["split"],
                    json!(Split::Validation)
                );
            }
        }
    }
    let last = [
        ("iq-learn", 0),
        ("irl", 3),
        ("irl-eq10", 3),
        ("irl-first", 1),
        ("rlhf", 0),
        ("sft", 0),
        ("spin", 3),
        ("spin-first", 1),
    ];
    assert_eq!(
        decoded,
        last.into_iter()
            .chain([("sft-flops", 0), ("sft-steps", 0)])
            .collect()
    );
    let without = plan_with("tldr", &["evaluation.decoding_posts=0"]);
    assert!(
        without
            .graph
            .iter()
            .all(|stage| stage.spec.settings["decoding"].is_null())
    );
}
