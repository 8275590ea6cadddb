//! `touchstone status`: what is done, what runs where, what failed and when the rest will probably
//! end. Reads the store and nothing else, from any machine that sees it.

mod json;
mod tables;
mod tally;

use super::print;
use crate::Result;
use crate::device;
use crate::experiment::{Experiment, SeedChoice, Selection};
use crate::pipeline::{Graph, Store};
use crate::plan::Plan;
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
}

/// The choices that a run of an experiment was given.
#[derive(Clone, Debug, Args)]
pub struct ChoiceArgs {
    /// The profile of the run
    #[arg(
        long,
        value_name = "NAME",
        default_value = "standard",
        requires = "experiments"
    )]
    pub profile: String,
    /// The scale of the run
    #[arg(
        long,
        value_name = "NAME",
        default_value = "mini",
        requires = "experiments"
    )]
    pub scale: String,
    /// The seeds of the run: a count, a list or a preset
    #[arg(long, value_name = "SEEDS", requires = "experiments")]
    pub seeds: Option<SeedChoice>,
    /// The model sizes of the run, separated by commas
    #[arg(
        long,
        value_name = "SIZES",
        value_delimiter = ',',
        requires = "experiments"
    )]
    pub sizes: Vec<String>,
    /// The methods of the run, separated by commas
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        requires = "experiments"
    )]
    pub methods: Vec<String>,
    /// The ablations of the run, separated by commas, or none
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        requires = "experiments"
    )]
    pub ablations: Vec<String>,
    /// The overrides of the run
    #[arg(long, value_name = "SECTION.KEY=VALUE", requires = "experiments")]
    pub set: Vec<String>,
}

impl ChoiceArgs {
    fn selection(&self) -> Selection {
        Selection {
            profile: self.profile.clone(),
            scale: self.scale.clone(),
            seeds: self.seeds.clone(),
            sizes: self.sizes.clone(),
            methods: self.methods.clone(),
            ablations: self.ablations.clone(),
            set: self.set.clone(),
        }
    }
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
        return store.recorded();
    }
    let mut graph = Graph::new();
    for name in &args.experiments {
        let study = Experiment::load(name)?.resolve(&args.choice.selection())?;
        let planned = Plan::new(&study, None)?.graph;
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
