//! Tests of what stages of different methods, points and settings share.

use super::super::*;
use super::{five_seeds, study};
use crate::experiment::{Experiment, Selection};
use crate::pipeline::PlannedStage;
use crate::stages::Stage;
use crate::stages::bundled::Bundled;
use crate::stages::demonstrations::Demonstrations;
use crate::stages::pairs::Pairs;
use crate::stages::pretrain::Pretrain;
use crate::stages::sft::Sft;
use crate::stages::spin::Spin;
use std::collections::BTreeSet;

/// Batch sizes come from the file; the number of rows in one pass is not part of the key.
#[test]
fn neither_memory_nor_jobs_nor_devices_are_in_a_key() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    for stage in &plan.graph {
        let settings = stage.spec.settings.to_string();
        for word in ["micro", "memory", "jobs", "device", "threads"] {
            assert!(
                !settings.contains(word),
                "{word} is in the settings of {}: {settings}",
                stage.label
            );
        }
    }
}

#[test]
fn methods_share_what_does_not_differ() {
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let count = |kind: &str| {
        plan.graph
            .iter()
            .filter(|stage| stage.spec.kind == kind)
            .count()
    };
    // With five seeds: one base and one set of demonstrations for each, and three SFT policies for
    // each: the plain one, one as long as IRL in steps and one in operations.
    assert_eq!(
        (
            count(Bundled::KIND) + count(Pretrain::KIND),
            count(Sft::KIND),
            count(Demonstrations::KIND)
        ),
        (5, 15, 5)
    );
    // IRL (with both losses) and SPIN share the first pairs; later ones differ: 1 + 2 + 2 + 2 for
    // each seed.
    assert_eq!(count(Pairs::KIND), 35);
}

/// Some settings are part of a stage's key whether or not anything obeys them; the plan must obey
/// them.
#[test]
fn the_plan_follows_the_settings_that_a_method_leaves_to_it() {
    // SPIN's stages for one size and seed: the number of sets of pairs that each iteration trains
    // on, and the temperatures.
    let spin = |set: &[&str]| -> (Vec<usize>, BTreeSet<String>) {
        let set = set
            .iter()
            .map(|text| text.to_string())
            .chain(["irl.negatives_temperature=0.25".into()])
            .collect();
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&Selection {
                set,
                ..five_seeds()
            })
            .unwrap();
        let plan = Plan::new(&study, None).unwrap();
        let of = |kind: &'static str| {
            let stages = plan
                .graph
                .iter()
                .filter(move |stage| stage.spec.kind == kind);
            stages.filter(|stage| stage.label.starts_with("spin/mini-1b/seed 1/"))
        };
        let pairs_of = |stage: &PlannedStage| {
            stage
                .spec
                .inputs
                .keys()
                .filter(|role| role.starts_with("pairs/"))
                .count()
        };
        (
            of(Spin::KIND).map(pairs_of).collect(),
            of(Pairs::KIND)
                .map(|s| s.spec.settings["temperature"].to_string())
                .collect(),
        )
    };
    let at = |temperature: &str| BTreeSet::from([temperature.to_string()]);
    assert_eq!(spin(&[]), (vec![1, 2, 2], at("1.0")));
    assert_eq!(spin(&["spin.iterations=2"]), (vec![1, 2], at("1.0")));
    assert_eq!(spin(&["spin.accumulate=all"]), (vec![1, 2, 3], at("1.0")));
    assert_eq!(
        spin(&["spin.negatives_temperature=0.5"]),
        (vec![1, 2, 2], at("0.5"))
    );
}

/// Users who change one line rely on this.
#[test]
fn a_change_touches_only_what_depends_on_it() {
    let keys = |set: &[&str]| -> BTreeSet<StageKey> {
        let selection = Selection {
            set: set.iter().map(|text| text.to_string()).collect(),
            ..five_seeds()
        };
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&selection)
            .unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let (plain, changed) = (keys(&[]), keys(&["spin.beta=0.2"]));
    let plan = Plan::new(&study("tldr"), None).unwrap();
    let touched: BTreeSet<&str> = plan
        .graph
        .iter()
        .filter(|stage| !changed.contains(&stage.key))
        .map(|stage| stage.label.split('/').next().unwrap())
        .collect();
    assert_eq!(touched, BTreeSet::from(["spin", "spin-first"]));
    assert_eq!(plain.len(), changed.len());
}

/// A demonstrator's habits appear in the demonstrations and in the references of evaluation sets;
/// bases and labelled pairs come from other authors.
#[test]
fn habits_are_the_demonstrator_s_alone() {
    let plan = Plan::new(&study("tldr-flawed"), None).unwrap();
    let with_habit = |stage: &&PlannedStage| {
        stage
            .spec
            .settings
            .to_string()
            .contains("\"no_question\":{\"plain\":1.65")
    };
    let kinds: BTreeSet<&str> = plan
        .graph
        .iter()
        .filter(with_habit)
        .map(|stage| stage.spec.kind.as_str())
        .collect();
    assert!(
        kinds.is_superset(&BTreeSet::from([Demonstrations::KIND, "evaluate"])),
        "{kinds:?}"
    );
    assert!(
        kinds.is_disjoint(&BTreeSet::from([
            Bundled::KIND,
            Pretrain::KIND,
            "preferences",
            "reward",
            "ppo"
        ])),
        "{kinds:?}"
    );
    let ordinary = Plan::new(&study("tldr"), None).unwrap();
    assert_eq!(ordinary.graph.iter().filter(with_habit).count(), 0);
}

/// A point at a method's own value is that method: none of its stages runs twice.
#[test]
fn a_point_at_the_method_s_own_value_costs_nothing() {
    let study = study("tldr-ablations");
    let plan = Plan::new(&study, None).unwrap();
    let cells = |method: &str| {
        plan.cells
            .iter()
            .filter(|cell| cell.method == method)
            .collect::<Vec<_>>()
    };
    for (point, method) in [
        ("irl-quantity-200", "irl"),
        ("irl-quality-0.9", "irl"),
        ("irl-noise-shuffled-0", "irl"),
        ("irl-loss-eq11", "irl"),
        ("irl-loss-eq10-bounded", "irl-eq10"),
        ("irl-kl-0.2", "irl"),
        ("irl-released-derived", "irl"),
        ("rlhf-preferences-2000", "rlhf"),
        ("sft-quantity-200", "sft"),
    ] {
        let (of_point, of_method) = (cells(point), cells(method));
        assert_eq!(
            of_point.len(),
            study.seeds.len(),
            "{point} is measured where it ends"
        );
        for cell in of_point {
            let same =
                |other: &&&Cell| other.seed == cell.seed && other.iteration == cell.iteration;
            let other = of_method.iter().find(same).unwrap();
            assert!(
                cell.measured_by
                    .iter()
                    .all(|key| other.measured_by.contains(key)),
                "{point}"
            );
        }
    }
}

/// Users who change one line of an experiment file rely on this.
#[test]
fn a_new_value_of_an_ablation_runs_what_depends_on_it_and_no_more() {
    let text = crate::experiment::SHIPPED
        .iter()
        .find(|(name, _)| *name == "tldr-ablations")
        .unwrap()
        .1;
    let folder = tempfile::tempdir().unwrap();
    let keys = |text: &str| -> BTreeSet<StageKey> {
        let path = folder.path().join("changed.toml");
        std::fs::write(&path, text).unwrap();
        let experiment = Experiment::load(path.to_str().unwrap()).unwrap();
        let study = experiment.resolve(&Selection::default()).unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let values = "values = [1, 2, 4]";
    assert!(text.contains(values));
    let (before, after) = (
        keys(text),
        keys(&text.replace(values, "values = [1, 2, 4, 8]")),
    );
    assert!(before.is_subset(&after));
    // For each of five seeds: three iterations of pairs, reward and PPO, then both evaluations and
    // the agreement of the last iteration.
    assert_eq!(after.len() - before.len(), 5 * (3 * 3 + 3));
}

/// A setting equal to the value that holds without it changes no key.
#[test]
fn what_is_said_without_need_changes_no_key() {
    let keys = |set: &[&str]| -> BTreeSet<StageKey> {
        let seeds = Some(crate::experiment::SeedChoice::List(vec![3]));
        let set = set.iter().map(|text| text.to_string()).collect();
        let study = Experiment::load("tldr")
            .unwrap()
            .resolve(&Selection {
                set,
                seeds,
                ..Selection::default()
            })
            .unwrap();
        Plan::new(&study, None)
            .unwrap()
            .graph
            .iter()
            .map(|stage| stage.key)
            .collect()
    };
    let plain = keys(&[]);
    for same in [
        "demonstrations.seed=3",
        "training.seed=3",
        "evaluation.seed=3",
        "evaluation.split=test",
    ] {
        assert!(keys(&[same]) == plain, "{same}");
    }
    for other in [
        "demonstrations.seed=4",
        "training.seed=4",
        "evaluation.seed=4",
        "evaluation.split=controls",
    ] {
        assert!(keys(&[other]) != plain, "{other}");
    }
}
