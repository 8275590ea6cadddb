//! The folder on disk: what counts as an artifact, what counts as damage, what is refused.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A bench with the diamond computed.
fn computed() -> (Bench, Graph) {
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
    assert_eq!(bench.run(&graph).exit_code(), 0);
    (bench, graph)
}

#[test]
fn a_half_written_artifact_does_not_exist_and_is_cleaned() {
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
    let key = key_of(&graph, "root");
    let draft = bench.draft(&graph, &key);
    fs::write(draft.out().join("state"), "half").unwrap();
    let out = draft.out().to_owned();
    drop(draft);
    // As after a crash following the rename of a folder whose manifest never reached the disk.
    let published = bench.store.artifact_dir(&key);
    fs::create_dir_all(&published).unwrap();
    fs::write(published.join("state"), "half").unwrap();

    assert!(!bench.store.is_complete(&key) && bench.store.artifact(&key).is_none());
    bench.store.clean().unwrap();
    assert!(!out.exists());
    assert_eq!(bench.run(&graph).exit_code(), 0);
    assert_ne!(fs::read_to_string(published.join("state")).unwrap(), "half");
}

#[test]
fn cleaning_spares_what_is_being_written() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &Settings::default()));
    let draft = bench.draft(&graph, &key_of(&graph, "root"));
    bench.store.clean().unwrap();
    assert!(draft.out().exists());
}

#[test]
fn verify_finds_every_kind_of_damage_and_removal_mends_it() {
    let (bench, graph) = computed();
    let before = bench.contents();
    assert_eq!(bench.store.verify().unwrap().problems, []);

    let file =
        |label: &str, name: &str| bench.store.artifact_dir(&key_of(&graph, label)).join(name);
    let same_size = fs::read_to_string(file("root", "state"))
        .unwrap()
        .replace(|c: char| c.is_ascii_digit(), "x");
    fs::write(file("root", "state"), same_size).unwrap();
    fs::remove_file(file("left", "deep/padding")).unwrap();
    fs::write(file("right", "stray"), "").unwrap();
    fs::write(file("end", "manifest.json"), "{").unwrap();
    fs::write(bench.store.root().join("artifacts/notes.txt"), "").unwrap();

    let report = bench.store.verify().unwrap();
    let found: Vec<_> = report
        .problems
        .iter()
        .map(|problem| {
            let label = problem
                .key
                .map_or(String::new(), |key| graph.get(&key).unwrap().label.clone());
            let kind = problem.damage.to_string();
            (
                label,
                problem
                    .path
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
                kind[..7].to_owned(),
            )
        })
        .collect();
    for expected in [
        ("", "notes.txt", "does no"),
        ("root", "state", "changed"),
        ("left", "padding", "missing"),
        ("right", "stray", "does no"),
        ("end", "manifest.json", "no vali"),
    ] {
        let expected = (
            expected.0.to_owned(),
            expected.1.to_owned(),
            expected.2.to_owned(),
        );
        assert!(
            found.contains(&expected),
            "{expected:?} is not in {found:?}"
        );
    }
    assert_eq!((found.len(), report.artifacts), (5, 5));

    for key in report.problems.iter().filter_map(|problem| problem.key) {
        bench.store.remove(&key).unwrap();
    }
    fs::remove_file(bench.store.root().join("artifacts/notes.txt")).unwrap();
    assert_eq!(bench.run(&graph).finished.len(), 4);
    assert_eq!(
        (bench.contents(), bench.store.verify().unwrap().problems),
        (before, vec![])
    );
}

#[test]
fn a_truncated_file_makes_its_artifact_incomplete() {
    let (bench, graph) = computed();
    let key = key_of(&graph, "left");
    fs::write(bench.store.artifact_dir(&key).join("state"), "short").unwrap();
    assert!(!bench.store.is_complete(&key));
    assert_eq!(labels(&graph, &bench.run(&graph).finished), ["left"]);
}

/// Damage that a kill, a full disk or a bad disk may do to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Cut,
    Longer,
    Gone,
    /// One flipped bit; the size stays the same.
    Flipped,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// A file of another length, or a missing one, makes the artifact incomplete, and the next run
    /// makes it again; `verify` finds a file that has the right length and other contents.
    #[test]
    fn a_damaged_file_is_never_taken_for_whole(
        file in prop::sample::select(vec!["state", "deep/padding", "manifest.json"]),
        damage in prop::sample::select(vec![Damage::Cut, Damage::Longer, Damage::Gone, Damage::Flipped]),
        place in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let (bench, graph) = (Bench::new(), graph(&DIAMOND[..1], &Settings { steps: 1, ..Settings::default() }));
        let key = key_of(&graph, "root");
        in_this_process(&bench, &graph, &key);
        let (before, path) = (bench.contents(), bench.store.artifact_dir(&key).join(file));
        let manifest = bench.store.manifest(&key).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        // Losing the manifest's last line break does no harm.
        let place = place.index(bytes.trim_ascii_end().len());
        match damage {
            Damage::Cut => bytes.truncate(place),
            Damage::Longer => bytes.extend(bytes[place..].to_vec()),
            Damage::Gone => {}
            Damage::Flipped => bytes[place] ^= 1 << bit,
        }
        match damage {
            Damage::Gone => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, bytes).unwrap(),
        }
        let whole = bench.store.is_complete(&key);
        prop_assert!(!whole || damage == Damage::Flipped, "{file}, {damage:?} at {place}");
        // Only bits of the manifest that do not change its meaning may flip.
        prop_assert!(file == "manifest.json" || !bench.store.verify().unwrap().problems.is_empty());
        if whole {
            prop_assert_eq!(bench.store.manifest(&key).unwrap(), manifest);
        } else {
            in_this_process(&bench, &graph, &key);
            prop_assert_eq!(bench.contents(), before);
        }
    }

    /// Publishing ends with the rename of a folder whose manifest was written last: a crash at any
    /// earlier point leaves no artifact.
    #[test]
    fn a_crash_while_publishing_leaves_nothing_that_is_read(
        written in 0..3_usize, manifest in any::<prop::sample::Index>(), renamed in any::<bool>(),
    ) {
        let (bench, graph) = (Bench::new(), graph(&DIAMOND[..1], &Settings { steps: 1, ..Settings::default() }));
        let key = key_of(&graph, "root");
        in_this_process(&bench, &graph, &key);
        let (before, published) = (bench.contents(), bench.store.artifact_dir(&key));
        // The state after a crash: only this many files and this much of the manifest were written.
        for file in ["deep/padding", "state"].into_iter().skip(written) {
            fs::remove_file(published.join(file)).unwrap();
        }
        let text = fs::read(published.join("manifest.json")).unwrap();
        let length = if written == 2 { manifest.index(text.trim_ascii_end().len()) } else { 0 };
        fs::write(published.join("manifest.json"), &text[..length]).unwrap();
        if !renamed {
            fs::rename(&published, bench.store.tmp().join(format!("{key}.attempt"))).unwrap();
        }
        prop_assert!(bench.store.artifact(&key).is_none() && bench.store.list().unwrap().is_empty());
        bench.store.clean().unwrap();
        in_this_process(&bench, &graph, &key);
        prop_assert_eq!(bench.contents(), before);
        prop_assert_eq!(fs::read_dir(bench.store.tmp()).unwrap().count(), 0);
    }
}

/// Computes a stage without starting a process for it.
fn in_this_process(bench: &Bench, graph: &Graph, key: &StageKey) {
    bench.store.plan(graph).unwrap();
    run_stage(&bench.store, key, &cpu(), program::body).unwrap();
}

#[test]
fn an_artifact_moved_under_another_key_is_not_that_stage() {
    let (bench, graph) = computed();
    let (left, right) = (
        bench.store.artifact_dir(&key_of(&graph, "left")),
        key_of(&graph, "right"),
    );
    fs::remove_dir_all(bench.store.artifact_dir(&right)).unwrap();
    fs::rename(left, bench.store.artifact_dir(&right)).unwrap();
    assert!(
        bench
            .store
            .manifest(&right)
            .unwrap_err()
            .to_string()
            .contains("another stage")
    );
}

#[test]
fn a_stage_may_not_write_the_manifest_nor_leave_links() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &Settings::default()));
    let key = key_of(&graph, "root");
    bench.store.plan(&graph).unwrap();
    let run = |write: fn(&Path)| {
        let result = run_stage(&bench.store, &key, &cpu(), |context| {
            write(context.out());
            Ok(())
        });
        assert!(!bench.store.is_complete(&key));
        result.unwrap_err().to_string()
    };
    assert!(
        run(|out| fs::write(out.join("manifest.json"), "{}").unwrap())
            .contains("wrote a file called manifest.json")
    );
    #[cfg(unix)]
    assert!(
        run(|out| std::os::unix::fs::symlink("/", out.join("link")).unwrap())
            .contains("neither a file nor")
    );
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    let bench = Bench::new();
    fs::write(
        bench.store.root().join("store.json"),
        r#"{"format_version": 99}"#,
    )
    .unwrap();
    let error = Store::open(bench.store.root()).unwrap_err();
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn a_folder_of_something_else_is_not_made_a_store() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        error.to_string().contains("already holds `thesis.tex`"),
        "{error}"
    );
    assert!(
        Store::open_existing(dir.path())
            .unwrap_err()
            .to_string()
            .contains("no store in")
    );
}

#[test]
fn many_processes_may_create_one_store_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let opened = [(); 8].map(|()| scope.spawn(|| Store::open(dir.path().join("store"))));
        for store in opened {
            store.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_stage_that_was_never_planned_is_an_error_with_its_key() {
    let (bench, graph) = (Bench::new(), graph(DIAMOND, &Settings::default()));
    let key = key_of(&graph, "root");
    let error = run_stage(&bench.store, &key, &cpu(), |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains(&key.short()), "{error}");
}

#[test]
fn a_stage_is_found_by_the_first_digits_of_its_key() {
    let (bench, graph) = computed();
    let key = key_of(&graph, "end");
    assert_eq!(bench.store.find(&key.short().to_uppercase()).unwrap(), key);
    assert!(
        bench
            .store
            .find("")
            .unwrap_err()
            .to_string()
            .contains("5 stages")
    );
    assert!(
        bench
            .store
            .find("nothing")
            .unwrap_err()
            .to_string()
            .contains("no stage")
    );
}

#[derive(Serialize, Deserialize)]
struct Inputs {
    seed: Vec<StageKey>,
    other: StageKey,
}

#[test]
fn a_stage_opens_its_inputs_and_no_other_artifact() {
    let (bench, mut graph) = computed();
    let [root, left, right] = ["root", "left", "right"].map(|label| key_of(&graph, label));
    let inputs = roles(&Inputs {
        seed: vec![left, root],
        other: left,
    })
    .unwrap();
    let spec = StageSpec {
        kind: "sum".into(),
        version: 1,
        settings: serde_json::json!({}),
        inputs,
        seed: None,
    };
    let key = graph.add(spec, "sum", 1.0).unwrap();
    bench.store.plan(&graph).unwrap();
    run_stage(&bench.store, &key, &cpu(), |context| {
        let Inputs { seed, other } = context.inputs()?;
        assert_eq!((seed, other), (vec![left, root], left));
        assert_eq!(
            context.artifact(&root)?,
            bench.store.artifact(&root).unwrap()
        );
        assert!(
            context
                .artifact(&right)
                .unwrap_err()
                .to_string()
                .contains("is not an input")
        );
        assert!(
            context
                .seed()
                .unwrap_err()
                .to_string()
                .contains("without a seed")
        );
        Ok(())
    })
    .unwrap();
}
