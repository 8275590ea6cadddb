//! Another executor, to which the trait must be fair: it computes one stage after the other inside
//! this process.

use super::*;
use crate::pipeline::{Placement, run_stage};
use std::collections::BTreeSet;

/// An executor without processes, slots or a schedule.
struct InOrder;

impl Executor for InOrder {
    fn run(
        &self,
        store: &Store,
        graph: &Graph,
        _resources: &BTreeMap<StageKey, Resources>,
        interrupt: &Interrupt,
    ) -> Result<Outcome> {
        store.plan(graph)?;
        let (mut outcome, mut lost) = (Outcome::default(), BTreeSet::new());
        let place = Placement {
            device: "cpu".into(),
            memory: None,
        };
        for stage in graph {
            if store.is_complete(&stage.key) {
                outcome.cached.push(stage.key);
            } else if interrupt.is_raised() {
                outcome.interrupted = true;
            } else if stage.spec.inputs.values().any(|input| lost.contains(input)) {
                lost.insert(stage.key);
                outcome.skipped.push(stage.key);
            } else if let Err(error) = run_stage(store, &stage.key, &place, program::body) {
                lost.insert(stage.key);
                let failure = Failure {
                    kind: error.kind(),
                    message: error.to_string(),
                };
                outcome.failed.push((stage.clone(), failure));
            } else {
                outcome.finished.push(stage.key);
            }
        }
        Ok(outcome)
    }
}

#[test]
fn an_executor_of_another_kind_makes_the_same_artifacts() {
    let graph = graph(DIAMOND, &quick());
    let [ours, theirs] = [Bench::new(), Bench::new()];
    let executors: [(&Bench, &dyn Executor); 2] = [(&ours, &InOrder), (&theirs, &pool())];
    for (bench, executor) in executors {
        let run = || bench.run_by(executor, &graph, &Interrupt::new());
        let counts = |outcome: Outcome| (outcome.finished.len(), outcome.cached.len());
        assert_eq!([counts(run()), counts(run())], [(5, 0), (0, 5)]);
    }
    assert_eq!(ours.contents(), theirs.contents());
}

#[test]
fn every_executor_reports_the_same_failure_and_stops_when_asked() {
    let graph = graph(DIAMOND, &quick());
    let executors: [&dyn Executor; 2] = [&InOrder, &pool()];
    for executor in executors {
        let bench = Bench::new();
        bench.plant("left", 1, "error");
        let outcome = bench.run_by(executor, &graph, &Interrupt::new());
        assert_eq!(
            labels(&graph, &outcome.finished),
            ["apart", "right", "root"]
        );
        assert_eq!(labels(&graph, &outcome.skipped), ["end"]);
        assert_eq!(outcome.exit_code(), ErrorKind::Store.exit_code());

        let interrupt = Interrupt::new();
        interrupt.raise();
        let stopped = bench.run_by(executor, &graph, &interrupt);
        assert!(stopped.interrupted && stopped.finished.is_empty());
        let outcome = bench.run_by(executor, &graph, &Interrupt::new());
        assert_eq!(labels(&graph, &outcome.finished), ["end", "left"]);
    }
}
