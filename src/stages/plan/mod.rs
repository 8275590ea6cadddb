//! A study laid out as a graph of stages, and which of them measure which cell (method, size, seed, iteration).
//!
//! Stages that do not vary with a seed are planned without one, and equal stages are one stage: a base for all, one SFT per
//! seed for SPIN, IRL and RLHF, the first pairs of IRL for SPIN too.

mod bases;
mod cells;
pub mod fit;
mod iterative;
mod policies;
mod recipes;
mod specs;
#[cfg(test)]
mod tests;
mod tuning;

pub use bases::{Pretraining, bases};
pub use specs::HELD_OUT;

use super::work::{Sizes, Work};
use crate::data::world::World;
use crate::experiment::{Hyper, MethodPlan, Recipe, Study};
use crate::methods::dpo::DpoPairs;
use crate::methods::irl::Select;
use crate::model::{DecoderConfig, ModelTokenizer};
use crate::pipeline::{Graph, StageKey};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Number of the base that everything is made with that all seeds of a study share. A base is drawn under its number.
pub const FIRST_BASE: u64 = 0;

/// A study as stages.
pub struct Plan {
    pub graph: Graph,
    pub cells: Vec<Cell>,
    /// Nothing stands for gold: whatever needs it is not measured.
    pub without_gold: bool,
    works: BTreeMap<StageKey, Work>,
}

/// One row of the long table to be: where its metrics and its costs come from.
#[derive(Clone, Debug)]
pub struct Cell {
    /// A method's id, or a heuristic's name.
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// From 1 for methods that iterate; 0 for the others.
    pub iteration: usize,
    /// Number of the base that it started from; none for models that are not pre-trained on the embedded world.
    pub base: Option<u64>,
    /// Stages whose metrics are this cell's.
    pub measured_by: Vec<StageKey>,
    /// Stages that make what is measured, without those that it shares with every method (base, SFT and its tuning).
    pub made_by: Vec<StageKey>,
}

/// Real posts instead of the embedded world.
#[derive(Clone, Debug)]
pub struct LocalData {
    pub file: PathBuf,
    pub blake3: String,
    /// Folder with a tokenizer.json.
    pub tokenizer: PathBuf,
    /// Hash of the folder's files.
    pub tokenizer_blake3: String,
    pub vocabulary: usize,
    /// Posts in the file.
    pub rows: usize,
}

impl Plan {
    /// # Errors
    /// On real posts, a method that needs what its data do not give.
    pub fn new(study: &Study, local: Option<&LocalData>) -> Result<Self> {
        if local.is_some() || study.data.is_some() {
            runs_on_real_posts(study)?;
        }
        let mut planner = Planner::new(study, local)?;
        for (size, model) in &study.sizes {
            for &seed in &study.seeds {
                planner.seed(size, model, seed)?;
            }
        }
        let judged = study.data.as_ref().is_some_and(|data| data.judge.is_some());
        let without_gold = !judged && (local.is_some() || study.data.is_some());
        let Planner { graph, cells, works, .. } = planner;
        Ok(Self { graph, cells, without_gold, works })
    }

    /// The estimate of a stage of the plan.
    pub fn work(&self, key: &StageKey) -> &Work {
        // Every stage of the graph was added with its work.
        &self.works[key]
    }
}

fn runs_on_real_posts(study: &Study) -> Result<()> {
    let data = study.data.as_ref();
    let preferences = data.is_some_and(|data| data.sources.comparisons.is_some());
    let gold = data.is_some_and(|data| data.judge.is_some());
    let labels = (!preferences).then_some("labelled preferences");
    let needs = |method: &MethodPlan| match method.recipe {
        Recipe::Irl if method.hyper.irl.select == Select::ValidationGold => Some("validation posts with known gold"),
        Recipe::Base | Recipe::Sft | Recipe::Irl | Recipe::Spin | Recipe::SpinReward => None,
        Recipe::BestOfNLogProbability => None,
        Recipe::IqLearn | Recipe::FilteredBc => None,
        Recipe::Demonstrator => Some("an author who can be asked for another summary"),
        Recipe::Dpo => labels.filter(|_| method.hyper.dpo.pairs == DpoPairs::Preferences),
        Recipe::Rlhf | Recipe::BestOfNReward | Recipe::IrlRlhf => labels,
        Recipe::BestOfNGold => (!gold).then_some("a gold reward"),
        Recipe::GoldPpo | Recipe::IterativeDpo => Some("the gold reward of the embedded world"),
    };
    let Some((method, need)) =
        study.methods.iter().chain(&study.references).find_map(|method| Some((method, needs(method)?)))
    else {
        return Ok(());
    };
    let place = if data.is_some() { format!("scale `{}`", study.scale) } else { "--data".into() };
    let error = Error::configuration(format!("method `{}` needs {need}, which {place} does not give", method.id));
    if let Some(ablation) = study.ablations.iter().find(|ablation| ablation.makes(&method.id)) {
        return Err(error.hint(format!("it is a point of ablation `{}`: name others with --ablations", ablation.id)));
    }
    let others = study.methods.iter().filter(|method| !method.point && needs(method).is_none());
    let others: Vec<&str> = others.map(|method| method.id.as_str()).collect();
    Err(error.hint(format!("choose the others: --methods {}", others.join(","))))
}

struct Planner<'a> {
    study: &'a Study,
    local: Option<&'a LocalData>,
    /// Rows of an embedding that does not say otherwise.
    vocabulary: usize,
    graph: Graph,
    cells: Vec<Cell>,
    works: BTreeMap<StageKey, Work>,
    /// By label.
    datasets: BTreeMap<String, StageKey>,
    /// Steps and operations of making a method that others are as long as, by its id and the size.
    lengths: BTreeMap<(String, String), [f64; 2]>,
}

/// The base of a method at one size and seed, and the seeds that its stages draw from: the study's wherever the method has none of
/// its own.
struct Start<'a> {
    size: &'a str,
    /// Seed of the study, by which reports name the run.
    cell: u64,
    /// Seed of demonstrations and labelled preferences.
    data: u64,
    /// Seed of everything in training.
    seed: u64,
    /// Seed of everything that measures.
    evaluation: u64,
    config: DecoderConfig,
    /// Number of the base.
    number: u64,
    base: StageKey,
}

/// A method at one size and seed, on its way.
struct Run<'a> {
    start: &'a Start<'a>,
    method: &'a MethodPlan,
    hyper: &'a Hyper,
    /// Where the demonstrations come from, before any of them is spoilt.
    source: StageKey,
    demonstrations: StageKey,
    sft: StageKey,
    /// The stage that chose the values of SFT.
    sft_tuning: Option<StageKey>,
    exam_pairs: StageKey,
}

impl<'a> Planner<'a> {
    fn new(study: &'a Study, local: Option<&'a LocalData>) -> Result<Self> {
        let vocabulary = match local {
            Some(local) => local.vocabulary,
            None => ModelTokenizer::of(World::new(&study.world)?.tokenizer()?)?.vocabulary_size(),
        };
        Ok(Self::empty(study, local, vocabulary))
    }

    fn empty(study: &'a Study, local: Option<&'a LocalData>, vocabulary: usize) -> Self {
        let (works, datasets, lengths) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { study, local, vocabulary, graph: Graph::new(), cells: Vec::new(), works, datasets, lengths }
    }
}

impl Start<'_> {
    /// Sizes of a stage that is given `rows` rows.
    fn sizes(&self, rows: usize) -> Sizes<'_> {
        Sizes::new(&self.config, rows)
    }
}

impl Run<'_> {
    fn sizes(&self, rows: usize) -> Sizes<'_> {
        self.start.sizes(rows)
    }

    fn label(&self, step: &str) -> String {
        format!("{}/{}/seed {}/{step}", self.method.id, self.start.size, self.start.cell)
    }
}
