//! Reward learning from pairs: eq. 11 (log-sigmoid), eq. 10 (linear).

use crate::methods::optimise::OptimiserSettings;
use serde::{Deserialize, Serialize};

/// How a pair (chosen, rejected) with Δ = r(chosen) − r(rejected) is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardLoss {
    /// −Δ, the gradient that the paper derives (Lemma 5.1, eq. 10). Needs a bounded head.
    Eq10,
    /// −log σ(Δ), what the paper optimises (eq. 11) and the Bradley–Terry loss of RLHF (eq. 2).
    Eq11,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSettings {
    pub loss: RewardLoss,
    /// The head's output h becomes `bound · tanh(h / bound)`; 0 leaves it unbounded.
    pub bound: f32,
    pub epochs: usize,
    /// Pairs per optimiser step.
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}
