//! `touchstone eval`: benchmarks of model folders, and what their results say.

pub mod compare;
pub mod contamination;
mod folder;
pub mod import;
pub mod leaderboard;
mod progress;
pub mod rewardbench;
pub mod show;

use crate::{Error, Result};
use clap::{Args, Subcommand};

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
