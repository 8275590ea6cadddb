//! `touchstone eval`: benchmarks of model folders, and what their results say.

mod folder;
pub mod leaderboard;
mod progress;
pub mod show;

use crate::Result;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub struct EvalArgs {
    #[command(subcommand)]
    command: EvalCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum EvalCommand {
    /// Score a model by the six tasks of the Open LLM Leaderboard v1, as lm-evaluation-harness does
    Leaderboard(Box<leaderboard::LeaderboardArgs>),
    /// Print the numbers of an evaluation with their intervals
    Show(show::ShowArgs),
}

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    match &args.command {
        EvalCommand::Leaderboard(args) => leaderboard::run(args),
        EvalCommand::Show(args) => show::run(args),
    }
}
