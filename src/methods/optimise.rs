//! What every training loop shares: AdamW with global-norm clipping and a learning-rate schedule.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after warm-up, over the planned number of optimiser steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Linear to zero.
    Linear,
    /// Half a cosine to zero.
    Cosine,
}

/// AdamW and its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSettings {
    /// Peak learning rate.
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Optimiser steps of linear warm-up.
    pub warmup_steps: usize,
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest L2 norm of all gradients together; 0 turns clipping off.
    pub clip_norm: f64,
}

impl OptimiserSettings {
    /// Learning rate of optimiser step `step` (from 0) of `total`.
    pub fn rate(&self, step: usize, total: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = total.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - progress,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}
