//! Policy step (eq. 9) by PPO with a per-token KL penalty to the fixed SFT policy.

use crate::methods::optimise::OptimiserSettings;
use serde::{Deserialize, Serialize};

/// Where the value function starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Critic {
    /// A zero-initialised linear head on detached policy features.
    ZeroHead,
    /// A second network, copied from the reward model (as in the authors' code).
    RewardCopy,
}

/// Score of a response that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingEos {
    /// One below the first percentile of the scores that the reward gave to its own training responses.
    BelowScores,
    /// The authors' constant −1, which real scores may undercut.
    MinusOne,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PpoSettings {
    /// Rollout batches.
    pub updates: usize,
    /// Responses per rollout batch.
    pub rollouts: usize,
    /// Passes over each rollout batch.
    pub epochs: usize,
    /// Optimiser steps per pass.
    pub minibatches: usize,
    /// Temperature of the policy: in the rollout, the reference and the update alike.
    pub temperature: f32,
    /// β of eq. 9, per token.
    pub kl_coefficient: f32,
    pub gamma: f32,
    pub lambda: f32,
    /// Clip range of the probability ratio.
    pub clip: f32,
    /// Clip range of the value.
    pub clip_value: f32,
    pub value_coefficient: f32,
    pub whiten_advantages: bool,
    pub critic: Critic,
    pub missing_eos: MissingEos,
    pub optimiser: OptimiserSettings,
}
