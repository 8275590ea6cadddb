use super::*;
use crate::data::world::Split;
use crate::experiment::{Experiment, Metric, Selection};
use crate::pipeline::PlannedStage;
use crate::stages::{base, demonstrations, evaluate, pairs, ppo, reward, sft, spin};
use serde_json::json;
use std::collections::BTreeSet;

fn study(name: &str) -> Study {
    at_scale(name, "mini")
}

fn at_scale(name: &str, scale: &str) -> Study {
    let selection = Selection { scale: scale.into(), ..Selection::default() };
    Experiment::load(name).and_then(|experiment| experiment.resolve(&selection)).unwrap()
}

/// Everything that `key` is made from, itself included.
fn ancestors(graph: &Graph, key: &StageKey, seen: &mut BTreeSet<StageKey>) {
    if seen.insert(*key) {
        for input in graph.get(key).unwrap().spec.inputs.values() {
            ancestors(graph, input, seen);
        }
    }
}

const TRAINING: [&str; 5] = [base::PRETRAIN, sft::KIND, reward::KIND, ppo::KIND, spin::KIND];
const MEASURING: [&str; 2] = [evaluate::POLICY, evaluate::REWARD];

/// What the stages of `kinds` are made from, themselves included.
fn made_from(plan: &Plan, kinds: &[&str]) -> BTreeSet<StageKey> {
    let mut seen = BTreeSet::new();
    for stage in plan.graph.iter().filter(|stage| kinds.contains(&stage.spec.kind.as_str())) {
        ancestors(&plan.graph, &stage.key, &mut seen);
    }
    seen
}

/// Selection must never touch a test asset: no training stage is made from a measurement, from test posts, or from what stands
/// for gold, and measurements, which are, show that the search would find them.
#[test]
fn nothing_that_is_trained_has_seen_the_exam() {
    for (name, scale) in [("tldr", "mini"), ("world-controls", "mini"), ("tldr", "paper")] {
        let study = at_scale(name, scale);
        let plan = Plan::new(&study, None).unwrap();
        let judge = study.data.as_ref().map(|data| data.judge.as_ref().unwrap().checkpoint.clone().unwrap());
        // Why a stage may be part of no training.
        let reserved = |key: &StageKey| -> Vec<&str> {
            let spec = &plan.graph.get(key).unwrap().spec;
            let test = [json!(Split::Test), json!("validation")].contains(&spec.settings["split"]);
            let held_out = test || spec.settings["part"] == json!("exam") || !spec.settings["exam"].is_null();
            let reasons = [
                ("held-out posts", held_out),
                ("pairs of the exam", spec.kind == pairs::EXAM),
                ("a measurement", MEASURING.contains(&spec.kind.as_str())),
                ("the judge", judge.is_some() && spec.settings["source"].as_str() == judge.as_deref()),
            ];
            reasons.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
        };
        let trained = made_from(&plan, &TRAINING);
        assert!(trained.len() > 20, "{name} at {scale}");
        for key in &trained {
            assert_eq!(reserved(key), [""; 0], "{name} at {scale}: {}", plan.graph.get(key).unwrap().label);
        }
        let measured = made_from(&plan, &MEASURING);
        let found: BTreeSet<&str> = measured.iter().flat_map(reserved).collect();
        assert_eq!(found.len(), if judge.is_some() { 4 } else { 3 }, "{name} at {scale}: {found:?}");
    }
}

/// A score that something could be chosen by leads nowhere but into the report.
#[test]
fn nothing_is_made_from_a_measurement() {
    for (name, scale) in [("tldr", "mini"), ("world-controls", "mini"), ("tldr", "paper")] {
        let plan = Plan::new(&at_scale(name, scale), None).unwrap();
        let measurements = plan.graph.iter().filter(|stage| MEASURING.contains(&stage.spec.kind.as_str()));
        let keys: Vec<_> = measurements.map(|stage| stage.key).collect();
        assert!(keys.len() > 20, "{name} at {scale}");
        assert!(keys.iter().all(|key| plan.graph.dependents(key).next().is_none()), "{name} at {scale}");
    }
}

/// A policy that stopped ending its responses must be seen by whoever reads a report.
#[test]
fn how_often_responses_end_is_shown_in_every_report() {
    for name in ["tldr", "world-controls"] {
        let report = study(name).report;
        let shown = report.tables.iter().any(|table| table.columns.contains(&Metric::EosRate));
        assert!(shown, "no table of {name} has the column eos_rate");
    }
}

/// Batches are what the file says; how many rows go through at once is no part of it.
#[test]
fn neither_memory_nor_jobs_nor_devices_are_in_a_key() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    for stage in &plan.graph {
        let settings = stage.spec.settings.to_string();
        for word in ["micro", "memory", "jobs", "device", "threads"] {
            assert!(!settings.contains(word), "{word} is in the settings of {}: {settings}", stage.label);
        }
    }
}

/// Gold trains nothing in the study; in the controls it trains the one policy that declares it.
#[test]
fn gold_is_a_reward_only_where_it_is_declared() {
    let on_gold = |plan: &Plan| -> BTreeSet<String> {
        let stages = plan.graph.iter().filter(|stage| !stage.spec.settings["reward"]["gold"].is_null());
        stages.map(|stage| stage.label.split('/').next().unwrap().to_string()).collect()
    };
    assert!(on_gold(&Plan::new(&study("tldr"), None).unwrap()).is_empty());
    let controls = on_gold(&Plan::new(&study("world-controls"), None).unwrap());
    assert_eq!(controls, BTreeSet::from(["gold-ppo".to_string()]));
}

#[test]
fn methods_share_what_does_not_differ() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let count = |kind: &str| plan.graph.iter().filter(|stage| stage.spec.kind == kind).count();
    // Two sizes and five seeds: one base a size, one SFT a size and seed, one set of demonstrations a seed.
    assert_eq!(
        (count(base::BUNDLED) + count(base::PRETRAIN), count(sft::KIND), count(demonstrations::WORLD)),
        (2, 10, 5)
    );
    // The first pairs are those of IRL (both losses) and SPIN; later ones differ: 1 + 2 + 2 + 2 a size and seed.
    assert_eq!(count(pairs::KIND), 70);
}

/// Some settings are part of a stage's key whether or not anything follows them: the plan does.
#[test]
fn the_plan_follows_the_settings_that_a_method_leaves_to_it() {
    // Of SPIN's stages for one size and seed: how many sets of pairs each iteration trains on, and at what temperature.
    let spin = |set: &[&str]| -> (Vec<usize>, BTreeSet<String>) {
        let set = set.iter().map(|text| text.to_string()).chain(["irl.negatives_temperature=0.25".into()]).collect();
        let study = Experiment::load("tldr").unwrap().resolve(&Selection { set, ..Selection::default() }).unwrap();
        let plan = Plan::new(&study, None).unwrap();
        let of = |kind: &'static str| {
            let stages = plan.graph.iter().filter(move |stage| stage.spec.kind == kind);
            stages.filter(|stage| stage.label.starts_with("spin/mini-1b/seed 1/"))
        };
        let pairs_of =
            |stage: &PlannedStage| stage.spec.inputs.keys().filter(|role| role.starts_with("pairs/")).count();
        (
            of(spin::KIND).map(pairs_of).collect(),
            of(pairs::KIND).map(|s| s.spec.settings["temperature"].to_string()).collect(),
        )
    };
    let at = |temperature: &str| BTreeSet::from([temperature.to_string()]);
    assert_eq!(spin(&[]), (vec![1, 2, 2], at("1.0")));
    assert_eq!(spin(&["spin.iterations=2"]), (vec![1, 2], at("1.0")));
    assert_eq!(spin(&["spin.accumulate=all"]), (vec![1, 2, 3], at("1.0")));
    assert_eq!(spin(&["spin.negatives_temperature=0.5"]), (vec![1, 2, 2], at("0.5")));
}

/// What users who change one line rely on.
#[test]
fn a_change_touches_only_what_depends_on_it() {
    let keys = |set: &[&str]| -> BTreeSet<StageKey> {
        let selection = Selection { set: set.iter().map(|text| text.to_string()).collect(), ..Selection::default() };
        let study = Experiment::load("tldr").unwrap().resolve(&selection).unwrap();
        Plan::new(&study, None).unwrap().graph.iter().map(|stage| stage.key).collect()
    };
    let (plain, changed) = (keys(&[]), keys(&["spin.beta=0.2"]));
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let touched: BTreeSet<&str> = plan
        .graph
        .iter()
        .filter(|stage| !changed.contains(&stage.key))
        .map(|stage| stage.label.split('/').next().unwrap())
        .collect();
    assert_eq!(touched, BTreeSet::from(["spin"]));
    assert_eq!(plain.len(), changed.len());
}
