//! The search of a stage `tune`: trains and measures one candidate after the other, and skips those
//! that an earlier attempt finished.

use super::{Method, Tune, TuneInputs};
use crate::data::TextEncoder;
use crate::data::rows::Demonstration;
use crate::data::split::{self, Prompts};
use crate::error::ErrorKind;
use crate::methods::dpo::{dpo, sequence_log_probs};
use crate::methods::iq_learn::iq_learn;
use crate::methods::optimise::Monitor;
use crate::methods::sft::sft;
use crate::methods::training::Training;
use crate::methods::tune::{Candidate, Trial};
use crate::model::checkpoint::Checkpoint;
use crate::model::weights::StoredAs;
use crate::model::{LanguageModel, Pair, Passes, Sequence};
use crate::pipeline::StageContext;
use crate::rng::round;
use crate::stages::common::{
    Watch, checkpoint, demonstrations, frozen, language_model, needed, read_json,
    training_pairs_without,
};
use crate::{Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Purpose of the random order in which prompts are held out; equal demonstrations under one seed
/// are split alike for every method.
const SPLIT: &str = "tune/split";

/// Rows for training, and rows for measuring.
pub struct Data {
    demonstrations: Vec<Sequence>,
    pairs: Vec<Pair>,
    pub held_out: Vec<Sequence>,
}

impl Data {
    pub fn read(
        context: &StageContext,
        stage: &Tune,
        inputs: &TuneInputs,
        encoder: &TextEncoder,
    ) -> Result<Self> {
        let rows = demonstrations(context, &inputs.demonstrations)?;
        let prompts: Vec<[&str; 2]> = rows.iter().map(|row| [row.prompt.as_str(); 2]).collect();
        let split = split::hold_out_some(
            &split::groups(&prompts),
            stage.tuning.held_out,
            context.seed()?,
            SPLIT,
        );
        let Some((held_out, trained)) = split else {
            return Err(Error::data(format!(
                "{} demonstrations of one prompt cannot be split into some to train on and some that are held out",
                rows.len()
            ))
            .hint(format!("give at least two different prompts, or set {}.tuning to none", stage.method.name())));
        };
        let chosen = |indices: &[usize]| -> Vec<&Demonstration> {
            indices.iter().map(|index| &rows[*index]).collect()
        };
        let encoded = |rows: &[&Demonstration]| {
            rows.iter()
                .map(|row| encoder.demonstration(row))
                .collect::<Result<_>>()
        };
        let (held_out, trained) = (chosen(&held_out), chosen(&trained));
        let pairs = match stage.method {
            Method::Dpo(_) => {
                let mut prompts = Prompts::default();
                held_out
                    .iter()
                    .for_each(|row| prompts.insert(&[row.prompt.as_str()]));
                training_pairs_without(context, &inputs.pairs, encoder, &prompts)?.0
            }
            Method::Sft(_) | Method::IqLearn(_) => Vec::new(),
        };
        Ok(Self {
            demonstrations: encoded(&trained)?,
            pairs,
            held_out: encoded(&held_out)?,
        })
    }

    pub fn trained_on(&self) -> usize {
        if self.pairs.is_empty() {
            self.demonstrations.len()
        } else {
            self.pairs.len()
        }
    }
}

/// The finished trials and their cost, which survive a kill.
#[derive(Default, Serialize, Deserialize)]
pub struct Kept {
    pub trials: Vec<Trial>,
    pub cost: serde_json::Value,
}

/// A search in progress.
pub struct Search<'a> {
    pub context: &'a StageContext,
    pub stage: &'a Tune,
    pub inputs: &'a TuneInputs,
    pub data: &'a Data,
    pub training: Training,
    /// Optimiser steps of all candidates together.
    pub total: usize,
    pub kept: PathBuf,
}

impl Search<'_> {
    /// Tries one candidate after the other, and skips those that an earlier attempt has finished.
    pub fn run(&self) -> Result<Kept> {
        let watch = Watch(self.context);
        let mut kept: Kept = if self.kept.exists() {
            read_json(&self.kept).unwrap_or_default()
        } else {
            Kept::default()
        };
        if !kept.trials.is_empty() {
            watch.resumed(kept.cost.clone());
        }
        while let Some(candidate) = self.stage.tuning.next(&kept.trials) {
            let index = kept.trials.len();
            let trial = self.attempt(&candidate, index, &kept.trials)?;
            kept.trials.push(trial);
            kept.cost = watch.cost();
            files::replace_synced(&self.kept, &files::to_json(&kept, &self.kept)?)?;
            files::remove_dir(&self.training_folder(index))?;
            self.drop_models(&kept.trials)?;
        }
        Ok(kept)
    }

    fn attempt(&self, candidate: &Candidate, index: usize, earlier: &[Trial]) -> Result<Trial> {
        let done = earlier.iter().map(|trial| trial.steps).sum();
        let trying = Trying {
            watch: Watch(self.context),
            folder: self.training_folder(index),
            done,
            total: self.total,
            candidate: candidate.to_string(),
        };
        let method = self.stage.method.with(candidate);
        let mut trial = Trial {
            settings: *candidate,
            steps: self.steps(&method),
            held_out_log_likelihood: None,
            training_loss: None,
            failure: None,
        };
        match self.measure(&method, &trying, index) {
            Ok((loss, likelihood)) => {
                (trial.training_loss, trial.held_out_log_likelihood) = (loss, Some(likelihood));
                let note = format!("{candidate}: held-out log-likelihood {likelihood:.3}");
                self.context
                    .progress((done + trial.steps) as u64, self.total as u64, &note);
            }
            Err(error) if error.kind() == ErrorKind::Divergence => {
                let failure = format!("{candidate}: {error}");
                trying.note(&failure);
                trial.failure = Some(failure);
            }
            Err(error) => return Err(error.within(&format!("tuning with {candidate}"))),
        }
        Ok(trial)
    }

    /// Optimiser steps of `method`.
    fn steps(&self, method: &Method) -> usize {
        let (rows, epochs, batch_size) = match method {
            Method::Sft(settings) => (
                self.data.demonstrations.len(),
                settings.epochs,
                settings.batch_size,
            ),
            Method::IqLearn(settings) => (
                self.data.demonstrations.len(),
                settings.epochs,
                settings.batch_size,
            ),
            Method::Dpo(settings) => (self.data.pairs.len(), settings.epochs, settings.batch_size),
        };
        epochs * rows.div_ceil(batch_size)
    }

    /// The last training loss, and the mean log-likelihood of the held-out demonstrations.
    fn measure(
        &self,
        method: &Method,
        trying: &Trying,
        index: usize,
    ) -> Result<(Option<f32>, f64)> {
        let (context, training) = (self.context, &self.training);
        let (model, seed) = (
            language_model(context, self.inputs.start.key())?,
            context.seed()?,
        );
        let rows = &self.data.demonstrations;
        let (model, losses) = match method {
            Method::Sft(settings) => sft(model, rows, settings, training, seed, trying)?,
            Method::IqLearn(settings) => iq_learn(model, rows, settings, training, seed, trying)?,
            Method::Dpo(settings) => {
                let reference = frozen(
                    context,
                    needed(&self.inputs.reference, "reference", context)?,
                    training.dtype,
                )?;
                dpo(
                    model,
                    &reference,
                    &self.data.pairs,
                    settings,
                    training,
                    round(seed, 0),
                    trying,
                )?
            }
        };
        let held_out: Vec<&Sequence> = self.data.held_out.iter().collect();
        let log_probs = sequence_log_probs(&model, &held_out)?;
        trying.passes(Passes::likelihood(model.config(), held_out));
        if matches!(method, Method::Sft(_)) {
            self.save(&model, index)?;
        }
        let sum: f64 = log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum();
        Ok((losses.last().copied(), sum / log_probs.len() as f64))
    }

    /// Keeps the model: methods tuned after SFT start from a model that has not seen the held-out
    /// demonstrations either.
    fn save(&self, model: &LanguageModel, index: usize) -> Result<()> {
        let folder = self.model(index);
        files::remove_dir(&folder)?;
        files::create_dir(&folder)?;
        let tokenizer = checkpoint(self.context, self.inputs.start.key())?
            .folder()
            .join("tokenizer.json");
        Checkpoint::save_language_model(&folder, model, &tokenizer, StoredAs::F32)
    }

    /// Removes the models of all trials except the best.
    fn drop_models(&self, trials: &[Trial]) -> Result<()> {
        let best = self
            .stage
            .tuning
            .choose(trials)
            .ok()
            .map(|choice| choice.settings);
        let dropped = trials
            .iter()
            .enumerate()
            .filter(|(_, trial)| Some(trial.settings) != best);
        dropped
            .map(|(index, _)| self.model(index))
            .try_for_each(|folder| files::remove_dir(&folder))
    }

    /// The folder of a candidate's model.
    pub fn model(&self, index: usize) -> PathBuf {
        self.context.scratch().join(format!("candidate-{index}"))
    }

    /// The folder of the checkpoints of a candidate in training.
    fn training_folder(&self, index: usize) -> PathBuf {
        self.context.scratch().join(format!("training-{index}"))
    }
}

/// A monitor that reports the training of one candidate as a part of the search.
struct Trying<'a> {
    watch: Watch<'a>,
    folder: PathBuf,
    /// Optimiser steps of earlier candidates.
    done: usize,
    total: usize,
    candidate: String,
}

impl Monitor for Trying<'_> {
    fn progress(&self, done: usize, _: usize, note: &str) {
        self.watch.progress(
            self.done + done,
            self.total,
            &format!("{}: {note}", self.candidate),
        );
    }

    fn passes(&self, passes: Passes) {
        self.watch.passes(passes);
    }

    fn note(&self, text: &str) {
        self.watch.note(text);
    }

    fn checkpoint_folder(&self) -> Option<PathBuf> {
        Some(self.folder.clone())
    }

    fn cost(&self) -> serde_json::Value {
        self.watch.cost()
    }

    fn resumed(&self, cost: serde_json::Value) {
        self.watch.resumed(cost);
    }
}
