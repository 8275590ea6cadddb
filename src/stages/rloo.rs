//! Stage `rloo`: a policy raised on a reward by REINFORCE with leave-one-out baselines, held near a reference (eq. 9).

use super::common::{
    Watch, checkpoint, codec, frozen, language_model, prompts, sampling, save_policy, within_memory, write_json,
};
use super::objective::RewardSource;
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::rloo::{RlooSettings, rloo};
use crate::methods::rollout::Task;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "rloo";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub rloo: RlooSettings,
    pub training: Training,
    pub reward: RewardSource,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let policy = language_model(context, "policy")?;
    let reference = frozen(context, "reference", stage.training.dtype)?;
    let codec = codec(context, "policy", &stage.generation)?;
    let prompts = prompts(context, &codec)?;
    let objective = stage.reward.objective(context, &codec, prompts.len(), stage.training.dtype)?;
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let learned = stage.reward == RewardSource::Learned;
    let work = work::policy_gradient(texts, &(&stage.rloo).into(), learned, Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let sampling = sampling(&codec, &stage.generation, stage.rloo.temperature);
    let task = Task { reference: &reference, objective, critic: None, prompts: &prompts, sampling: &sampling };
    let (seed, watch) = (round(context.seed()?, stage.round), Watch(context));
    let (model, records) = rloo(policy, task, &stage.rloo, &training, seed, &watch)?;
    write_json(&context.out().join("curve.json"), &records)?;
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
