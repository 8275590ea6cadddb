//! A pool as one of several workers: what it tries again, what it leaves, and when it leaves.
#![cfg(unix)]

use super::*;
use std::time::Duration;

fn worker(roomy: bool) -> LocalPool {
    LocalPool {
        round: Some(Round {
            name: "r".into(),
            roomy,
            idle: Duration::from_secs(30),
            pause: Duration::from_millis(50),
        }),
        ..pool()
    }
}

fn run(bench: &Bench, pool: &LocalPool, graph: &Graph) -> Outcome {
    bench.store.plan(graph).unwrap();
    bench.run_by(pool, graph, &Interrupt::new())
}

fn steps(steps: u32) -> Settings {
    Settings {
        steps,
        ..Settings::default()
    }
}

#[test]
fn a_failure_is_tried_once_more_and_then_stands() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &steps(4)));
    bench.plant("left", 1, "error");
    bench.plant("right", 1, "error");
    bench.plant("right", 2, "exit");
    let outcome = run(&bench, &worker(false), &graph);
    assert_eq!(
        labels(&graph, &outcome.finished),
        ["apart", "left", "root"],
        "{outcome:?}"
    );
    assert_eq!(labels(&graph, &outcome.skipped), ["end"]);
    let [(stage, failure)] = outcome.failed.as_slice() else {
        panic!("{outcome:?}")
    };
    assert_eq!(stage.label, "right");
    assert!(failure.message.contains("exit code 7"), "{failure:?}");
    assert!(!outcome.left && !outcome.interrupted);

    // The failure holds for every worker of the round, and for no other run.
    let outcome = run(&bench, &worker(false), &graph);
    assert_eq!((outcome.finished.len(), outcome.failed.len()), (0, 1));
    assert_eq!(bench.run(&graph).exit_code(), 0);
}

#[test]
fn a_stage_that_is_killed_twice_is_left_to_a_worker_with_more_memory() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &steps(4)));
    bench.plant("left", 1, "kill");
    bench.plant("right", 1, "kill");
    bench.plant("right", 2, "kill");
    let outcome = run(&bench, &worker(false), &graph);
    assert_eq!(labels(&graph, &outcome.finished), ["apart", "left", "root"]);
    assert!(outcome.left && outcome.failed.is_empty(), "{outcome:?}");
    let outcome = run(&bench, &worker(true), &graph);
    assert_eq!(labels(&graph, &outcome.finished), ["right"]);
    assert!(outcome.left, "what is left is not for it: {outcome:?}");
    let outcome = run(&bench, &worker(false), &graph);
    assert_eq!(labels(&graph, &outcome.finished), ["end"]);
    assert!(outcome.is_success());
}

#[test]
fn a_worker_that_is_stopped_releases_its_stages() {
    let (bench, graph) = (Bench::new(), program::slow_diamond(1000));
    bench.store.plan(&graph).unwrap();
    let interrupt = Interrupt::new();
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run_by(&worker(false), &graph, &interrupt));
        while bench.store.sightings().unwrap().len() < 2 || bench.log().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt.raise();
        run.join().unwrap()
    });
    assert!(outcome.interrupted, "{outcome:?}");
    assert!(bench.store.sightings().unwrap().is_empty());
    for label in ["root", "apart"] {
        let ended = bench.store.ended(&key_of(&graph, label)).unwrap();
        let ends: Vec<_> = ended.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [crate::pipeline::End::Released], "{label}");
        let round = ended[0].holder.as_ref().unwrap().round.as_deref();
        assert_eq!(round, Some("r"));
    }
}

#[test]
fn workers_share_the_stages_of_a_plan() {
    let stages = ["a", "b", "c", "d", "e", "f"].map(|name| (name, &[] as &[&str]));
    let settings = Settings {
        steps: 20,
        milliseconds_per_step: 10,
        ..Settings::default()
    };
    let (bench, graph) = (Bench::new(), graph(&stages, &settings));
    bench.store.plan(&graph).unwrap();
    let one = LocalPool {
        slots: vec![slot("cpu")],
        ..worker(false)
    };
    std::thread::scope(|scope| {
        let runs = [(); 3].map(|()| scope.spawn(|| bench.run_by(&one, &graph, &Interrupt::new())));
        for outcome in runs.map(|run| run.join().unwrap()) {
            assert!(outcome.is_success(), "{outcome:?}");
            assert!(!outcome.finished.is_empty(), "one only waited: {outcome:?}");
        }
    });
    assert_eq!(bench.log().len(), 12, "each was computed once");
}
