//! `touchstone eval alpaca-eval`: the win rate of annotations that AlpacaEval has made.

use super::{folder, show};
use crate::benchmarks::alpaca_eval::{Annotation, WinRate, at_equal_length, evaluate, win_rate};
use crate::stats::Resampling;
use crate::{Context, Error, Result, files};
use clap::Args;
use miette::Diagnostic;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct AlpacaEvalArgs {
    /// AlpacaEval's annotations.json, or the same rows as jsonl
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
    /// Folder to write the evaluation to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the interval of the rate at equal length
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Scores a file of annotations.
///
/// # Errors
/// Files that cannot be read or written, annotations of several models, and preferences out of
/// range.
pub fn run(args: &AlpacaEvalArgs) -> Result<()> {
    folder::check(&args.out, &folder::EVALUATION)?;
    let place = args.annotations.display().to_string();
    let annotations = read(&args.annotations)?;
    let models: BTreeSet<&str> = annotations
        .iter()
        .map(|row| row.generator_2.as_str())
        .collect();
    if models.len() > 1 {
        let models: Vec<&str> = models.into_iter().collect();
        return Err(
            Error::data(format!("{place}: annotations of several models"))
                .hint(format!("give a file for each: {}", models.join(", "))),
        );
    }
    let identity = json!({"annotations": files::hash(&args.annotations)?.blake3});
    let evaluation = evaluate(&annotations, &place, identity)?;
    let found = win_rate(&annotations, &place)?;
    let resampling = Resampling {
        resamples: 2000,
        level: 0.95,
        seed: args.seed,
    };
    let equal = match at_equal_length(&annotations, &place, &resampling) {
        Ok(estimate) => {
            let mut told = format!("{:.2}", 100.0 * estimate.point);
            if let Some(interval) = estimate.interval {
                let _ = write!(
                    told,
                    " [{:.2}, {:.2}]",
                    100.0 * interval.low,
                    100.0 * interval.high
                );
            }
            told
        }
        Err(error) => {
            let why = error.help().map(|hint| hint.to_string());
            format!("n/a ({})", why.unwrap_or_else(|| error.to_string()))
        }
    };
    folder::write(&args.out, |folder| evaluation.write(folder).map(|_| ()))?;
    show::print(&evaluation)?;
    crate::cli::print(&described(&found, &equal))
}

/// The rows of a JSON list, or of a file with one on each line.
fn read(path: &Path) -> Result<Vec<Annotation>> {
    crate::cli::output::check_regular(path)?;
    let failed = || format!("{} has no annotations", path.display());
    let text = std::fs::read_to_string(path).context(failed)?;
    let rows: Vec<Annotation> = match text.trim_start().starts_with('[') {
        true => serde_json::from_str(&text).context(failed)?,
        false => crate::data::rows::read(path)?,
    };
    match rows.is_empty() {
        true => Err(Error::data(failed()).hint("give AlpacaEval's annotations.json")),
        false => Ok(rows),
    }
}

fn described(found: &WinRate, at_equal_length: &str) -> String {
    let WinRate {
        win_rate,
        standard_error,
        discrete_win_rate,
        wins,
        losses,
        draws,
        left_out,
    } = found;
    let error = standard_error.map_or("n/a".to_owned(), |error| format!("{error:.2}"));
    format!(
        "win rate {win_rate:.2} % (standard error {error}), discrete {discrete_win_rate:.2} %\n\
         at equal length {at_equal_length} % (tanh of standardised length alone, not AlpacaEval's own)\n\
         {wins} wins, {losses} losses, {draws} draws; {left_out} annotations without a preference left out\n"
    )
}
