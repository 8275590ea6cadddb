use super::*;
use crate::Error;
use crate::experiment::{Experiment, Selection};
use crate::methods::optimise::Monitor;
use crate::pipeline::{Placement, PlannedStage, Store, run_stage};
use crate::plan::Plan;
use crate::stages::common::Watch;

fn place() -> Placement {
    Placement {
        device: crate::device::DEFAULT.to_string(),
        memory: None,
    }
}

/// A tiny study with these overrides.
fn plan(set: &[&str]) -> Plan {
    let set = set.iter().map(|text| text.to_string()).collect();
    let selection = Selection {
        profile: "smoke".into(),
        set,
        ..Selection::default()
    };
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/experiments/tiny.toml"
    );
    Plan::new(
        &Experiment::load(file).unwrap().resolve(&selection).unwrap(),
        None,
    )
    .unwrap()
}

fn tuning(plan: &Plan) -> &PlannedStage {
    plan.graph
        .iter()
        .find(|stage| stage.spec.kind == Tune::KIND && stage.spec.seed == Some(1))
        .unwrap()
}

/// Runs the stages that `stage` is made from.
fn prepare(store: &Store, plan: &Plan, stage: &PlannedStage) {
    for key in stage.spec.inputs.values() {
        let input = plan.graph.get(key).unwrap();
        prepare(store, plan, input);
        if !store.is_complete(key) {
            run_stage(store, key, &place(), crate::stages::run).unwrap();
        }
    }
}

fn trace(store: &Store, stage: &PlannedStage) -> (Trace, Choice) {
    let file = |name: &str| store.file(&stage.key, name).unwrap().unwrap();
    (
        read_json(&file(TRACE)).unwrap(),
        read_json(&file(CHOSEN)).unwrap(),
    )
}

#[test]
fn a_search_that_was_killed_goes_on_behind_its_finished_candidates() {
    let plan = plan(&[
        "sft.tuning.epochs=[1, 2, 3]",
        "sft.tuning.learning_rates=[3e-4]",
    ]);
    let stage = tuning(&plan);
    let [undisturbed, killed] = [(), ()].map(|()| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.plan(&plan.graph).unwrap();
        prepare(&store, &plan, stage);
        (folder, store)
    });
    run_stage(&undisturbed.1, &stage.key, &place(), crate::stages::run).unwrap();
    let (expected, choice) = trace(&undisturbed.1, stage);
    assert_eq!((expected.held_out, expected.trained_on), (6, 18));
    assert_eq!(
        expected.trials[1].steps,
        2 * 3,
        "two epochs of 18 rows in batches of 8"
    );
    assert!(expected.trials.len() >= 2 && choice.settings.learning_rate == Some(3e-4));

    // An impossible result of the first candidate, which shows that it is not trained again.
    let store = &killed.1;
    run_stage(store, &stage.key, &place(), |context| {
        let mut first = expected.trials[0].clone();
        first.held_out_log_likelihood = Some(-1e9);
        let mut cost = Watch(context).cost();
        cost["flops"] = serde_json::json!(1e15);
        let kept = Kept {
            trials: vec![first],
            cost,
        };
        write_json(&context.scratch().join("trials.json"), &kept)?;
        Err(Error::files("killed"))
    })
    .unwrap_err();
    run_stage(store, &stage.key, &place(), crate::stages::run).unwrap();
    let (found, _) = trace(store, stage);
    assert_eq!(found.trials[0].held_out_log_likelihood, Some(-1e9));
    assert_eq!(found.trials[1..], expected.trials[1..]);
    let flops = store.manifest(&stage.key).unwrap().flops;
    assert!(flops > 1e15, "the cost of before is lost: {flops}");
}
