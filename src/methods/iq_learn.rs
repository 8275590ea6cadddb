//! IQ-Learn (Garg et al. 2021, arXiv 2106.12142): inverse reinforcement learning without a policy
//! step, offline and per token.
//!
//! A state s_t is the prompt with the tokens before token a_t, and the decoder's logits are Q(s,
//! ·). Then V(s) = log Σ_a exp Q(s, a) is the soft value, the soft-optimal policy is log π(a|s) =
//! Q(s, a) − V(s), which is the language model itself, and r_t = Q(s_t, a_t) − V(s_{t+1}) is the
//! reward for which it is optimal (γ = 1). With the χ² regulariser, φ(r) = r − r²/(4α), and the
//! demonstrations' states in place of the policy's, the paper's objective is
//!
//! ```text
//! J = E_demonstrations Σ_t [ φ(Q(s_t, a_t) − V(s_{t+1})) − (V(s_t) − V(s_{t+1})) ]
//!   = E Σ_t [ Q(s_t, a_t) − V(s_{t+1}) − λ·r_t² − V(s_t) + V(s_{t+1}) ],   λ = 1/(4α)
//!   = E Σ_t [ log π(a_t|s_t) − λ·(Q(s_t, a_t) − V(s_{t+1}))² ]
//! ```
//!
//! This is SFT with a penalty on the reward that its logits imply. The penalty determines what SFT
//! leaves free: the level of the logits in each state. V is 0 after the last token of a response,
//! whether the response ended or was cut off.
//!
//! The reward of a response telescopes, Σ_t r_t = Σ_t [ log π(a_t|s_t) + V(s_t) − V(s_{t+1}) ] =
//! log π(y|x) + V(x): two responses to one prompt are ranked by log π alone, so its accuracy on
//! pairs is that of the likelihood.

use crate::Result;
use crate::device::fused;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer};
use crate::methods::training::Training;
use crate::model::{Batch, LanguageModel, Passes, Sequence};
use crate::rng;
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IqLearnSettings {
    /// λ = 1/(4α), the weight of the squared reward; 0 is SFT.
    #[schemars(range(min = 0.0))]
    pub lambda: f32,
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Demonstrations per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

/// Trains `model` on demonstrations; returns it with the loss −J per token of every optimiser step.
pub fn iq_learn(
    model: LanguageModel,
    demonstrations: &[Sequence],
    settings: &IqLearnSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    let steps_per_epoch = demonstrations.len().div_ceil(settings.batch_size);
    let mut trainer = Trainer::new(
        model,
        &settings.optimiser,
        training,
        seed,
        settings.epochs * steps_per_epoch,
    );
    let mut losses: Vec<f32> = trainer.resume(monitor)?.unwrap_or_default();
    while trainer.step < trainer.total {
        let (epoch, batch) = (
            trainer.step / steps_per_epoch,
            trainer.step % steps_per_epoch,
        );
        let order = rng::permutation(demonstrations.len(), seed, "iq_learn/order", epoch as u64);
        let rows: Vec<&Sequence> = order
            .iter()
            .skip(batch * settings.batch_size)
            .take(settings.batch_size)
            .map(|&i| &demonstrations[i])
            .collect();
        let tokens = rows.iter().map(|row| row.response.len()).sum::<usize>() as f32;
        let report = trainer.step("the IQ-Learn loss", rows.len(), monitor, |model, range| {
            -objective(
                model,
                &Batch::new(rows[range].iter().copied(), &model.device()),
                settings.lambda,
            ) / tokens
        })?;
        losses.push(report.loss);
        monitor.passes(trainer.with_gradients(Passes::likelihood(
            trainer.model().config(),
            rows.iter().copied(),
        )));
        monitor.progress(
            trainer.step,
            trainer.total,
            &format!("loss {:.3}", report.loss),
        );
        trainer.checkpoint(monitor, &losses)?;
    }
    Ok((trainer.finish(), losses))
}

/// Σ over rows and tokens of log π(a_t|s_t) − λ·r_t², `[1]`.
fn objective(model: &LanguageModel, batch: &Batch, lambda: f32) -> Tensor<1> {
    let (log_probs, rewards) = log_probs_and_rewards(model, batch);
    log_probs.sum() - rewards.square().sum() * lambda
}

/// log π(a_t|s_t) and r_t = Q(s_t, a_t) − V(s_{t+1}) of every response token, each `[b,
/// response_width]`; 0 at padding.
fn log_probs_and_rewards(model: &LanguageModel, batch: &Batch) -> (Tensor<2>, Tensor<2>) {
    let (b, width) = (batch.rows(), batch.response_width);
    let logits = model.logits(model.response_states(batch));
    let tokens = batch.targets.clone().reshape([b * width]);
    let masked = |values: Tensor<2>| values.reshape([b, width]) * batch.response_mask.clone();
    let q = masked(
        logits
            .clone()
            .gather(1, tokens.clone().reshape([b * width, 1])),
    );
    let log_probs = masked(fused::token_log_probs(logits, tokens).reshape([b, width]));
    let v = q.clone() - log_probs.clone();
    let end = Tensor::zeros([b, 1], &v.device());
    let next = Tensor::cat(vec![v, end], 1).narrow(1, 1, width);
    (log_probs, q - next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::sft::negative_log_likelihood;
    use crate::model::weights::host;

    fn rows() -> [Sequence; 2] {
        [
            Sequence::new(vec![3, 4, 5], vec![6, 7, 8, 1]),
            Sequence::new(vec![9], vec![10, 1]),
        ]
    }

    /// Q(s_t, a_t) and V(s_t) of every response token, from the logits alone.
    fn values(model: &LanguageModel, row: &Sequence) -> Vec<[f64; 2]> {
        let logits =
            host(model.logits(model.response_states(&Batch::new([row], &model.device())))).unwrap();
        let of_state = |(logits, &token): (&[f32], &u32)| {
            let v = logits.iter().map(|q| f64::from(*q).exp()).sum::<f64>().ln();
            [f64::from(logits[token as usize]), v]
        };
        logits
            .chunks(logits.len() / row.response.len())
            .zip(&row.response)
            .map(of_state)
            .collect()
    }

    #[test]
    fn the_objective_is_that_of_the_paper() {
        let (model, alpha) = (LanguageModel::tiny(1), 1.5);
        let mut expected = 0.0;
        for row in &rows() {
            let values = values(&model, row);
            for (t, [q, v]) in values.iter().enumerate() {
                let next = values.get(t + 1).map_or(0.0, |[_, v]| *v);
                let reward = q - next;
                expected += reward - reward * reward / (4.0 * alpha) - (v - next);
            }
        }
        let found = host(objective(
            &model,
            &Batch::new(&rows(), &model.device()),
            (0.25 / alpha) as f32,
        ))
        .unwrap()[0];
        assert!(
            (f64::from(found) - expected).abs() < 1e-4 * expected.abs(),
            "{found} instead of {expected}"
        );
    }

    #[test]
    fn without_the_penalty_it_is_the_likelihood() {
        let (model, rows) = (LanguageModel::tiny(1), rows());
        let found = host(objective(&model, &Batch::new(&rows, &model.device()), 0.0)).unwrap()[0];
        let expected = -host(negative_log_likelihood(
            &model,
            &rows.iter().collect::<Vec<_>>(),
            0.0,
        ))
        .unwrap()[0];
        assert!(
            (found - expected).abs() < 1e-5 * expected.abs(),
            "{found} instead of {expected}"
        );
    }

    #[test]
    fn the_reward_of_a_response_is_its_log_likelihood_and_a_function_of_the_prompt() {
        let (model, rows) = (LanguageModel::tiny(1), rows());
        let (log_probs, rewards) =
            log_probs_and_rewards(&model, &Batch::new(&rows, &model.device()));
        let (log_probs, rewards) = (
            host(log_probs.sum_dim(1)).unwrap(),
            host(rewards.sum_dim(1)).unwrap(),
        );
        for (index, row) in rows.iter().enumerate() {
            let expected = f64::from(log_probs[index]) + values(&model, row)[0][1];
            assert!(
                (f64::from(rewards[index]) - expected).abs() < 1e-4,
                "{} instead of {expected}",
                rewards[index]
            );
        }
    }
}
