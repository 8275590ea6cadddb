//! A local file of rows as a corpus, with a randomly initialised model. Real text has no known gold
//! reward.

use super::{Corpus, Need};
use crate::experiment::{Hyper, ModelSettings};
use crate::pipeline::StageKey;
use crate::plan::{FIRST_BASE, Planner, Run};
use crate::stages::NoInputs;
use crate::stages::corpus::LocalPosts;
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::random::RandomModel;
use crate::{Error, Result};
use std::path::PathBuf;

/// Share of a local file's rows that is held out.
pub const HELD_OUT: f64 = 0.2;

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

impl LocalData {
    fn held_out(&self) -> usize {
        (self.rows as f64 * HELD_OUT).round() as usize
    }
}

/// The rows of a local file.
pub(super) struct FileCorpus<'a> {
    pub local: &'a LocalData,
}

impl Corpus for FileCorpus<'_> {
    fn name(&self) -> String {
        "--data".into()
    }

    fn gives(&self, _: Need) -> bool {
        false
    }

    fn vocabulary(&self) -> Result<usize> {
        Ok(self.local.vocabulary)
    }

    fn base_number(&self, _: &ModelSettings, _: u64) -> u64 {
        FIRST_BASE
    }

    fn base(
        &self,
        planner: &mut Planner,
        model: &ModelSettings,
        _: u64,
        label: String,
    ) -> Result<StageKey> {
        let stage = RandomModel {
            model: model.shape(),
            generation: planner.study.shared.generation.clone(),
            tokenizer: self.local.tokenizer.clone(),
            tokenizer_blake3: self.local.tokenizer_blake3.clone(),
        };
        planner.add(&stage, NoInputs {}, Some(FIRST_BASE), label, ())
    }

    fn demonstrations(&self, planner: &mut Planner, hyper: &Hyper, _: u64) -> Result<StageKey> {
        let stage = LocalPosts {
            file: self.local.file.clone(),
            blake3: self.local.blake3.clone(),
            tokenizer: self.local.tokenizer.clone(),
            tokenizer_blake3: self.local.tokenizer_blake3.clone(),
            generation: hyper.generation.clone(),
            held_out: HELD_OUT,
        };
        planner.add(&stage, NoInputs {}, None, "posts", ())
    }

    fn demonstration_count(&self, _: &Hyper) -> usize {
        self.local.rows - self.local.held_out()
    }

    fn preferences(&self, _: &mut Planner, _: &Run) -> Result<(StageKey, usize)> {
        Err(Error::internal("a local file has no preferences"))
    }

    fn heldout_preferences(&self, _: &mut Planner, _: &Hyper) -> Result<Option<(StageKey, usize)>> {
        Ok(None)
    }

    fn evaluation_set(
        &self,
        _: &mut Planner,
        _: &Hyper,
        demonstrations: &StageKey,
    ) -> Result<EvaluationSetInputs> {
        Ok(EvaluationSetInputs {
            demonstrations: Some(*demonstrations),
            judge: None,
        })
    }

    fn evaluation_posts(&self, wanted: usize) -> usize {
        wanted.min(self.local.held_out())
    }
}
