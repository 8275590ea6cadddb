//! A study as a graph of stages, and the mapping from stages to the cells (method, size, seed,
//! iteration) that they measure.
//!
//! Stages that do not vary with a seed are planned without one, and equal stages are planned once:
//! one base for all, one SFT per seed for SPIN, IRL and RLHF, and the first pairs of IRL also for
//! SPIN.

mod bases;
mod benchmarks;
mod cells;
mod corpus;
pub mod fit;
mod rounds;
mod specs;
mod steps;
#[cfg(test)]
mod tests;
mod tuning;

pub use bases::{Pretraining, bases};
pub use corpus::{HELD_OUT, LocalData, RowFile};

use crate::Result;
use crate::experiment::{Hyper, MethodPlan, Study};
use crate::model::DecoderConfig;
use crate::pipeline::{Graph, StageKey};
use crate::stages::work::{Sizes, TextLengths, Work};
use benchmarks::Benchmarks;
use corpus::{Corpus, Need};
use std::collections::BTreeMap;

/// Number of the base used for everything that all seeds of a study share. A base's number is also
/// the seed that it is drawn from.
pub const FIRST_BASE: u64 = 0;

/// A study laid out as stages.
pub struct Plan {
    pub graph: Graph,
    pub cells: Vec<Cell>,
    /// True if nothing takes the place of gold, so that metrics that need it are not measured.
    pub without_gold: bool,
    /// Lengths of the study's texts, if they are known before anything runs.
    pub texts: Option<TextLengths>,
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

impl Plan {
    /// # Errors
    /// A study without data, and a method that needs what its data do not give.
    pub fn new(study: &Study, local: Option<&LocalData>) -> Result<Self> {
        let corpus = corpus::open(study, local)?;
        corpus::check(study, &*corpus)?;
        let mut planner = Planner::new(study, &*corpus)?;
        for (size, model) in &study.sizes {
            for &seed in &study.seeds {
                planner.seed(size, model, seed)?;
            }
        }
        let Planner {
            graph,
            cells,
            works,
            ..
        } = planner;
        Ok(Self {
            graph,
            cells,
            without_gold: !corpus.gives(Need::Gold),
            texts: corpus.text_lengths(&study.shared)?,
            works,
        })
    }

    /// The estimate of a stage of the plan.
    pub fn work(&self, key: &StageKey) -> &Work {
        // Every stage of the graph was added with its work.
        &self.works[key]
    }
}

struct Planner<'a> {
    study: &'a Study,
    corpus: &'a dyn Corpus,
    benchmarks: Benchmarks,
    /// Embedding rows of a model that does not state its own number.
    vocabulary: usize,
    graph: Graph,
    cells: Vec<Cell>,
    works: BTreeMap<StageKey, Work>,
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
    /// True if the base is an SFT policy already.
    fine_tuned: bool,
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
    fn new(study: &'a Study, corpus: &'a dyn Corpus) -> Result<Self> {
        let benchmarks = Benchmarks::open(study, corpus)?;
        Ok(Self {
            benchmarks,
            ..Self::empty(study, corpus, corpus.vocabulary()?)
        })
    }

    fn empty(study: &'a Study, corpus: &'a dyn Corpus, vocabulary: usize) -> Self {
        let (works, lengths) = (BTreeMap::new(), BTreeMap::new());
        Self {
            study,
            corpus,
            benchmarks: Benchmarks::default(),
            vocabulary,
            graph: Graph::new(),
            cells: Vec::new(),
            works,
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
