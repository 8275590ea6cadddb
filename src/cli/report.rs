//! `touchstone report`: writes a study's report from what the store holds, without running
//! anything; or compares two sets of its results.

use super::local::{LocalArgs, resolve};
use super::print;
use super::reproduce::{report_input, write_report};
use super::study::StudyArgs;
use crate::experiment::Study;
use crate::pipeline::Store;
use crate::plan::{LocalData, Plan};
use crate::report::across::{Answers, table};
use crate::report::{Metrics, compare};
use crate::{Context, Error, Result};
use clap::Args;
use polars::prelude::{ParquetReader, SerReader};
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    /// Instead of writing a report, compare the study's results in two folders: stores, or reports
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub compare: Option<Vec<PathBuf>>,
    /// Instead of writing a report, print the answers to the study's claims beside those of other
    /// studies, whose reports are in the folder of reports or at these paths
    #[arg(long, num_args = 1.., value_name = "STUDIES", conflicts_with = "compare")]
    pub across: Option<Vec<PathBuf>>,
}

/// Confidence level of a comparison's intervals, and of the test of its corrected p-value.
const LEVEL: f64 = 0.95;

pub fn run(args: &ReportArgs) -> Result<()> {
    if let Some(others) = &args.across {
        return across(&args.study, others);
    }
    let (study, local) = resolve(&args.study.experiment, &args.study.choice, &args.local)?;
    let plan = Plan::new(&study, local.as_ref())?;
    if let Some([first, second]) = args.compare.as_deref() {
        let results = |folder: &Path| results(folder, &study, &plan, local.as_ref());
        let compared = compare::compare(&results(first)?, &results(second)?, LEVEL)?;
        let sides = format!("A: {}\nB: {}\n\n", first.display(), second.display());
        return print(&(sides + &compare::render(&compared, LEVEL)));
    }
    let store = Store::open_existing(&args.study.store)?;
    write_report(&args.study, &study, &plan, &store, local.as_ref())
}

/// Prints the answers of several reports to the claims of the first.
fn across(study: &StudyArgs, others: &[PathBuf]) -> Result<()> {
    let first = PathBuf::from(&study.experiment);
    let folder = |named: &PathBuf| {
        let inside = study.out.join(named);
        if inside.is_dir() {
            inside
        } else {
            named.clone()
        }
    };
    let answers = std::iter::once(&first)
        .chain(others)
        .map(|named| Answers::read(&folder(named)))
        .collect::<Result<Vec<_>>>()?;
    print(&table(&answers))
}

/// The metrics in a report's folder, or those of `plan` that a store has.
fn results(
    folder: &Path,
    study: &Study,
    plan: &Plan,
    local: Option<&LocalData>,
) -> Result<Metrics> {
    let table = folder.join("metrics.parquet");
    if table.is_file() {
        let frame = File::open(&table)
            .map_err(Into::into)
            .and_then(|file| ParquetReader::new(file).finish());
        return Metrics::from_frame(&frame.context(|| format!("cannot read {}", table.display()))?);
    }
    if !folder.join("store.json").is_file() {
        return Err(Error::store(format!(
            "{} is neither a store nor a report",
            folder.display()
        ))
        .hint("give a folder that holds store.json or metrics.parquet"));
    }
    let metrics = report_input(study, plan, &Store::open_existing(folder)?, "", local)?.metrics;
    if metrics.rows().is_empty() {
        return Err(Error::store(format!(
            "the store {} has no result of this study",
            folder.display()
        ))
        .hint("choose the profile, scale and methods that it was run with"));
    }
    Ok(metrics)
}
