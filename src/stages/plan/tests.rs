use super::*;
use crate::data::world::Split;
use crate::experiment::{Experiment, Selection};
use crate::stages::{base, demonstrations, evaluate, pairs, ppo, reward, sft, spin};
use serde_json::json;
use std::collections::BTreeSet;

fn study(name: &str) -> Study {
    Experiment::load(name).and_then(|experiment| experiment.resolve(&Selection::default())).unwrap()
}

/// Everything that `key` is made from, itself included.
fn ancestors(graph: &Graph, key: &StageKey, seen: &mut BTreeSet<StageKey>) {
    if seen.insert(*key) {
        for input in graph.get(key).unwrap().spec.inputs.values() {
            ancestors(graph, input, seen);
        }
    }
}

const TRAINING: [&str; 4] = [sft::KIND, reward::KIND, ppo::KIND, spin::KIND];

/// Selection must never touch a test asset: no training stage is made from a measurement or from test posts.
#[test]
fn nothing_that_is_trained_has_seen_the_exam() {
    for name in ["tldr", "world-controls"] {
        let plan = Plan::new(&study(name), None).unwrap();
        let mut seen = BTreeSet::new();
        for stage in plan.graph.iter().filter(|stage| TRAINING.contains(&stage.spec.kind.as_str())) {
            ancestors(&plan.graph, &stage.key, &mut seen);
        }
        assert!(!seen.is_empty());
        for key in &seen {
            let spec = &plan.graph.get(key).unwrap().spec;
            assert!(![evaluate::POLICY, evaluate::REWARD, pairs::EXAM].contains(&spec.kind.as_str()), "{}", spec.kind);
            assert_ne!(spec.settings["split"], json!(Split::Test), "{}", spec.kind);
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
