//! Tests of what training may read: nothing of the evaluation set, no measurement, no undeclared gold.

use super::super::*;
use super::{ancestors, at_scale, study};
use crate::data::world::Split;
use crate::pipeline::PlannedStage;
use crate::stages::Stage;
use crate::stages::agreement::Agreement;
use crate::stages::comparisons::Comparisons;
use crate::stages::dpo::Dpo;
use crate::stages::evaluate::Evaluate;
use crate::stages::evaluate_reward::EvaluateReward;
use crate::stages::heldout_pairs::HeldoutPairs;
use crate::stages::hub_demonstrations::HubDemonstrations;
use crate::stages::iq_learn::IqLearn;
use crate::stages::likelihood::Likelihood;
use crate::stages::ppo::Ppo;
use crate::stages::pretrain::Pretrain;
use crate::stages::reward::Reward;
use crate::stages::rloo::Rloo;
use crate::stages::select::SelectPolicy;
use crate::stages::sft::Sft;
use crate::stages::spin::Spin;
use crate::stages::tune::Tune;
use serde_json::json;
use std::collections::BTreeSet;

const TRAINING: [&str; 9] = [
    Pretrain::KIND,
    Sft::KIND,
    Tune::KIND,
    Reward::KIND,
    Ppo::KIND,
    Rloo::KIND,
    Dpo::KIND,
    Spin::KIND,
    IqLearn::KIND,
];

const MEASURING: [&str; 4] = [
    Evaluate::KIND,
    EvaluateReward::KIND,
    Agreement::KIND,
    Likelihood::KIND,
];

/// Every shipped study, at every scale at which it can be planned.
const PLANS: [(&str, &str); 4] = [
    ("tldr", "mini"),
    ("tldr-ablations", "mini"),
    ("world-controls", "mini"),
    ("tldr", "paper"),
];

/// The stages of `kinds` and everything that they are made from.
fn made_from(plan: &Plan, kinds: &[&str]) -> BTreeSet<StageKey> {
    let mut seen = BTreeSet::new();
    for stage in plan
        .graph
        .iter()
        .filter(|stage| kinds.contains(&stage.spec.kind.as_str()))
    {
        ancestors(&plan.graph, &stage.key, &mut seen);
    }
    seen
}

/// Selection must never touch a test asset: no training stage may be made from a measurement, from
/// test posts, or from anything that takes the place of gold. Measurements are made from these,
/// which shows that the search would find them.
#[test]
fn nothing_that_is_trained_has_seen_the_evaluation_set() {
    for (name, scale) in PLANS {
        let study = at_scale(name, scale);
        let plan = Plan::new(&study, None).unwrap();
        let judge = study
            .data
            .as_ref()
            .map(|data| data.judge.as_ref().unwrap().checkpoint.clone().unwrap());
        // The reasons why a stage may not be part of any training.
        let reserved = |key: &StageKey| -> Vec<&str> {
            let spec = &plan.graph.get(key).unwrap().spec;
            let test = [
                json!(Split::Test),
                json!(Split::Controls),
                json!("validation"),
            ]
            .contains(&spec.settings["split"]);
            let held_out = test
                || spec.settings["part"] == json!("evaluation_set")
                || !spec.settings["evaluation_set"].is_null();
            let reasons = [
                ("held-out posts", held_out),
                (
                    "pairs of the evaluation set",
                    spec.kind == HeldoutPairs::KIND,
                ),
                ("a measurement", MEASURING.contains(&spec.kind.as_str())),
                (
                    "the judge",
                    judge.is_some() && spec.settings["source"].as_str() == judge.as_deref(),
                ),
            ];
            reasons
                .into_iter()
                .filter_map(|(reason, holds)| holds.then_some(reason))
                .collect()
        };
        let trained = made_from(&plan, &TRAINING);
        assert!(trained.len() > 20, "{name} at {scale}");
        for key in &trained {
            assert_eq!(
                reserved(key),
                [""; 0],
                "{name} at {scale}: {}",
                plan.graph.get(key).unwrap().label
            );
        }
        let measured = made_from(&plan, &MEASURING);
        let found: BTreeSet<&str> = measured.iter().flat_map(reserved).collect();
        assert_eq!(
            found.len(),
            if judge.is_some() { 4 } else { 3 },
            "{name} at {scale}: {found:?}"
        );
    }
}

/// The choice of training posts and comparisons takes all held-out prompts as inputs.
#[test]
fn what_is_chosen_from_data_sets_leaves_out_every_held_out_prompt() {
    let plan = Plan::new(&at_scale("tldr", "paper"), None).unwrap();
    let mut choosing = 0;
    for stage in plan.graph.iter() {
        let spec = &stage.spec;
        let chooses = [HubDemonstrations::KIND, Comparisons::KIND].contains(&spec.kind.as_str())
            && spec.seed.is_some();
        let labels: Vec<&str> = (spec
            .inputs
            .iter()
            .filter(|(role, _)| role.starts_with("held_out/")))
        .map(|(_, key)| plan.graph.get(key).unwrap().label.as_str())
        .collect();
        assert_eq!(
            labels,
            if chooses {
                &["evaluation set", "preferences/test"][..]
            } else {
                &[]
            },
            "{}",
            stage.label
        );
        choosing += usize::from(chooses);
    }
    assert!(choosing > 4);
}

/// A score that could guide a choice is used only by the report.
#[test]
fn nothing_is_made_from_a_measurement() {
    for (name, scale) in PLANS {
        let plan = Plan::new(&at_scale(name, scale), None).unwrap();
        let measurements = plan
            .graph
            .iter()
            .filter(|stage| MEASURING.contains(&stage.spec.kind.as_str()));
        let keys: Vec<_> = measurements.map(|stage| stage.key).collect();
        assert!(keys.len() > 20, "{name} at {scale}");
        assert!(
            keys.iter()
                .all(|key| plan.graph.dependents(key).next().is_none()),
            "{name} at {scale}"
        );
    }
}

/// Gold trains nothing in the main study. In the others it trains only the policy that declares it,
/// and selects only for the method that declares it.
#[test]
fn gold_is_a_reward_only_where_it_is_declared() {
    let on_gold = |plan: &Plan| -> BTreeSet<String> {
        let stages = plan
            .graph
            .iter()
            .filter(|stage| !stage.spec.settings["reward"]["gold"].is_null());
        stages
            .map(|stage| stage.label.split('/').next().unwrap().to_string())
            .collect()
    };
    assert!(on_gold(&Plan::new(&study("tldr"), None).unwrap()).is_empty());
    let ablations = Plan::new(&study("tldr-ablations"), None).unwrap();
    assert_eq!(
        on_gold(&ablations),
        BTreeSet::from(["iterative-dpo-gold".to_string()])
    );
    let selected = ablations
        .graph
        .iter()
        .filter(|stage| stage.spec.kind == SelectPolicy::KIND);
    let selected: BTreeSet<&str> = selected
        .map(|stage| stage.label.split('/').next().unwrap())
        .collect();
    assert_eq!(selected, BTreeSet::from(["irl-selection-gold"]));
    let controls = on_gold(&Plan::new(&study("world-controls"), None).unwrap());
    assert_eq!(controls, BTreeSet::from(["gold-ppo".to_string()]));
}

/// The posts of reported numbers differ from those on which the world is accepted.
#[test]
fn the_controls_touch_no_test_post() {
    let splits = |name: &str| -> BTreeSet<String> {
        let plan = Plan::new(&study(name), None).unwrap();
        let of = |stage: &PlannedStage| {
            let settings = &stage.spec.settings;
            [&settings["split"], &settings["evaluation_set"]["split"]]
                .map(|split| split.as_str().map(str::to_owned))
        };
        plan.graph.iter().flat_map(of).flatten().collect()
    };
    assert_eq!(
        splits("world-controls"),
        BTreeSet::from(["controls", "preferences"].map(String::from))
    );
    assert_eq!(
        splits("tldr"),
        BTreeSet::from(["preferences", "test"].map(String::from))
    );
}
