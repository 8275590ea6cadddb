//! Stage `dpo`: direct preference optimisation of a policy on pairs, against a fixed reference.

use super::Stage;
use super::common::{
    Watch, encoder, frozen, language_model, save_policy, training_pairs, within_memory, write_json,
};
use super::tune::{apply_to_dpo, chosen};
use super::work::{Precision, Sizes, Work, preference_optimisation};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::dpo::{DpoSettings, dpo};
use crate::methods::training::Training;
use crate::model::footprint;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::round;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    pub generation: GenerationSettings,
    pub dpo: DpoSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DpoInputs {
    pub policy: StageKey,
    pub reference: StageKey,
    #[serde(default)]
    pub pairs: Vec<StageKey>,
    /// The chosen epochs and learning rate, if they differ from the settings.
    pub tuning: Option<StageKey>,
}

impl Stage for Dpo {
    const KIND: &'static str = "dpo";
    const VERSION: u32 = 1;
    type Inputs = DpoInputs;
    type Sizes<'a> = Sizes<'a>;

    /// Reading the reference's log-probabilities once, then training.
    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (
            sizes.shapes(&self.generation),
            Precision::from(&self.training),
        );
        let (epochs, batch_size) = (sizes.epochs.unwrap_or(self.dpo.epochs), self.dpo.batch_size);
        let reference = footprint::frozen(
            shapes.config,
            shapes.language_model(),
            precision.reading.bytes,
        );
        let work = preference_optimisation(shapes, epochs, batch_size, sizes.rows, 0.0, precision);
        Work {
            other_models: reference,
            ..work
        }
    }

    fn run(mut self, inputs: DpoInputs, context: &StageContext) -> Result<()> {
        if let Some(choice) = chosen(context, inputs.tuning.as_ref())? {
            apply_to_dpo(&mut self.dpo, &choice);
        }
        let seed = round(context.seed()?, self.round);
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let (pairs, identical) = training_pairs(context, &inputs.pairs, &encoder)?;
        let policy = language_model(context, &inputs.policy)?;
        let reference = frozen(context, &inputs.reference, self.training.dtype)?;
        let training = within_memory(
            context,
            &self.training,
            &self.work(Sizes::new(policy.config(), pairs.len())),
        )?;
        let (model, losses) = dpo(
            policy,
            &reference,
            &pairs,
            &self.dpo,
            &training,
            seed,
            &Watch(context),
        )?;
        let curve = serde_json::json!({ "loss": losses, "pairs": pairs.len(), "identical_share": identical });
        write_json(&context.out().join("curve.json"), &curve)?;
        save_policy(context, &model, &inputs.policy)
    }
}
