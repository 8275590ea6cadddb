//! `touchstone stats` through the binary.

use assert_cmd::Command;
use predicates::prelude::*;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

/// Two methods that share four seeds, one that misses a seed and has another, and one with a single foreign seed.
const TABLE: &str = "\
method,seed,gold
SFT,44413,0.585
SFT,55513,0.590
SFT,66613,0.611
SFT,77713,0.579
IRL,44413,0.612
IRL,55513,0.598
IRL,66613,0.631
IRL,77713,0.607
SPIN,77713,0.601
SPIN,44413,0.602
SPIN,66613,0.610
SPIN,5,0.595
PPO,6,0.5
";

struct Table {
    _folder: TempDir,
    path: PathBuf,
}

fn table(text: &str) -> Table {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scores.csv");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    Table { _folder: folder, path }
}

fn stats(table: &Table, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("touchstone").unwrap();
    command.arg("stats").arg(&table.path).args(["--value", "gold", "--group", "method", "--unit", "seed"]);
    command.args(arguments);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn json(table: &Table, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(stats(table, arguments).arg("--json"))).unwrap()
}

/// Asserts failure with every one of `parts` in the message. Line breaks and rules of the terminal are taken out first.
#[track_caller]
fn fails(command: &mut Command, parts: &[&str]) {
    let output = command.assert().failure().get_output().stderr.clone();
    let text = String::from_utf8(output).unwrap();
    let flat = text.replace(['│', '×'], " ").split_whitespace().collect::<Vec<_>>().join(" ");
    parts.iter().for_each(|part| assert!(flat.contains(part), "{part:?} is not in: {flat}"));
}

#[test]
fn the_human_table() {
    insta::assert_snapshot!(stdout(&mut stats(&table(TABLE), &["--baseline", "SFT"])));
}

#[test]
fn the_json() {
    let text = stdout(stats(&table(TABLE), &["--baseline", "SFT"]).arg("--json"));
    // The last digits of a logarithm are the platform's.
    insta::with_settings!({filters => vec![(r"(\.\d{10})\d+", "$1")]}, { insta::assert_snapshot!(text) });
}

#[test]
fn numbers_are_those_of_scipy() {
    let json = json(&table(TABLE), &["--baseline", "SFT"]);
    let near = |value: &serde_json::Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 5e-7, "{value} is not {expected}");
    };
    near(&json["estimates"][1]["ci_low"], 0.589837);
    near(&json["estimates"][1]["ci_high"], 0.634163);
    near(&json["comparisons"][0]["difference"], 0.02075);
    near(&json["comparisons"][0]["p"], 0.0204474);
    // Three comparisons in the family, of which one is undefined.
    near(&json["comparisons"][0]["p_holm"], 3.0 * 0.020_447_448_9);
    near(&json["comparisons"][0]["probability_of_improvement"], 0.875);
}

#[test]
fn undefined_values_are_null() {
    let json = json(&table(TABLE), &["--baseline", "SFT"]);
    let (estimate, comparison) = (&json["estimates"][3], &json["comparisons"][2]);
    assert_eq!((&estimate["group"], &estimate["n"]), (&"PPO".into(), &1.into()));
    for key in ["se", "ci_low", "ci_high"] {
        assert!(estimate[key].is_null());
    }
    assert_eq!(comparison["n"], 0);
    for key in ["difference", "ci_low", "ci_high", "p", "p_holm", "probability_of_improvement", "mde"] {
        assert!(comparison[key].is_null());
    }
}

#[test]
fn groups_keep_their_order_and_rows_do_not_matter() {
    let forward = table(TABLE);
    let names = |json: &serde_json::Value| -> Vec<String> {
        let rows = json["estimates"].as_array().unwrap();
        rows.iter().map(|row| row["group"].as_str().unwrap().to_owned()).collect()
    };
    let first = json(&forward, &["--baseline", "SFT"]);
    assert_eq!(names(&first), ["SFT", "IRL", "SPIN", "PPO"]);
    let mut lines: Vec<&str> = TABLE.lines().collect();
    lines[1..].reverse();
    let second = json(&table(&lines.join("\n")), &["--baseline", "SFT"]);
    assert_eq!(names(&second), ["PPO", "SPIN", "IRL", "SFT"]);
    let difference = |json: &serde_json::Value, at: usize| json["comparisons"][at]["difference"].as_f64().unwrap();
    assert!((difference(&first, 0) - difference(&second, 2)).abs() < 1e-15);
}

#[test]
fn dropped_units_are_counted() {
    let note = "3 units in both, dropped 1 found only in SPIN and 1 found only in SFT";
    let table = table(TABLE);
    assert!(stdout(&mut stats(&table, &["--baseline", "SFT"])).contains(note));
    stats(&table, &["--baseline", "SFT", "--json"]).assert().success().stderr(predicate::str::contains(note));
}

#[test]
fn without_a_baseline_nothing_is_compared() {
    let table = table(TABLE);
    assert_eq!(json(&table, &[])["comparisons"], serde_json::json!([]));
    assert!(!stdout(&mut stats(&table, &[])).contains("Difference"));
}

#[test]
fn the_level_changes_the_interval() {
    let table = table(TABLE);
    let low = |level: &str| json(&table, &["--level", level])["estimates"][0]["ci_low"].as_f64().unwrap();
    assert!(low("0.99") < low("0.9"));
    fails(&mut stats(&table, &["--level", "95"]), &["confidence level must lie strictly between 0 and 1, not 95"]);
}

#[test]
fn parquet_reads_like_csv() {
    use polars::prelude::*;
    let text = table(TABLE);
    let path = text.path.with_extension("parquet");
    let reader = CsvReadOptions::default().try_into_reader_with_file_path(Some(text.path.clone())).unwrap();
    let mut frame = reader.finish().unwrap();
    ParquetWriter::new(std::fs::File::create(&path).unwrap()).finish(&mut frame).unwrap();
    let expected = json(&text, &["--baseline", "SFT"]);
    let parquet = Table { _folder: text._folder, path };
    assert_eq!(json(&parquet, &["--baseline", "SFT"]), expected);
}

#[test]
fn a_unit_that_occurs_twice_is_named() {
    let twice = table(&format!("{TABLE}IRL,55513,0.7\n"));
    fails(
        &mut stats(&twice, &[]),
        &["unit \"55513\" occurs twice in group \"IRL\", in rows 6 and 14", "finer --unit column"],
    );
}

#[test]
fn unknown_names_suggest_known_ones() {
    let table = table(TABLE);
    let mut command = Command::cargo_bin("touchstone").unwrap();
    command.arg("stats").arg(&table.path).args(["--value", "gold", "--group", "methods", "--unit", "seed"]);
    fails(&mut command, &["no column \"methods\"", "did you mean \"method\"?", "method, seed, gold"]);
    fails(
        &mut stats(&table, &["--baseline", "sft"]),
        &["no group \"sft\"", "did you mean \"SFT\"?", "SFT, IRL, SPIN, PPO"],
    );
}

#[test]
fn bad_values_are_shown_with_their_row() {
    for (cell, shown) in [("good", "\"good\""), ("", "nothing"), ("NaN", "\"NaN\""), ("inf", "\"inf\"")] {
        let bad = table(&format!("method,seed,gold\nSFT,1,0.5\nSFT,2,{cell}\n"));
        fails(&mut stats(&bad, &[]), &[&format!("column \"gold\" has {shown} in row 2")]);
    }
    fails(&mut stats(&table("method,seed,gold\nSFT,,0.5\n"), &[]), &["column \"seed\" has nothing in row 1"]);
}

#[test]
fn an_empty_or_missing_table_is_an_error() {
    fails(&mut stats(&table("method,seed,gold\n"), &[]), &["no rows"]);
    let mut gone = table(TABLE);
    gone.path.set_extension("missing.csv");
    fails(&mut stats(&gone, &[]), &["reading the table", "scores.missing.csv"]);
}
