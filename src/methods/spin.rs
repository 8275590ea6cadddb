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
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub beta: f32,
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Pairs per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
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
