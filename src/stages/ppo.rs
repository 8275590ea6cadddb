//! Stage `ppo`: a policy raised on a reward, held near a reference (eq. 9).

use super::common::{
    FORWARD, TRAINING, Watch, WorldAt, checkpoint, codec, count_flops, demonstrations, device, frozen, frozen_reward,
    language_model, within_memory,
};
use super::common::{sampling, save_policy, write_json};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::data::world::Split;
use crate::experiment::GenerationSettings;
use crate::methods::ppo::{Critic, Objective, PpoSettings, Rollout, Task, ppo};
use crate::methods::reward::score;
use crate::methods::training::Training;
use crate::model::Sequence;
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

/// What scores the rollouts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardSource {
    /// The reward model in the input `reward`.
    Learned,
    /// The gold reward of the seed's own demonstration posts, centred and scaled: a privileged control.
    Gold { world: Box<WorldAt>, mean: f32, std: f32 },
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let seed = context.seed()?;
    let policy = language_model(context, "policy")?;
    let reference = frozen(context, "reference", stage.training.dtype)?;
    let codec = codec(context, "policy", &stage.generation)?;
    let prompts = demonstrations(context)?.iter().map(|row| codec.prompt(&row.prompt)).collect::<Result<Vec<_>>>()?;
    let mut critic = None;
    let objective = match &stage.reward {
        RewardSource::Gold { world, mean, std } => {
            let world = world.open()?;
            let latents: Vec<_> =
                (0..prompts.len() as u64).map(|index| world.post(Split::Demonstrations, seed, index).latent).collect();
            let (mean, std, codec) = (*mean, *std, &codec);
            let gold = move |rollout: &Rollout| {
                let response = codec.decoded(rollout.sequence.response.clone(), rollout.ended)?;
                let gold = world.gold(&latents[rollout.prompt], &response.text, response.ended);
                Ok((gold as f32 - mean) / std)
            };
            let score = move |rollouts: &[Rollout]| rollouts.iter().map(&gold).collect();
            // Gold already takes off for a missing end.
            Objective { score: Box::new(score), low: -mean / std + 1.0 }
        }
        RewardSource::Learned => {
            // A critic is trained from the whole weights; scores need no more than the type that is computed in.
            if stage.ppo.critic == Critic::RewardCopy {
                critic = Some(checkpoint(context, "reward")?.reward_model(&device(context)?)?);
            }
            let (model, normalisation) = frozen_reward(context, "reward", stage.training.dtype)?;
            let score = move |rollouts: &[Rollout]| {
                let sequences: Vec<&Sequence> = rollouts.iter().map(|rollout| &rollout.sequence).collect();
                Ok(score(&model, &sequences).into_iter().map(|raw| normalisation.apply(raw)).collect())
            };
            Objective { score: Box::new(score), low: normalisation.low }
        }
    };
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let learned = matches!(stage.reward, RewardSource::Learned);
    let work = work::ppo(texts, &stage.ppo, learned, Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let sampling = sampling(&codec, &stage.generation, stage.ppo.temperature);
    let task = Task { reference: &reference, objective, critic, prompts: &prompts, sampling: &sampling };
    let (seed, watch) = (round(seed, stage.round), Watch(context));
    let (model, records) = ppo(policy, task, &stage.ppo, &training, seed, &watch)?;
    write_json(&context.out().join("curve.json"), &records)?;
    // Of each rollout, the reference and the policy itself are read once, then the policy is trained.
    let passes = (2 + stage.ppo.epochs) as f64;
    let per_token = (2.0 * FORWARD + stage.ppo.epochs as f64 * TRAINING) / passes;
    count_flops(context, model.config(), per_token);
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
