//! Shared by the stages that train a policy on scores of its own samples: `ppo`, `rloo` and `grpo`.

use super::Stage;
use super::scoring::JudgeInputs;
use super::work::Sizes;
use crate::experiment::Hyper;
use crate::judges::JudgeId;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

/// A stage that trains a policy on scores of its own samples.
pub trait OnPolicy: for<'a> Stage<Inputs = OnPolicyInputs, Sizes<'a> = Sizes<'a>> {
    /// The stage with its method's settings and `rounds` times their updates; `round` is the number
    /// of the iteration, from 0, which names the random streams.
    fn of(hyper: &Hyper, reward: JudgeId, round: usize, rounds: usize) -> Self;
}

/// Inputs of a stage that trains a policy on its own samples.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OnPolicyInputs {
    pub policy: StageKey,
    pub reference: StageKey,
    /// Demonstrations, for their prompts.
    pub demonstrations: StageKey,
    /// The reward model, if the reward is learned.
    pub reward: Option<StageKey>,
}

impl OnPolicyInputs {
    /// The inputs from which a judge is opened.
    pub fn sources<'a>(&self, context: &'a StageContext, dtype: Dtype) -> JudgeInputs<'a> {
        JudgeInputs {
            context,
            dtype,
            reward: self.reward,
            policy: Some(self.policy),
            reference: Some(self.reference),
        }
    }
}
