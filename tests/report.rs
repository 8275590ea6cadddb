//! Tests of reports written from a small invented experiment: 5 seeds, 2 sizes, 5 methods and 3
//! heuristics, one failed and one collapsed cell. Snapshots fix every byte that a reader sees; the
//! other tests state what must never happen.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use polars::prelude::{
    CsvReadOptions, DataFrame, IntoColumn, NamedFrom, ParquetReader, SerReader, Series,
};
use proptest::prelude::*;
use touchstone::report::compare::{self, Sameness};
use touchstone::report::{
    self, Ablation, CellStatus, Claim, Cost, Curve, ItemValues, MethodRow, Metric, Metrics,
    ReportInput, Status, Tuning,
};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/report")
        .join(name)
}

fn csv(path: &Path) -> DataFrame {
    CsvReadOptions::default()
        .with_infer_schema_length(None)
        .try_into_reader_with_file_path(Some(path.to_owned()))
        .and_then(SerReader::finish)
        .unwrap()
}

fn fixture() -> ReportInput {
    let mut input: ReportInput =
        serde_json::from_str(&fs::read_to_string(here("input.json")).unwrap()).unwrap();
    input.metrics = Metrics::from_frame(&csv(&here("metrics.csv"))).unwrap();
    input
}

/// Additions to the fixture: points of three ablations, curves with bands, items and claims about
/// them.
#[derive(serde::Deserialize)]
struct Questions {
    methods: Vec<MethodRow>,
    cells: Vec<CellStatus>,
    costs: Vec<Cost>,
    ablations: Vec<Ablation>,
    curves: Vec<Curve>,
    items: Vec<ItemValues>,
    claims: Vec<Claim>,
}

fn with_questions() -> ReportInput {
    let mut input = fixture();
    let more: Questions =
        serde_json::from_str(&fs::read_to_string(here("questions.json")).unwrap()).unwrap();
    let rows = Metrics::from_frame(&csv(&here("questions.csv"))).unwrap();
    input.metrics = Metrics::from_rows([input.metrics.rows(), rows.rows()].concat()).unwrap();
    input.layout.methods.extend(more.methods);
    input.header.cells.extend(more.cells);
    input.costs.extend(more.costs);
    input.curves.extend(more.curves);
    input.claims.extend(more.claims);
    input.ablations = more.ablations;
    input.items = more.items;
    input
}

/// The fixture with those metric rows that `keep` accepts.
fn with_rows(keep: impl Fn(&Metric) -> bool) -> ReportInput {
    let mut input = fixture();
    let rows = input
        .metrics
        .rows()
        .iter()
        .filter(|row| keep(row))
        .cloned()
        .collect();
    input.metrics = Metrics::from_rows(rows).unwrap();
    input
}

/// All files of a report by their path in it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

/// Writes a report to a new folder and reads all files back.
fn written(input: &ReportInput) -> BTreeMap<String, Vec<u8>> {
    let home = tempfile::tempdir().unwrap();
    let path = report::write(input, &home.path().join("out")).unwrap();
    assert_eq!(path, home.path().join("out/report.md"));
    let left: Vec<_> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["out"], "nothing but the report is left behind");
    files(&home.path().join("out"))
}

fn markdown(input: &ReportInput) -> String {
    String::from_utf8(written(input).remove("report.md").unwrap()).unwrap()
}

/// The rows of a markdown table that begin with `| first |`.
fn rows<'t>(text: &'t str, first: &str) -> Vec<&'t str> {
    text.lines()
        .filter(|line| line.starts_with(&format!("| {first} |")))
        .collect()
}

fn assert_snapshots<'f>(prefix: &str, files: impl IntoIterator<Item = (&'f String, &'f Vec<u8>)>) {
    // Eight digits are kept: the last ones of a quantile differ between the mathematics libraries
    // of two systems.
    insta::with_settings!({filters => vec![(r"(\.\d{8})\d+", "$1")]}, {
        for (name, bytes) in files {
            // The HTML page has the contents of the other snapshots, and is checked separately
            // below.
            if !name.ends_with(".parquet") && !["metrics.csv", "report.html"].contains(&name.as_str()) {
                let name = format!("{prefix}{}", name.replace('/', "-"));
                insta::assert_snapshot!(name, String::from_utf8_lossy(bytes));
            }
        }
    });
}

#[test]
fn every_text_file_is_as_it_was() {
    assert_snapshots("", &written(&fixture()));
}

#[test]
fn every_text_file_about_questions_is_as_it_was() {
    let (plain, files) = (written(&fixture()), written(&with_questions()));
    assert_snapshots(
        "questions-",
        files
            .iter()
            .filter(|(name, bytes)| plain.get(*name) != Some(bytes)),
    );
}

#[test]
fn the_html_page_says_what_the_markdown_says_in_one_file() {
    let files = written(&with_questions());
    let page = String::from_utf8(files["report.html"].clone()).unwrap();
    let text = String::from_utf8(files["report.md"].clone()).unwrap();
    let headings = |text: &str, start: &str, end: &str| -> Vec<String> {
        let title = |line: &str| Some(line.strip_prefix(start)?.strip_suffix(end)?.to_owned());
        text.lines().filter_map(title).collect()
    };
    assert_eq!(headings(&page, "<h2>", "</h2>"), headings(&text, "## ", ""));
    assert_eq!(
        headings(&page, "<h3>", "</h3>"),
        headings(&text, "### ", "")
    );
    // Every number of the markdown page is in the HTML page, where intervals are wrapped in
    // elements.
    let page_text = page
        .replace("<span class=\"interval\">", "")
        .replace("</span>", "");
    let numbers = text
        .split(['|', '*', '≈'])
        .map(str::trim)
        .filter(|cell| cell.contains(" ["));
    let missing: Vec<&str> = numbers
        .filter(|cell| cell.starts_with(char::is_numeric) && !page_text.contains(cell))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(
        page.matches("<svg ").count(),
        files.keys().filter(|name| name.ends_with(".svg")).count()
    );
    assert!(
        !page.contains("src=") && !page.contains("{{"),
        "the page needs nothing but itself"
    );
}

#[test]
fn the_console_summary_is_as_it_was() {
    insta::assert_snapshot!(report::console(&fixture()).unwrap());
}

#[test]
fn the_same_input_gives_the_same_bytes_and_a_report_replaces_an_earlier_one() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("out");
    report::write(&fixture(), &dir).unwrap();
    let first = files(&dir);
    fs::write(dir.join("tables/left-over.csv"), "old").unwrap();
    report::write(&fixture(), &dir).unwrap();
    assert!(first == files(&dir));
    assert!(
        first.contains_key("tables/main.parquet") && first.contains_key("figures/gold_score.svg")
    );
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("thesis.tex"), "years").unwrap();
    let error = report::write(&fixture(), home.path()).unwrap_err();
    assert!(error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(
        files(home.path()).into_keys().collect::<Vec<_>>(),
        ["thesis.tex"]
    );
}

#[test]
fn parquet_holds_what_csv_holds() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("out");
    report::write(&fixture(), &dir).unwrap();
    let mut compared = 0;
    for name in files(&dir)
        .into_keys()
        .filter(|name| name.ends_with(".parquet"))
    {
        let parquet = ParquetReader::new(fs::File::open(dir.join(&name)).unwrap())
            .finish()
            .unwrap();
        // csv has no types, so its columns are read with the types of the parquet file.
        let options = CsvReadOptions::default().with_schema(Some(parquet.schema().clone()));
        let path = dir.join(name.replace(".parquet", ".csv"));
        let csv = options
            .try_into_reader_with_file_path(Some(path))
            .unwrap()
            .finish()
            .unwrap();
        assert!(csv.equals_missing(&parquet), "{name}: {csv} {parquet}");
        compared += 1;
    }
    assert_eq!(compared, 18, "seventeen tables and the metrics");
}

#[test]
fn metrics_survive_the_way_out_and_back() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("out");
    let input = fixture();
    report::write(&input, &dir).unwrap();
    assert_eq!(
        Metrics::from_frame(&csv(&dir.join("metrics.csv"))).unwrap(),
        input.metrics
    );
    let json = serde_json::to_string(&input).unwrap();
    assert_eq!(serde_json::from_str::<ReportInput>(&json).unwrap(), input);
}

#[test]
fn known_numbers_reach_the_page() {
    // STUDENT T: mean .612 [.589837, .634163] of these four; paired p .0204474 against the second
    // row.
    let sets = [
        ("irl", [0.612, 0.598, 0.631, 0.607]),
        ("sft", [0.585, 0.590, 0.611, 0.579]),
    ];
    let mut input = fixture();
    let row = |method: &str, seed: usize, value| Metric {
        method: method.to_owned(),
        size: "s".to_owned(),
        seed: seed as i64,
        iteration: 0,
        metric: "gold_score".to_owned(),
        value: Some(value),
    };
    let values = sets.iter().flat_map(|(method, values)| {
        values
            .iter()
            .enumerate()
            .map(move |(seed, value)| row(method, seed + 1, *value))
    });
    input.metrics = Metrics::from_rows(values.collect()).unwrap();
    let text = markdown(&input);
    assert!(
        rows(&text, "IRL")
            .iter()
            .any(|line| line.contains("**0.612 [0.590, 0.634] (n=4)**")),
        "{text}"
    );
    let differences =
        String::from_utf8(written(&input)["tables/differences-to-baseline.csv"].clone()).unwrap();
    assert!(differences.contains(",0.02044"), "{differences}");
}

#[test]
fn a_heuristic_is_no_policy_and_a_policy_without_reward_is_in_no_reward_table() {
    let text = markdown(&fixture());
    let section = |from: &str, to: &str| {
        let start = text.find(from).unwrap();
        &text[start..start + text[start..].find(to).unwrap()]
    };
    assert!(!section("## Policies", "## Rewards").contains("longer is better"));
    let rewards = section("## Rewards", "## What it cost");
    assert!(rows(rewards, "SFT").is_empty() && rows(rewards, "longer is better").len() == 2);
}

#[test]
fn one_seed_has_a_mean_but_no_interval() {
    let input = with_rows(|row| row.seed == 1);
    let text = markdown(&input);
    let cells: Vec<&str> = rows(&text, "SFT")
        .into_iter()
        .filter(|line| line.contains("[n/a] (n=1)"))
        .collect();
    assert_eq!(
        cells.len(),
        8,
        "main, dominance, collapses and diagnostics at two sizes\n{text}"
    );
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    assert!(
        !text.contains("**0."),
        "nothing is separated by one seed\n{text}"
    );
    assert!(text.contains("no verdict: one seed shows no spread"));
}

#[test]
fn a_method_without_any_value_keeps_its_row_while_a_cell_of_it_is_missing() {
    let mut input = with_rows(|row| row.method != "spin");
    for cell in input
        .header
        .cells
        .iter_mut()
        .filter(|cell| cell.method == "spin")
    {
        cell.status = Status::Missing;
    }
    let text = markdown(&input);
    assert!(text.contains("| SPIN | n/a | n/a |"), "{text}");
    assert!(text.contains("10 missing"), "{text}");
    assert!(text.contains("no data: no seed has both methods"), "{text}");
}

#[test]
fn a_report_of_nothing_but_failures_is_still_a_report() {
    let mut input = with_rows(|_| false);
    for cell in &mut input.header.cells {
        cell.status = Status::Failed {
            error: "no disk".to_owned(),
        };
    }
    let files = written(&input);
    let text = String::from_utf8(files["report.md"].clone()).unwrap();
    assert!(
        text.contains("50 planned: 0 finished, 50 failed, 0 collapsed, 0 missing"),
        "{text}"
    );
    assert!(text.contains("| IRL | n/a | n/a |"), "{text}");
    assert!(!text.contains("NaN"), "{text}");
    assert!(
        !files.keys().any(|name| name.starts_with("figures/gold")),
        "an empty figure says nothing"
    );
    assert!(report::console(&input).unwrap().contains("no data"));
}

#[test]
fn a_claim_over_all_sizes_is_not_supported_by_one_of_them() {
    // SFT is raised above IRL at the larger size.
    let mut input = fixture();
    let lifted = |mut row: Metric| {
        if row.method == "sft" && row.size == "m" {
            row.value = row.value.map(|value| value + 1.0);
        }
        row
    };
    input.metrics =
        Metrics::from_rows(input.metrics.rows().iter().cloned().map(lifted).collect()).unwrap();
    assert!(
        markdown(&input).contains("**depends on the size**: IRL makes a better policy than SFT")
    );
}

#[test]
fn what_cannot_be_meant_is_an_error_that_names_its_place() {
    let message = |corrupt: fn(&mut ReportInput)| {
        let mut input = fixture();
        corrupt(&mut input);
        report::console(&input).unwrap_err().to_string()
    };
    assert!(message(|input| input.layout.primary = "glod".to_owned()).contains("`glod`"));
    assert!(
        message(|input| input.claims[0].method = "ilr".to_owned())
            .contains("claim `irl-beats-sft`")
    );
    assert!(message(|input| input.claims[2].margin = Some(0.0)).contains("irl-matches-rlhf"));
    assert!(message(|input| input.layout.level = 95.0).contains("95"));
    assert!(message(|input| input.layout.tables[1].id = "main".to_owned()).contains("`main`"));

    let twice = [fixture().metrics.rows(), &fixture().metrics.rows()[..1]].concat();
    assert!(
        Metrics::from_rows(twice)
            .unwrap_err()
            .to_string()
            .contains("two values")
    );
    let frame = csv(&here("metrics.csv")).drop("seed").unwrap();
    assert!(
        Metrics::from_frame(&frame)
            .unwrap_err()
            .to_string()
            .contains("`seed`")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_order_of_rows_changes_nothing(
        order in Just((0..with_questions().metrics.rows().len() as u32).collect::<Vec<_>>()).prop_shuffle(),
        costs in Just((0..with_questions().costs.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let input = with_questions();
        let mut shuffled = input.clone();
        let frame = input_frame(&input);
        let picked = frame.take(&polars::prelude::IdxCa::new("order".into(), order)).unwrap();
        shuffled.metrics = Metrics::from_frame(&picked).unwrap();
        shuffled.costs = costs.into_iter().map(|at| input.costs[at].clone()).collect();
        shuffled.header.cells.reverse();
        shuffled.items.reverse();
        shuffled.curves.iter_mut().for_each(|curve| curve.lines.reverse());
        prop_assert!(written(&input) == written(&shuffled));
    }
}

/// The metrics as a data frame, with the types that another tool's reader might give them.
fn input_frame(input: &ReportInput) -> DataFrame {
    let mut frame = input.metrics.frame().unwrap();
    let seeds: Vec<i32> = input
        .metrics
        .rows()
        .iter()
        .map(|row| row.seed as i32)
        .collect();
    frame
        .with_column(Series::new("seed".into(), seeds).into_column())
        .unwrap();
    frame
}

// --- Questions ---

#[test]
fn a_point_is_in_the_questions_and_in_claims_and_nowhere_among_the_methods() {
    let text = markdown(&with_questions());
    let questions = text
        .split_once("## Questions\n")
        .unwrap()
        .1
        .split_once("## Limits")
        .unwrap()
        .0;
    let rest = text
        .split_once("## Policies\n")
        .unwrap()
        .1
        .split_once("## Observations")
        .unwrap()
        .0;
    assert!(questions.contains("| IRL | 300 |"), "{questions}");
    assert!(
        !rest.contains("demonstrations |") && !rest.contains("replaced"),
        "{rest}"
    );
    assert!(
        text.contains("(IRL, 50 % of demonstrations replaced − IRL) > (SFT, 50 % of demonstrations replaced − SFT)")
    );
    // Marks, corrections and drawings of the methods do not change when points are added.
    let (before, after) = (written(&fixture()), written(&with_questions()));
    for name in [
        "tables/reward.csv",
        "tables/iterations.csv",
        "figures/gold_score.svg",
    ] {
        assert!(before[name] == after[name], "{name}");
    }
}

#[test]
fn a_relative_claim_is_the_difference_of_two_differences() {
    let files = written(&with_questions());
    let metrics = Metrics::from_frame(&csv(&here("questions.csv"))).unwrap();
    let all = with_questions().metrics;
    let by_seed = |method: &str| {
        if method.contains("noise") {
            &metrics
        } else {
            &all
        }
        .last(method, "s", "gold_score")
    };
    let [irl_noise, irl, sft_noise, sft] =
        ["irl-noise50", "irl", "sft-noise50", "sft"].map(by_seed);
    let gains: Vec<f64> = irl
        .keys()
        .map(|seed| irl_noise[seed] - irl[seed] - (sft_noise[seed] - sft[seed]))
        .collect();
    let expected = gains.iter().sum::<f64>() / gains.len() as f64;
    let table = String::from_utf8(files["tables/claims.csv"].clone()).unwrap();
    let row = table
        .lines()
        .find(|line| line.starts_with("irl-degrades-less"))
        .unwrap();
    // The first non-zero number; a zero is the count of the simultaneous interval, which only
    // primary claims have.
    let found = row
        .split(',')
        .filter_map(|cell| cell.parse::<f64>().ok())
        .find(|value| *value != 0.0)
        .unwrap();
    assert!((found - expected).abs() < 1e-12, "{row} {expected}");
}

#[test]
fn a_level_is_met_inside_the_range_by_every_seed_or_there_is_no_number() {
    let crossing = |input: &ReportInput| {
        let table = String::from_utf8(written(input)["tables/crossing-noise.csv"].clone()).unwrap();
        table
            .lines()
            .find(|line| line.contains("small (1 M),gold score,IRL,"))
            .unwrap()
            .to_owned()
    };
    let parts = |row: &str| {
        row.rsplitn(5, ',')
            .take(4)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // On a line from a to b over [0, .5] the level is met at .5 (a − level) / (a − b), wherever the
    // third point lies.
    let mut input = with_questions();
    input.ablations[1].lines[0].points.remove(1);
    let levels = |method: &str| input.metrics.last(method, "s", "gold_score");
    let [clean, noisy, level] = ["irl", "irl-noise50", "sft"].map(levels);
    let met: Vec<f64> = level
        .keys()
        .map(|seed| 0.5 * (clean[seed] - level[seed]) / (clean[seed] - noisy[seed]))
        .collect();
    let row = crossing(&input);
    let inside = met.iter().filter(|x| **x <= 0.5).count();
    assert_eq!(
        parts(&row),
        ["0", &(5 - inside).to_string(), "0", &inside.to_string()],
        "{row} {met:?}"
    );
    assert_eq!(row.contains(",,,,"), inside < 5, "{row}");
    // If one seed never reaches the level, no number is given for any seed.
    let with = |value: &dyn Fn(&Metric) -> Option<f64>| {
        let row = |row: &Metric| Metric {
            value: value(row),
            ..row.clone()
        };
        let metrics = Metrics::from_rows(input.metrics.rows().iter().map(row).collect()).unwrap();
        crossing(&ReportInput {
            metrics,
            ..input.clone()
        })
    };
    let end =
        |row: &Metric| row.method == "irl-noise50" && row.metric == "gold_score" && row.size == "s";
    let row = with(&|row| {
        if end(row) && row.seed == 2 {
            Some(clean[&2])
        } else {
            row.value
        }
    });
    assert!(
        row.contains("falls to it") && row.contains(",,,,") && parts(&row)[1] != "0",
        "{row}"
    );
    // A line that improves and begins past the level reached it before its first x.
    let row = with(&|row| {
        if end(row) {
            Some(clean[&row.seed] + 1.0)
        } else {
            row.value
        }
    });
    assert!(row.contains("rises to it") && row.contains(",,,,"), "{row}");
    let before = clean
        .iter()
        .filter(|(seed, value)| *value > &level[*seed])
        .count();
    assert_eq!(parts(&row)[2], before.to_string(), "{row}");
}

#[test]
fn what_an_ablation_cannot_mean_is_an_error_that_names_it() {
    let message = |corrupt: fn(&mut ReportInput)| {
        let mut input = with_questions();
        corrupt(&mut input);
        report::console(&input).unwrap_err().to_string()
    };
    assert!(message(|input| input.ablations[0].lines[0].points[0].x = None).contains("without x"));
    assert!(
        message(|input| input.ablations[0].lines[0].points[0].x = Some(0.0))
            .contains("nowhere on its axis")
    );
    assert!(
        message(|input| input.ablations[0].lines[0].points[0].x = Some(300.0)).contains("at one x")
    );
    assert!(
        message(|input| input.ablations[1].against = Some("sfd".to_owned())).contains("`noise`")
    );
    assert!(
        message(|input| input.ablations[2].id = "noise".to_owned()).contains("ablation `noise`")
    );
}

// --- Comparison ---

/// The fixture's metrics with each value passed through `change`; rows for which it returns `None`
/// are left out.
fn changed(change: impl Fn(&Metric) -> Option<Option<f64>>) -> Metrics {
    let rows = fixture()
        .metrics
        .rows()
        .iter()
        .filter_map(|row| {
            Some(Metric {
                value: change(row)?,
                ..row.clone()
            })
        })
        .collect();
    Metrics::from_rows(rows).unwrap()
}

#[test]
fn a_comparison_tells_what_moved_from_what_seeds_explain() {
    let first = fixture().metrics;
    let other = |row: &Metric| match (row.method.as_str(), row.metric.as_str()) {
        // A large change, slightly different under every seed.
        ("sft", "gold_score") => Some(row.value.map(|value| value - 0.3 + 0.001 * row.seed as f64)),
        // Noise: up under some seeds, down under others.
        ("dpo", "gold_score") => Some(
            row.value
                .map(|value| value + 0.01 * (row.seed % 2) as f64 - 0.005),
        ),
        ("irl", "length") => Some(row.value.map(|value| value + 2.0)),
        ("spin", "win_rate") => None,
        _ => Some(row.value),
    };
    let compared = compare::compare(&first, &changed(other), 0.95).unwrap();
    insta::assert_snapshot!(compare::render(&compared, 0.95));
    let of = |method: &str, metric: &str| {
        compared
            .iter()
            .find(|it| {
                (it.method.as_str(), it.metric.as_str(), it.size.as_str()) == (method, metric, "s")
            })
            .unwrap()
    };
    assert_eq!(of("sft", "gold_score").sameness, Sameness::Moved);
    assert_eq!(of("dpo", "gold_score").sameness, Sameness::Explained);
    assert_eq!(
        of("irl", "length").sameness,
        Sameness::Moved,
        "the same shift under every seed"
    );
    assert_eq!(of("spin", "win_rate").sameness, Sameness::OnlyFirst);
    assert_eq!(of("irl", "gold_score").sameness, Sameness::Identical);
}

#[test]
fn without_shared_seeds_a_comparison_is_welch_s_and_one_seed_says_nothing() {
    let first = fixture().metrics;
    let later = |row: &Metric| Metric {
        seed: row.seed + 100,
        ..row.clone()
    };
    let second = Metrics::from_rows(first.rows().iter().map(later).collect()).unwrap();
    let compared = compare::compare(&first, &second, 0.95).unwrap();
    assert!(
        compared
            .iter()
            .all(|it| it.shared == 0 && it.sameness != Sameness::Identical)
    );
    let gold = compared
        .iter()
        .find(|it| (it.method.as_str(), it.metric.as_str()) == ("irl", "gold_score"))
        .unwrap();
    assert_eq!((gold.sameness, gold.p), (Sameness::Explained, Some(1.0)));
    let one = |seed: i64| {
        let rows = first
            .rows()
            .iter()
            .filter(|row| row.seed == seed)
            .map(|row| Metric {
                seed: 0,
                ..row.clone()
            });
        Metrics::from_rows(rows.collect()).unwrap()
    };
    let compared = compare::compare(&one(1), &one(2), 0.95).unwrap();
    let gold = compared
        .iter()
        .find(|it| (it.method.as_str(), it.metric.as_str()) == ("irl", "gold_score"))
        .unwrap();
    assert_eq!((gold.sameness, gold.p), (Sameness::Undecided, None));
}

// --- Many methods ---

#[test]
fn many_methods_are_drawn_as_rows_with_room_for_their_names() {
    let mut input = fixture();
    let spin = |row: &&Metric| row.method == "spin" && row.metric == "gold_score";
    let spins: Vec<Metric> = input.metrics.rows().iter().filter(spin).cloned().collect();
    let mut rows = input.metrics.rows().to_vec();
    for variant in 0..8 {
        let id = format!("spin-{variant}");
        let label =
            format!("SPIN, variant {variant}, with the pairs of every earlier iteration kept");
        input.layout.methods.push(MethodRow {
            id: id.clone(),
            label,
            heuristic: false,
            point: false,
        });
        let moved = |row: &Metric| Metric {
            method: id.clone(),
            value: row.value.map(|it| it + 0.01 * variant as f64),
            ..row.clone()
        };
        rows.extend(spins.iter().map(moved));
    }
    input.metrics = Metrics::from_rows(rows).unwrap();
    let files = written(&input);
    let figure = String::from_utf8(files["figures/gold_score.svg"].clone()).unwrap();
    insta::assert_snapshot!(figure);
    assert_eq!(
        figure.matches("SPIN, variant").count(),
        8,
        "a name for the panels of both sizes"
    );
    assert_eq!(
        figure.matches("<circle").count(),
        2 * 5 * (5 + 8) - 1,
        "every seed that there is"
    );
    // Headings of panels keep their size, whatever part of the method's name fits.
    let iterations =
        String::from_utf8(files["figures/gold_score-by-iteration.svg"].clone()).unwrap();
    assert_eq!(iterations.matches("…, medium (6 M)</text>").count(), 8);
}

/// Every accuracy has its share of ties beside it, as a separate column in csv and in the tables,
/// and the report explains the rule.
#[test]
fn ties_stand_beside_what_they_count_half_in() {
    let mut input = fixture();
    let accuracy = input
        .layout
        .metrics
        .iter_mut()
        .find(|metric| metric.id == "accuracy")
        .unwrap();
    accuracy.ties = Some("accuracy_ties".to_owned());
    let mut rows = input.metrics.rows().to_vec();
    let of_accuracy: Vec<Metric> = rows
        .iter()
        .filter(|row| row.metric == "accuracy")
        .cloned()
        .collect();
    rows.extend(of_accuracy.into_iter().map(|row| Metric {
        metric: "accuracy_ties".into(),
        value: Some(0.125),
        ..row
    }));
    input.metrics = Metrics::from_rows(rows).unwrap();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("report");
    report::write(&input, &folder).unwrap();
    for table in ["reward", "iterations"] {
        let frame = csv(&folder.join(format!("tables/{table}.csv")));
        let names: Vec<&str> = frame
            .get_column_names()
            .into_iter()
            .map(|name| name.as_str())
            .collect();
        let at = names
            .iter()
            .position(|name| *name == "accuracy_mark")
            .unwrap();
        assert_eq!(names[at + 1], "accuracy_ties", "{table}: {names:?}");
        let ties = frame.column("accuracy_ties").unwrap().f64().unwrap();
        assert!(
            ties.iter().flatten().count() > 0 && ties.iter().flatten().all(|share| share == 0.125),
            "{table}"
        );
    }
    let page = fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(
        page.contains("| ties |") && page.contains("| 0.125 |"),
        "{page}"
    );
    assert!(
        page.matches("A tie counts one half").count() >= 2,
        "beside the table and at the end"
    );
}

#[test]
fn what_was_tuned_is_tabled_with_points_apart() {
    let mut input = with_questions();
    let tuning = |method: &str, seed, lambda, edges: &[&str]| Tuning {
        method: method.into(),
        size: "m".into(),
        seed,
        section: "iq_learn".into(),
        epochs: 10,
        learning_rate: 3e-4,
        lambda,
        held_out_log_likelihood: -5.8125,
        edges: edges.iter().map(|edge| edge.to_string()).collect(),
        tried: 7,
        failed: 1,
    };
    assert!(
        !markdown(&input).contains("chosen by held-out"),
        "nothing was tuned"
    );
    input.tunings = vec![
        tuning("sft-noise50", 1, None, &[]),
        tuning("sft", 2, None, &[]),
        tuning("sft", 1, Some(0.1), &["epochs", "lambdas"]),
    ];
    let files = written(&input);
    let table = |name: &str| String::from_utf8(files[name].clone()).unwrap();
    let (methods, points) = (
        table("tables/tuning.csv"),
        table("tables/tuning-points.csv"),
    );
    let seeds: Vec<&str> = methods
        .lines()
        .skip(1)
        .map(|line| line.split(',').nth(2).unwrap())
        .collect();
    assert_eq!(seeds, ["1", "2"], "{methods}");
    assert_eq!(points.lines().count(), 2, "{points}");
    let page = table("report.md");
    let shown = page
        .lines()
        .filter(|line| line.contains("iq_learn"))
        .collect::<Vec<_>>();
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown[0].contains("| 0.100 | -5.812 | epochs, lambdas | 7 | 1 |"),
        "{}",
        shown[0]
    );
    assert!(
        shown[1].contains("| n/a | -5.812 | - | 7 | 1 |"),
        "{}",
        shown[1]
    );
    let title = "Settings chosen by held-out demonstrations</summary>";
    assert!(page.contains(title) && table("report.html").contains(title));
}
