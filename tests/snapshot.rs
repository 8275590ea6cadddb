//! Tests of `touchstone snapshot` and `touchstone report --compare`: whether a study's numbers are
//! still the same; and of `report --across`: whether several studies answer alike.

mod common;

use common::{Bench, Said, fixture};
use std::collections::BTreeMap;
use std::fs;
use touchstone::report::snapshot::{Drift, Snapshot, Value, render};

fn snapshot(values: Vec<Value>) -> Snapshot {
    let [experiment, profile, scale] = ["study", "smoke", "mini"].map(str::to_owned);
    Snapshot {
        format: 1,
        experiment,
        profile,
        scale,
        values,
    }
}

fn value(metric: &str, mean: f64, sd: Option<f64>, n: usize) -> Value {
    let [method, size, metric] = ["irl", "s", metric].map(str::to_owned);
    Value {
        method,
        size,
        metric,
        mean,
        sd,
        n,
        tolerance: None,
    }
}

#[test]
fn studies_answer_the_same_claims_side_by_side() {
    let bench = Bench::new();
    let reports = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("reports");
    for name in ["tldr", "tldr-flawed"] {
        let summary = reports.join(name).join("summary.json");
        bench.write(
            format!("reports/{name}/summary.json"),
            fs::read(summary).unwrap(),
        );
    }
    let said = bench.succeed("report tldr --across tldr-flawed");
    let rows: Vec<&str> = said.out.lines().collect();
    assert_eq!(rows[0], "| claim | metric | tldr | tldr-flawed |");
    assert!(rows.len() > 20, "{}", said.out);
    assert!(rows[2].starts_with(
        "| irl-raises-demonstration-likelihood | demo_log_likelihood | contradicted: -0.430"
    ));
    assert!(rows.iter().all(|row| row.matches('|').count() == 5));

    let failed = bench.run("report tldr --across nothing");
    assert_ne!(failed.code, Some(0));
    assert!(failed.err.contains("summary.json"), "{}", failed.err);
    assert!(
        failed.err.contains("write the report first"),
        "{}",
        failed.err
    );
}

/// The drifts found when `before` becomes `now`.
fn drift(before: Value, now: Value) -> Vec<Drift> {
    snapshot(vec![before]).drift(&snapshot(vec![now])).unwrap()
}

#[test]
fn a_stated_tolerance_decides_else_seeds_do_else_a_millionth() {
    let stated = |tolerance| Value {
        tolerance: Some(tolerance),
        ..value("gold", 1.0, Some(0.1), 5)
    };
    let now = |mean| value("gold", mean, Some(0.1), 5);
    assert_eq!(drift(stated(0.01), now(1.009)), []);
    assert_eq!(drift(stated(0.01), now(1.011)).len(), 1);
    // Without a stated tolerance the bound is half of Welch's interval, t(8) = 2.306 times
    // √(2·0.1²/5) = 0.0632.
    assert_eq!(drift(now(1.0), now(1.145)), []);
    let found = drift(now(1.0), now(1.147));
    assert!(
        (found[0].allowed.unwrap() - 0.145_844).abs() < 1e-6,
        "{found:?}"
    );
    for still in [
        |mean| value("gold", mean, Some(0.0), 5),
        |mean| value("gold", mean, None, 1),
    ] {
        assert_eq!(drift(still(2.0), still(2.000_001)), []);
        assert_eq!(drift(still(2.0), still(2.000_01)).len(), 1);
        assert_eq!(drift(still(0.0), still(0.0)), []);
    }
}

#[test]
fn what_is_new_or_gone_drifts_and_the_table_says_how() {
    let before = snapshot(vec![
        value("gold", 0.5123, Some(0.01), 5),
        value("length", 31.25, Some(0.0), 5),
    ]);
    let now = snapshot(vec![
        value("gold", 0.61, Some(0.01), 5),
        value("kl", 3.5, Some(0.2), 5),
    ]);
    let found = before.drift(&now).unwrap();
    assert_eq!(found.len(), 3);
    insta::assert_snapshot!(render(&found, 3));
    assert_eq!(
        render(&before.drift(&before).unwrap(), 2),
        "no drift: 2 means as they were\n"
    );
}

#[test]
fn a_snapshot_survives_its_file_and_is_not_compared_with_another_study() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("new/folder/study.json");
    let taken = snapshot(vec![
        value("gold", 0.1 + 0.2, Some(1.0 / 3.0), 5),
        value("kl", 2.0, None, 1),
    ]);
    let taken = taken
        .with_tolerances(&BTreeMap::from([("gold".to_owned(), 0.05)]))
        .unwrap();
    taken.write(&path).unwrap();
    assert_eq!(Snapshot::read(&path).unwrap(), taken);
    let other = Snapshot {
        profile: "quick".to_owned(),
        ..taken.clone()
    };
    assert!(
        taken
            .drift(&other)
            .unwrap_err()
            .to_string()
            .contains("quick")
    );
    for (metric, tolerance) in [("glod", 0.1), ("gold", -0.1), ("gold", f64::NAN)] {
        let error = taken
            .clone()
            .with_tolerances(&BTreeMap::from([(metric.to_owned(), tolerance)]))
            .unwrap_err();
        assert!(error.to_string().contains(metric), "{error}");
    }
    fs::write(
        &path,
        fs::read_to_string(&path)
            .unwrap()
            .replace("\"format\": 1", "\"format\": 2"),
    )
    .unwrap();
    assert!(
        Snapshot::read(&path)
            .unwrap_err()
            .to_string()
            .contains("format 2")
    );
}

fn fail(bench: &Bench, code: i32, words: &str) -> Said {
    let said = bench.run(words);
    assert_eq!(
        said.code,
        Some(code),
        "touchstone {words}\n{}\n{}",
        said.out,
        said.err
    );
    said
}

#[test]
fn accept_writes_check_compares_and_the_exit_code_says_drift() {
    const STUDY: &str = "tiny.toml --methods sft,irl --seeds 1,2 --jobs 2 --store runs --out reports --file snapshots/tiny.json";
    let bench = Bench::new();
    bench.write(
        "tiny.toml",
        fs::read(fixture("experiments/tiny.toml")).unwrap(),
    );
    // A snapshot that cannot be compared is reported before anything is run.
    let said = fail(&bench, 11, &format!("snapshot check {STUDY}"));
    assert!(
        said.err.contains("snapshots/tiny.json")
            && said.err.contains("snapshot accept")
            && !bench.path("runs").exists(),
        "{}",
        said.err
    );

    bench.succeed(&format!("snapshot accept {STUDY} --tolerance length=0.5"));
    let first = bench.read("snapshots/tiny.json");
    assert!(
        first.contains("\"tolerance\": 0.5") && first.contains("\"profile\": \"smoke\""),
        "{first}"
    );
    let said = bench.succeed(&format!("snapshot check {STUDY}"));
    assert!(said.out.contains("no drift"), "{}", said.out);
    bench.succeed(&format!("snapshot accept {STUDY} --tolerance length=0.5"));
    assert_eq!(
        bench.read("snapshots/tiny.json"),
        first,
        "the same results are the same bytes"
    );

    let mut taken = Snapshot::read(&bench.path("snapshots/tiny.json")).unwrap();
    let length = taken
        .values
        .iter_mut()
        .find(|value| value.metric == "length")
        .unwrap();
    length.mean += 0.6;
    taken.write(&bench.path("snapshots/tiny.json")).unwrap();
    let said = fail(&bench, 1, &format!("snapshot check {STUDY}"));
    assert!(
        said.out.contains("1 mean of") && said.out.contains("length"),
        "{}",
        said.out
    );
    bench.succeed(&format!("snapshot check {STUDY} --tolerance length=0.7"));

    // A store and the report made from it give the same answer.
    let compare = "report tiny.toml --profile smoke --methods sft,irl --seeds 1,2 --compare";
    let said = bench.succeed(&format!("{compare} runs reports/tiny-smoke"));
    assert!(
        said.out.contains(" identical\n") && !said.out.contains("moved"),
        "{}",
        said.out
    );
    let said = fail(&bench, 8, &format!("{compare} runs nowhere"));
    assert!(
        said.err.contains("nowhere is neither a store nor a report"),
        "{}",
        said.err
    );
}
