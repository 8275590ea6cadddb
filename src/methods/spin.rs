//! SPIN (Chen et al. 2024, arXiv 2401.01335): self-play against the previous iterate. The paper's §5 reads it as eq. 11
//! with the implicit reward r = β·log(π/π_t), π_t the opponent:
//!
//! ℓ = −log σ( β·[ log π(y|x)/π_t(y|x) − log π(ỹ|x)/π_t(ỹ|x) ] ),  y a demonstration, ỹ ~ π_t.
//!
//! With preferences for pairs and the SFT policy for π_t the same loss is DPO's (Rafailov et al. 2023).

use crate::Result;
use crate::methods::irl::Accumulate;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, finite};
use crate::methods::training::Training;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Pair, Sequence};
use crate::rng;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpinSettings {
    pub iterations: usize,
    /// Which iterations' pairs are trained on.
    pub accumulate: Accumulate,
    /// Temperature of the samples ỹ.
    pub negatives_temperature: f32,
    pub beta: f32,
    pub epochs: usize,
    /// Pairs per optimiser step.
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

/// One iteration: trains `opponent` on `pairs` against what it was; returns it with the loss of every optimiser step.
pub fn spin(
    opponent: LanguageModel,
    pairs: &[Pair],
    settings: &SpinSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    let chosen: Vec<&Sequence> = pairs.iter().map(|pair| &pair.chosen).collect();
    let rejected: Vec<&Sequence> = pairs.iter().map(|pair| &pair.rejected).collect();
    // The opponent is fixed for the whole iteration: log π_t(y) − log π_t(ỹ) is computed once.
    let frozen = opponent.clone().in_dtype(training.dtype.float());
    let opponent_gap: Vec<f32> = sequence_log_probs(&frozen, &chosen)
        .iter()
        .zip(sequence_log_probs(&frozen, &rejected))
        .map(|(chosen, rejected)| chosen - rejected)
        .collect();
    drop(frozen);
    let steps_per_epoch = pairs.len().div_ceil(settings.batch_size);
    let mut trainer = Trainer::new(opponent, &settings.optimiser, training, seed, settings.epochs * steps_per_epoch);
    let mut losses: Vec<f32> = trainer.resume(monitor)?.unwrap_or_default();
    while trainer.step < trainer.total {
        let (epoch, batch) = (trainer.step / steps_per_epoch, trainer.step % steps_per_epoch);
        let order = rng::permutation(pairs.len(), seed, "spin/order", epoch as u64);
        let rows: Vec<usize> = order.into_iter().skip(batch * settings.batch_size).take(settings.batch_size).collect();
        let rows_in_step = rows.len();
        let report = trainer.step(rows_in_step, monitor, |model, range| {
            let rows = &rows[range];
            let n = rows.len();
            let sequences = rows.iter().map(|&i| chosen[i]).chain(rows.iter().map(|&i| rejected[i]));
            let batch = Batch::new(sequences, &model.device());
            let log_probs: Tensor<1> = model.response_log_probs(&batch, 1.0).sum_dim(1).reshape([2 * n]);
            let gap = log_probs.clone().narrow(0, 0, n) - log_probs.narrow(0, n, n);
            let opponent: Vec<f32> = rows.iter().map(|&i| opponent_gap[i]).collect();
            let opponent = Tensor::from_data(TensorData::new(opponent, [n]), &model.device());
            -log_sigmoid((gap - opponent) * settings.beta).sum() / rows_in_step as f32
        });
        losses.push(finite(report.loss, "the SPIN loss", trainer.step)?);
        monitor.tokens(rows.iter().map(|&i| chosen[i].len() + rejected[i].len()).sum());
        monitor.progress(trainer.step, trainer.total, &format!("loss {:.3}", report.loss));
        trainer.checkpoint(monitor, &losses)?;
    }
    Ok((trainer.finish(), losses))
}

/// Rows per forward pass when log-probabilities are only read.
const SCORING_BATCH: usize = 64;

/// log π(y|x), summed over the response, of every sequence.
pub fn sequence_log_probs(model: &LanguageModel, sequences: &[&Sequence]) -> Vec<f32> {
    let batches = sequences.chunks(SCORING_BATCH);
    batches
        .flat_map(|rows| {
            let batch = Batch::new(rows.iter().copied(), &model.device());
            host(model.response_log_probs(&batch, 1.0).sum_dim(1))
        })
        .collect()
}
