//! SPIN (Chen et al. 2024, arXiv 2401.01335): self-play against the previous iterate. The paper's
//! §5 reads it as eq. 11 with the implicit reward r = β·log(π/π_t), π_t the opponent:
//!
//! ℓ = −log σ( β·[ log π(y|x)/π_t(y|x) − log π(ỹ|x)/π_t(ỹ|x) ] ),  y a demonstration, ỹ ~ π_t.
//!
//! With preferences for pairs and the SFT policy for π_t the same loss is [DPO](super::dpo)'s, and
//! the same loop minimises it.

use crate::Result;
pub use crate::methods::dpo::sequence_log_probs;
use crate::methods::dpo::{GapTraining, PairLoss, gaps, optimise_gap};
use crate::methods::irl::Accumulate;
use crate::methods::optimise::{Monitor, OptimiserSettings};
use crate::methods::training::Training;
use crate::model::{LanguageModel, Pair};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The text by which a policy is asked for the samples of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptFormat {
    /// The prompt that is trained on.
    #[default]
    Template,
    /// `### Instruction: … ### Response:`, with which the released code of SPIN samples
    /// (`spin/generate.py`), though it trains on the chat template.
    Instruction,
}

impl PromptFormat {
    /// True for the prompts that are trained on.
    pub fn is_template(&self) -> bool {
        *self == Self::Template
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpinSettings {
    #[schemars(range(min = 1))]
    pub iterations: usize,
    /// The iterations whose pairs are used for training.
    pub accumulate: Accumulate,
    /// Temperature of the samples ỹ.
    #[schemars(range(min = 0.0))]
    pub negatives_temperature: f32,
    /// The format of the prompts of these samples. Training has the template's whatever it is.
    #[serde(default, skip_serializing_if = "PromptFormat::is_template")]
    pub prompt: PromptFormat,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub beta: f32,
    /// β of each iteration, the last one for all further ones, in place of `beta`. Not part of a
    /// stage's settings, which hold the value of its own iteration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1e-9)))]
    pub betas: Vec<f32>,
    /// Peak learning rate of each iteration, the last one for all further ones, in place of
    /// `optimiser.learning_rate`; in stages as `betas`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1e-12)))]
    pub learning_rates: Vec<f64>,
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Pairs per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

impl SpinSettings {
    /// The settings of iteration `iteration` (from 0) alone.
    pub fn of_iteration(&self, iteration: usize) -> Self {
        let mut settings = self.clone();
        settings.prompt = PromptFormat::Template;
        let betas = std::mem::take(&mut settings.betas);
        let rates = std::mem::take(&mut settings.learning_rates);
        if let Some(beta) = betas.get(iteration).or(betas.last()) {
            settings.beta = *beta;
        }
        if let Some(rate) = rates.get(iteration).or(rates.last()) {
            settings.optimiser.learning_rate = *rate;
        }
        settings
    }
}

/// Runs one iteration: trains `opponent` on `pairs` against its initial state; returns it with the
/// loss of every optimiser step.
pub fn spin(
    opponent: LanguageModel,
    pairs: &[Pair],
    settings: &SpinSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    // A copy in the type used for computation, dropped before training starts.
    let opponent_gaps = gaps(&opponent.clone().in_dtype(training.dtype.float()), pairs)?;
    let SpinSettings {
        beta,
        epochs,
        batch_size,
        ref optimiser,
        ..
    } = *settings;
    let loss = PairLoss::Sigmoid;
    let run = GapTraining {
        method: "SPIN",
        order: "spin/order",
        beta,
        loss,
        epochs,
        batch_size,
        optimiser,
    };
    optimise_gap(
        opponent,
        pairs,
        &opponent_gaps,
        run,
        training,
        seed,
        monitor,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_iteration_has_its_own_rate_and_beta_and_the_last_are_those_of_all_further_ones() {
        let settings = |schedule: serde_json::Value| -> SpinSettings {
            let mut settings = json!({
                "iterations": 4, "accumulate": "last_two", "negatives_temperature": 1.0, "beta": 0.5, "epochs": 1,
                "batch_size": 1, "optimiser": {
                    "learning_rate": 1e-3, "schedule": "linear", "warmup_steps": 0, "beta_1": 0.0, "beta_2": 0.99,
                    "epsilon": 1e-8, "weight_decay": 0.0, "clip_norm": 1.0
                }
            });
            for (key, value) in schedule.as_object().unwrap() {
                settings[key] = value.clone();
            }
            serde_json::from_value(settings).unwrap()
        };
        let fixed = settings(json!({}));
        assert_eq!(fixed.of_iteration(2), fixed);
        let planned = settings(json!({"learning_rates": [5e-7, 1e-7], "betas": [0.1, 0.1, 5.0]}));
        let seen: Vec<(f64, f32)> = (0..4)
            .map(|iteration| planned.of_iteration(iteration))
            .map(|settings| (settings.optimiser.learning_rate, settings.beta))
            .collect();
        assert_eq!(seen, [(5e-7, 0.1), (1e-7, 0.1), (1e-7, 5.0), (1e-7, 5.0)]);
        assert!(planned.of_iteration(0).betas.is_empty());
        assert!(planned.of_iteration(0).learning_rates.is_empty());
    }
}
