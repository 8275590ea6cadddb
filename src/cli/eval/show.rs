//! `touchstone eval show`: the numbers of an evaluation with their intervals.

use crate::Result;
use crate::benchmarks::{Aggregate, Entrant, Evaluation, MODEL, Number};
use crate::cli::aligned::{number, range, round_percent, table};
use clap::Args;
use std::path::PathBuf;

/// The confidence level where none is asked for.
pub const LEVEL: f64 = 0.95;

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Folder that `touchstone eval` has written
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Confidence level of the intervals
    #[arg(long, default_value_t = LEVEL)]
    level: f64,
}

/// Prints the evaluation in a folder.
///
/// # Errors
/// A folder without an evaluation, a level outside (0, 1).
pub fn run(args: &ShowArgs) -> Result<()> {
    super::check_level(args.level)?;
    let text = text(Evaluation::read(&args.folder)?, args.level)?;
    crate::cli::print(&text)
}

/// Prints the numbers of an evaluation: a row for each aggregate with the model's interval and the
/// values of trivial rivals.
///
/// # Errors
/// A standard output that cannot be written.
pub fn print(evaluation: &Evaluation) -> Result<()> {
    crate::cli::print(&text(evaluation.clone(), LEVEL)?)
}

fn text(evaluation: Evaluation, level: f64) -> Result<String> {
    let scorers: Vec<String> = evaluation
        .scorers()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let summary = evaluation.summary.clone();
    let mut entrant = Entrant {
        name: summary.model.clone(),
        scorer: MODEL.to_owned(),
        seeds: vec![evaluation],
    };
    let mut columns: Vec<Vec<Option<Number>>> = Vec::new();
    for scorer in scorers {
        entrant.scorer = scorer;
        let numbers = |it: &Aggregate| entrant.number(it, level);
        columns.push(
            summary
                .aggregates
                .iter()
                .map(numbers)
                .collect::<Result<_>>()?,
        );
    }
    let rivals = entrant.seeds[0].scorers();
    let interval = format!("{} % interval", round_percent(level));
    let mut headers = vec!["number", "items", "model", &interval];
    headers.extend(rivals.iter().filter(|it| **it != MODEL));
    let has_model = rivals.first() == Some(&MODEL);
    let rows = summary
        .aggregates
        .iter()
        .enumerate()
        .map(|(at, aggregate)| {
            let mut cells = columns.iter().map(|column| column[at]);
            let model = if has_model {
                cells.next().flatten()
            } else {
                None
            };
            let mut row = vec![
                aggregate.name.clone(),
                model.map_or("n/a".to_owned(), |it| it.items.to_string()),
                number(model.map(|it| it.test.estimate.point)),
                bounds(model),
            ];
            row.extend(cells.map(|cell| number(cell.map(|it| it.test.estimate.point))));
            row
        });
    let mut text = format!(
        "{}, {}: {}\n",
        summary.benchmark, summary.convention, summary.model
    );
    text += &table(&headers, rows);
    text += &missing(&entrant.seeds[0]);
    Ok(text)
}

/// The interval of a number.
pub(super) fn bounds(number: Option<Number>) -> String {
    let interval = number.and_then(|it| it.test.estimate.interval);
    range(interval.map(|it| it.low), interval.map(|it| it.high))
}

/// The reasons for missing scores, each with its count; empty if none is missing.
pub(super) fn missing(evaluation: &Evaluation) -> String {
    let mut reasons: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let items = evaluation.items.iter().filter(|it| it.scorer == MODEL);
    for reason in items.filter_map(|it| it.missing.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
        .into_iter()
        .map(|(reason, count)| format!("missing: {count} scores, {reason}\n"))
        .collect()
}
