//! Stage `ppo`: a policy raised on a reward, held near a reference (eq. 9).

use super::common::{Watch, checkpoint, codec, device, frozen, language_model, prompts, within_memory};
use super::common::{sampling, save_policy, write_json};
use super::objective::RewardSource;
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::ppo::{Critic, PpoSettings, ppo};
use crate::methods::rollout::Task;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "ppo";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub ppo: PpoSettings,
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
    // A critic is trained from the whole weights; scores need no more than the type that is computed in.
    let critic = match (&stage.reward, stage.ppo.critic) {
        (RewardSource::Learned, Critic::RewardCopy) => {
            Some(checkpoint(context, "reward")?.reward_model(&device(context)?)?)
        }
        _ => None,
    };
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let learned = matches!(stage.reward, RewardSource::Learned);
    let work = work::policy_gradient(texts, &(&stage.ppo).into(), learned, Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let sampling = sampling(&codec, &stage.generation, stage.ppo.temperature);
    let task = Task { reference: &reference, objective, critic, prompts: &prompts, sampling: &sampling };
    let (seed, watch) = (round(context.seed()?, stage.round), Watch(context));
    let (model, records) = ppo(policy, task, &stage.ppo, &training, seed, &watch)?;
    write_json(&context.out().join("curve.json"), &records)?;
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
