//! A study as a graph of stages, and the mapping from stages to the cells (method, size, seed,
//! iteration) that they measure.
//!
//! Stages that do not vary with a seed are planned without one, and equal stages are planned once:
//! one base for all, one SFT per seed for SPIN, IRL and RLHF, and the first pairs of IRL also for
//! SPIN.

mod bases;
mod cells;
pub mod fit;
mod rounds;
mod specs;
mod steps;
#[cfg(test)]
mod tests;
mod tuning;

pub use bases::{Pretraining, bases};
pub use specs::HELD_OUT;

use crate::data::world::World;
use crate::experiment::{Answer, Hyper, MethodPlan, PairSource, RecipeJudge, Study};
use crate::methods::irl::Select;
use crate::model::{DecoderConfig, ModelTokenizer};
use crate::pipeline::{Graph, StageKey};
use crate::stages::work::{Sizes, Work};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Number of the base used for everything that all seeds of a study share. A base's number is also
/// the seed that it is drawn from.
pub const FIRST_BASE: u64 = 0;

/// A study laid out as stages.
pub struct Plan {
    pub graph: Graph,
    pub cells: Vec<Cell>,
    /// True if nothing takes the place of gold, so that metrics that need it are not measured.
    pub without_gold: bool,
    works: BTreeMap<StageKey, Work>,
}

/// A future row of the long table: the stages that its metrics and its costs come from.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Id of a method, or name of a heuristic.
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// Iteration, from 1 for methods that iterate; 0 for the others.
    pub iteration: usize,
    /// Number of the base that the method started from; `None` for models that are not pre-trained
    /// on the embedded world.
    pub base: Option<u64>,
    /// Stages that measure this cell's metrics.
    pub measured_by: Vec<StageKey>,
    /// Stages that made the measured policy, without those shared by every method (base, SFT and
    /// its tuning).
    pub made_by: Vec<StageKey>,
}

/// Real posts that replace the embedded world.
#[derive(Clone, Debug)]
pub struct LocalData {
    pub file: PathBuf,
    pub blake3: String,
    /// Folder with the file tokenizer.json.
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
        let Planner {
            graph,
            cells,
            works,
            ..
        } = planner;
        Ok(Self {
            graph,
            cells,
            without_gold,
            works,
        })
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
    let needs = |method: &MethodPlan| {
        let recipe = &method.recipe;
        let select = recipe.is_inverse_rl() && method.hyper.irl.select == Select::ValidationGold;
        if select {
            return Some("validation posts with known gold");
        }
        if recipe.answer == Answer::Demonstrator {
            return Some("an author who can be asked for another summary");
        }
        match recipe.judge {
            _ if recipe.pairs.contains(&PairSource::Preferences) && labels.is_some() => labels,
            Some(RecipeJudge::Gold) if recipe.step.is_some() => {
                Some("the gold reward of the embedded world")
            }
            Some(RecipeJudge::Gold) if !gold => Some("a gold reward"),
            _ => None,
        }
    };
    let Some((method, need)) = study
        .methods
        .iter()
        .chain(&study.references)
        .find_map(|method| Some((method, needs(method)?)))
    else {
        return Ok(());
    };
    let place = if data.is_some() {
        format!("scale `{}`", study.scale)
    } else {
        "--data".into()
    };
    let error = Error::configuration(format!(
        "method `{}` needs {need}, which {place} does not give",
        method.id
    ));
    if let Some(ablation) = study
        .ablations
        .iter()
        .find(|ablation| ablation.makes(&method.id))
    {
        return Err(error.hint(format!(
            "it is a point of ablation `{}`: name others with --ablations",
            ablation.id
        )));
    }
    let others = study
        .methods
        .iter()
        .filter(|method| !method.point && needs(method).is_none());
    let others: Vec<&str> = others.map(|method| method.id.as_str()).collect();
    Err(error.hint(format!("choose the others: --methods {}", others.join(","))))
}

struct Planner<'a> {
    study: &'a Study,
    local: Option<&'a LocalData>,
    /// Embedding rows of a model that does not state its own number.
    vocabulary: usize,
    graph: Graph,
    cells: Vec<Cell>,
    works: BTreeMap<StageKey, Work>,
    /// Stages of data sets, by label.
    datasets: BTreeMap<String, StageKey>,
    /// Optimiser steps and operations that make a method whose length others match, by its id and
    /// the size.
    lengths: BTreeMap<(String, String), [f64; 2]>,
}

/// The base of a method at one size and seed, and the seeds that its stages draw from: the study's
/// seed unless the method sets its own.
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

/// A method at one size and seed while it is being planned.
struct Run<'a> {
    start: &'a Start<'a>,
    method: &'a MethodPlan,
    hyper: &'a Hyper,
    /// The stage of the demonstrations before any of them is corrupted.
    source: StageKey,
    demonstrations: StageKey,
    sft: StageKey,
    /// The stage that chose the settings of SFT.
    sft_tuning: Option<StageKey>,
    heldout_pairs: StageKey,
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
        Self {
            study,
            local,
            vocabulary,
            graph: Graph::new(),
            cells: Vec::new(),
            works,
            datasets,
            lengths,
        }
    }
}

impl Start<'_> {
    /// Sizes of a stage with `rows` rows.
    fn sizes(&self, rows: usize) -> Sizes<'_> {
        Sizes::new(&self.config, rows)
    }
}

impl Run<'_> {
    fn sizes(&self, rows: usize) -> Sizes<'_> {
        self.start.sizes(rows)
    }

    fn label(&self, step: &str) -> String {
        format!(
            "{}/{}/seed {}/{step}",
            self.method.id, self.start.size, self.start.cell
        )
    }
}
