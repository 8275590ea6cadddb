//! Stage `sft`: fine-tunes the base model on the demonstrations.

use super::Stage;
use super::common::{
    Watch, demonstrated, encoder, language_model, save_policy, within_memory, write_json,
};
use super::tune::chosen;
use super::work::{Precision, Sizes, Work, supervised};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::sft::{SftSettings, sft};
use crate::methods::training::Training;
use crate::methods::tune::Candidate;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    pub generation: GenerationSettings,
    pub sft: SftSettings,
    pub training: Training,
    /// True if the settings' epochs are kept although an input `tuning` chooses the learning rate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_epochs: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SftInputs {
    pub base: StageKey,
    pub demonstrations: StageKey,
    /// The chosen epochs and learning rate, if they differ from the settings.
    pub tuning: Option<StageKey>,
}

impl Stage for Sft {
    const KIND: &'static str = "sft";
    const VERSION: u32 = 2;
    type Inputs = SftInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let chosen = sizes.epochs.filter(|_| !self.own_epochs);
        let settings = SftSettings {
            epochs: chosen.unwrap_or(self.sft.epochs),
            ..self.sft.clone()
        };
        supervised(
            sizes.shapes(&self.generation),
            &settings,
            sizes.rows,
            Precision::from(&self.training),
        )
    }

    fn run(mut self, inputs: SftInputs, context: &StageContext) -> Result<()> {
        if let Some(Candidate {
            epochs,
            learning_rate,
            ..
        }) = chosen(context, inputs.tuning.as_ref())?
        {
            let optimiser = &mut self.sft.optimiser;
            optimiser.learning_rate = learning_rate.unwrap_or(optimiser.learning_rate);
            self.sft.epochs = if self.own_epochs {
                self.sft.epochs
            } else {
                epochs
            };
        }
        let encoder = encoder(context, &inputs.base, &self.generation)?;
        let rows = demonstrated(context, &inputs.demonstrations, &encoder)?;
        let base = language_model(context, &inputs.base)?;
        let training = within_memory(
            context,
            &self.training,
            &self.work(Sizes::new(base.config(), rows.len())),
        )?;
        let (model, losses) = sft(
            base,
            &rows,
            &self.sft,
            &training,
            context.seed()?,
            &Watch(context),
        )?;
        write_json(
            &context.out().join("curve.json"),
            &serde_json::json!({ "loss": losses }),
        )?;
        save_policy(context, &model, &inputs.base)
    }
}
