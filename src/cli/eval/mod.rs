//! `touchstone eval`: benchmarks of model folders, and what their results say.

mod folder;
pub mod import;
mod progress;
pub mod rewardbench;
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
    /// Rank pairs of RewardBench by a reward model or by a policy's implicit reward
    Rewardbench(Box<rewardbench::RewardBenchArgs>),
    /// Read scores of items that other programs have written
    Import(import::ImportArgs),
    /// Print the numbers of an evaluation with their intervals
    Show(show::ShowArgs),
}

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command.
pub fn run(args: &EvalArgs) -> Result<()> {
    match &args.command {
        EvalCommand::Rewardbench(args) => rewardbench::run(args),
        EvalCommand::Import(args) => import::run(args),
        EvalCommand::Show(args) => show::run(args),
    }
}
