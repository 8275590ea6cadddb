//! Supervised fine-tuning on demonstrations (behaviour cloning): minimise −log π(y|x) over the
//! tokens of y. It makes π_ref of eq. 5b and is the first baseline.

use crate::Result;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, matrix};
use crate::methods::training::Training;
use crate::model::{Batch, LanguageModel, Passes, Sequence};
use crate::rng;
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftSettings {
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Demonstrations per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    /// Weight of prompt tokens in the loss; response tokens weigh 1. The authors' code trains on
    /// both (1.0).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub prompt_weight: f32,
    pub optimiser: OptimiserSettings,
}

/// Fine-tunes `model`; returns it with the loss of every optimiser step.
pub fn sft(
    model: LanguageModel,
    demonstrations: &[Sequence],
    settings: &SftSettings,
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
        let order = rng::permutation(demonstrations.len(), seed, "sft/order", epoch as u64);
        let rows: Vec<&Sequence> = order
            .iter()
            .skip(batch * settings.batch_size)
            .take(settings.batch_size)
            .map(|&i| &demonstrations[i])
            .collect();
        losses.push(token_step(
            &mut trainer,
            &rows,
            settings.prompt_weight,
            monitor,
        )?);
        trainer.checkpoint(monitor, &losses)?;
    }
    Ok((trainer.finish(), losses))
}

/// Takes one optimiser step on the weighted mean next-token loss of `rows`.
pub fn token_step(
    trainer: &mut Trainer<LanguageModel>,
    rows: &[&Sequence],
    prompt_weight: f32,
    monitor: &dyn Monitor,
) -> Result<f32> {
    let total: f32 = rows.iter().map(|row| weight(row, prompt_weight)).sum();
    let report = trainer.step("the loss", rows.len(), monitor, |model, range| {
        negative_log_likelihood(model, &rows[range], prompt_weight) / total
    })?;
    let (config, read) = (trainer.model().config(), rows.iter().copied());
    let read_once = if prompt_weight == 0.0 {
        Passes::likelihood(config, read)
    } else {
        Passes::whole_likelihood(config, read)
    };
    monitor.passes(trainer.with_gradients(read_once));
    monitor.progress(
        trainer.step,
        trainer.total,
        &format!("loss {:.3}", report.loss),
    );
    Ok(report.loss)
}

/// Σ over rows and tokens of weight · −log π(token | before it), `[1]`.
pub fn negative_log_likelihood(
    model: &LanguageModel,
    rows: &[&Sequence],
    prompt_weight: f32,
) -> Tensor<1> {
    if prompt_weight == 0.0 {
        let batch = Batch::new(rows.iter().copied(), &model.device());
        return -model.response_log_probs(&batch, 1.0).sum();
    }
    // Every token but the first is predicted: the row is treated as one token followed by a
    // response.
    let whole: Vec<Sequence> = rows
        .iter()
        .map(|row| {
            let mut tokens = row.prompt.iter().chain(&row.response).copied();
            Sequence::new(tokens.by_ref().take(1).collect(), tokens.collect())
        })
        .collect();
    let batch = Batch::new(&whole, &model.device());
    let mut weights = vec![0.0; batch.rows() * batch.response_width];
    for (index, row) in rows.iter().enumerate() {
        let predicted = row.prompt.len().saturating_sub(1);
        let start = index * batch.response_width;
        weights[start..start + predicted].fill(prompt_weight);
        weights[start + predicted..start + row.len() - 1].fill(1.0);
    }
    let weights = matrix(weights, batch.rows(), batch.response_width, &model.device());
    -(model.response_log_probs(&batch, 1.0) * weights).sum()
}

fn weight(row: &Sequence, prompt_weight: f32) -> f32 {
    row.response.len() as f32 + prompt_weight * row.prompt.len().saturating_sub(1) as f32
}
