//! Supervised fine-tuning on demonstrations (behaviour cloning).

use crate::methods::optimise::OptimiserSettings;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSettings {
    pub epochs: usize,
    /// Demonstrations per optimiser step.
    pub batch_size: usize,
    /// Weight of prompt tokens in the loss; response tokens weigh 1. The authors' code trains on both (1.0).
    pub prompt_weight: f32,
    pub optimiser: OptimiserSettings,
}
