//! The policy step, eq. 9: π_{t+1} ≈ argmax_π E_x { E_{y~π} r(x, y; θ_t) − β·KL(π ‖ π_ref) }, by
//! PPO (Schulman et al. 2017, arXiv 1707.06347) as RLHF uses it (Huang et al. 2024, arXiv
//! 2403.17031).
//!
//! An action is a response token, a state is the prompt and the tokens before it. The reward of a
//! token is −β·(log π(token) − log π_ref(token)); the last token of the response also gets the
//! sequence's score. Temperature is part of the policy: it divides the logits in the rollout, the
//! reference and the update alike, so the probability ratio is 1 before the first update. π_ref is
//! whatever the caller passes: the SFT policy, as eq. 9 says, unless a variant says otherwise.

use super::Fault;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer};
use crate::methods::rollout::{Draw, check_tokens, padded, roll_out, rows_of};
pub use crate::methods::rollout::{MissingEos, RewardFunction, Rollout, Task, UpdateRecord};
use crate::methods::training::{Trainable, Training};
use crate::model::Decoder;
use crate::model::checkpoint::Normalisation;
use crate::model::weights::{host, parameter};
use crate::model::{Batch, Computation, LanguageModel, Passes, RewardModel, Sequence};
use crate::rng;
use crate::{Error, Result};
use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// The starting point of the value function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Critic {
    /// A zero-initialised linear head on detached policy features.
    ZeroHead,
    /// A second network, copied from the reward model (as in the authors' code).
    RewardCopy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PpoSettings {
    /// Number of rollout batches.
    #[schemars(range(min = 1))]
    pub updates: usize,
    /// Responses per rollout batch.
    #[schemars(range(min = 1))]
    pub rollouts: usize,
    /// Passes over each rollout batch.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Optimiser steps per pass.
    #[schemars(range(min = 1))]
    pub minibatches: usize,
    /// Temperature of the policy, in the rollout, the reference and the update.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f32,
    /// β of eq. 9, per token.
    #[schemars(range(min = 0.0))]
    pub kl_coefficient: f32,
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f32,
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f32,
    /// Clip range of the probability ratio.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip: f32,
    /// Clip range of the value.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_value: f32,
    #[schemars(range(min = 0.0))]
    pub value_coefficient: f32,
    pub whiten_advantages: bool,
    pub critic: Critic,
    pub missing_eos: MissingEos,
    pub optimiser: OptimiserSettings,
}

impl PpoSettings {
    /// The fault of minibatches that do not divide a rollout batch.
    pub fn fault(&self) -> Option<Fault> {
        let divides = self.rollouts.is_multiple_of(self.minibatches.max(1));
        (!divides).then(|| Fault {
            key: "minibatches",
            expected: format!("a divisor of ppo.rollouts = {}", self.rollouts),
            found: self.minibatches.to_string(),
        })
    }
}

/// Policy and value function, trained by one optimiser.
#[derive(Module, Debug)]
struct ActorCritic {
    policy: LanguageModel,
    value_head: Option<ValueHead>,
    value_network: Option<RewardModel>,
    /// Normalisation of the reward model from which the value network is copied, so that values are
    /// on the scale of normalised rewards.
    #[module(skip)]
    normalisation: Normalisation,
}

#[derive(Module, Debug)]
struct ValueHead {
    /// `[hidden_size, 1]`
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl ActorCritic {
    fn new(
        policy: LanguageModel,
        settings: &PpoSettings,
        reward: Option<(RewardModel, Normalisation)>,
    ) -> Result<Self> {
        let (d, device) = (policy.config().hidden_size(), policy.device());
        let zero_head = || ValueHead {
            weight: parameter("value_head.weight", vec![0.0; d], [d, 1], &device),
            bias: parameter("value_head.bias", vec![0.0], [1], &device),
        };
        match (settings.critic, reward) {
            (Critic::ZeroHead, _) => {
                let normalisation = Normalisation::none(0.0);
                Ok(Self {
                    policy,
                    value_head: Some(zero_head()),
                    value_network: None,
                    normalisation,
                })
            }
            (Critic::RewardCopy, Some((reward, normalisation))) => Ok(Self {
                policy,
                value_head: None,
                value_network: Some(reward),
                normalisation,
            }),
            (Critic::RewardCopy, None) => Err(Error::configuration(
                "critic = \"reward_copy\" needs a reward model to copy",
            )
            .hint("use critic = \"zero_head\" where the reward is not a network")),
        }
    }

    /// A copy for reading without training, with its networks held in `dtype`.
    fn frozen(&self, dtype: FloatDType) -> Self {
        let Self {
            policy,
            value_head,
            value_network,
            normalisation,
        } = self.valid();
        let value_network = value_network.map(|network| network.in_dtype(dtype));
        Self {
            policy: policy.in_dtype(dtype),
            value_head,
            value_network,
            normalisation,
        }
    }

    /// Token log-probabilities and values of the states before each response token, each `[b,
    /// response_width]`.
    fn forward(&self, batch: &Batch, temperature: f32) -> (Tensor<2>, Tensor<2>) {
        let states = self.policy.response_states(batch);
        let values = match (&self.value_head, &self.value_network) {
            (Some(head), _) => {
                let features = states.clone().detach().cast(FloatDType::F32);
                let value = features.matmul(head.weight.val()) + head.bias.val().unsqueeze();
                value.reshape([batch.rows(), batch.response_width])
            }
            (None, Some(network)) => {
                (network.values(batch) - self.normalisation.mean) / self.normalisation.std
            }
            (None, None) => unreachable!("built with one of the two"),
        };
        (
            self.policy.log_probs_of(states, batch, temperature),
            values * batch.response_mask.clone(),
        )
    }
}

impl Trainable for ActorCritic {
    fn decoders(&self) -> Vec<&Decoder> {
        let critic = self.value_network.iter().map(|network| &network.decoder);
        std::iter::once(&self.policy.decoder)
            .chain(critic)
            .collect()
    }

    fn prepared(self, how: &Computation, rng: &mut ChaCha8Rng) -> Self {
        let policy = self.policy.prepared(how, rng);
        Self {
            policy,
            value_network: self.value_network.map(|network| network.prepared(how, rng)),
            ..self
        }
    }

    fn restored(self) -> Self {
        Self {
            policy: self.policy.restored(),
            value_network: self.value_network.map(RewardModel::restored),
            ..self
        }
    }
}

/// A rollout batch with everything the update needs; matrices are `[rollouts][response tokens]`.
struct Experience {
    sequences: Vec<Sequence>,
    log_probs: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    advantages: Vec<Vec<f32>>,
    returns: Vec<Vec<f32>>,
}

/// Runs `settings.updates` rollout batches over the prompts; returns the policy and a record per
/// batch.
pub fn ppo(
    policy: LanguageModel,
    mut task: Task,
    settings: &PpoSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<UpdateRecord>)> {
    let steps = settings.updates * settings.epochs * settings.minibatches;
    let actor_critic = ActorCritic::new(policy, settings, task.critic.take())?;
    let mut trainer = Trainer::new(actor_critic, &settings.optimiser, training, seed, steps);
    let mut records: Vec<UpdateRecord> = trainer.resume(monitor)?.unwrap_or_default();
    for update in records.len()..settings.updates {
        let (experience, mut record) = {
            let frozen = trainer.model().frozen(training.dtype.float());
            let purposes = ["ppo/prompts", "ppo/rollout"];
            let (prompts, temperature) = (settings.rollouts, settings.temperature);
            let draw = Draw {
                update,
                prompts,
                samples: 1,
                temperature,
                seed,
                purposes,
            };
            evaluate(
                &frozen,
                &task,
                roll_out(&frozen.policy, &task, &draw)?,
                settings,
                training,
            )?
        };
        for epoch in 0..settings.epochs {
            let purpose = "ppo/minibatches";
            let order = rng::permutation(
                settings.rollouts,
                seed,
                purpose,
                (update * settings.epochs + epoch) as u64,
            );
            for rows in order.chunks(settings.rollouts.div_ceil(settings.minibatches)) {
                let first = epoch == 0 && rows[0] == order[0];
                improve(
                    &mut trainer,
                    &experience,
                    rows,
                    settings,
                    first,
                    &mut record,
                    monitor,
                )?;
            }
        }
        monitor.passes(passes(
            trainer.model(),
            &experience.sequences,
            settings.epochs,
            training,
        ));
        monitor.progress(update + 1, settings.updates, &record.note());
        records.push(record);
        trainer.checkpoint(monitor, &records)?;
    }
    Ok((trainer.finish().policy, records))
}

/// Scores, KL penalties, values and advantages of a rollout batch.
fn evaluate(
    model: &ActorCritic,
    task: &Task,
    rollouts: Vec<Rollout>,
    settings: &PpoSettings,
    training: &Training,
) -> Result<(Experience, UpdateRecord)> {
    let scores = (task.reward.score)(&rollouts)?;
    let last_rewards = settings.missing_eos.apply(&scores, &rollouts, &task.reward);
    let sequences: Vec<Sequence> = rollouts
        .iter()
        .map(|rollout| rollout.sequence.clone())
        .collect();
    let (mut log_probs, mut reference, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for sequences in sequences.chunks(training.rows_at_once(sequences.len())) {
        let batch = Batch::new(sequences, &model.policy.device());
        let (chunk_log_probs, chunk_values) = model.forward(&batch, settings.temperature);
        let first = log_probs.len();
        let read = |tensor, what| rows_of(tensor, &batch, first, what);
        log_probs.extend(read(chunk_log_probs, "the policy's log-probability")?);
        values.extend(read(chunk_values, "the value")?);
        let chunk_reference = task
            .reference
            .response_log_probs(&batch, settings.temperature);
        reference.extend(read(chunk_reference, "the reference's log-probability")?);
    }

    let (mut advantages, mut returns) = (Vec::new(), Vec::new());
    let mut kl = 0.0;
    for (row, &score) in last_rewards.iter().enumerate() {
        let ratio: Vec<f32> = log_probs[row]
            .iter()
            .zip(&reference[row])
            .map(|(p, q)| p - q)
            .collect();
        kl += ratio.iter().sum::<f32>();
        let mut rewards: Vec<f32> = ratio.iter().map(|r| -settings.kl_coefficient * r).collect();
        if let Some(last) = rewards.last_mut() {
            *last += score;
        }
        let advantage =
            generalised_advantages(&rewards, &values[row], settings.gamma, settings.lambda);
        returns.push(
            advantage
                .iter()
                .zip(&values[row])
                .map(|(a, v)| a + v)
                .collect(),
        );
        advantages.push(advantage);
    }
    if settings.whiten_advantages {
        whiten(&mut advantages);
    }
    for (what, numbers) in [("the advantage", &advantages), ("the return", &returns)] {
        check_tokens(numbers, 0, what)?;
    }
    let record = UpdateRecord::of(&rollouts, &scores, kl);
    Ok((
        Experience {
            sequences,
            log_probs,
            values,
            advantages,
            returns,
        },
        record,
    ))
}

/// The cost of a rollout batch except its scores: sampling, reading with policy, reference and
/// critic, and training.
fn passes(
    model: &ActorCritic,
    rollouts: &[Sequence],
    epochs: usize,
    training: &Training,
) -> Passes {
    let checkpointing = training.gradient_checkpointing;
    let network = |once: Passes, reads: usize| {
        once.times(reads) + once.with_gradients(checkpointing).times(epochs)
    };
    let policy = network(Passes::likelihood(model.policy.config(), rollouts), 3);
    // A value head reads features that the policy has computed.
    match &model.value_network {
        Some(critic) => policy + network(Passes::values(critic.config(), rollouts), 1),
        None => policy,
    }
}

/// Takes one optimiser step on some rows of a rollout batch: the clipped surrogate plus the clipped
/// value loss.
fn improve(
    trainer: &mut Trainer<ActorCritic>,
    experience: &Experience,
    rows: &[usize],
    settings: &PpoSettings,
    first: bool,
    record: &mut UpdateRecord,
    monitor: &dyn Monitor,
) -> Result<()> {
    let tokens: usize = rows
        .iter()
        .map(|&row| experience.advantages[row].len())
        .sum();
    // Policy loss, value loss and ratio error of each part, read after the step.
    let seen = RefCell::new(Vec::new());
    trainer.step("the PPO loss", rows.len(), monitor, |model, range| {
        let rows = &rows[range];
        let batch = Batch::new(
            rows.iter().map(|&row| &experience.sequences[row]),
            &model.policy.device(),
        );
        let device = model.policy.device();
        let padded = |values: &[Vec<f32>]| padded(values, rows, batch.response_width, &device);
        let (log_probs, values) = model.forward(&batch, settings.temperature);

        let ratio = (log_probs - padded(&experience.log_probs)).exp();
        let advantages = padded(&experience.advantages);
        let clipped = ratio
            .clone()
            .clamp(1.0 - settings.clip, 1.0 + settings.clip);
        let surrogate = (ratio.clone() * advantages.clone()).min_pair(clipped * advantages);
        let policy_loss = -(surrogate * batch.response_mask.clone()).sum() / tokens as f32;

        let (old, returns) = (padded(&experience.values), padded(&experience.returns));
        let near =
            old.clone() + (values.clone() - old).clamp(-settings.clip_value, settings.clip_value);
        let error = (values - returns.clone())
            .square()
            .max_pair((near - returns).square());
        let value_loss = (error * batch.response_mask.clone()).sum() * 0.5 / tokens as f32;

        let error = ((ratio.detach() - 1.0).abs() * batch.response_mask.clone()).max();
        seen.borrow_mut()
            .extend([&policy_loss, &value_loss, &error].map(|number| number.clone().inner()));
        policy_loss + value_loss * settings.value_coefficient
    })?;
    let seen = host(Tensor::cat(seen.into_inner(), 0))?;
    let column = |index: usize| seen.iter().skip(index).step_by(3).copied();
    record.policy_loss = column(0).sum();
    record.value_loss = column(1).sum();
    if first {
        record.first_ratio_error = column(2).fold(0.0, f32::max);
    }
    Ok(())
}

/// Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438) for one response; the
/// state after the last token has value 0.
fn generalised_advantages(rewards: &[f32], values: &[f32], gamma: f32, lambda: f32) -> Vec<f32> {
    let mut advantages = vec![0.0; rewards.len()];
    let (mut next_value, mut carried) = (0.0, 0.0);
    for step in (0..rewards.len()).rev() {
        let surprise = rewards[step] + gamma * next_value - values[step];
        carried = surprise + gamma * lambda * carried;
        advantages[step] = carried;
        next_value = values[step];
    }
    advantages
}

/// Normalises advantages to mean 0 and variance 1 over all response tokens of the batch.
fn whiten(advantages: &mut [Vec<f32>]) {
    let n = advantages.iter().map(Vec::len).sum::<usize>() as f32;
    let mean = advantages.iter().flatten().sum::<f32>() / n;
    let variance = advantages
        .iter()
        .flatten()
        .map(|a| (a - mean).powi(2))
        .sum::<f32>()
        / n;
    let scale = 1.0 / (variance + 1e-8).sqrt();
    advantages
        .iter_mut()
        .flatten()
        .for_each(|a| *a = (*a - mean) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_with_lambda_one_are_returns_minus_values() {
        let (rewards, values) = ([0.5, -0.25, 2.0], [1.0, 0.5, -1.0]);
        let advantages = generalised_advantages(&rewards, &values, 1.0, 1.0);
        for (step, advantage) in advantages.iter().enumerate() {
            let to_go: f32 = rewards[step..].iter().sum();
            assert!((advantage - (to_go - values[step])).abs() < 1e-6);
        }
    }

    #[test]
    fn advantages_with_lambda_zero_are_one_step_errors() {
        let advantages = generalised_advantages(&[0.5, 2.0], &[1.0, 0.25], 0.9, 0.0);
        assert!((advantages[0] - (0.5 + 0.9 * 0.25 - 1.0)).abs() < 1e-6);
        assert!((advantages[1] - (2.0 - 0.25)).abs() < 1e-6);
    }

    #[test]
    fn whitening_gives_mean_zero_and_variance_one_over_ragged_rows() {
        let mut advantages = vec![vec![1.0, 2.0, 3.0], vec![10.0]];
        whiten(&mut advantages);
        let all: Vec<f32> = advantages.concat();
        let mean = all.iter().sum::<f32>() / 4.0;
        let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f32>() / 4.0;
        assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-5);
    }
}
