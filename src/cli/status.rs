//! `touchstone status`: what is done, what runs where, what failed and when the rest will probably
//! end. Reads the store and nothing else, from any machine that sees it.

mod json;
mod tables;
mod tally;

use super::local::{LocalArgs, resolve};
use super::print;
use super::study::ChoiceArgs;
use crate::device;
use crate::pipeline::{Graph, Store};
use crate::plan::Plan;
use crate::{Error, Result};
use clap::Args;
use std::path::PathBuf;
use tally::Tally;

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Names of experiments, or paths of their files [default: every stage that the store knows of]
    pub experiments: Vec<String>,
    /// Folder of results, as the runs have it; it may be mounted read-only
    #[arg(
        long,
        value_name = "DIR",
        default_value = "runs",
        env = "TOUCHSTONE_STORE"
    )]
    pub store: PathBuf,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    #[command(flatten)]
    pub local: LocalArgs,
}

pub fn run(args: &StatusArgs) -> Result<()> {
    let store = Store::open_existing(&args.store)?;
    let (graph, damaged) = wanted(args, &store)?;
    let tally = Tally::of(&graph, &store)?;
    print(&if args.json {
        json::document(args, &store, &graph, &tally, damaged)?
    } else {
        tables::text(args, &store, &graph, &tally, damaged)
    })
}

/// The stages of the experiments that were named, or all that are recorded, with the number of
/// records that cannot be read.
fn wanted(args: &StatusArgs, store: &Store) -> Result<(Graph, usize)> {
    if args.experiments.is_empty() {
        return match args.choice.is_given() || args.local.is_given() {
            true => Err(Error::configuration(
                "a part was chosen (--profile, --seeds, --data and the like), but no experiment",
            )
            .hint(
                "name the experiment too, or leave the choice out to see every stage of the store",
            )),
            false => store.recorded(),
        };
    }
    let mut graph = Graph::new();
    for name in &args.experiments {
        let (study, local) = resolve(name, &args.choice, &args.local)?;
        let planned = Plan::new(&study, local.as_ref())?.graph;
        if graph.is_empty() {
            graph = planned;
            continue;
        }
        for stage in &planned {
            graph.add(stage.spec.clone(), stage.label.clone(), stage.cost)?;
        }
    }
    Ok((graph, 0))
}

/// True if the device of this name is a GPU.
fn is_gpu(device: &str) -> bool {
    device
        .parse::<device::DeviceSpec>()
        .is_ok_and(|spec| spec.gpu().is_some())
}
