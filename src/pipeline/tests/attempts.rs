//! Several attempts at one stage, on this machine and as if on another node.

use super::claim::Watch;
use super::*;
use crate::pipeline::store::Spare;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(1000);
const AT_ONCE: Duration = Duration::ZERO;

fn root_graph(steps: u32) -> (Graph, StageKey) {
    let graph = graph(
        &DIAMOND[..1],
        &Settings {
            steps,
            ..Settings::default()
        },
    );
    let key = key_of(&graph, "root");
    (graph, key)
}

/// A claim as a process on another node makes it.
fn foreign_claim(store: &Store, key: &StageKey, number: u64) -> PathBuf {
    let path = store.claims().join(format!("{key}.{number}"));
    fs::write(
        &path,
        r#"{"attempt":"abc","realm":"another kernel/1","beat":0}"#,
    )
    .unwrap();
    path
}

fn run_on(store: &Store, graph: &Graph) -> Outcome {
    let unknown = BTreeMap::new();
    pool()
        .run(store, graph, &unknown, &Interrupt::new())
        .unwrap()
}

fn names(folder: PathBuf) -> Vec<String> {
    crate::files::names_in(&folder).unwrap()
}

/// The same store as another node sees it: its folders are the same, and its locks are local.
/// `None` if there is no second file system to put the locks on.
#[cfg(target_os = "linux")]
pub(super) fn other_node(store: &Store, locks_elsewhere: bool) -> Option<(TempDir, Store)> {
    let dir = if locks_elsewhere {
        TempDir::new_in("/dev/shm").ok()?
    } else {
        tempfile::tempdir().unwrap()
    };
    fs::create_dir(dir.path().join("faults")).unwrap();
    let root = dir.path().join("store");
    fs::create_dir(&root).unwrap();
    for name in [
        "store.json",
        "specs",
        "claims",
        "tmp",
        "scratch",
        "artifacts",
        "failures",
    ] {
        std::os::unix::fs::symlink(store.root().join(name), root.join(name)).unwrap();
    }
    fs::create_dir(root.join("locks")).unwrap();
    let other = Store::open(&root).unwrap();
    let (graph, key) = root_graph(1);
    store.plan(&graph).unwrap();
    let realm = |store: &Store| store.lock(&key).unwrap().realm().unwrap();
    ((realm(&other) == realm(store)) != locks_elsewhere).then_some((dir, other))
}

#[test]
fn of_many_who_want_a_stage_one_has_it() {
    let (bench, (_, key)) = (Bench::new(), root_graph(1));
    let lock = bench.store.lock(&key).unwrap();
    // As if all attempts were on separate nodes: the lock of one is invisible to the others.
    foreign_claim(&bench.store, &key, 0);
    fs::write(bench.store.claims().join(format!("{key}.0.over")), "").unwrap();
    let claims: Vec<_> = std::thread::scope(|scope| {
        let wanting: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    bench
                        .store
                        .claim(&lock, &mut Watch::with(LONG), Holder::here(None))
                        .unwrap()
                })
            })
            .collect();
        wanting
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect()
    });
    // Some may come so late that they declare an earlier one over, because they share the lock
    // here.
    assert!(!claims.is_empty());
    let attempts: std::collections::BTreeSet<_> = claims
        .iter()
        .map(|claim| claim.attempt().to_owned())
        .collect();
    assert_eq!(
        attempts.len(),
        claims.len(),
        "every attempt has a name of its own"
    );
    let holders = claims.iter().filter(|claim| !claim.is_given_up()).count();
    assert_eq!(holders, 1);
}

#[test]
fn a_claim_of_another_node_holds_until_it_is_silent() {
    let (bench, (_, key)) = (Bench::new(), root_graph(1));
    let path = foreign_claim(&bench.store, &key, 3);
    let lock = bench.store.lock(&key).unwrap();
    let mut watch = Watch::with(Duration::from_millis(200));
    for beat in 0..4 {
        assert!(
            bench
                .store
                .claim(&lock, &mut watch, Holder::here(None))
                .unwrap()
                .is_none()
        );
        std::thread::sleep(Duration::from_millis(100));
        fs::write(
            &path,
            format!(r#"{{"attempt":"abc","realm":"another kernel/1","beat":{beat}}}"#),
        )
        .unwrap();
    }
    assert!(
        bench
            .store
            .claim(&lock, &mut watch, Holder::here(None))
            .unwrap()
            .is_none()
    );
    std::thread::sleep(Duration::from_millis(250));
    let claim = bench
        .store
        .claim(&lock, &mut watch, Holder::here(None))
        .unwrap()
        .expect("it has been silent for long");
    assert_eq!(
        names(bench.store.claims()),
        [".3", ".3.over", ".4"].map(|end| format!("{key}{end}"))
    );
    claim.settle();
    assert_eq!(names(bench.store.claims()), [""; 0]);
}

#[test]
fn a_claim_says_who_holds_the_stage_and_its_mark_how_the_attempt_ended() {
    let (bench, (_, key)) = (Bench::new(), root_graph(1));
    // An earlier program's claim, which says nothing of its holder, with that program's empty mark.
    foreign_claim(&bench.store, &key, 0);
    fs::write(bench.store.claims().join(format!("{key}.0.over")), "").unwrap();
    assert!(bench.store.sightings().unwrap().is_empty());
    let claim = || {
        let lock = bench.store.lock(&key).unwrap();
        let holder = Holder {
            job: Some("7_2".into()),
            ..Holder::here(Some("flex"))
        };
        let mut watch = Watch::with(LONG);
        let claim = bench.store.claim(&lock, &mut watch, holder.clone());
        (claim.unwrap().unwrap(), holder)
    };
    let (first, holder) = claim();
    let held = bench.store.sightings().unwrap();
    let seen = &held[&key];
    assert_eq!((seen.attempt, seen.beats, held.len()), (2, 0, 1));
    for (name, value) in [
        ("host", &holder.host),
        ("process", &holder.process.to_string()),
        ("job", &"7_2".to_owned()),
    ] {
        assert_eq!(seen.place.get(name), Some(value), "{name}");
    }
    bench
        .store
        .mark_end(&key, holder.process, End::Released)
        .unwrap();
    drop(first);
    let (second, holder) = claim();
    // Another process's mark does not end it.
    bench
        .store
        .mark_end(&key, holder.process + 1, End::Released)
        .unwrap();
    assert_eq!(bench.store.sightings().unwrap().len(), 1);
    drop(second);
    assert!(bench.store.sightings().unwrap().is_empty());
    let ends = |store: &Store| {
        let ended = store.ended(&key).unwrap().into_iter();
        ended.map(|attempt| attempt.end).collect::<Vec<_>>()
    };
    assert_eq!(
        ends(&bench.store),
        [End::Lost, End::Released, End::Failed],
        "the first mark stays"
    );
}

#[test]
fn a_claim_beats_and_says_when_it_is_over() {
    let (bench, (_, key)) = (Bench::new(), root_graph(1));
    let lock = bench.store.lock(&key).unwrap();
    let claim = bench
        .store
        .claim(
            &lock,
            &mut Watch::with(Duration::from_millis(90)),
            Holder::here(None),
        )
        .unwrap()
        .unwrap();
    let path = bench.store.claims().join(format!("{key}.0"));
    let before = fs::read(&path).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let after = fs::read(&path).unwrap();
    assert!(before != after && before.len() == after.len());
    drop(claim);
    assert_eq!(
        names(bench.store.claims()),
        ["", ".over"].map(|end| format!("{key}.0{end}"))
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_dead_attempt_of_this_machine_is_over_at_once() {
    let (bench, (graph, key)) = (Bench::new(), root_graph(3));
    bench.plant("root", 2, "kill");
    bench.store.plan(&graph).unwrap();
    bench.run(&graph);
    assert_eq!(
        names(bench.store.claims()),
        [format!("{key}.0")],
        "nobody was there to say that it is over"
    );
    assert!(!bench.store.is_taken(&key, &mut Watch::with(LONG)).unwrap());
    assert!(bench.run(&graph).is_success());
    assert_eq!(bench.log(), ["root from 0", "root from 2", "root computed"]);
    for folder in [
        bench.store.claims(),
        bench.store.tmp(),
        bench.store.scratch(),
    ] {
        assert_eq!(names(folder), [""; 0]);
    }
}

#[test]
fn checkpoints_of_earlier_programs_and_of_interrupted_take_overs_are_taken() {
    let (bench, (graph, key)) = (Bench::new(), root_graph(3));
    bench.store.plan(&graph).unwrap();
    // A folder of an older program is named by the key alone; one process died while it emptied the
    // folder of another.
    let old = bench.store.scratch().join(key.to_string());
    fs::create_dir_all(old.join(".taken/.taken/deep")).unwrap();
    fs::write(old.join(".taken/one"), "1").unwrap();
    fs::write(old.join(".taken/.taken/deep/two"), "2").unwrap();
    fs::create_dir(bench.store.scratch().join(format!("{key}.empty"))).unwrap();
    let draft = bench.draft(&graph, &key);
    assert_eq!(names(draft.scratch().to_owned()), ["deep", "one"]);
    assert_eq!(
        fs::read_to_string(draft.scratch().join("deep/two")).unwrap(),
        "2"
    );
    assert_eq!(names(bench.store.scratch()).len(), 1);
    // The attempt dies before it is done and leaves its checkpoints to the next one.
    drop(draft);
    assert_eq!(
        names(bench.draft(&graph, &key).scratch().to_owned()),
        ["deep", "one"]
    );
}

#[test]
fn what_lies_at_the_place_of_an_artifact_gives_way_unless_it_is_whole() {
    let (graph, key) = root_graph(1);
    let (bench, done) = (Bench::new(), Bench::new());
    done.run(&graph);
    let publish = |bench: &Bench, meanwhile: &dyn Fn(&Path)| {
        bench.store.plan(&graph).unwrap();
        run_stage(&bench.store, &key, &cpu(), |context| {
            program::body(context)?;
            meanwhile(&bench.store.artifact_dir(&key));
            Ok(())
        })
    };
    let half = |place: &Path| {
        fs::create_dir(place).unwrap();
        fs::write(place.join("state"), "half").unwrap();
    };
    let file = |place: &Path| fs::write(place, "a file").unwrap();
    let empty = |place: &Path| fs::create_dir(place).unwrap();
    for meanwhile in [&half as &dyn Fn(&Path), &file, &empty] {
        publish(&bench, meanwhile).unwrap();
        assert_eq!(bench.contents(), done.contents());
        assert_eq!(bench.store.verify().unwrap().problems, []);
        bench.store.remove(&key).unwrap();
    }
    // Another attempt was faster: its artifact stays.
    let whole = |place: &Path| {
        fs::create_dir_all(place.join("deep")).unwrap();
        let artifact = done.store.artifact(&key).unwrap();
        for name in ["state", "deep/padding", "manifest.json"] {
            fs::copy(artifact.join(name), place.join(name)).unwrap();
        }
        fs::write(place.join("mark"), "").unwrap();
    };
    publish(&bench, &whole).unwrap();
    assert!(bench.store.artifact(&key).unwrap().join("mark").exists());
    bench.store.set_aside(&key, Spare::Whole).unwrap();
    assert!(bench.store.is_complete(&key), "a whole one is put back");
    for folder in [
        bench.store.claims(),
        bench.store.tmp(),
        bench.store.scratch(),
    ] {
        assert_eq!(names(folder), [""; 0]);
    }
}

#[test]
fn an_attempt_that_was_taken_for_dead_gives_way_without_an_error() {
    let (bench, (graph, key)) = (Bench::new(), root_graph(1));
    bench.store.plan(&graph).unwrap();
    // Fails because its folders were removed; the later attempt is at work.
    run_stage(&bench.store, &key, &cpu(), |_| {
        foreign_claim(&bench.store, &key, 1);
        Err(crate::Error::files("the checkpoint's folder is gone"))
    })
    .unwrap();
    assert!(!bench.store.is_complete(&key));
    assert!(bench.store.is_taken(&key, &mut Watch::with(LONG)).unwrap());
    // Fails because it was declared over and its folders were removed; no other attempt is at work
    // yet.
    let mut watch = Watch::with(AT_ONCE);
    assert!(
        bench.store.is_taken(&key, &mut watch).unwrap()
            && !bench.store.is_taken(&key, &mut watch).unwrap()
    );
    run_stage(&bench.store, &key, &cpu(), |_| {
        fs::write(bench.store.claims().join(format!("{key}.2.over")), "").unwrap();
        Err(crate::Error::files("the draft's folder is gone"))
    })
    .unwrap();
    // Fails for its own reasons.
    run_stage(&bench.store, &key, &cpu(), |_| {
        Err(crate::Error::data("no rows"))
    })
    .unwrap_err();
    // Fails, but the artifact has been published meanwhile.
    run_stage(&bench.store, &key, &cpu(), |context| {
        program::body(context)?;
        let (other, done) = (bench.store.artifact_dir(&key), Bench::new());
        done.run(&graph);
        fs::rename(done.store.artifact_dir(&key), other).unwrap();
        Err(crate::Error::files("the folder is gone"))
    })
    .unwrap();
    assert!(bench.store.is_complete(&key));
}

/// A draft whose files another node is removing is not published, not even in part.
#[test]
fn a_draft_that_is_discarded_is_not_published_in_part() {
    let (graph, key) = root_graph(1);
    for moment in 0..40 {
        let bench = Bench::new();
        bench.store.plan(&graph).unwrap();
        let result = std::thread::scope(|scope| {
            run_stage(&bench.store, &key, &cpu(), |context| {
                program::body(context)?;
                let out = context.out().to_owned();
                let store = &bench.store;
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_micros(moment * 50));
                    let _ = store.discard(&out, &key);
                });
                Ok(())
            })
        });
        assert_eq!(result.is_ok(), bench.store.is_complete(&key), "{result:?}");
        if result.is_ok() {
            assert_eq!(bench.store.manifest(&key).unwrap().files.len(), 2);
            assert_eq!(bench.store.verify().unwrap().problems, []);
        }
    }
}

#[test]
fn a_pool_leaves_a_stage_to_another_node_and_takes_it_when_that_one_is_done() {
    let (bench, graph) = (
        Bench::new(),
        graph(
            DIAMOND,
            &Settings {
                steps: 1,
                ..Settings::default()
            },
        ),
    );
    let (left, done) = (key_of(&graph, "left"), Bench::new());
    done.run(&graph);
    let claim = foreign_claim(&bench.store, &left, 0);
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(&graph));
        let others = || {
            ["root", "right", "apart"]
                .iter()
                .all(|label| bench.store.is_complete(&key_of(&graph, label)))
        };
        while !others() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!bench.store.is_complete(&key_of(&graph, "end")) && !run.is_finished());
        // The other node publishes.
        fs::rename(
            done.store.artifact_dir(&left),
            bench.store.artifact_dir(&left),
        )
        .unwrap();
        fs::remove_file(&claim).unwrap();
        run.join().unwrap()
    });
    assert_eq!(labels(&graph, &outcome.cached), ["left"]);
    assert_eq!(
        labels(&graph, &outcome.finished),
        ["apart", "end", "right", "root"]
    );
    assert!(!bench.log().contains(&"left from 0".to_owned()));
}

#[test]
fn two_pools_share_the_stages_of_a_graph() {
    let stages = ["a", "b", "c", "d", "e", "f"].map(|name| (name, &[] as &[&str]));
    let graph = graph(
        &stages,
        &Settings {
            steps: 20,
            milliseconds_per_step: 10,
            ..Settings::default()
        },
    );
    let bench = Bench::new();
    let one = LocalPool {
        slots: vec![slot("cpu")],
        ..pool()
    };
    std::thread::scope(|scope| {
        let runs = [(); 2].map(|()| scope.spawn(|| bench.run_by(&one, &graph, &Interrupt::new())));
        for outcome in runs.map(|run| run.join().unwrap()) {
            assert_eq!(
                outcome.finished.len() + outcome.cached.len(),
                6,
                "{outcome:?}"
            );
            assert!(
                outcome.finished.len() >= 2,
                "one waited for the other: {outcome:?}"
            );
        }
    });
    assert_eq!(bench.log().len(), 12, "each was computed once");
}

/// Locks are local, and claims keep the two pools apart.
#[cfg(target_os = "linux")]
#[test]
fn two_pools_with_locks_of_their_own_compute_each_stage_once() {
    let (bench, graph) = (Bench::new(), program::slow_diamond(12));
    let Some((other_dir, other)) = other_node(&bench.store, true) else {
        eprintln!("skipped: no second file system for locks");
        return;
    };
    std::thread::scope(|scope| {
        let runs = [&bench.store, &other].map(|store| {
            let graph = &graph;
            scope.spawn(move || run_on(store, graph))
        });
        for outcome in runs.map(|run| run.join().unwrap()) {
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
    let logs = [bench.dir.path(), other_dir.path()]
        .map(|dir| fs::read_to_string(dir.join("log")).unwrap_or_default());
    assert_eq!(logs.concat().lines().count(), 10, "{logs:?}");
    let undisturbed = Bench::new();
    undisturbed.run(&graph);
    assert_eq!(
        (bench.contents(), bench.store.verify().unwrap().problems),
        (undisturbed.contents(), vec![])
    );
}

/// The worst case: each side declares every claim of the other over, as two copies of one virtual
/// machine would.
#[cfg(target_os = "linux")]
#[test]
fn two_pools_that_take_each_other_for_dead_end_with_the_same_bytes() {
    let (undisturbed, graph) = (Bench::new(), program::slow_diamond(12));
    undisturbed.run(&graph);
    for _ in 0..4 {
        let bench = Bench::new();
        let (_dir, other) = other_node(&bench.store, false).expect("one file system");
        std::thread::scope(|scope| {
            let runs = [&bench.store, &other].map(|store| {
                let graph = &graph;
                scope.spawn(move || run_on(store, graph))
            });
            runs.into_iter().for_each(|run| drop(run.join().unwrap()));
        });
        assert!(bench.run(&graph).is_success());
        assert_eq!(
            (bench.contents(), bench.store.verify().unwrap().problems),
            (undisturbed.contents(), vec![])
        );
    }
}
