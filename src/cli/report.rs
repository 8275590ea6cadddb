//! `touchstone report`: writes a study's report from what the store holds, without running anything.

use super::reproduce::{LocalArgs, resolve, write_report};
use super::study::StudyArgs;
use crate::Result;
use crate::pipeline::Store;
use crate::stages::plan::Plan;
use clap::Args;

#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
}

pub fn run(args: &ReportArgs) -> Result<()> {
    let (study, local) = resolve(&args.study, &args.local)?;
    let plan = Plan::new(&study, local.as_ref())?;
    let store = Store::open_existing(&args.study.store)?;
    write_report(&args.study, &study, &plan, &store, local.as_ref())
}
