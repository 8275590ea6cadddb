//! Tests of `touchstone stats` through the binary.

use assert_cmd::Command;
use predicates::prelude::*;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

/// A table of two methods that share four seeds, one method that lacks a seed and has another, and
/// one with a single foreign seed.
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
    std::fs::File::create(&path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    Table {
        _folder: folder,
        path,
    }
}

fn stats(table: &Table, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("touchstone").unwrap();
    command
        .arg("stats")
        .arg(&table.path)
        .args(["--value", "gold", "--group", "method", "--unit", "seed"]);
    command.args(arguments);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}

fn json(table: &Table, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&stdout(stats(table, arguments).arg("--json"))).unwrap()
}

/// Asserts that the command fails and that the message contains every one of `parts`, after removal
/// of line breaks and rules of the terminal.
#[track_caller]
fn fails(command: &mut Command, parts: &[&str]) {
    let output = command.assert().failure().get_output().stderr.clone();
    let text = String::from_utf8(output).unwrap();
    let flat = text
        .replace(['│', '×'], " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    parts
        .iter()
        .for_each(|part| assert!(flat.contains(part), "{part:?} is not in: {flat}"));
}

#[test]
fn the_human_table() {
    insta::assert_snapshot!(stdout(&mut stats(&table(TABLE), &["--baseline", "SFT"])));
}

#[test]
fn the_json() {
    let text = stdout(stats(&table(TABLE), &["--baseline", "SFT"]).arg("--json"));
    // The last digits of a logarithm depend on the platform.
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
    // There are three comparisons in the family, one of them undefined.
    near(&json["comparisons"][0]["p_holm"], 3.0 * 0.020_447_448_9);
    near(&json["comparisons"][0]["probability_of_improvement"], 0.875);
}

#[test]
fn undefined_values_are_null() {
    let json = json(&table(TABLE), &["--baseline", "SFT"]);
    let (estimate, comparison) = (&json["estimates"][3], &json["comparisons"][2]);
    assert_eq!(
        (&estimate["group"], &estimate["n"]),
        (&"PPO".into(), &1.into())
    );
    for key in ["se", "ci_low", "ci_high"] {
        assert!(estimate[key].is_null());
    }
    assert_eq!(comparison["n"], 0);
    for key in [
        "difference",
        "ci_low",
        "ci_high",
        "p",
        "p_holm",
        "probability_of_improvement",
        "mde",
    ] {
        assert!(comparison[key].is_null());
    }
}

#[test]
fn groups_keep_their_order_and_rows_do_not_matter() {
    let forward = table(TABLE);
    let names = |json: &serde_json::Value| -> Vec<String> {
        let rows = json["estimates"].as_array().unwrap();
        rows.iter()
            .map(|row| row["group"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = json(&forward, &["--baseline", "SFT"]);
    assert_eq!(names(&first), ["SFT", "IRL", "SPIN", "PPO"]);
    let mut lines: Vec<&str> = TABLE.lines().collect();
    lines[1..].reverse();
    let second = json(&table(&lines.join("\n")), &["--baseline", "SFT"]);
    assert_eq!(names(&second), ["PPO", "SPIN", "IRL", "SFT"]);
    let difference = |json: &serde_json::Value, at: usize| {
        json["comparisons"][at]["difference"].as_f64().unwrap()
    };
    assert!((difference(&first, 0) - difference(&second, 2)).abs() < 1e-15);
}

#[test]
fn dropped_units_are_counted() {
    let note = "3 units in both, dropped 1 found only in SPIN and 1 found only in SFT";
    let table = table(TABLE);
    assert!(stdout(&mut stats(&table, &["--baseline", "SFT"])).contains(note));
    stats(&table, &["--baseline", "SFT", "--json"])
        .assert()
        .success()
        .stderr(predicate::str::contains(note));
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
    let low = |level: &str| {
        json(&table, &["--level", level])["estimates"][0]["ci_low"]
            .as_f64()
            .unwrap()
    };
    assert!(low("0.99") < low("0.9"));
    fails(
        &mut stats(&table, &["--level", "95"]),
        &["confidence level must lie strictly between 0 and 1, not 95"],
    );
}

#[test]
fn parquet_reads_like_csv() {
    use polars::prelude::*;
    let text = table(TABLE);
    let path = text.path.with_extension("parquet");
    let reader = CsvReadOptions::default()
        .try_into_reader_with_file_path(Some(text.path.clone()))
        .unwrap();
    let mut frame = reader.finish().unwrap();
    ParquetWriter::new(std::fs::File::create(&path).unwrap())
        .finish(&mut frame)
        .unwrap();
    let expected = json(&text, &["--baseline", "SFT"]);
    let parquet = Table {
        _folder: text._folder,
        path,
    };
    assert_eq!(json(&parquet, &["--baseline", "SFT"]), expected);
}

#[test]
fn a_unit_that_occurs_twice_is_named() {
    let twice = table(&format!("{TABLE}IRL,55513,0.7\n"));
    fails(
        &mut stats(&twice, &[]),
        &[
            "unit \"55513\" occurs twice in group \"IRL\", in rows 6 and 14",
            "finer --unit column",
        ],
    );
}

#[test]
fn unknown_names_suggest_known_ones() {
    let table = table(TABLE);
    let mut command = Command::cargo_bin("touchstone").unwrap();
    command
        .arg("stats")
        .arg(&table.path)
        .args(["--value", "gold", "--group", "methods", "--unit", "seed"]);
    fails(
        &mut command,
        &[
            "no column \"methods\"",
            "did you mean \"method\"?",
            "method, seed, gold",
        ],
    );
    fails(
        &mut stats(&table, &["--baseline", "sft"]),
        &[
            "no group \"sft\"",
            "did you mean \"SFT\"?",
            "SFT, IRL, SPIN, PPO",
        ],
    );
}

#[test]
fn bad_values_are_shown_with_their_row() {
    for (cell, shown) in [
        ("good", "\"good\""),
        ("", "nothing"),
        ("NaN", "\"NaN\""),
        ("inf", "\"inf\""),
    ] {
        let bad = table(&format!("method,seed,gold\nSFT,1,0.5\nSFT,2,{cell}\n"));
        fails(
            &mut stats(&bad, &[]),
            &[&format!("column \"gold\" has {shown} in row 2")],
        );
    }
    fails(
        &mut stats(&table("method,seed,gold\nSFT,,0.5\n"), &[]),
        &["column \"seed\" has nothing in row 1"],
    );
}

/// The command `stats` on a table written by another program, with three of its columns.
fn of_fixture(name: &str, [value, group, unit]: [&str; 3]) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tables")
        .join(name);
    let mut command = Command::cargo_bin("touchstone").unwrap();
    command
        .arg("stats")
        .arg(path)
        .args(["--value", value, "--group", group, "--unit", unit]);
    command
}

/// The groups with their means.
fn means(command: &mut Command) -> Vec<(String, f64)> {
    let json: serde_json::Value = serde_json::from_str(&stdout(command.arg("--json"))).unwrap();
    let row = |row: &serde_json::Value| {
        (
            row["group"].as_str().unwrap().to_owned(),
            row["mean"].as_f64().unwrap(),
        )
    };
    json["estimates"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect()
}

#[test]
fn numbers_of_every_type_are_read() {
    let by_file = [
        (
            "pyarrow.parquet",
            "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 decimal32 decimal64 decimal128 \
             decimal256 spelled duration",
            1.0,
        ),
        ("pandas.parquet", "float64 Float32", 1.0),
        ("pandas.parquet", "timedelta", 1e6),
        ("polars.parquet", "float32 decimal", 1.0),
        ("polars.parquet", "duration", 1e3),
        ("encodings.parquet", "float64 int64 decimal128", 1.0),
    ];
    for (file, columns, scale) in by_file {
        for column in columns.split_whitespace() {
            let found = means(&mut of_fixture(file, [column, "method", "seed"]));
            assert_eq!(
                found,
                [("SFT".into(), 1.5 * scale), ("IRL".into(), 3.5 * scale)],
                "{file}: {column}"
            );
        }
    }
    for (file, column) in [("pyarrow.parquet", "bool"), ("pandas.parquet", "boolean")] {
        let found = means(&mut of_fixture(file, [column, "method", "seed"]));
        assert_eq!(
            found,
            [("SFT".into(), 0.5), ("IRL".into(), 1.0)],
            "{file}: {column}"
        );
    }
    assert_eq!(
        means(&mut of_fixture(
            "pandas.parquet",
            ["integers", "method", "seed"]
        ))[0]
            .1,
        1.5
    );
    assert_eq!(
        means(&mut of_fixture(
            "pyarrow.parquet",
            ["big", "method", "seed"]
        ))[0]
            .1,
        2_f64.powi(63)
    );
}

#[test]
fn groups_and_units_of_every_type_are_read() {
    let groups = |file: &str, group: &str, unit: &str| {
        let value = if file == "polars.parquet" {
            "float32"
        } else {
            "float64"
        };
        means(&mut of_fixture(file, [value, group, unit]))
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    let methods = [
        (
            "pyarrow.parquet",
            "method large_string string_view binary dictionary",
        ),
        ("pandas.parquet", "method string object"),
        ("polars.parquet", "method enum string"),
    ];
    for (file, columns) in methods {
        for column in columns.split_whitespace() {
            assert_eq!(
                groups(file, column, "seed"),
                ["SFT", "IRL"],
                "{file}: {column}"
            );
        }
    }
    let spelled: [(&str, &str, &[&str]); 18] = [
        ("pyarrow.parquet", "int8", &["1", "2", "3", "4"]),
        (
            "pyarrow.parquet",
            "big",
            &["18446744073709551615", "1", "9223372036854775808", "2"],
        ),
        ("pyarrow.parquet", "float32", &["1.0", "2.0", "3.0", "4.0"]),
        ("pyarrow.parquet", "float16", &["1.0", "2.0", "3.0", "4.0"]),
        (
            "pyarrow.parquet",
            "decimal32",
            &["1.00", "2.00", "3.00", "4.00"],
        ),
        (
            "pyarrow.parquet",
            "decimal256",
            &[
                "1.0000000000",
                "2.0000000000",
                "3.0000000000",
                "4.0000000000",
            ],
        ),
        ("pyarrow.parquet", "date32", &["2026-01-01", "2026-01-02"]),
        ("pyarrow.parquet", "date64", &["2026-01-01", "2026-01-02"]),
        ("pyarrow.parquet", "time32", &["08:30:00", "09:45:01.500"]),
        ("pyarrow.parquet", "time64", &["08:30:00", "09:45:01.500"]),
        (
            "pyarrow.parquet",
            "seconds",
            &["2026-01-01 12:30:00", "2026-01-02 12:30:00"],
        ),
        (
            "pyarrow.parquet",
            "nanoseconds",
            &["2026-01-01 12:30:00", "2026-01-02 12:30:00.250"],
        ),
        (
            "pyarrow.parquet",
            "zoned",
            &["2026-01-01 12:30:00 UTC", "2026-01-02 12:30:00.250 UTC"],
        ),
        (
            "pyarrow.parquet",
            "uuid",
            &[
                "00000000-0000-0000-0000-000000000001",
                "00000000-0000-0000-0000-000000000002",
            ],
        ),
        (
            "encodings.parquet",
            "nanoseconds",
            &["2026-01-01 12:30:00", "2026-01-02 12:30:00.250"],
        ),
        (
            "pandas.parquet",
            "zoned",
            &["2026-01-01 03:30:00 UTC", "2026-01-02 03:30:00.250 UTC"],
        ),
        ("polars.parquet", "time", &["08:30:00", "09:45:01.500"]),
        (
            "polars.parquet",
            "datetime",
            &["2026-01-01 12:30:00", "2026-01-02 12:30:00.250"],
        ),
    ];
    for (file, column, names) in spelled {
        assert_eq!(groups(file, column, "method"), names, "{file}: {column}");
        // The column also serves as the unit, with each of its values once in every group.
        if names.len() == 2 {
            assert_eq!(
                groups(file, "method", column),
                ["SFT", "IRL"],
                "{file}: {column}"
            );
        }
    }
}

#[test]
fn what_is_no_number_or_name_is_refused_by_its_name() {
    let refused = [
        ("date32", "method", "\"date32\" holds dates, not numbers"),
        (
            "time64",
            "method",
            "\"time64\" holds times of day, not numbers",
        ),
        ("zoned", "method", "\"zoned\" holds timestamps, not numbers"),
        ("uuid", "method", "\"uuid\" holds UUIDs, not numbers"),
        ("list", "method", "\"list\" holds lists, structs or maps"),
        (
            "struct",
            "method",
            "\"struct\" holds lists, structs or maps",
        ),
        ("float64", "map", "\"map\" holds lists, structs or maps"),
        (
            "float64",
            "fixed",
            "\"fixed\" holds bytes of a fixed length",
        ),
        ("null", "method", "\"null\" has nothing in row 1"),
        ("float64", "null", "\"null\" has nothing in row 1"),
        ("holes", "method", "\"holes\" has nothing in row 3"),
        ("float64", "holes", "\"holes\" has nothing in row 3"),
        (
            "not_a_number",
            "method",
            "\"not_a_number\" has NaN in row 2",
        ),
        (
            "float64",
            "not_a_number",
            "\"not_a_number\" has NaN in row 2",
        ),
        ("method", "method", "\"method\" has \"SFT\" in row 1"),
        ("float64", "not_text", "is not UTF-8, in row 1"),
    ];
    for (value, group, message) in refused {
        fails(
            &mut of_fixture("pyarrow.parquet", [value, group, "seed"]),
            &["pyarrow.parquet: column", message],
        );
    }
    fails(
        &mut of_fixture("polars.parquet", ["int128", "method", "seed"]),
        &["\"int128\" holds bytes", "cast the column"],
    );
    // The error is the same for any named columns.
    fails(
        &mut of_fixture("twice.parquet", ["score", "method", "seed"]),
        &["\"score\" occurs twice, as columns 3 and 4"],
    );
    fails(
        &mut of_fixture("twice.parquet", ["seed", "method", "seed"]),
        &["\"score\" occurs twice"],
    );
}

#[test]
fn a_csv_is_read_by_what_it_says_not_by_what_it_is_called() {
    let same = |text: &str| assert_eq!(json(&table(text), &[]), json(&table(TABLE), &[]), "{text}");
    same(&TABLE.replace(',', ";"));
    same(&TABLE.replace(',', "\t"));
    same(&TABLE.replace('\n', "\r\n"));
    same(&format!("\u{feff}{TABLE}"));
    same(TABLE.trim_end());
    same(
        &TABLE
            .replace("SFT", "\"SFT\"")
            .replace("0.590", "\"0.590\"")
            .replace("0.611", " 0.611"),
    );
    // Columns without a name and cells that are not requested may contain anything.
    same(&TABLE.replace('\n', ",,\"\u{1F600}, \"\"\"\n"));
    let mut renamed = table(TABLE);
    let parquet = renamed.path.with_extension("parquet");
    std::fs::rename(&renamed.path, &parquet).unwrap();
    renamed.path = parquet;
    assert_eq!(json(&renamed, &[]), json(&table(TABLE), &[]));
    let shares = json(&table("method,seed,gold\nSFT,1,True\nSFT,2,false\n"), &[]);
    assert_eq!(shares["estimates"][0]["mean"], 0.5);
    // 1 and 1.0 are different units, because their texts differ.
    let exact = json(&table("method,seed,gold\nSFT,1,1\nSFT,1.0,2\n"), &[]);
    assert_eq!(exact["estimates"][0]["n"], 2);
}

#[test]
fn what_a_csv_must_not_be_is_named() {
    let refused: [(&str, &[&str]); 11] = [
        (
            "method,gold,seed,gold\nSFT,1,1,1\n",
            &["\"gold\" occurs twice, as columns 2 and 4", "rename"],
        ),
        (
            "note,method,seed,gold,note\na,SFT,1,1,b\n",
            &["\"note\" occurs twice, as columns 1 and 5"],
        ),
        (
            "method;seed;gold\nSFT;1;0,5\n",
            &["\"gold\" has \"0,5\" in row 1", "decimal point"],
        ),
        (
            "method,seed,gold\nSFT,1,\"1,234.5\"\n",
            &["has \"1,234.5\" in row 1", "between their thousands"],
        ),
        (
            "method,seed,gold\nSFT,1,0,5\n",
            &[
                "row 1 (line 2) has 4 fields where the header has 3",
                "decimal commas",
            ],
        ),
        (
            "method,seed,gold\nSFT,1,1\n\nSFT,2\n",
            &["row 2 (line 3) has 2 fields"],
        ),
        (
            "method,seed,gold\nSFT,1,1\nSFT,2,\"2\nSFT,3,3\n",
            &["quoted field that begins in or after line 3 is never closed"],
        ),
        (
            "<!DOCTYPE html>\n<html></html>",
            &["is a web page", "download the file again"],
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            &["git-lfs pointer", "git lfs pull"],
        ),
        (
            "{\"method\": \"SFT\"}\n",
            &["is not a csv or parquet table: it is JSON"],
        ),
        (" \n", &["it is empty"]),
    ];
    for (text, parts) in refused {
        fails(&mut stats(&table(text), &[]), parts);
    }
    let utf16: Vec<u8> = "\u{feff}method,seed,gold\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let bytes: [(&[u8], &[&str]); 6] = [
        (&utf16, &["in UTF-16", "iconv -f UTF-16"]),
        (&utf16[2..], &["in UTF-16", "iconv -f UTF-16LE"]),
        (b"\x1f\x8b\x08\0", &["compressed with gzip", "gzip -d"]),
        (b"PK\x03\x04", &["zip archive", "unpack it"]),
        (
            b"PAR1PAR1",
            &["cannot be read as parquet", "cut short or damaged"],
        ),
        (
            b"method,seed,gold\nSFT\xe9,1,1\n",
            &["\"method\" has \"SFT\u{fffd}\"", "iconv -f LATIN1"],
        ),
    ];
    for (bytes, parts) in bytes {
        let file = table("");
        std::fs::write(&file.path, bytes).unwrap();
        fails(&mut stats(&file, &[]), parts);
    }
    let folder = TempDir::new().unwrap();
    let folder = Table {
        path: folder.path().to_owned(),
        _folder: folder,
    };
    fails(
        &mut stats(&folder, &[]),
        &["is a folder, not a csv or parquet table"],
    );
}

#[test]
fn values_without_spread_have_no_interval() {
    let still = table("method,seed,gold\nSFT,1,0.3\nSFT,2,0.3\nIRL,1,0.4\nIRL,2,0.4\n");
    let json = json(&still, &["--baseline", "SFT"]);
    assert_eq!(json["estimates"][0]["se"], 0.0);
    for row in [&json["estimates"][0], &json["comparisons"][0]] {
        assert!(row["ci_low"].is_null() && row["ci_high"].is_null(), "{row}");
    }
    let text = stdout(&mut stats(&still, &[]));
    let cells: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("SFT"))
        .flat_map(str::split_whitespace)
        .collect();
    assert_eq!(cells, ["SFT", "2", "0.3000", "0.0000", "n/a"]);
}

#[test]
fn an_empty_or_missing_table_is_an_error() {
    fails(&mut stats(&table("method,seed,gold\n"), &[]), &["no rows"]);
    let mut gone = table(TABLE);
    gone.path.set_extension("missing.csv");
    fails(
        &mut stats(&gone, &[]),
        &["reading the table", "scores.missing.csv"],
    );
}
