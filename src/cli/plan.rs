//! `touchstone plan`: which stages a study has, and which of them are there already. Runs nothing.

use super::print;
use super::reproduce::{LocalArgs, resolve};
use super::study::StudyArgs;
use crate::Result;
use crate::pipeline::Store;
use crate::stages::plan::Plan;
use clap::Args;
use comfy_table::{Table, presets};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    /// Show every stage instead of a line per kind
    #[arg(long)]
    pub stages: bool,
}

pub fn run(args: &PlanArgs) -> Result<()> {
    let (study, local) = resolve(&args.study, &args.local)?;
    let plan = Plan::new(&study, local.as_ref())?;
    // Looking is not making: a store that does not exist yet is empty.
    let store = if args.study.store.exists() { Some(Store::open_existing(&args.study.store)?) } else { None };
    let there = |key| store.as_ref().is_some_and(|store| store.is_complete(key));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    if args.stages {
        table.set_header(["key", "kind", "stage", "state"]);
        for stage in plan.graph.iter() {
            let state = if there(&stage.key) { "done" } else { "to do" };
            table.add_row([stage.key.short(), stage.spec.kind.clone(), stage.label.clone(), state.into()]);
        }
    } else {
        table.set_header(["kind", "stages", "done"]);
        let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for stage in plan.graph.iter() {
            let count = kinds.entry(&stage.spec.kind).or_default();
            count.0 += 1;
            count.1 += usize::from(there(&stage.key));
        }
        for (kind, (all, done)) in kinds {
            table.add_row([kind.to_string(), all.to_string(), done.to_string()]);
        }
    }
    let done = plan.graph.iter().filter(|stage| there(&stage.key)).count();
    let (methods, sizes, seeds) = (study.methods.len(), study.sizes.len(), study.seeds.len());
    print(&format!(
        "{}: {} at scale {}, profile {}\n{methods} methods × {sizes} sizes × {seeds} seeds: {} stages, {done} done\n{table}\n",
        study.name,
        study.title,
        study.scale,
        study.profile,
        plan.graph.len()
    ))
}
