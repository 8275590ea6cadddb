//! `touchstone eval mt-bench`: answers, judgments and scores by FastChat's rules.

mod answers;
mod judge;
mod score;

use crate::Result;
use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub struct MtBenchArgs {
    #[command(subcommand)]
    command: MtBenchCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum MtBenchCommand {
    /// Answer the questions with a model folder
    Answers(answers::AnswersArgs),
    /// Have answers judged by a model that a server hosts
    Judge(Box<judge::JudgeArgs>),
    /// Score judgments, and write the evaluation
    Score(score::ScoreArgs),
}

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command.
pub fn run(args: &MtBenchArgs) -> Result<()> {
    match &args.command {
        MtBenchCommand::Answers(args) => answers::run(args),
        MtBenchCommand::Judge(args) => judge::run(args),
        MtBenchCommand::Score(args) => score::run(args),
    }
}
