//! Reports and decisions of a pool about stages that succeed, fail and are stopped.

use super::*;
use std::time::Duration;

#[test]
fn a_graph_is_computed_once_and_then_cached() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &quick()));
    let first = bench.run(&graph);
    assert_eq!(
        (first.finished.len(), first.cached.len(), first.exit_code()),
        (5, 0, 0),
        "{first:?}"
    );
    let second = bench.run(&graph);
    assert_eq!(
        (
            second.finished.len(),
            second.cached.len(),
            second.exit_code()
        ),
        (0, 5, 0),
        "{second:?}"
    );

    let manifest = bench.store.manifest(&key_of(&graph, "end")).unwrap();
    assert_eq!(
        (
            manifest.label.as_str(),
            manifest.device.as_str(),
            manifest.tokens
        ),
        ("end", "cpu", 2)
    );
    assert_eq!(
        manifest.files.keys().collect::<Vec<_>>(),
        ["deep/padding", "state"]
    );
    assert_eq!(
        fs::read_dir(bench.store.root().join("tmp"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(
        fs::read_dir(bench.store.root().join("scratch"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn stages_that_run_together_have_devices_of_their_own() {
    let settings = Settings {
        steps: 1,
        milliseconds_per_step: 300,
        ..Settings::default()
    };
    let (bench, graph) = (
        Bench::new(),
        graph(&[("one", &[]), ("two", &[])], &settings),
    );
    let two = LocalPool {
        slots: vec![slot("gpu:0"), slot("gpu:1")],
        ..pool()
    };
    assert!(bench.run_by(&two, &graph, &Interrupt::new()).is_success());
    let used: Vec<_> = bench
        .store
        .list()
        .unwrap()
        .into_iter()
        .map(|manifest| manifest.device)
        .collect();
    assert_eq!(used, ["gpu:0", "gpu:1"]);

    let none = LocalPool {
        slots: vec![],
        ..pool()
    };
    assert!(
        none.run(
            &Bench::new().store,
            &graph,
            &BTreeMap::new(),
            &Interrupt::new()
        )
        .unwrap_err()
        .to_string()
        .contains("no device")
    );
}

#[test]
fn a_failed_stage_costs_only_what_needs_it() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &quick()));
    bench.plant("left", 1, "error");
    let outcome = bench.run(&graph);
    assert_eq!(
        labels(&graph, &outcome.finished),
        ["apart", "right", "root"]
    );
    assert_eq!(labels(&graph, &outcome.skipped), ["end"]);
    let [(stage, Failure { kind, message })] = outcome.failed.as_slice() else {
        panic!("{outcome:?}")
    };
    assert_eq!((stage.label.as_str(), *kind), ("left", ErrorKind::Store));
    assert!(
        message.starts_with("broken on purpose\nmend it\n"),
        "{message}"
    );
    assert_eq!(
        (outcome.exit_code(), outcome.is_success()),
        (ErrorKind::Store.exit_code(), false)
    );
    assert!(
        outcome
            .summary()
            .contains("1 failed, 1 skipped\nrun the same command again"),
        "{}",
        outcome.summary()
    );

    let log = bench.store.failure_log(&stage.key);
    assert!(
        fs::read_to_string(&log)
            .unwrap()
            .contains("broken on purpose")
    );
    assert_eq!(bench.run(&graph).exit_code(), 0);
    assert!(!log.exists(), "a log of a failure that is over");
}

#[test]
fn a_crash_is_told_with_its_last_words() {
    let (bench, graph) = (Bench::new(), graph(&[("only", &[])], &quick()));
    bench.plant("only", 0, "exit");
    let (_, Failure { kind, message }) = &bench.run(&graph).failed[0];
    assert!(
        message.contains("exit code 7") && message.contains("| last words"),
        "{message}"
    );
    assert_eq!(*kind, ErrorKind::Internal);
}

#[cfg(unix)]
#[test]
fn a_kill_is_told_with_its_signal_and_a_remedy() {
    let (bench, graph) = (Bench::new(), graph(&[("only", &[])], &quick()));
    bench.plant("only", 1, "kill");
    let (_, Failure { kind, message }) = &bench.run(&graph).failed[0];
    assert!(
        message.contains("signal 9 (SIGKILL)") && message.contains("--jobs"),
        "{message}"
    );
    assert_eq!(*kind, ErrorKind::Process);
}

#[cfg(unix)]
#[test]
fn a_program_that_publishes_nothing_has_failed() {
    let (bench, graph) = (Bench::new(), graph(&[("only", &[])], &quick()));
    let shell = LocalPool {
        exe: "sh".into(),
        arguments: ["-c", "exit 0"].map(Into::into).to_vec(),
        ..pool()
    };
    let outcome = bench.run_by(&shell, &graph, &Interrupt::new());
    assert!(
        outcome.failed[0].1.message.contains("left no artifact"),
        "{outcome:?}"
    );
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &quick()));
    let broken = LocalPool {
        exe: bench.dir.path().join("nothing"),
        ..pool()
    };
    let error = broken
        .run(&bench.store, &graph, &BTreeMap::new(), &Interrupt::new())
        .unwrap_err();
    assert!(error.to_string().contains("cannot run stage"), "{error}");
}

#[test]
fn an_interrupted_run_leaves_no_process_and_is_continued_by_the_next() {
    let (bench, graph) = (Bench::new(), program::slow_diamond(12));
    let interrupt = Interrupt::new();
    let raiser = interrupt.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        raiser.raise();
    });
    let outcome = bench.run_by(&pool(), &graph, &interrupt);
    timer.join().unwrap();
    assert!(
        outcome.interrupted && outcome.exit_code() == 130,
        "{outcome:?}"
    );
    assert!(
        outcome.failed.is_empty() && outcome.summary().contains("same command again to continue"),
        "{outcome:?}"
    );
    for stage in &graph {
        assert!(
            bench.store.try_lock(&stage.key).unwrap().is_some(),
            "{} still runs",
            stage.label
        );
    }
    assert_eq!(bench.run(&graph).exit_code(), 0);
}

/// `cargo test --release --lib -- --ignored --nocapture the_time_between_stages`: the median time from
/// one short stage's publication to the next one's, for a pool by itself and for a worker.
#[test]
#[ignore = "a measurement"]
fn the_time_between_stages() {
    const STAGES: usize = 200;
    let names: Vec<String> = (0..STAGES).map(|number| number.to_string()).collect();
    let stages: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
    let graph = graph(&stages, &Settings::default());
    let round = Round {
        name: "measured".into(),
        roomy: false,
        idle: Duration::from_secs(600),
        pause: Duration::from_secs(30),
    };
    for (label, round) in [("local pool", None), ("worker", Some(round))] {
        let bench = Bench::new();
        bench.store.plan(&graph).unwrap();
        let pool = LocalPool {
            slots: vec![slot("cpu")],
            round,
            ..pool()
        };
        let began = std::time::Instant::now();
        let outcome = bench.run_by(&pool, &graph, &Interrupt::new());
        let all = began.elapsed();
        assert_eq!(outcome.finished.len(), STAGES);
        let written = |key| {
            let path = bench.store.artifact(key).unwrap().join("manifest.json");
            fs::metadata(path).unwrap().modified().unwrap()
        };
        let mut times: Vec<_> = outcome.finished.iter().map(written).collect();
        times.sort();
        let mut between: Vec<Duration> = times
            .windows(2)
            .map(|pair| pair[1].duration_since(pair[0]).unwrap())
            .collect();
        between.sort();
        eprintln!(
            "{label}: median {:.1} ms between stages, {:.2} s for {STAGES}",
            between[between.len() / 2].as_secs_f64() * 1e3,
            all.as_secs_f64()
        );
    }
}

#[test]
fn two_pools_on_one_store_compute_each_stage_once() {
    let (bench, graph) = (Bench::new(), program::slow_diamond(12));
    std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| bench.run(&graph)));
        for run in runs {
            let outcome = run.join().unwrap();
            assert_eq!(
                (
                    outcome.exit_code(),
                    outcome.finished.len() + outcome.cached.len()
                ),
                (0, 5),
                "{outcome:?}"
            );
        }
    });
    let mut log = bench.log();
    log.sort();
    let once = ["apart", "end", "left", "right", "root"]
        .map(|name| [format!("{name} computed"), format!("{name} from 0")]);
    assert_eq!(log, once.concat());
}
