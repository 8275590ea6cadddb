//! SPIN: self-play against the previous iterate, eq. 11 with the implicit reward β·log(π/π_t).

use crate::methods::optimise::OptimiserSettings;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpinSettings {
    pub iterations: usize,
    pub beta: f32,
    pub epochs: usize,
    /// Pairs per optimiser step.
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}
