//! The policy step, eq. 9, by group relative policy optimisation (Shao et al. 2024, arXiv
//! 2402.03300): without a value function, and with the spread of the k responses to one prompt as a
//! scale, so that easy and hard prompts count alike.
//!
//! An action is a token, y_1 … y_k ~ π_old(·|x), and
//!
//! ```text
//! A_i   = ( r(x, y_i; θ_t) − mean_j r(x, y_j) ) / ( std_j r(x, y_j) + 1e-4 )
//! ρ_it  = π(y_it|·) / π_old(y_it|·),   d_it = log π_ref(y_it|·) − log π(y_it|·)
//! ℓ     = −mean_i 1/|y_i| Σ_t { min( ρ_it·A_i, clip(ρ_it, 1 ± ε)·A_i ) − β·(exp(d_it) − d_it − 1) }
//! ```
//!
//! Unlike [RLOO](super::rloo), it keeps the policy near the reference through a term of the loss
//! and not through a penalty on the reward. The term is an unbiased and never negative estimate of
//! a token's KL divergence. Temperature is part of the policy, as in [PPO](super::ppo).

use super::Fault;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, all_finite};
use crate::methods::rollout::{
    Draw, MissingEos, Rollout, Task, UpdateRecord, padded, roll_out, rows_of,
};
use crate::methods::training::Training;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Passes, Sequence};
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// Constant that keeps the scale finite for a prompt whose responses all have the same reward, as
/// in TRL.
const LEAST_SPREAD: f32 = 1e-4;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    /// Number of rollout batches.
    #[schemars(range(min = 1))]
    pub updates: usize,
    /// Responses per rollout batch, a multiple of `samples`.
    #[schemars(range(min = 1))]
    pub rollouts: usize,
    /// k, the responses per prompt; at least 2.
    #[schemars(range(min = 2))]
    pub samples: usize,
    /// Passes over each rollout batch, with one optimiser step each.
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Temperature of the policy, in the rollout, the reference and the update.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub temperature: f32,
    /// β, the weight of the KL term, per token.
    #[schemars(range(min = 0.0))]
    pub kl_coefficient: f32,
    /// Clip range of the probability ratio of a token.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip: f32,
    pub missing_eos: MissingEos,
    pub optimiser: OptimiserSettings,
}

impl GrpoSettings {
    /// The fault of samples per prompt that do not divide a rollout batch, or have no others to be
    /// compared with.
    pub fn fault(&self) -> Option<Fault> {
        let divides = self.samples >= 2 && self.rollouts.is_multiple_of(self.samples);
        (!divides).then(|| Fault {
            key: "samples",
            expected: format!(
                "at least 2 and a divisor of grpo.rollouts = {}",
                self.rollouts
            ),
            found: self.samples.to_string(),
        })
    }
}

/// A rollout batch with everything the update needs; matrices are `[rollouts][response tokens]`.
struct Experience {
    sequences: Vec<Sequence>,
    /// log π_old of every token.
    log_probs: Vec<Vec<f32>>,
    /// log π_ref of every token.
    reference: Vec<Vec<f32>>,
    /// A_i at every token of response i.
    advantages: Vec<Vec<f32>>,
}

/// Runs `settings.updates` rollout batches over the prompts; returns the policy and a record per
/// batch.
///
/// # Errors
/// `settings.rollouts` is not a multiple of `settings.samples`, or there is one sample per prompt;
/// the loss diverges.
pub fn grpo(
    policy: LanguageModel,
    task: Task,
    settings: &GrpoSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<UpdateRecord>)> {
    let GrpoSettings {
        rollouts, samples, ..
    } = *settings;
    if samples < 2 || !rollouts.is_multiple_of(samples) {
        return Err(Error::configuration(format!(
            "{rollouts} rollouts are not {samples} samples for each of some prompts"
        ))
        .hint("grpo.samples is at least 2, and grpo.rollouts a multiple of it"));
    }
    let mut trainer = Trainer::new(
        policy,
        &settings.optimiser,
        training,
        seed,
        settings.updates * settings.epochs,
    );
    let mut records: Vec<UpdateRecord> = trainer.resume(monitor)?.unwrap_or_default();
    for update in records.len()..settings.updates {
        let (experience, mut record) = {
            let frozen = trainer.model().valid().in_dtype(training.dtype.float());
            let purposes = ["grpo/prompts", "grpo/rollout"];
            let (prompts, temperature) = (rollouts / samples, settings.temperature);
            let draw = Draw {
                update,
                prompts,
                samples,
                temperature,
                seed,
                purposes,
            };
            evaluate(
                &frozen,
                &task,
                roll_out(&frozen, &task, &draw)?,
                settings,
                training,
            )?
        };
        for epoch in 0..settings.epochs {
            improve(
                &mut trainer,
                &experience,
                settings,
                epoch == 0,
                &mut record,
                monitor,
            )?;
        }
        // One pass for sampling, one of the policy, one of the reference, and the training passes.
        let once = Passes::likelihood(trainer.model().config(), &experience.sequences);
        monitor.passes(once.times(3) + trainer.with_gradients(once).times(settings.epochs));
        monitor.progress(update + 1, settings.updates, &record.note());
        records.push(record);
        trainer.checkpoint(monitor, &records)?;
    }
    Ok((trainer.finish(), records))
}

/// Log-probabilities and advantages of a rollout batch.
fn evaluate(
    policy: &LanguageModel,
    task: &Task,
    rollouts: Vec<Rollout>,
    settings: &GrpoSettings,
    training: &Training,
) -> Result<(Experience, UpdateRecord)> {
    let scores = (task.reward.score)(&rollouts)?;
    let sequences: Vec<Sequence> = rollouts
        .iter()
        .map(|rollout| rollout.sequence.clone())
        .collect();
    let (mut log_probs, mut reference) = (Vec::new(), Vec::new());
    for sequences in sequences.chunks(training.rows_at_once(sequences.len())) {
        let (batch, first) = (Batch::new(sequences, &policy.device()), log_probs.len());
        let own = policy.response_log_probs(&batch, settings.temperature);
        log_probs.extend(rows_of(own, &batch, first, "the policy's log-probability")?);
        let others = task
            .reference
            .response_log_probs(&batch, settings.temperature);
        reference.extend(rows_of(
            others,
            &batch,
            first,
            "the reference's log-probability",
        )?);
    }
    let kl = log_probs
        .iter()
        .flatten()
        .zip(reference.iter().flatten())
        .map(|(p, q)| p - q)
        .sum();
    let record = UpdateRecord::of(&rollouts, &scores, kl);
    let rewards = settings.missing_eos.apply(&scores, &rollouts, &task.reward);
    let relative = standardised(&rewards, settings.samples);
    all_finite(&relative, "the advantage")?;
    let advantages = relative
        .iter()
        .zip(&log_probs)
        .map(|(advantage, row)| vec![*advantage; row.len()])
        .collect();
    Ok((
        Experience {
            sequences,
            log_probs,
            reference,
            advantages,
        },
        record,
    ))
}

/// One optimiser step on a whole rollout batch: the clipped surrogate and the KL term.
fn improve(
    trainer: &mut Trainer<LanguageModel>,
    experience: &Experience,
    settings: &GrpoSettings,
    first: bool,
    record: &mut UpdateRecord,
    monitor: &dyn Monitor,
) -> Result<()> {
    let n = experience.sequences.len();
    let errors = RefCell::new(Vec::new());
    let report = trainer.step("the GRPO loss", n, monitor, |model, range| {
        let (rows, device): (Vec<usize>, _) = (range.collect(), model.device());
        let batch = Batch::new(rows.iter().map(|&row| &experience.sequences[row]), &device);
        let padded = |values: &[Vec<f32>]| padded(values, &rows, batch.response_width, &device);
        let log_probs = model.response_log_probs(&batch, settings.temperature);

        let ratio = (log_probs.clone() - padded(&experience.log_probs)).exp();
        let error = ((ratio.clone().detach() - 1.0).abs() * batch.response_mask.clone()).max();
        errors.borrow_mut().push(error.inner());
        let advantages = padded(&experience.advantages);
        let clipped = ratio
            .clone()
            .clamp(1.0 - settings.clip, 1.0 + settings.clip);
        let surrogate = (ratio * advantages.clone()).min_pair(clipped * advantages);

        let gap = padded(&experience.reference) - log_probs;
        let kl = gap.clone().exp() - gap - 1.0;
        let gain = (surrogate - kl * settings.kl_coefficient) * batch.response_mask.clone();
        let per_response = gain.sum_dim(1) / batch.response_mask.clone().sum_dim(1);
        per_response.sum().neg() / n as f32
    })?;
    record.policy_loss = report.loss;
    if first {
        record.first_ratio_error = host(Tensor::cat(errors.into_inner(), 0))?
            .into_iter()
            .fold(0.0, f32::max);
    }
    Ok(())
}

/// Each of the rewards, in groups of `k`, minus its group's mean, divided by the group's standard
/// deviation with k − 1 degrees of freedom.
fn standardised(rewards: &[f32], k: usize) -> Vec<f32> {
    let of_prompt = |rewards: &[f32]| -> Vec<f32> {
        let mean = rewards.iter().sum::<f32>() / k as f32;
        let variance = rewards.iter().map(|own| (own - mean).powi(2)).sum::<f32>() / (k - 1) as f32;
        rewards
            .iter()
            .map(|own| (own - mean) / (variance.sqrt() + LEAST_SPREAD))
            .collect()
    };
    rewards.chunks(k).flat_map(of_prompt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_have_no_mean_and_one_scale_for_every_prompt() {
        let advantages = standardised(&[1.0, 4.0, -2.0, 10.0, 40.0, -20.0], 3);
        for (small, large) in advantages[..3].iter().zip(&advantages[3..]) {
            assert!(
                (small - large).abs() < 1e-4,
                "ten times the rewards: {advantages:?}"
            );
        }
        assert!(
            (advantages[1] - 1.0).abs() < 1e-4 && advantages[0] == 0.0,
            "{advantages:?}"
        );
    }

    #[test]
    fn responses_of_one_reward_have_no_advantage() {
        assert_eq!(standardised(&[0.7; 4], 2), [0.0; 4]);
    }
}
