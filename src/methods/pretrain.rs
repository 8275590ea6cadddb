//! Base language model of the embedded world: next-token prediction on posts with summaries by
//! authors of every quality. It takes the place of the published Pythia checkpoint from which the
//! paper starts.

use crate::Result;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer};
use crate::methods::sft::token_step;
use crate::methods::training::Training;
use crate::model::{LanguageModel, Sequence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainSettings {
    #[schemars(range(min = 1))]
    pub steps: usize,
    /// Posts per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Weight of post tokens in the loss; summary tokens weigh 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prompt_weight: f32,
    /// Share of steps on short posts with near-complete summaries, from which the model learns to
    /// copy.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub curriculum: f64,
    /// Required copy accuracy: the stage fails if any content slot of the gold reward is copied
    /// from the post less often.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub copy_gate: f64,
    pub optimiser: OptimiserSettings,
}

impl PretrainSettings {
    /// True if optimiser step `step` belongs to the curriculum.
    pub fn is_easy(&self, step: usize) -> bool {
        (step as f64) < self.curriculum * self.steps as f64
    }
}

/// Trains on the batches returned by `text(step)`; returns the model with the loss of every
/// optimiser step. `seed` affects only the adapters of `training`.
pub fn pretrain(
    model: LanguageModel,
    settings: &PretrainSettings,
    training: &Training,
    seed: u64,
    text: impl Fn(usize) -> Result<Vec<Sequence>>,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    let mut trainer = Trainer::new(model, &settings.optimiser, training, seed, settings.steps);
    let mut losses: Vec<f32> = trainer.resume(monitor)?.unwrap_or_default();
    while trainer.step < trainer.total {
        let rows = text(trainer.step)?;
        let rows: Vec<&Sequence> = rows.iter().collect();
        losses.push(token_step(
            &mut trainer,
            &rows,
            settings.prompt_weight,
            monitor,
        )?);
        trainer.checkpoint(monitor, &losses)?;
    }
    Ok((trainer.finish(), losses))
}
