//! Base language model of the embedded world: next-token prediction on posts with summaries by authors of every quality.

use crate::methods::optimise::OptimiserSettings;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainSettings {
    pub steps: usize,
    /// Posts per optimiser step.
    pub batch_size: usize,
    /// Weight of post tokens in the loss; summary tokens weigh 1.
    pub prompt_weight: f32,
    /// Share of steps that see short posts with near-complete summaries, so that copying appears.
    pub curriculum: f64,
    /// Every content slot of the gold reward must be copied from the post at least this often, or the stage fails.
    pub copy_gate: f64,
    pub optimiser: OptimiserSettings,
}
