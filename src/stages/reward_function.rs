//! Scores of a policy's own responses in training: by a reward model, or by gold in a privileged
//! recipe.

use super::common::{WorldAt, count, encoder, frozen, frozen_reward, needed, sample, sampling};
use crate::Result;
use crate::data::TextEncoder;
use crate::data::world::Split;
use crate::experiment::GenerationSettings;
use crate::methods::optimise::all_finite;
use crate::methods::reward::score;
use crate::methods::rollout::{RewardFunction, Rollout};
use crate::methods::training::Dtype;
use crate::model::{Generated, Passes, Sequence};
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{round, stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardSource {
    /// The reward model in the input `reward`.
    Learned,
    /// The gold reward of the seed's own demonstration posts, centred and scaled: a privileged
    /// control.
    Gold {
        world: Box<WorldAt>,
        mean: f32,
        std: f32,
    },
}

impl RewardSource {
    /// The function that scores responses to the first `prompts` posts of the stage's seed;
    /// `reward` is the input of that name.
    pub fn function<'a>(
        &self,
        context: &'a StageContext,
        reward: &Option<StageKey>,
        encoder: &'a TextEncoder,
        prompts: usize,
        dtype: Dtype,
    ) -> Result<RewardFunction<'a>> {
        match self {
            Self::Gold { world, mean, std } => {
                let (world, seed) = (world.open()?, context.seed()?);
                let latent = |index: u64| world.post(Split::Demonstrations, seed, index).latent;
                let latents: Vec<_> = (0..prompts as u64).map(latent).collect();
                let (mean, std) = (*mean, *std);
                let gold = move |rollout: &Rollout| {
                    let response =
                        encoder.decoded(rollout.sequence.response.clone(), rollout.ended)?;
                    let gold = world.gold(&latents[rollout.prompt], &response.text, response.ended);
                    Ok((gold as f32 - mean) / std)
                };
                let score = move |rollouts: &[Rollout]| rollouts.iter().map(&gold).collect();
                // Gold already includes the penalty for a missing end.
                Ok(RewardFunction {
                    score: Box::new(score),
                    low: -mean / std + 1.0,
                })
            }
            Self::Learned => {
                let (model, normalisation) =
                    frozen_reward(context, needed(reward, "reward", context)?, dtype)?;
                let score = move |rollouts: &[Rollout]| {
                    let sequences: Vec<&Sequence> =
                        rollouts.iter().map(|rollout| &rollout.sequence).collect();
                    count(
                        context,
                        Passes::score(model.config(), sequences.iter().copied()),
                    );
                    normalisation.rewards(&score(&model, &sequences)?)
                };
                Ok(RewardFunction {
                    score: Box::new(score),
                    low: normalisation.low,
                })
            }
        }
    }
}

/// Scores of `samples`, which are grouped by prompt with equally many for each. With a reward
/// model, a response without an end gets one less than the lowest score, as in a policy step.
pub fn scores(
    reward: &RewardFunction,
    source: &RewardSource,
    prompts: &[Vec<u32>],
    samples: &[Generated],
) -> Result<Vec<f32>> {
    let each = samples.len() / prompts.len().max(1);
    let rollouts: Vec<Rollout> = samples
        .iter()
        .enumerate()
        .map(|(index, sample)| Rollout {
            prompt: index / each,
            sequence: Sequence::new(prompts[index / each].clone(), sample.ids.clone()),
            ended: sample.ended,
        })
        .collect();
    let mut scores = (reward.score)(&rollouts)?;
    all_finite(&scores, "the score")?;
    if *source == RewardSource::Learned {
        let unfinished = scores
            .iter_mut()
            .zip(samples)
            .filter(|(_, sample)| !sample.ended);
        unfinished.for_each(|(score, _)| *score = reward.low - 1.0);
    }
    Ok(scores)
}

/// Settings for sampling `n` responses per prompt; those of one prompt are adjacent.
pub struct Samples {
    pub n: usize,
    pub temperature: f32,
    /// Name of the random streams, together with `round`.
    pub purpose: &'static str,
    pub round: usize,
}

impl Samples {
    pub fn draw(
        &self,
        context: &StageContext,
        policy: &StageKey,
        generation: &GenerationSettings,
        dtype: Dtype,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Generated>> {
        let seed = round(context.seed()?, self.round);
        let sampling = sampling(
            &encoder(context, policy, generation)?,
            generation,
            self.temperature,
        );
        let policy = frozen(context, policy, dtype)?;
        let repeated: Vec<_> = prompts
            .iter()
            .flat_map(|prompt| std::iter::repeat_n(prompt.clone(), self.n))
            .collect();
        sample(context, &policy, &repeated, &sampling, |item| {
            stream(seed, self.purpose, &[item as u64])
        })
    }
}
