//! `touchstone snapshot`: records the means of a small study under version control, and reports
//! when they change.

use super::cluster::ClusterArgs;
use super::decide::DecideArgs;
use super::local::{LocalArgs, resolve};
use super::reproduce::{self, ReproduceArgs, report_input};
use super::study::StudyArgs;
use super::{FAILURE, SUCCESS, output, print};
use crate::pipeline::Store;
use crate::plan::Plan;
use crate::report::snapshot::{Snapshot, render};
use crate::{Error, Result};
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Run the study and compare its means with the file; ends with 1 if any drifted
    Check(TakeArgs),
    /// Run the study and write its means to the file
    Accept(TakeArgs),
}

#[derive(Clone, Debug, Args)]
pub struct TakeArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    /// The snapshot, a JSON file that belongs under version control
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// Difference of means that is allowed for a metric, in its units; may be given again [default:
    /// what seeds explain]
    #[arg(long, value_name = "METRIC=VALUE", value_parser = tolerance)]
    pub tolerance: Vec<(String, f64)>,
}

/// The default profile, which is small because snapshots are made often.
const PROFILE: &str = "smoke";

pub fn run(args: &SnapshotArgs) -> Result<u8> {
    match &args.command {
        SnapshotCommand::Accept(args) => accept(args),
        SnapshotCommand::Check(args) => check(args),
    }
}

fn accept(args: &TakeArgs) -> Result<u8> {
    output::check_file_and_folders(&args.file)?;
    let now = match carry_out(args)? {
        Ok(now) => now.with_tolerances(&tolerances(args))?,
        Err(code) => return Ok(code),
    };
    now.write(&args.file)?;
    print(&format!(
        "{} means written to {}\n",
        now.values.len(),
        args.file.display()
    ))?;
    Ok(SUCCESS)
}

fn check(args: &TakeArgs) -> Result<u8> {
    // Read first: an invalid file should not cost a run.
    output::check_regular(&args.file)
        .map_err(|error| error.hint("`touchstone snapshot accept` writes one"))?;
    let before = Snapshot::read(&args.file)?.with_tolerances(&tolerances(args))?;
    let now = match carry_out(args)? {
        Ok(now) => now,
        Err(code) => return Ok(code),
    };
    let drift = before.drift(&now)?;
    print(&render(&drift, before.values.len().max(now.values.len())))?;
    Ok(if drift.is_empty() { SUCCESS } else { FAILURE })
}

/// Runs the missing stages of the study and makes its snapshot, or returns the exit code of a run
/// that did not succeed.
fn carry_out(args: &TakeArgs) -> Result<std::result::Result<Snapshot, u8>> {
    let mut study = args.study.clone();
    if args.local.data.is_none() {
        study.choice.profile = study.choice.profile.or(Some(PROFILE.into()));
    }
    let run = ReproduceArgs {
        study: study.clone(),
        local: args.local.clone(),
        decide: DecideArgs::default(),
        cluster: ClusterArgs::default(),
    };
    let code = reproduce::run(&run)?;
    if code != SUCCESS {
        return Ok(Err(code));
    }
    let (resolved, local) = resolve(&study.experiment, &study.choice, &args.local)?;
    let plan = Plan::new(&resolved, local.as_ref())?;
    let store = Store::open_existing(&study.store)?;
    let input = report_input(
        &resolved,
        &plan,
        &store,
        &study.devices().join(","),
        local.as_ref(),
    )?;
    Snapshot::take(&input, &BTreeMap::new()).map(Ok)
}

fn tolerances(args: &TakeArgs) -> BTreeMap<String, f64> {
    args.tolerance.iter().cloned().collect()
}

fn tolerance(text: &str) -> std::result::Result<(String, f64), Error> {
    let parts = text
        .split_once('=')
        .and_then(|(metric, value)| Some((metric, value.trim().parse::<f64>().ok()?)));
    let (metric, value) = parts.ok_or_else(|| {
        Error::configuration(format!("`{text}` is not METRIC=VALUE, such as gold=0.05"))
    })?;
    if !(value.is_finite() && value >= 0.0) {
        return Err(Error::configuration(format!(
            "a tolerance is a number from 0 on, and `{text}` is not"
        )));
    }
    Ok((metric.trim().to_owned(), value))
}
