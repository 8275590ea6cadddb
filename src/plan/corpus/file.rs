//! A local file of rows as a corpus, with a randomly initialised model. Real text has no known gold
//! reward.

use super::{Corpus, Need};
use crate::experiment::{Hyper, ModelSettings};
use crate::pipeline::StageKey;
use crate::plan::{FIRST_BASE, Planner, Run};
use crate::stages::NoInputs;
use crate::stages::corpus::{LocalDemonstrations, LocalFile};
use crate::stages::evaluation_set::EvaluationSetInputs;
use crate::stages::local_comparisons::{LocalComparisons, LocalComparisonsInputs, LocalPart};
use crate::stages::random::RandomModel;
use crate::stages::work::TextLengths;
use crate::tasks::TaskSettings;
use crate::{Error, Result};
use std::path::PathBuf;

/// Share of a local file's rows that is held out.
pub const HELD_OUT: f64 = 0.2;

/// Real rows that replace the embedded world.
#[derive(Clone, Debug)]
pub struct LocalData {
    pub demonstrations: RowFile,
    /// Labelled pairs, if there are any.
    pub preferences: Option<RowFile>,
    pub task: TaskSettings,
    /// Folder with the file tokenizer.json.
    pub tokenizer: PathBuf,
    /// Hash of the folder's files.
    pub tokenizer_blake3: String,
    pub vocabulary: usize,
    /// Lengths of the demonstrations under the limits that the study's methods share.
    pub texts: Option<TextLengths>,
}

/// A local file of rows, by the bytes that it had when a study was planned.
#[derive(Clone, Debug)]
pub struct RowFile {
    pub file: PathBuf,
    pub blake3: String,
    pub rows: usize,
}

impl RowFile {
    fn held_out(&self) -> usize {
        (self.rows as f64 * HELD_OUT).round() as usize
    }

    fn trained(&self) -> usize {
        self.rows - self.held_out()
    }
}

impl LocalData {
    /// The settings of a stage that reads `rows`.
    fn source(&self, rows: &RowFile, hyper: &Hyper) -> LocalFile {
        LocalFile {
            file: rows.file.clone(),
            blake3: rows.blake3.clone(),
            tokenizer: self.tokenizer.clone(),
            tokenizer_blake3: self.tokenizer_blake3.clone(),
            generation: hyper.generation.clone(),
            task: self.task.clone(),
            held_out: HELD_OUT,
        }
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

    fn gives(&self, need: Need) -> bool {
        need == Need::Preferences && self.local.preferences.is_some()
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
            tokenizer_config: self.local.task.tokenizer(),
        };
        planner.add(&stage, NoInputs {}, Some(FIRST_BASE), label, ())
    }

    fn demonstrations(&self, planner: &mut Planner, hyper: &Hyper, _: u64) -> Result<StageKey> {
        let source = self.local.source(&self.local.demonstrations, hyper);
        let stage = LocalDemonstrations { source };
        planner.add(&stage, NoInputs {}, None, "posts", ())
    }

    fn demonstration_count(&self, _: &Hyper) -> usize {
        self.local.demonstrations.trained()
    }

    fn preferences(&self, planner: &mut Planner, run: &Run) -> Result<(StageKey, usize)> {
        self.comparisons(planner, run.hyper, LocalPart::Training)?
            .ok_or_else(|| Error::internal("preferences were planned without --preferences"))
    }

    fn heldout_preferences(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
    ) -> Result<Option<(StageKey, usize)>> {
        self.comparisons(planner, hyper, LocalPart::HeldOut)
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

    fn text_lengths(&self, _: &Hyper) -> Result<Option<TextLengths>> {
        Ok(self.local.texts)
    }

    fn evaluation_posts(&self, wanted: usize) -> usize {
        wanted.min(self.local.demonstrations.held_out())
    }
}

impl FileCorpus<'_> {
    /// Plans a part of the labelled pairs, if there are any, and gives their number at most.
    fn comparisons(
        &self,
        planner: &mut Planner,
        hyper: &Hyper,
        part: LocalPart,
    ) -> Result<Option<(StageKey, usize)>> {
        let Some(preferences) = &self.local.preferences else {
            return Ok(None);
        };
        let source = self.local.source(preferences, hyper);
        let inputs = LocalComparisonsInputs {
            demonstrations: self.demonstrations(planner, hyper, 0)?,
        };
        let (label, count) = match part {
            LocalPart::Training => ("preferences", preferences.trained()),
            LocalPart::HeldOut => ("preferences/test", preferences.held_out()),
        };
        let stage = LocalComparisons { source, part };
        let key = planner.add(&stage, inputs, None, label, ())?;
        Ok(Some((key, count)))
    }
}
