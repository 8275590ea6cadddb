//! Tests of bases and of the seeds of demonstrations, training and evaluation.

use super::super::*;
use super::{ancestors, plan_with, study};
use crate::stages::Stage;
use crate::stages::agreement::Agreement;
use crate::stages::bundled::Bundled;
use crate::stages::demonstrations::Demonstrations;
use crate::stages::evaluate::Evaluate;
use crate::stages::evaluate_reward::EvaluateReward;
use crate::stages::heldout_pairs::HeldoutPairs;
use crate::stages::pairs::Pairs;
use crate::stages::ppo::Ppo;
use crate::stages::reward::Reward;
use crate::stages::sft::Sft;
use crate::stages::spin::Spin;
use std::collections::BTreeSet;

/// For each seed, the stage of `kind` from which the cell of `method` is made.
fn keys_by_seed(plan: &Plan, kind: &str, method: &str) -> Vec<StageKey> {
    let cells = plan
        .cells
        .iter()
        .filter(|cell| cell.method == method && cell.size == "mini-1b");
    let of_kind = |cell: &Cell| {
        let mut seen = BTreeSet::new();
        cell.measured_by
            .iter()
            .for_each(|key| ancestors(&plan.graph, key, &mut seen));
        seen.into_iter()
            .find(|key| plan.graph.get(key).unwrap().spec.kind == kind)
            .unwrap()
    };
    cells.map(of_kind).collect()
}

fn distinct(keys: &[StageKey]) -> usize {
    keys.iter().collect::<BTreeSet<_>>().len()
}

/// Seed i of a study starts from base i mod the number of bases, whatever the seeds are.
#[test]
fn bases_take_turns_over_the_seeds() {
    let mut study = study("tldr");
    study.seeds = vec![7, 1, 2, 3, 44413];
    study
        .sizes
        .iter_mut()
        .for_each(|(_, model)| model.bases = 3);
    let plan = Plan::new(&study, None).unwrap();
    let numbers: BTreeSet<(u64, Option<u64>)> = plan
        .cells
        .iter()
        .map(|cell| (cell.seed, cell.base))
        .collect();
    assert_eq!(
        numbers,
        [(7, 1), (1, 1), (2, 2), (3, 0), (44413, 1)]
            .map(|(seed, base)| (seed, Some(base)))
            .into()
    );
    for (size, model) in &study.sizes {
        for &seed in &study.seeds {
            let label = format!("sft/{size}/seed {seed}");
            let sft = plan
                .graph
                .iter()
                .find(|stage| stage.label == label)
                .unwrap();
            let base = plan.graph.get(&sft.spec.inputs["base"]).unwrap();
            // Number 0 is the base from the time when there was only one; it comes with touchstone.
            assert!(seed % 3 != 0 || base.spec.kind == Bundled::KIND);
            assert_eq!(
                base.label,
                ["base/{}", "base/{}/1", "base/{}/2"][seed as usize % 3].replace("{}", size)
            );
            assert_eq!(model.base_of(seed), seed % 3);
        }
    }
    // A single base makes the preferences on which all seeds are measured.
    let test = plan
        .graph
        .iter()
        .find(|stage| stage.label == "preferences/test")
        .unwrap();
    assert_eq!(
        plan.graph.get(&test.spec.inputs["base"]).unwrap().label,
        "base/mini-1b"
    );
}

#[test]
fn one_base_is_the_first_one_for_every_seed() {
    let mut study = study("tldr");
    study
        .sizes
        .iter_mut()
        .for_each(|(_, model)| model.bases = 1);
    let plan = Plan::new(&study, None).unwrap();
    assert!(plan.cells.iter().all(|cell| cell.base == Some(FIRST_BASE)));
    // The base comes with touchstone, whatever else the model's table says.
    let bases = plan
        .graph
        .iter()
        .filter(|stage| stage.label.starts_with("base/"));
    let kinds: Vec<&str> = bases.map(|stage| stage.spec.kind.as_str()).collect();
    assert_eq!(kinds, [Bundled::KIND]);
}

/// A method's own seeds each fix what they name and nothing else.
#[test]
fn seeds_of_their_own_fix_demonstrations_training_or_evaluation() {
    let counts = |set: &[&str]| {
        let plan = plan_with("tldr", set);
        [Demonstrations::KIND, Sft::KIND, Evaluate::KIND]
            .map(|kind| distinct(&keys_by_seed(&plan, kind, "sft")))
    };
    assert_eq!(counts(&[]), [5, 5, 5]);
    assert_eq!(counts(&["demonstrations.seed=1"]), [1, 5, 5]);
    let seeds = |set: &[&str], kind: &str| -> BTreeSet<Option<u64>> {
        let plan = plan_with("tldr", set);
        plan.graph
            .iter()
            .filter(|stage| stage.spec.kind == kind)
            .map(|stage| stage.spec.seed)
            .collect()
    };
    let (all, one) = (
        BTreeSet::from([1, 2, 3, 4, 5].map(Some)),
        BTreeSet::from([Some(1)]),
    );
    for kind in [Sft::KIND, Pairs::KIND, Reward::KIND, Ppo::KIND, Spin::KIND] {
        assert_eq!(seeds(&["training.seed=1"], kind), one, "{kind}");
        assert_eq!(seeds(&["demonstrations.seed=1"], kind), all, "{kind}");
        assert_eq!(seeds(&["evaluation.seed=1"], kind), all, "{kind}");
    }
    for kind in [
        Evaluate::KIND,
        EvaluateReward::KIND,
        HeldoutPairs::KIND,
        Agreement::KIND,
    ] {
        assert_eq!(seeds(&["evaluation.seed=1"], kind), one, "{kind}");
        assert_eq!(seeds(&["training.seed=1"], kind), all, "{kind}");
    }
    assert_eq!(seeds(&["demonstrations.seed=1"], Demonstrations::KIND), one);
    assert_eq!(seeds(&["training.seed=1"], Demonstrations::KIND), all);
}
