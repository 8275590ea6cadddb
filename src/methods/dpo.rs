//! DPO (Rafailov et al. 2023, arXiv 2305.18290). The policy that is optimal for a reward r under a
//! KL penalty to π_ref is π ∝ π_ref·exp(r/β). Hence r = β·log(π/π_ref) up to a function of the
//! prompt, which cancels in a pair. Inserted into eq. 2, this trains the policy without a reward
//! model and without samples:
//!
//! ℓ = −log σ( β·[ log π(y_w|x)/π_ref(y_w|x) − log π(y_l|x)/π_ref(y_l|x) ] ),  y_w preferred to
//! y_l.
//!
//! IPO (Azar et al. 2023, arXiv 2310.12036) is the same with another loss of the same margin. Its
//! loss is smallest at a margin of 1/(2β), whereas DPO's loss keeps falling as the margin grows
//! ([`PairLoss`]).
//!
//! Iterative DPO (Xu et al. 2023, arXiv 2312.16682; Guo et al. 2024, arXiv 2402.04792) draws two
//! samples of the current policy per prompt, lets a judge order them and repeats. With
//! demonstrations for y_w and the previous iterate both for the source of y_l and for π_ref the
//! same loss is [SPIN](super::spin)'s.

use crate::Result;
use crate::methods::irl::Anchor;
use crate::methods::optimise::{Monitor, OptimiserSettings, Trainer, all_finite};
use crate::methods::training::Training;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Pair, Passes, Sequence, read_together};
use crate::rng;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pairs that recipe `dpo` trains on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoPairs {
    /// IRL's own pairs: demonstrations against samples of its policies.
    Synthetic,
    /// RLHF's labelled preferences.
    Preferences,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DpoSettings {
    pub pairs: DpoPairs,
    /// Rounds of iterative DPO.
    #[schemars(range(min = 1))]
    pub iterations: usize,
    /// Temperature of the two samples per prompt of iterative DPO.
    #[schemars(range(min = 0.0))]
    pub temperature: f32,
    /// π_ref of iterative DPO.
    pub anchor: Anchor,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub beta: f32,
    #[serde(default, skip_serializing_if = "PairLoss::is_sigmoid")]
    pub loss: PairLoss,
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Pairs per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

/// The loss of a pair as a function of its margin h = log π(y_w|x)/π_ref(y_w|x) − log
/// π(y_l|x)/π_ref(y_l|x).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// −log σ(β·h), the loss of DPO.
    #[default]
    Sigmoid,
    /// (h − 1/(2β))², the loss of IPO.
    Ipo,
}

impl PairLoss {
    fn is_sigmoid(&self) -> bool {
        *self == Self::Sigmoid
    }

    /// The loss of every margin, `[n]`.
    fn of(self, margin: Tensor<1>, beta: f32) -> Tensor<1> {
        match self {
            Self::Sigmoid => -log_sigmoid(margin * beta),
            Self::Ipo => (margin - 0.5 / beta).square(),
        }
    }
}

/// Trains `policy` on `pairs` against `reference`, which is held in the type used for computation;
/// returns it with the loss of every optimiser step.
pub fn dpo(
    policy: LanguageModel,
    reference: &LanguageModel,
    pairs: &[Pair],
    settings: &DpoSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    let DpoSettings {
        beta,
        loss,
        epochs,
        batch_size,
        ref optimiser,
        ..
    } = *settings;
    let run = GapTraining {
        method: "DPO",
        order: "dpo/order",
        beta,
        loss,
        epochs,
        batch_size,
        optimiser,
    };
    optimise_gap(
        policy,
        pairs,
        &gaps(reference, pairs)?,
        run,
        training,
        seed,
        monitor,
    )
}

/// Settings of [`optimise_gap`].
pub(super) struct GapTraining<'a> {
    /// The method's name in errors.
    pub method: &'static str,
    /// The random stream's purpose for the order of the pairs.
    pub order: &'static str,
    pub beta: f32,
    pub loss: PairLoss,
    pub epochs: usize,
    pub batch_size: usize,
    pub optimiser: &'a OptimiserSettings,
}

/// Minimises the loss of gap − reference gap over pairs, where a gap is log π(chosen|x) − log
/// π(rejected|x), as DPO, IPO and SPIN do. The reference does not change during training, so only
/// its [`gaps`] are kept.
pub(super) fn optimise_gap(
    policy: LanguageModel,
    pairs: &[Pair],
    reference_gaps: &[f32],
    run: GapTraining,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<f32>)> {
    let steps_per_epoch = pairs.len().div_ceil(run.batch_size);
    let mut trainer = Trainer::new(
        policy,
        run.optimiser,
        training,
        seed,
        run.epochs * steps_per_epoch,
    );
    let mut losses: Vec<f32> = trainer.resume(monitor)?.unwrap_or_default();
    if trainer.step == 0 {
        // The reference read the pairs once.
        let read = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
        monitor.passes(Passes::likelihood(trainer.model().config(), read));
    }
    let what = format!("the {} loss", run.method);
    while trainer.step < trainer.total {
        let (epoch, batch) = (
            trainer.step / steps_per_epoch,
            trainer.step % steps_per_epoch,
        );
        let order = rng::permutation(pairs.len(), seed, run.order, epoch as u64);
        let rows: Vec<usize> = order
            .into_iter()
            .skip(batch * run.batch_size)
            .take(run.batch_size)
            .collect();
        let rows_in_step = rows.len();
        let report = trainer.step(&what, rows_in_step, monitor, |model, range| {
            let rows = &rows[range];
            let n = rows.len();
            let sequences = rows
                .iter()
                .map(|&i| &pairs[i].chosen)
                .chain(rows.iter().map(|&i| &pairs[i].rejected));
            let batch = Batch::new(sequences, &model.device());
            let log_probs: Tensor<1> = model
                .response_log_probs(&batch, 1.0)
                .sum_dim(1)
                .reshape([2 * n]);
            let gap = log_probs.clone().narrow(0, 0, n) - log_probs.narrow(0, n, n);
            let reference: Vec<f32> = rows.iter().map(|&i| reference_gaps[i]).collect();
            let reference = Tensor::from_data(TensorData::new(reference, [n]), &model.device());
            run.loss.of(gap - reference, run.beta).sum() / rows_in_step as f32
        })?;
        losses.push(report.loss);
        let read = rows
            .iter()
            .flat_map(|&i| [&pairs[i].chosen, &pairs[i].rejected]);
        monitor.passes(trainer.with_gradients(Passes::likelihood(trainer.model().config(), read)));
        monitor.progress(
            trainer.step,
            trainer.total,
            &format!("loss {:.3}", report.loss),
        );
        trainer.checkpoint(monitor, &losses)?;
    }
    Ok((trainer.finish(), losses))
}

/// log π(chosen|x) − log π(rejected|x) of every pair.
pub(super) fn gaps(model: &LanguageModel, pairs: &[Pair]) -> Result<Vec<f32>> {
    let chosen: Vec<&Sequence> = pairs.iter().map(|pair| &pair.chosen).collect();
    let rejected: Vec<&Sequence> = pairs.iter().map(|pair| &pair.rejected).collect();
    let (chosen, rejected) = (
        sequence_log_probs(model, &chosen)?,
        sequence_log_probs(model, &rejected)?,
    );
    Ok(chosen
        .iter()
        .zip(rejected)
        .map(|(chosen, rejected)| chosen - rejected)
        .collect())
}

/// log π(y|x), summed over the response, of every sequence.
///
/// # Errors
/// One that is not finite; a device that fails.
pub fn sequence_log_probs(model: &LanguageModel, sequences: &[&Sequence]) -> Result<Vec<f32>> {
    let mut log_probs = Vec::with_capacity(sequences.len());
    for rows in read_together(sequences) {
        let batch = Batch::new(rows.iter().copied(), &model.device());
        log_probs.extend(host(model.response_log_probs(&batch, 1.0).sum_dim(1))?);
    }
    all_finite(&log_probs, "the log-probability of the response")?;
    Ok(log_probs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::irl::Accumulate;
    use crate::methods::optimise::{Schedule, Unwatched};
    use crate::methods::spin::{PromptFormat, SpinSettings, spin};

    fn pairs() -> Vec<Pair> {
        let row = |response: &[u32]| Sequence::new(vec![3, 4], response.to_vec());
        vec![
            Pair {
                chosen: row(&[5, 6, 1]),
                rejected: row(&[7, 1]),
            },
            Pair {
                chosen: row(&[8, 1]),
                rejected: row(&[9, 10, 11, 1]),
            },
        ]
    }

    fn settings() -> DpoSettings {
        let optimiser = OptimiserSettings {
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
        };
        DpoSettings {
            pairs: DpoPairs::Preferences,
            iterations: 1,
            temperature: 1.0,
            anchor: Anchor::Sft,
            beta: 0.5,
            loss: PairLoss::Sigmoid,
            epochs: 4,
            batch_size: 2,
            optimiser,
        }
    }

    fn losses_of(loss: PairLoss, policy: u64, reference: u64) -> Vec<f32> {
        let (policy, reference) = (LanguageModel::tiny(policy), LanguageModel::tiny(reference));
        let settings = DpoSettings { loss, ..settings() };
        dpo(
            policy,
            &reference,
            &pairs(),
            &settings,
            &Training::default(),
            7,
            &Unwatched,
        )
        .unwrap()
        .1
    }

    fn losses(policy: u64, reference: u64) -> Vec<f32> {
        losses_of(PairLoss::Sigmoid, policy, reference)
    }

    /// With all pairs in one step, their order, which is the only difference, does not matter.
    #[test]
    fn against_its_own_start_it_is_spin_and_starts_at_the_logarithm_of_two() {
        let DpoSettings {
            beta,
            epochs,
            batch_size,
            optimiser,
            ..
        } = settings();
        let (iterations, accumulate, negatives_temperature) = (1, Accumulate::Last, 1.0);
        let spin_settings = SpinSettings {
            prompt: PromptFormat::Template,
            iterations,
            accumulate,
            negatives_temperature,
            beta,
            betas: Vec::new(),
            learning_rates: Vec::new(),
            epochs,
            batch_size,
            optimiser,
        };
        let training = Training::default();
        let (_, spun) = spin(
            LanguageModel::tiny(1),
            &pairs(),
            &spin_settings,
            &training,
            7,
            &Unwatched,
        )
        .unwrap();
        let losses = losses(1, 1);
        assert!(
            (losses[0] - std::f32::consts::LN_2).abs() < 1e-5,
            "{losses:?}"
        );
        assert!(losses[3] < losses[0] - 1e-3, "{losses:?}");
        for (found, expected) in losses.iter().zip(&spun) {
            assert!(
                (found - expected).abs() < 1e-4,
                "{losses:?} instead of {spun:?}"
            );
        }
    }

    #[test]
    fn the_first_loss_is_that_of_the_equation() {
        let [policy, reference] =
            [1, 2].map(|seed| gaps(&LanguageModel::tiny(seed), &pairs()).unwrap());
        let loss =
            |(policy, reference): (&f32, &f32)| (1.0 + (-0.5 * (policy - reference)).exp()).ln();
        let expected = policy.iter().zip(&reference).map(loss).sum::<f32>() / 2.0;
        assert!(
            (losses(1, 2)[0] - expected).abs() < 1e-4 * expected,
            "{} instead of {expected}",
            losses(1, 2)[0]
        );
    }

    /// The margins are 0 at the start, where DPO's loss is log 2; 1 is the margin at which IPO's
    /// loss is smallest for β = 0.5.
    #[test]
    fn ipo_asks_for_a_margin_and_no_more() {
        let [policy, reference] =
            [1, 2].map(|seed| gaps(&LanguageModel::tiny(seed), &pairs()).unwrap());
        let loss = |(policy, reference): (&f32, &f32)| (policy - reference - 1.0).powi(2);
        let expected = policy.iter().zip(&reference).map(loss).sum::<f32>() / 2.0;
        let found = losses_of(PairLoss::Ipo, 1, 2);
        assert!(
            (found[0] - expected).abs() < 1e-3 * expected,
            "{found:?} instead of {expected}"
        );
        assert!((losses_of(PairLoss::Ipo, 1, 1)[0] - 1.0).abs() < 1e-4);
        assert!(found[3] < found[0], "{found:?}");
    }

    #[test]
    fn settings_without_a_loss_are_dpo_s_as_they_always_were() {
        let json = serde_json::to_value(settings()).unwrap();
        assert_eq!(json.get("loss"), None, "keys of stored results have none");
        assert_eq!(
            serde_json::from_value::<DpoSettings>(json).unwrap(),
            settings()
        );
    }
}
