//! The policy step, eq. 9, by REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv
//! 2402.14740): without a value function, because k responses to one prompt serve as each other's
//! baseline.
//!
//! An action is a whole response, y_1 … y_k ~ π_old(·|x), and
//!
//! ```text
//! R_i = r(x, y_i; θ_t) − β·log( π_old(y_i|x) / π_ref(y_i|x) )
//! A_i = R_i − 1/(k−1)·Σ_{j≠i} R_j
//! ℓ   = −mean_i min( ρ_i·A_i, clip(ρ_i, 1 ± ε)·A_i ),   ρ_i = π(y_i|x) / π_old(y_i|x)
//! ```
//!
//! On the first pass over a batch ρ = 1 and ∇ℓ is the REINFORCE gradient −mean A_i·∇log π(y_i|x);
//! further passes re-use the batch as PPO does, so that both have the same cost. Temperature is
//! part of the policy, as in [PPO](super::ppo).

use super::Fault;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, all_finite};
use crate::methods::rollout::{Draw, MissingEos, Rollout, Task, UpdateRecord, roll_out};
use crate::methods::training::Training;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Passes, Sequence};
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RlooSettings {
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
    /// β of eq. 9, per sequence.
    #[schemars(range(min = 0.0))]
    pub kl_coefficient: f32,
    /// Clip range of the probability ratio of a response.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip: f32,
    pub missing_eos: MissingEos,
    pub optimiser: OptimiserSettings,
}

impl RlooSettings {
    /// The fault of samples per prompt that do not divide a rollout batch, or have no others to be
    /// compared with.
    pub fn fault(&self) -> Option<Fault> {
        let divides = self.samples >= 2 && self.rollouts.is_multiple_of(self.samples);
        (!divides).then(|| Fault {
            key: "samples",
            expected: format!(
                "at least 2 and a divisor of rloo.rollouts = {}",
                self.rollouts
            ),
            found: self.samples.to_string(),
        })
    }
}

/// A rollout batch with everything the update needs.
struct Experience {
    sequences: Vec<Sequence>,
    /// log π_old(y|x).
    log_probs: Vec<f32>,
    advantages: Vec<f32>,
}

/// Runs `settings.updates` rollout batches over the prompts; returns the policy and a record per
/// batch.
///
/// # Errors
/// `settings.rollouts` is not a multiple of `settings.samples`, or there is one sample per prompt;
/// the loss diverges.
pub fn rloo(
    policy: LanguageModel,
    task: Task,
    settings: &RlooSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<UpdateRecord>)> {
    let RlooSettings {
        rollouts, samples, ..
    } = *settings;
    if samples < 2 || !rollouts.is_multiple_of(samples) {
        return Err(Error::configuration(format!(
            "{rollouts} rollouts are not {samples} samples for each of some prompts"
        ))
        .hint("rloo.samples is at least 2, and rloo.rollouts a multiple of it"));
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
            let purposes = ["rloo/prompts", "rloo/rollout"];
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

/// Scores, KL penalties and advantages of a rollout batch.
fn evaluate(
    policy: &LanguageModel,
    task: &Task,
    rollouts: Vec<Rollout>,
    settings: &RlooSettings,
    training: &Training,
) -> Result<(Experience, UpdateRecord)> {
    let scores = (task.reward.score)(&rollouts)?;
    let sequences: Vec<Sequence> = rollouts
        .iter()
        .map(|rollout| rollout.sequence.clone())
        .collect();
    let (mut log_probs, mut reference) = (Vec::new(), Vec::new());
    for sequences in sequences.chunks(training.rows_at_once(sequences.len())) {
        let batch = Batch::new(sequences, &policy.device());
        log_probs.extend(host(sequence_log_probs(
            policy,
            &batch,
            settings.temperature,
        ))?);
        reference.extend(host(sequence_log_probs(
            task.reference,
            &batch,
            settings.temperature,
        ))?);
    }
    all_finite(&log_probs, "the policy's log-probability of the response")?;
    all_finite(
        &reference,
        "the reference's log-probability of the response",
    )?;
    let ratios: Vec<f32> = log_probs
        .iter()
        .zip(&reference)
        .map(|(p, q)| p - q)
        .collect();
    let returns: Vec<f32> = settings
        .missing_eos
        .apply(&scores, &rollouts, &task.reward)
        .iter()
        .zip(&ratios)
        .map(|(score, ratio)| score - settings.kl_coefficient * ratio)
        .collect();
    let record = UpdateRecord::of(&rollouts, &scores, ratios.iter().sum());
    let advantages = leave_one_out(&returns, settings.samples);
    all_finite(&advantages, "the advantage")?;
    Ok((
        Experience {
            sequences,
            log_probs,
            advantages,
        },
        record,
    ))
}

/// One optimiser step on a whole rollout batch: the clipped surrogate.
fn improve(
    trainer: &mut Trainer<LanguageModel>,
    experience: &Experience,
    settings: &RlooSettings,
    first: bool,
    record: &mut UpdateRecord,
    monitor: &dyn Monitor,
) -> Result<()> {
    let n = experience.sequences.len();
    let errors = RefCell::new(Vec::new());
    let report = trainer.step("the RLOO loss", n, monitor, |model, range| {
        let device = model.device();
        let batch = Batch::new(&experience.sequences[range.clone()], &device);
        let column = |values: &[f32]| {
            Tensor::<1>::from_data(
                TensorData::new(values[range.clone()].to_vec(), [range.len()]),
                &device,
            )
        };
        let log_probs = sequence_log_probs(model, &batch, settings.temperature);
        let ratio = (log_probs - column(&experience.log_probs)).exp();
        errors
            .borrow_mut()
            .push((ratio.clone().detach() - 1.0).abs().max().inner());
        surrogate(ratio, column(&experience.advantages), settings.clip)
            .sum()
            .neg()
            / n as f32
    })?;
    record.policy_loss = report.loss;
    if first {
        record.first_ratio_error = host(Tensor::cat(errors.into_inner(), 0))?
            .into_iter()
            .fold(0.0, f32::max);
    }
    Ok(())
}

/// log π(y|x) at `temperature`, `[b]`.
fn sequence_log_probs(model: &LanguageModel, batch: &Batch, temperature: f32) -> Tensor<1> {
    model
        .response_log_probs(batch, temperature)
        .sum_dim(1)
        .reshape([batch.rows()])
}

/// min(ρ·A, clip(ρ, 1 ± ε)·A), element by element.
fn surrogate(ratio: Tensor<1>, advantages: Tensor<1>, clip: f32) -> Tensor<1> {
    let clipped = ratio.clone().clamp(1.0 - clip, 1.0 + clip);
    (ratio * advantages.clone()).min_pair(clipped * advantages)
}

/// Each of the returns, in groups of `k`, minus the mean of the others in its group.
fn leave_one_out(returns: &[f32], k: usize) -> Vec<f32> {
    let of_prompt = |returns: &[f32]| -> Vec<f32> {
        let sum: f32 = returns.iter().sum();
        returns
            .iter()
            .map(|own| own - (sum - own) / (k - 1) as f32)
            .collect()
    };
    returns.chunks(k).flat_map(of_prompt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_to_one_prompt_are_each_other_s_baseline() {
        let advantages = leave_one_out(&[1.0, 4.0, -2.0, 0.5, 0.5, 3.5], 3);
        assert_eq!(advantages, [0.0, 4.5, -4.5, -1.5, -1.5, 3.0]);
        for prompt in advantages.chunks(3) {
            assert!(prompt.iter().sum::<f32>().abs() < 1e-6);
        }
    }

    /// A ratio is clipped only where moving it further would be rewarded.
    #[test]
    fn the_surrogate_is_clipped_on_the_side_of_the_gain() {
        let device = LanguageModel::tiny(1).device();
        let tensor = |values: [f32; 5]| Tensor::<1>::from_data(TensorData::from(values), &device);
        let found = surrogate(
            tensor([1.5, 1.5, 0.5, 0.5, 1.1]),
            tensor([1.0, -1.0, 1.0, -1.0, 2.0]),
            0.2,
        );
        for (found, expected) in host(found).unwrap().iter().zip([1.2, -1.5, 0.5, -0.8, 2.2]) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{found} instead of {expected}"
            );
        }
    }
}
