//! Stage `tune`: values of a method chosen by the likelihood of demonstrations that are held out for it. Each candidate is
//! trained on the other demonstrations, or on pairs of other prompts. The stage that trains takes the choice as its input
//! `tuning` and trains on all.

use super::common::{
    Watch, checkpoint, codec, demonstrations, frozen, language_model, read_json, training_pairs_without, within_memory,
    write_json,
};
use super::work::{self, Regime, Texts, Work};
use crate::data::Codec;
use crate::data::rows::Demonstration;
use crate::data::split::{self, Prompts};
use crate::error::ErrorKind;
use crate::experiment::GenerationSettings;
use crate::methods::dpo::{DpoSettings, dpo, sequence_log_probs};
use crate::methods::iq_learn::{IqLearnSettings, iq_learn};
use crate::methods::optimise::Monitor;
use crate::methods::sft::{SftSettings, sft};
use crate::methods::training::Training;
use crate::methods::tune::{Candidate, Choice, Trial, TuningSettings};
use crate::model::checkpoint::Checkpoint;
use crate::model::{LanguageModel, Pair, Passes, Sequence};
use crate::pipeline::StageContext;
use crate::rng::round;
use crate::{Context, Error, Result, files};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub const KIND: &str = "tune";
/// Every candidate, and what came of it.
pub const TRACE: &str = "trace.json";
/// The best of them.
pub const CHOSEN: &str = "chosen.json";

/// The order in which prompts are held out; equal demonstrations under one seed are split alike for every method.
const SPLIT: &str = "tune/split";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub method: Method,
    pub training: Training,
    pub tuning: TuningSettings,
}

/// The method that is tuned, with the values that are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Sft(SftSettings),
    IqLearn(IqLearnSettings),
    Dpo(DpoSettings),
}

/// What `trace.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The method's name as a section of settings.
    pub method: String,
    /// Demonstrations whose likelihood was measured.
    pub held_out: usize,
    /// Demonstrations, or pairs, that the candidates were trained on.
    pub trained_on: usize,
    pub trials: Vec<Trial>,
}

/// The values in the input `tuning`; none where the stage has no such input.
pub fn chosen(context: &StageContext) -> Result<Option<Candidate>> {
    if !context.spec.inputs.contains_key("tuning") {
        return Ok(None);
    }
    let choice: Choice = read_json(&context.input("tuning")?.join(CHOSEN))?;
    Ok(Some(choice.settings))
}

pub fn apply_to_iq_learn(settings: &mut IqLearnSettings, chosen: &Candidate) {
    let rate = settings.optimiser.learning_rate;
    settings.epochs = chosen.epochs;
    settings.optimiser.learning_rate = chosen.learning_rate.unwrap_or(rate);
    settings.lambda = chosen.lambda.unwrap_or(settings.lambda);
}

pub fn apply_to_dpo(settings: &mut DpoSettings, chosen: &Candidate) {
    let rate = settings.optimiser.learning_rate;
    settings.epochs = chosen.epochs;
    settings.optimiser.learning_rate = chosen.learning_rate.unwrap_or(rate);
}

impl Method {
    fn name(&self) -> &'static str {
        match self {
            Self::Sft(_) => "sft",
            Self::IqLearn(_) => "iq_learn",
            Self::Dpo(_) => "dpo",
        }
    }

    /// The input that training starts from.
    fn start(&self) -> &'static str {
        match self {
            Self::Sft(_) => "base",
            Self::IqLearn(_) | Self::Dpo(_) => "policy",
        }
    }

    /// With the values of `candidate`.
    fn with(&self, candidate: &Candidate) -> Self {
        let mut method = self.clone();
        match &mut method {
            Self::Sft(settings) => {
                settings.epochs = candidate.epochs;
                let rate = settings.optimiser.learning_rate;
                settings.optimiser.learning_rate = candidate.learning_rate.unwrap_or(rate);
            }
            Self::IqLearn(settings) => apply_to_iq_learn(settings, candidate),
            Self::Dpo(settings) => apply_to_dpo(settings, candidate),
        }
        method
    }

    /// Training on `rows` demonstrations or pairs.
    fn work(&self, texts: Texts, rows: usize, regime: Regime) -> Work {
        match self {
            Self::Sft(settings) => work::sft(texts, settings, rows, regime),
            Self::IqLearn(settings) => work::iq_learn(texts, settings, rows, regime),
            Self::Dpo(settings) => work::dpo(texts, settings, rows, regime),
        }
    }
}

impl Stage {
    /// The whole search at most, where `rows` demonstrations or pairs are trained on and `held_out` demonstrations are not.
    pub fn work(&self, texts: Texts, rows: usize, held_out: usize) -> Work {
        let regime = Regime::from(&self.training);
        let candidates = self.tuning.candidates();
        let works: Vec<Work> =
            candidates.iter().map(|candidate| self.method.with(candidate).work(texts, rows, regime)).collect();
        work::tune(texts, &works, held_out, regime)
    }
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let start = stage.method.start();
    let codec = codec(context, start, &stage.generation)?;
    let config = checkpoint(context, start)?.config()?;
    let data = Data::read(context, &stage, &codec)?;
    let texts = Texts { config: &config, generation: &stage.generation };
    let work = stage.work(texts, data.trained_on(), data.held_out.len());
    let search = Search {
        context,
        training: within_memory(context, &stage.training, &work)?,
        total: work.steps as usize,
        kept: context.scratch().join("trials.json"),
        stage: &stage,
        data: &data,
    };
    let Kept { trials, .. } = search.run()?;
    let choice = stage.tuning.choose(&trials)?;
    if matches!(stage.method, Method::Sft(_)) {
        let best = trials.iter().position(|trial| trial.settings == choice.settings).unwrap_or_default();
        copy_files(&search.model(best), context.out())?;
    }
    let (held_out, trained_on) = (data.held_out.len(), data.trained_on());
    let trace = Trace { method: stage.method.name().into(), held_out, trained_on, trials };
    write_json(&context.out().join(TRACE), &trace)?;
    write_json(&context.out().join(CHOSEN), &choice)
}

/// What is trained on, and what is measured.
struct Data {
    demonstrations: Vec<Sequence>,
    pairs: Vec<Pair>,
    held_out: Vec<Sequence>,
}

impl Data {
    fn read(context: &StageContext, stage: &Stage, codec: &Codec) -> Result<Self> {
        let rows = demonstrations(context)?;
        let prompts: Vec<[&str; 2]> = rows.iter().map(|row| [&row.prompt[..]; 2]).collect();
        let split = split::hold_out_some(&split::groups(&prompts), stage.tuning.held_out, context.seed()?, SPLIT);
        let Some((held_out, trained)) = split else {
            return Err(Error::data(format!(
                "{} demonstrations of one prompt cannot be split into some to train on and some that are held out",
                rows.len()
            ))
            .hint(format!("give at least two different prompts, or set {}.tuning to none", stage.method.name())));
        };
        let chosen = |indices: &[usize]| -> Vec<&Demonstration> { indices.iter().map(|index| &rows[*index]).collect() };
        let encoded = |rows: &[&Demonstration]| rows.iter().map(|row| codec.demonstration(row)).collect::<Result<_>>();
        let (held_out, trained) = (chosen(&held_out), chosen(&trained));
        let pairs = match stage.method {
            Method::Dpo(_) => {
                let mut prompts = Prompts::default();
                held_out.iter().for_each(|row| prompts.insert(&[&row.prompt]));
                training_pairs_without(context, codec, &prompts)?.0
            }
            Method::Sft(_) | Method::IqLearn(_) => Vec::new(),
        };
        Ok(Self { demonstrations: encoded(&trained)?, pairs, held_out: encoded(&held_out)? })
    }

    fn trained_on(&self) -> usize {
        if self.pairs.is_empty() { self.demonstrations.len() } else { self.pairs.len() }
    }
}

/// What outlives a kill: the finished trials, and what they have cost.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    trials: Vec<Trial>,
    cost: serde_json::Value,
}

struct Search<'a> {
    context: &'a StageContext,
    stage: &'a Stage,
    data: &'a Data,
    training: Training,
    /// Optimiser steps of all candidates.
    total: usize,
    kept: PathBuf,
}

impl Search<'_> {
    /// Tries one candidate after the other, behind what an earlier attempt has finished.
    fn run(&self) -> Result<Kept> {
        let watch = Watch(self.context);
        let mut kept: Kept =
            if self.kept.exists() { read_json(&self.kept).unwrap_or_default() } else { Kept::default() };
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
                self.context.progress((done + trial.steps) as u64, self.total as u64, &note);
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
            Method::Sft(settings) => (self.data.demonstrations.len(), settings.epochs, settings.batch_size),
            Method::IqLearn(settings) => (self.data.demonstrations.len(), settings.epochs, settings.batch_size),
            Method::Dpo(settings) => (self.data.pairs.len(), settings.epochs, settings.batch_size),
        };
        epochs * rows.div_ceil(batch_size)
    }

    /// The last training loss and the mean log-likelihood of the held-out demonstrations.
    fn measure(&self, method: &Method, trying: &Trying, index: usize) -> Result<(Option<f32>, f64)> {
        let (context, training) = (self.context, &self.training);
        let (model, seed) = (language_model(context, method.start())?, context.seed()?);
        let rows = &self.data.demonstrations;
        let (model, losses) = match method {
            Method::Sft(settings) => sft(model, rows, settings, training, seed, trying)?,
            Method::IqLearn(settings) => iq_learn(model, rows, settings, training, seed, trying)?,
            Method::Dpo(settings) => {
                let reference = frozen(context, "reference", training.dtype)?;
                dpo(model, &reference, &self.data.pairs, settings, training, round(seed, 0), trying)?
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

    /// Keeps the model: what is tuned behind SFT starts from one that has not seen the held-out demonstrations either.
    fn save(&self, model: &LanguageModel, index: usize) -> Result<()> {
        let folder = self.model(index);
        files::remove_dir(&folder)?;
        files::create_dir(&folder)?;
        let tokenizer = checkpoint(self.context, "base")?.folder().join("tokenizer.json");
        Checkpoint::save_language_model(&folder, model, &tokenizer, crate::model::weights::StoredAs::F32)
    }

    /// Removes the models of all trials but the best.
    fn drop_models(&self, trials: &[Trial]) -> Result<()> {
        let best = self.stage.tuning.choose(trials).ok().map(|choice| choice.settings);
        let dropped = trials.iter().enumerate().filter(|(_, trial)| Some(trial.settings) != best);
        dropped.map(|(index, _)| self.model(index)).try_for_each(|folder| files::remove_dir(&folder))
    }

    /// Where the model of a candidate is kept.
    fn model(&self, index: usize) -> PathBuf {
        self.context.scratch().join(format!("candidate-{index}"))
    }

    /// Where the checkpoints of a candidate in training are.
    fn training_folder(&self, index: usize) -> PathBuf {
        self.context.scratch().join(format!("training-{index}"))
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    for entry in std::fs::read_dir(from).context(failed)? {
        let entry = entry.context(failed)?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).context(failed)?;
    }
    Ok(())
}

/// Watches the training of one candidate as a part of the search.
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
        self.watch.progress(self.done + done, self.total, &format!("{}: {note}", self.candidate));
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

#[cfg(test)]
mod tests;
