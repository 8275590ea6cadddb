//! `touchstone eval`: benchmarks of model folders, and what their results say.

pub mod alpaca_eval;
mod folder;
pub mod mt_bench;
mod progress;
mod server;
pub mod show;

use crate::{Error, Result};
use clap::{Args, Subcommand};
use std::path::Path;

#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    #[command(subcommand)]
    command: EvalCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum EvalCommand {
    /// The win rate of annotations that AlpacaEval has made
    AlpacaEval(alpaca_eval::AlpacaEvalArgs),
    /// MT-Bench by FastChat's rules: answers, judgments and scores
    MtBench(Box<mt_bench::MtBenchArgs>),
    /// Print the numbers of an evaluation with their intervals
    Show(show::ShowArgs),
}

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    match &args.command {
        EvalCommand::AlpacaEval(args) => alpaca_eval::run(args),
        EvalCommand::MtBench(args) => mt_bench::run(args),
        EvalCommand::Show(args) => show::run(args),
    }
}

/// A model's name by the name of its file, without the extension.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.map(str::to_owned).ok_or_else(|| {
        Error::configuration(format!("{} does not name a model", path.display()))
            .hint("name the model with --model-id")
    })
}
