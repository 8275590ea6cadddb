//! Reward learning from pairs. With demonstrations as chosen and the policy's own samples as rejected this is the
//! reward step of the paper (eq. 10 or 11); with human-like preferences it is the reward model of RLHF (eq. 2).
//!
//! For Δ = r(x, y; θ) − r(x, ỹ; θ):
//! - eq. 11: ℓ = −log σ(Δ), what the paper optimises;
//! - eq. 10: ℓ = −Δ, the stochastic gradient that Lemma 5.1 derives. It is unbounded below, so Assumption 4.1 (a bounded
//!   reward) has to be built in: `bound` squashes the head to (−bound, bound).
//!
//! Same direction per pair, since ∇ℓ₁₁ = σ(−Δ)·∇ℓ₁₀; eq. 11 fades as a pair is separated, eq. 10 does not.

use crate::Result;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, finite};
use crate::methods::training::Training;
use crate::model::checkpoint::Normalisation;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Pair, RewardModel, Sequence};
use crate::rng;
use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// How a pair (chosen, rejected) with Δ = r(chosen) − r(rejected) is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardLoss {
    /// −Δ, the gradient that the paper derives (Lemma 5.1, eq. 10). Needs a bounded head.
    Eq10,
    /// −log σ(Δ), what the paper optimises (eq. 11) and the Bradley–Terry loss of RLHF (eq. 2).
    Eq11,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardSettings {
    pub loss: RewardLoss,
    /// The head's output h becomes `bound · tanh(h / bound)`; 0 leaves it unbounded.
    pub bound: f32,
    pub epochs: usize,
    /// Pairs per optimiser step.
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

/// What reward training saw, per optimiser step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RewardCurve {
    pub loss: Vec<f32>,
    /// Share of the step's pairs with Δ > 0.
    pub accuracy: Vec<f32>,
    /// Mean Δ.
    pub margin: Vec<f32>,
}

/// Trains a fresh head on the decoder of `policy`, and the decoder with it.
pub fn train_reward(
    policy: LanguageModel,
    pairs: &[Pair],
    settings: &RewardSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(RewardModel, Normalisation, RewardCurve)> {
    let fresh = RewardModel::on(&policy, settings.bound, &mut rng::stream(seed, "reward/head", &[]));
    drop(policy);
    let steps_per_epoch = pairs.len().div_ceil(settings.batch_size);
    let mut trainer = Trainer::new(fresh, &settings.optimiser, training, seed, settings.epochs * steps_per_epoch);
    let mut curve: RewardCurve = trainer.resume(monitor)?.unwrap_or_default();
    while trainer.step < trainer.total {
        let (epoch, batch) = (trainer.step / steps_per_epoch, trainer.step % steps_per_epoch);
        let order = rng::permutation(pairs.len(), seed, "reward/order", epoch as u64);
        let rows: Vec<&Pair> =
            order.iter().skip(batch * settings.batch_size).take(settings.batch_size).map(|&i| &pairs[i]).collect();
        let deltas = RefCell::new(Vec::new());
        let report = trainer.step(rows.len(), monitor, |model, range| {
            let delta = differences(model, &rows[range]);
            deltas.borrow_mut().push(delta.clone().inner());
            pair_loss(delta, settings.loss) / rows.len() as f32
        });
        let deltas = host(Tensor::cat(deltas.into_inner(), 0));
        curve.loss.push(finite(report.loss, "the reward loss", trainer.step)?);
        curve.accuracy.push(deltas.iter().filter(|d| **d > 0.0).count() as f32 / deltas.len() as f32);
        curve.margin.push(deltas.iter().sum::<f32>() / deltas.len() as f32);
        monitor.tokens(rows.iter().map(|pair| pair.chosen.len() + pair.rejected.len()).sum());
        monitor.progress(trainer.step, trainer.total, &format!("loss {:.3}", report.loss));
        trainer.checkpoint(monitor, &curve)?;
    }
    let model = trainer.finish();
    // Of the scores as a policy step will see them.
    let normalisation = normalise(&model.clone().in_dtype(training.dtype.float()), pairs);
    Ok((model, normalisation, curve))
}

/// Σ ℓ over pairs, `[1]`.
fn pair_loss(delta: Tensor<1>, loss: RewardLoss) -> Tensor<1> {
    match loss {
        RewardLoss::Eq10 => -delta.sum(),
        RewardLoss::Eq11 => -log_sigmoid(delta).sum(),
    }
}

/// Δ of every pair, `[n]`; chosen and rejected go through one forward pass.
fn differences(model: &RewardModel, pairs: &[&Pair]) -> Tensor<1> {
    let n = pairs.len();
    let rows = pairs.iter().map(|pair| &pair.chosen).chain(pairs.iter().map(|pair| &pair.rejected));
    let scores = model.scores(&Batch::new(rows, &model.device()));
    scores.clone().narrow(0, 0, n) - scores.narrow(0, n, n)
}

/// Rows per forward pass when scores are only read.
const SCORING_BATCH: usize = 64;

/// r(x, y) of every sequence.
pub fn score(model: &RewardModel, sequences: &[&Sequence]) -> Vec<f32> {
    let batches = sequences.chunks(SCORING_BATCH);
    batches.flat_map(|rows| host(model.scores(&Batch::new(rows.iter().copied(), &model.device())))).collect()
}

/// Mean and deviation of the scores of all training responses, so that the KL coefficient of the policy step means the
/// same for every reward. Done once, after training, on the trained model (the authors' code corrupts it half-way).
fn normalise(model: &RewardModel, pairs: &[Pair]) -> Normalisation {
    let responses: Vec<&Sequence> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
    let mut scores = score(model, &responses);
    let n = scores.len() as f32;
    let mean = scores.iter().sum::<f32>() / n;
    let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / n;
    let std = variance.sqrt().max(1e-6);
    scores.sort_by(f32::total_cmp);
    let low = (scores[scores.len() / 100] - mean) / std;
    Normalisation { mean, std, low, bound: model.bound }
}
