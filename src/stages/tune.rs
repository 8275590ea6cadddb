//! Stage `tune`: chooses settings of a method by the likelihood of demonstrations held out for this
//! purpose. Each candidate is trained on the other demonstrations, or on pairs of other prompts.
//! The training stage takes the choice as its input `tuning` and trains on all demonstrations.

mod search;
#[cfg(test)]
mod tests;

use super::Stage;
use super::common::{checkpoint, encoder, read_json, within_memory, write_json};
use super::dpo::Dpo;
use super::iq_learn::IqLearn;
use super::sft::Sft;
use super::work::{self, Precision, Sizes, Work};
use crate::experiment::GenerationSettings;
use crate::methods::dpo::DpoSettings;
use crate::methods::iq_learn::IqLearnSettings;
use crate::methods::sft::SftSettings;
use crate::methods::training::Training;
use crate::methods::tune::{Candidate, Choice, Trial, TuningSettings};
use crate::pipeline::{StageContext, StageKey};
use crate::{Context, Result};
use search::{Data, Kept, Search};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file with every candidate and its result.
pub const TRACE: &str = "trace.json";
/// The file with the best candidate.
pub const CHOSEN: &str = "chosen.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    pub generation: GenerationSettings,
    pub method: Method,
    pub training: Training,
    pub tuning: TuningSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TuneInputs {
    #[serde(flatten)]
    pub start: TuneFrom,
    pub demonstrations: StageKey,
    /// The reference of DPO.
    pub reference: Option<StageKey>,
    /// The pairs of DPO.
    #[serde(default)]
    pub pairs: Vec<StageKey>,
}

/// The model that every candidate starts from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuneFrom {
    /// The base, for SFT.
    Base(StageKey),
    /// An SFT policy that has not seen the held-out demonstrations.
    Policy(StageKey),
}

/// Sizes of a search.
pub struct TuneSizes<'a> {
    /// Sizes of training one candidate.
    pub trained: Sizes<'a>,
    /// Number of held-out demonstrations.
    pub held_out: usize,
}

/// The method under tuning, with its fixed settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Sft(SftSettings),
    IqLearn(IqLearnSettings),
    Dpo(DpoSettings),
}

/// The contents of `trace.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Name of the method, as a section of the settings.
    pub method: String,
    /// Number of demonstrations whose likelihood was measured.
    pub held_out: usize,
    /// Number of demonstrations, or pairs, on which the candidates were trained.
    pub trained_on: usize,
    pub trials: Vec<Trial>,
}

/// The values chosen by the input `tuning`, if there is one.
pub fn chosen(context: &StageContext, tuning: Option<&StageKey>) -> Result<Option<Candidate>> {
    let choice = |input| read_json::<Choice>(&context.artifact(input)?.join(CHOSEN));
    Ok(tuning
        .map(choice)
        .transpose()?
        .map(|choice| choice.settings))
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

    /// The method with the values of `candidate`.
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
}

impl Tune {
    /// The work of the stage that trains with the values of `candidate`.
    fn candidate_work(&self, candidate: &Candidate, sizes: Sizes) -> Work {
        let (generation, training) = (self.generation.clone(), self.training.clone());
        match self.method.with(candidate) {
            Method::Sft(sft) => Sft {
                generation,
                sft,
                training,
                own_epochs: false,
            }
            .work(sizes),
            Method::IqLearn(iq_learn) => IqLearn {
                generation,
                iq_learn,
                training,
            }
            .work(sizes),
            Method::Dpo(dpo) => Dpo {
                generation,
                dpo,
                training,
                round: 0,
            }
            .work(sizes),
        }
    }
}

impl Stage for Tune {
    const KIND: &'static str = "tune";
    const VERSION: u32 = 1;
    type Inputs = TuneInputs;
    type Sizes<'a> = TuneSizes<'a>;

    /// All candidates one after the other, each of which also reads the held-out demonstrations.
    /// The estimate assumes that no line of candidates ends early, so it is an upper bound of the
    /// search.
    fn work(&self, TuneSizes { trained, held_out }: TuneSizes) -> Work {
        let candidates = self.tuning.candidates();
        let works: Vec<Work> = candidates
            .iter()
            .map(|candidate| self.candidate_work(candidate, trained))
            .collect();
        let mut whole = works.first().cloned().unwrap_or_default();
        let sum = |value: fn(&Work) -> f64| works.iter().map(value).sum();
        (whole.tokens, whole.flops, whole.steps) =
            (sum(|it| it.tokens), sum(|it| it.flops), sum(|it| it.steps));
        let shapes = trained.shapes(&self.generation);
        let read = work::reading(
            &[(shapes, false)],
            works.len(),
            held_out,
            Precision::from(&self.training),
        );
        // The reading model is the trained one and needs no extra memory.
        whole
            + Work {
                other_models: 0.0,
                ..read
            }
    }

    fn run(self, inputs: TuneInputs, context: &StageContext) -> Result<()> {
        let start = inputs.start.key();
        let encoder = encoder(context, start, &self.generation)?;
        let config = checkpoint(context, start)?.config()?;
        let data = Data::read(context, &self, &inputs, &encoder)?;
        let trained = Sizes::new(&config, data.trained_on());
        let work = self.work(TuneSizes {
            trained,
            held_out: data.held_out.len(),
        });
        let search = Search {
            context,
            training: within_memory(context, &self.training, &work)?,
            total: work.steps as usize,
            kept: context.scratch().join("trials.json"),
            stage: &self,
            inputs: &inputs,
            data: &data,
        };
        let Kept { trials, .. } = search.run()?;
        let choice = self.tuning.choose(&trials)?;
        if matches!(self.method, Method::Sft(_)) {
            let best = trials
                .iter()
                .position(|trial| trial.settings == choice.settings)
                .unwrap_or_default();
            copy_files(&search.model(best), context.out())?;
        }
        let (held_out, trained_on) = (data.held_out.len(), data.trained_on());
        let trace = Trace {
            method: self.method.name().into(),
            held_out,
            trained_on,
            trials,
        };
        write_json(&context.out().join(TRACE), &trace)?;
        write_json(&context.out().join(CHOSEN), &choice)
    }
}

impl TuneFrom {
    fn key(&self) -> &StageKey {
        let (Self::Base(key) | Self::Policy(key)) = self;
        key
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
