//! `touchstone eval`: benchmarks of model folders, and what their results say.

pub mod compare;
pub mod contamination;
mod folder;
pub mod import;
pub mod leaderboard;
pub mod mt_bench;
mod progress;
pub mod rewardbench;
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
    /// Rank pairs of RewardBench by a reward model or by a policy's implicit reward
    Rewardbench(Box<rewardbench::RewardBenchArgs>),
    /// Read scores of items that other programs have written
    Import(import::ImportArgs),
    /// Score a model by the six tasks of the Open LLM Leaderboard v1, as lm-evaluation-harness does
    Leaderboard(Box<leaderboard::LeaderboardArgs>),
    /// MT-Bench by FastChat's rules: answers, judgments and scores
    MtBench(Box<mt_bench::MtBenchArgs>),
    /// Print the numbers of an evaluation with their intervals
    Show(show::ShowArgs),
    /// Compare evaluations of the same items: paired differences with intervals
    Compare(compare::CompareArgs),
    /// Find prompts of a benchmark in training texts, and prompts that occur twice
    Contamination(contamination::ContaminationArgs),
}

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    match &args.command {
        EvalCommand::Rewardbench(args) => rewardbench::run(args),
        EvalCommand::Import(args) => import::run(args),
        EvalCommand::Leaderboard(args) => leaderboard::run(args),
        EvalCommand::MtBench(args) => mt_bench::run(args),
        EvalCommand::Show(args) => show::run(args),
        EvalCommand::Compare(args) => compare::run(args),
        EvalCommand::Contamination(args) => contamination::run(args),
    }
}

/// Checks a confidence level.
///
/// # Errors
/// A level outside (0, 1).
pub(super) fn check_level(level: f64) -> Result<()> {
    if level > 0.0 && level < 1.0 {
        return Ok(());
    }
    let message = format!("the confidence level must lie strictly between 0 and 1, not {level}");
    Err(Error::configuration(message).hint("95 % is written 0.95"))
}

/// A model's name by the name of its file, without the extension.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.map(str::to_owned).ok_or_else(|| {
        Error::configuration(format!("{} does not name a model", path.display()))
            .hint("name the model with --model-id")
    })
}
