//! The command line. One file per command holds its arguments and does its work.

pub mod aligned;
pub mod base;
pub mod bench;
pub mod bytes;
pub mod claims;
pub mod cluster;
pub mod completions;
pub mod conformance;
pub mod decide;
pub mod doctor;
pub mod eval;
pub mod fetch;
pub mod local;
pub mod man;
pub mod model;
pub mod new;
pub mod output;
pub mod plan;
pub mod preflight;
pub mod report;
pub mod reproduce;
pub mod rows;
pub mod runs;
pub mod schema;
pub mod score;
pub mod snapshot;
pub mod sources;
pub mod stage;
pub mod stats;
pub mod status;
pub mod study;
pub mod units;
pub mod work;

use crate::device::DeviceSpec;
use crate::{Error, Result};
use clap::{Parser, Subcommand};
use miette::Diagnostic;
use std::io::{ErrorKind, Write};

/// Which claims about aligning language models really hold?
///
/// Reproduces inverse-RL reward learning from demonstrations (arXiv 2503.13538) against its
/// baselines, with error bars and with claims that were declared before the runs.
#[derive(Debug, Parser)]
#[command(
    name = "touchstone",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a study and write its report; run it again to finish what is missing
    Reproduce(reproduce::ReproduceArgs),
    /// Show the stages of a study and which of them are done
    Plan(plan::PlanArgs),
    /// Download what a study needs from a hub, so that it can run without a network
    Fetch(fetch::FetchArgs),
    /// Write a study's report from what is there, without running anything; or compare two sets of
    /// its results
    Report(report::ReportArgs),
    /// Commit the means of a small study, and say when a later run has others
    Snapshot(snapshot::SnapshotArgs),
    /// List a study's claims, and the chance that each look decides them
    Claims(claims::ClaimsArgs),
    /// Show what is done, what runs where, what failed and when the rest will probably end
    Status(status::StatusArgs),
    /// List, show or verify what the store holds
    Runs(runs::RunsArgs),
    /// Estimate and compare any table of results: intervals, paired differences, power
    Stats(stats::StatsArgs),
    /// Sample responses from a model folder
    Generate(score::GenerateArgs),
    /// Score responses with a language or reward model folder
    Score(score::ScoreArgs),
    /// Measure a model folder by the benchmarks of the field
    Eval(eval::EvalArgs),
    /// Describe a model folder, or write it anew in the hub's layout
    Model(model::ModelArgs),
    /// Remake the base checkpoints that come with touchstone and compare
    Base(base::BaseArgs),
    /// Time training and sampling at a study's shapes, on random weights; prints JSON lines
    Bench(bench::BenchArgs),
    /// Compare what a device computes with float64 and with the default device
    Conformance(conformance::ConformanceArgs),
    /// Say what this machine offers, what is missing, and how to get it
    Doctor(doctor::DoctorArgs),
    /// Write an experiment file to start from
    New(new::NewArgs),
    /// Print the JSON schema of experiment files, by which editors complete and check them
    Schema(schema::SchemaArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write a page for every command
    Man(man::ManArgs),
    /// Compute the stages of a stored plan together with other workers on the same store
    Work(work::WorkArgs),
    #[command(hide = true)]
    Stage(stage::StageArgs),
    #[command(hide = true)]
    TryDevice(preflight::TryDeviceArgs),
}

/// Exit code of a command that did its work.
pub const SUCCESS: u8 = 0;
/// Exit code of a command with a negative answer: a check that failed, or stages that failed for
/// several reasons. An error ends with its kind's [exit code](crate::ErrorKind::exit_code), a
/// command line that is not understood with 2, an interrupted run with 130.
pub const FAILURE: u8 = 1;

/// Runs the command that was typed.
///
/// # Errors
/// Any error that stops the command; main shows it and ends with the exit code of its kind.
pub fn run(cli: Cli) -> Result<u8> {
    match cli.command {
        Command::Reproduce(args) => return reproduce::run(&args),
        Command::Base(args) => return base::run(&args),
        Command::Conformance(args) => return conformance::run(&args),
        Command::Doctor(args) => return doctor::run(&args),
        Command::Snapshot(args) => return snapshot::run(&args),
        Command::Runs(args) => return runs::run(&args),
        Command::Model(args) => return model::run(&args),
        Command::Work(args) => return work::run(&args),
        Command::Bench(args) => bench::run(&args)?,
        Command::Plan(args) => plan::run(&args)?,
        Command::Status(args) => status::run(&args)?,
        Command::Fetch(args) => fetch::run(&args)?,
        Command::Report(args) => report::run(&args)?,
        Command::Claims(args) => claims::run(&args)?,
        Command::Stats(args) => stats::run(&args)?,
        Command::Generate(args) => score::generate(&args)?,
        Command::Score(args) => score::score(&args)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::New(args) => new::run(&args)?,
        Command::Schema(args) => schema::run(&args)?,
        Command::Completions(args) => completions::run(&args)?,
        Command::Man(args) => man::run(&args)?,
        Command::TryDevice(args) => preflight::try_device(&args)?,
        Command::Stage(args) => stage::run(&args, crate::stages::run)?,
    }
    Ok(SUCCESS)
}

/// Shows the help or version that was asked for, or explains a command line that is not understood.
///
/// # Errors
/// A standard output that cannot be written.
pub fn answer(answer: &clap::Error) -> Result<u8> {
    if answer.use_stderr() {
        // A failure to print is ignored.
        let _ = answer.print();
    } else {
        written(answer.print().and_then(|()| std::io::stdout().flush()))?;
    }
    Ok(u8::try_from(answer.exit_code()).unwrap_or(FAILURE))
}

/// Writes to standard output. A reader that closes the pipe early (`| head`) does not cause an
/// error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(cause) if cause.kind() != ErrorKind::BrokenPipe => {
            Err(Error::files("cannot write to standard output")
                .caused_by(cause)
                .hint("check where it is redirected to"))
        }
        _ => Ok(()),
    }
}

/// Parses the name of a device; a usage error lists the valid names.
pub(crate) fn device_spec(text: &str) -> std::result::Result<DeviceSpec, String> {
    text.trim()
        .parse()
        .map_err(|error: Error| match error.help() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
}

/// Writes to standard error; a failure to write is ignored.
pub fn complain(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_usage_error_ends_with_two_and_help_with_zero() {
        let code = |words: &[&str]| {
            Cli::try_parse_from(words)
                .map(|_| ())
                .map_err(|error| error.exit_code())
        };
        assert_eq!(code(&["touchstone", "doctor"]), Ok(()));
        assert_eq!(code(&["touchstone", "docter"]), Err(2));
        assert_eq!(code(&["touchstone", "doctor", "--colour"]), Err(2));
        assert_eq!(code(&["touchstone", "--help"]), Err(0));
        assert_eq!(code(&["touchstone", "--version"]), Err(0));
    }
}
