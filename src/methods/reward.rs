//! Reward learning from pairs. With demonstrations as chosen and the policy's own samples as
//! rejected this is the reward step of the paper (eq. 10 or 11); with human-like preferences it is
//! the reward model of RLHF (eq. 2).
//!
//! For Δ = r(x, y; θ) − r(x, ỹ; θ):
//! - eq. 11: ℓ = −log σ(Δ), which the paper optimises;
//! - eq. 10: ℓ = −Δ, the stochastic gradient that Lemma 5.1 derives. It is unbounded below, so
//!   Assumption 4.1 (a bounded reward) has to be built in: `bound` squashes the head to (−bound,
//!   bound), or `l2` adds l2/2·[r(x, y)² + r(x, ỹ)²], which holds scores near ±1/l2;
//! - hinge: ℓ = max(0, m − Δ), which ends where a pair is m apart;
//! - eq. 11 with a margin: ℓ = −log σ(Δ − m).
//!
//! Both have the same direction per pair, since ∇ℓ₁₁ = σ(−Δ)·∇ℓ₁₀; eq. 11 fades as a pair is
//! separated, eq. 10 does not.
//!
//! Two errors of the authors' code can be reproduced to measure their effect: [`ReadOut::LastSlot`]
//! and [`Normalise::DuringTraining`].

use super::Fault;
use crate::methods::optimise::{Monitor, OptimiserSettings, StepReport, Trainer, all_finite};
use crate::methods::training::Training;
use crate::model::checkpoint::Normalisation;
use crate::model::weights::host;
use crate::model::{
    Batch, LanguageModel, Packed, Pair, Passes, RewardModel, Sequence, read_together,
};
use crate::{Error, Result, rng};
use burn::module::Module;
use burn::tensor::activation::{log_sigmoid, relu};
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// The loss of a pair (chosen, rejected) with Δ = r(chosen) − r(rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardLoss {
    /// −Δ, the gradient that the paper derives (Lemma 5.1, eq. 10). Needs a bounded head or an L2
    /// penalty.
    Eq10,
    /// −log σ(Δ), which the paper optimises (eq. 11); also the Bradley–Terry loss of RLHF (eq. 2).
    Eq11,
    /// max(0, margin − Δ).
    Hinge,
    /// −log σ(Δ − margin).
    Eq11Margin,
}

/// The slot at which a row's score is read during training. Everywhere else it is read at the last
/// token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadOut {
    /// The last token of the response: its end, if it has one.
    LastToken,
    /// The last slot of rows that are as wide as the longest response of all pairs, as the authors'
    /// code does by mistake. The slot is padding in most rows, and its distance from the response
    /// reveals the response's length.
    LastSlot,
}

/// The time at which the constants that normalise the reward are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalise {
    /// Once, on the trained model.
    AfterTraining,
    /// Also after every 22 % of the steps, as the authors' code does each time it saves. It writes
    /// the constants into the model of its first process, which from then on trains on normalised
    /// rewards while the other three train on raw ones, and every later measurement is of that
    /// mixture.
    DuringTraining,
}

impl Normalise {
    /// Number of times that the scores of all pairs are read for normalisation.
    pub fn times(self) -> usize {
        match self {
            Self::AfterTraining => 1,
            Self::DuringTraining => 1 + 100 / SAVED_EVERY,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardSettings {
    pub loss: RewardLoss,
    /// m of the hinge and of eq. 11 with a margin; the other losses ignore it.
    pub margin: f32,
    /// The head's output h becomes `bound · tanh(h / bound)`; 0 leaves it unbounded.
    #[schemars(range(min = 0.0))]
    pub bound: f32,
    /// Weight of the penalty on squared scores: every pair adds l2/2·[r(chosen)² + r(rejected)²].
    #[schemars(range(min = 0.0))]
    pub l2: f32,
    pub read_out: ReadOut,
    pub normalise: Normalise,
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Pairs per optimiser step.
    #[schemars(range(min = 1))]
    pub batch_size: usize,
    pub optimiser: OptimiserSettings,
}

impl RewardSettings {
    /// The fault of a loss with a margin that has none.
    pub fn fault(&self) -> Option<Fault> {
        let needed = matches!(self.loss, RewardLoss::Hinge | RewardLoss::Eq11Margin);
        (needed && self.margin <= 0.0).then(|| Fault {
            key: "margin",
            expected: "above 0".into(),
            found: self.margin.to_string(),
        })
    }
}

/// Measurements of reward training, per optimiser step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RewardCurve {
    pub loss: Vec<f32>,
    /// Share of the step's pairs with Δ > 0; Δ = 0 counts one half.
    pub accuracy: Vec<f32>,
    /// Mean Δ.
    pub margin: Vec<f32>,
    /// Mean |r| over the step's scores.
    pub magnitude: Vec<f32>,
    /// L2 norm of all gradients before clipping.
    pub gradient_norm: Vec<f32>,
}

/// The model from which reward training starts.
pub enum RewardStart {
    /// The decoder of a policy with a new head.
    Policy(LanguageModel),
    /// A reward that is trained further; its bound becomes that of the settings.
    Reward(RewardModel),
}

/// Trains head and decoder; returns the reward with its normalisation constants.
pub fn train_reward(
    start: RewardStart,
    pairs: &[Pair],
    settings: &RewardSettings,
    training: &Training,
    seed: u64,
    monitor: &dyn Monitor,
) -> Result<(RewardModel, Normalisation, RewardCurve)> {
    let model = match start {
        RewardStart::Policy(policy) => RewardModel::on(
            &policy,
            settings.bound,
            &mut rng::stream(seed, "reward/head", &[]),
        ),
        RewardStart::Reward(mut reward) => {
            reward.bound = settings.bound;
            reward
        }
    };
    let slots = match settings.read_out {
        ReadOut::LastToken => None,
        ReadOut::LastSlot => responses(pairs)
            .map(|response| response.response.len())
            .max(),
    };
    let steps_per_epoch = pairs.len().div_ceil(settings.batch_size);
    let mut trainer = Trainer::new(
        model,
        &settings.optimiser,
        training,
        seed,
        settings.epochs * steps_per_epoch,
    );
    // `live` is the reward's scale as the first process of the authors' code has measured it.
    let (mut curve, mut live): (RewardCurve, Option<Normalisation>) =
        trainer.resume(monitor)?.unwrap_or_default();
    while trainer.step < trainer.total {
        let (epoch, batch) = (
            trainer.step / steps_per_epoch,
            trainer.step % steps_per_epoch,
        );
        let order = rng::permutation(pairs.len(), seed, "reward/order", epoch as u64);
        let rows: Vec<&Pair> = order
            .iter()
            .skip(batch * settings.batch_size)
            .take(settings.batch_size)
            .map(|&i| &pairs[i])
            .collect();
        let (report, [chosen, rejected]) =
            pair_step(&mut trainer, &rows, settings, slots, live, monitor)?;
        let deltas: Vec<f32> = chosen
            .iter()
            .zip(&rejected)
            .map(|(chosen, rejected)| chosen - rejected)
            .collect();
        curve.loss.push(report.loss);
        curve.accuracy.push(accuracy(&deltas));
        curve
            .margin
            .push(deltas.iter().sum::<f32>() / deltas.len() as f32);
        let magnitudes = chosen.iter().chain(&rejected).map(|score| score.abs());
        curve
            .magnitude
            .push(magnitudes.sum::<f32>() / (2 * deltas.len()) as f32);
        curve.gradient_norm.push(report.gradient_norm);
        if settings.normalise == Normalise::DuringTraining && saved_at(trainer.step, trainer.total)
        {
            let model = trainer.model().valid().in_dtype(training.dtype.float());
            live = Some(normalise(&model, pairs, live)?);
            monitor.passes(Passes::score(model.config(), responses(pairs)));
        }
        let read = rows.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]);
        monitor.passes(trainer.with_gradients(Passes::score(trainer.model().config(), read)));
        monitor.progress(
            trainer.step,
            trainer.total,
            &format!("loss {:.3}", report.loss),
        );
        trainer.checkpoint(monitor, &(&curve, live))?;
    }
    let model = trainer.finish();
    monitor.passes(Passes::score(model.config(), responses(pairs)));
    // Measured on the scores as a policy step will see them.
    let normalisation = normalise(&model.clone().in_dtype(training.dtype.float()), pairs, live)?;
    Ok((model, normalisation, curve))
}

/// One optimiser step on `rows`, their scores read at the last of `slots` slots if given and seen
/// through `live` constants; returns the scores of the chosen and of the rejected responses.
pub(crate) fn pair_step(
    trainer: &mut Trainer<RewardModel>,
    rows: &[&Pair],
    settings: &RewardSettings,
    slots: Option<usize>,
    live: Option<Normalisation>,
    monitor: &dyn Monitor,
) -> Result<(StepReport, [Vec<f32>; 2])> {
    let seen = RefCell::new(Vec::new());
    let report = trainer.step("the reward loss", rows.len(), monitor, |model, range| {
        let [chosen, rejected] = scores(model, &rows[range.clone()], slots);
        seen.borrow_mut()
            .push([&chosen, &rejected].map(|scores| scores.clone().inner()));
        let [chosen, rejected] = [chosen, rejected].map(|scores| mixed(scores, range.start, live));
        loss(chosen, rejected, settings) / rows.len() as f32
    })?;
    let (chosen, rejected): (Vec<_>, Vec<_>) =
        seen.into_inner().into_iter().map(<(_, _)>::from).unzip();
    let scores = [
        host(Tensor::cat(chosen, 0))?,
        host(Tensor::cat(rejected, 0))?,
    ];
    Ok((report, scores))
}

/// Share of pairs whose preferred response scores higher, from the differences of their scores; a
/// tie counts one half.
fn accuracy(deltas: &[f32]) -> f32 {
    let right: f32 = deltas
        .iter()
        .map(|delta| {
            if *delta > 0.0 {
                1.0
            } else {
                f32::from(u8::from(*delta == 0.0)) / 2.0
            }
        })
        .sum();
    right / deltas.len() as f32
}

/// Σ over pairs of ℓ and of the penalty on their scores, `[1]`.
fn loss(chosen: Tensor<1>, rejected: Tensor<1>, settings: &RewardSettings) -> Tensor<1> {
    let (delta, margin) = (chosen.clone() - rejected.clone(), settings.margin);
    let loss = match settings.loss {
        RewardLoss::Eq10 => -delta.sum(),
        RewardLoss::Eq11 => -log_sigmoid(delta).sum(),
        RewardLoss::Hinge => relu(-delta + margin).sum(),
        RewardLoss::Eq11Margin => -log_sigmoid(delta - margin).sum(),
    };
    if settings.l2 == 0.0 {
        return loss;
    }
    loss + (chosen.square() + rejected.square()).sum() * (settings.l2 / 2.0)
}

/// Scores of the chosen and of the rejected responses, each `[n]`, from one forward pass; read at
/// the last of `slots` slots if given, else at the last token.
fn scores(model: &RewardModel, pairs: &[&Pair], slots: Option<usize>) -> [Tensor<1>; 2] {
    let (n, device) = (pairs.len(), model.device());
    let rows = pairs
        .iter()
        .map(|pair| &pair.chosen)
        .chain(pairs.iter().map(|pair| &pair.rejected));
    let scores = match slots {
        None => model.rewards(&Packed::new(rows, &device)),
        Some(slots) => {
            let rows: Vec<&Sequence> = rows.collect();
            let prompt_width = rows.iter().map(|row| row.prompt.len()).max().unwrap_or(0);
            model.scores_at_last_slot(&Batch::with_widths(&rows, prompt_width, slots, &device))
        }
    };
    [scores.clone().narrow(0, 0, n), scores.narrow(0, n, n)]
}

/// Number of processes in the authors' runs; pairs are assigned to them in turn.
const PROCESSES: usize = 4;

/// Percent of the steps after which the authors' code saves: 6,400 of 29,180 micro-steps.
const SAVED_EVERY: usize = 22;

/// True if the authors' code would have saved the model after this step, the `step`-th of `total`.
fn saved_at(step: usize, total: usize) -> bool {
    let saves = |step: usize| 100 * step / (SAVED_EVERY * total);
    saves(step) > saves(step - 1)
}

/// The scores of the pairs `first..` of a step, as seen by the process that each pair is assigned
/// to: normalised in the first process, if it has constants, and raw in the others.
fn mixed(scores: Tensor<1>, first: usize, live: Option<Normalisation>) -> Tensor<1> {
    let Some(live) = live else { return scores };
    let normalised = |index: usize| (first + index).is_multiple_of(PROCESSES);
    let constants = |there: f32, elsewhere: f32| {
        let n = scores.dims()[0];
        let values: Vec<f32> = (0..n)
            .map(|index| if normalised(index) { there } else { elsewhere })
            .collect();
        Tensor::<1>::from_data(TensorData::new(values, [n]), &scores.device())
    };
    (scores.clone() - constants(live.mean, 0.0)) / constants(live.std, 1.0)
}

/// r(x, y) of every sequence.
///
/// # Errors
/// A score that is not finite, or a device failure.
pub fn score(model: &RewardModel, sequences: &[&Sequence]) -> Result<Vec<f32>> {
    let mut scores = Vec::with_capacity(sequences.len());
    for rows in read_together(sequences) {
        scores.extend(host(
            model.rewards(&Packed::new(rows.iter().copied(), &model.device())),
        )?);
    }
    all_finite(&scores, "the score")?;
    Ok(scores)
}

/// Mean and deviation of the scores of all training responses, so that the KL coefficient of the
/// policy step means the same for every reward; with `live` constants, those of the [`mixed`]
/// scores. The low mark is computed from the scores as a policy step will see them.
fn normalise(
    model: &RewardModel,
    pairs: &[Pair],
    live: Option<Normalisation>,
) -> Result<Normalisation> {
    let mut scores = score(model, &responses(pairs).collect::<Vec<_>>())?;
    let seen: Vec<f32> = match live {
        None => scores.clone(),
        Some(live) => {
            let dealt = scores.chunks_exact(2).enumerate();
            let view = |(pair, scores): (usize, &[f32])| -> [f32; 2] {
                let normalised = pair.is_multiple_of(PROCESSES);
                [scores[0], scores[1]]
                    .map(|score| if normalised { live.apply(score) } else { score })
            };
            dealt.flat_map(view).collect()
        }
    };
    let n = seen.len() as f32;
    let mean = seen.iter().sum::<f32>() / n;
    let variance = seen.iter().map(|s| (s - mean).powi(2)).sum::<f32>() / n;
    let std = variance.sqrt().max(1e-6);
    scores.sort_by(f32::total_cmp);
    let low = (scores[scores.len() / 100] - mean) / std;
    match [mean, std, low].iter().all(|number| number.is_finite()) {
        true => Ok(Normalisation {
            mean,
            std,
            low,
            bound: model.bound,
        }),
        false => Err(Error::divergence(format!(
            "the scores have mean {mean}, deviation {std} and low mark {low}"
        ))
        .hint("the reward diverged: lower its learning rate, or bound its head")),
    }
}

/// The chosen and the rejected response of every pair in turn.
fn responses(pairs: &[Pair]) -> impl Iterator<Item = &Sequence> {
    pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::optimise::Schedule;

    #[test]
    fn a_tie_counts_one_half() {
        assert_eq!(accuracy(&[0.0; 4]), 0.5);
        assert_eq!(accuracy(&[1.0, -2.0, 0.0, -0.0]), 0.5);
        assert_eq!(accuracy(&[1.0, 2.0, 0.0, 3.0]), 0.875);
    }

    fn tensor(values: &[f32]) -> Tensor<1> {
        let device = crate::device::select(crate::device::DEFAULT).unwrap();
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &device)
    }

    fn settings(loss: RewardLoss, margin: f32, l2: f32) -> RewardSettings {
        let optimiser = OptimiserSettings {
            learning_rate: 0.0,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-6,
            weight_decay: 0.0,
            clip_norm: 0.0,
        };
        let (read_out, normalise) = (ReadOut::LastToken, Normalise::AfterTraining);
        RewardSettings {
            loss,
            margin,
            bound: 0.0,
            l2,
            read_out,
            normalise,
            epochs: 1,
            batch_size: 1,
            optimiser,
        }
    }

    fn of_pair(chosen: f32, rejected: f32, settings: &RewardSettings) -> f32 {
        host(loss(tensor(&[chosen]), tensor(&[rejected]), settings)).unwrap()[0]
    }

    #[test]
    fn losses_of_a_pair_are_those_of_the_equations() {
        let softplus = |x: f32| (1.0 + x.exp()).ln();
        for (chosen, rejected) in [(0.5, -0.25), (-1.0, 1.5), (3.0, 0.0)] {
            let delta = chosen - rejected;
            for (loss, margin, expected) in [
                (RewardLoss::Eq10, 1.0, -delta),
                (RewardLoss::Eq11, 1.0, softplus(-delta)),
                (RewardLoss::Hinge, 1.0, (1.0 - delta).max(0.0)),
                (RewardLoss::Eq11Margin, 0.0, softplus(-delta)),
                (RewardLoss::Eq11Margin, 1.0, softplus(1.0 - delta)),
            ] {
                let plain = of_pair(chosen, rejected, &settings(loss, margin, 0.0));
                assert!(
                    (plain - expected).abs() < 1e-6,
                    "{loss:?} of {delta}: {plain} instead of {expected}"
                );
                let held = of_pair(chosen, rejected, &settings(loss, margin, 0.5));
                let penalty = 0.25 * (chosen * chosen + rejected * rejected);
                assert!((held - expected - penalty).abs() < 1e-5, "{loss:?}: {held}");
            }
        }
    }

    /// The penalty replaces the bound that eq. 10 lacks.
    #[test]
    fn the_penalty_gives_eq_10_a_minimum_at_its_inverse() {
        let settings = settings(RewardLoss::Eq10, 0.0, 0.5);
        let lowest = of_pair(2.0, -2.0, &settings);
        for (chosen, rejected) in [
            (1.9, -2.0),
            (2.1, -2.0),
            (2.0, -2.1),
            (2.0, -1.9),
            (100.0, -100.0),
        ] {
            assert!(of_pair(chosen, rejected, &settings) > lowest);
        }
    }

    #[test]
    fn saves_fall_where_the_authors_do() {
        // 29,180 micro-steps, 8 per step, with a save after every 6,400 of them.
        let saves: Vec<usize> = (1..=3647).filter(|&step| saved_at(step, 3647)).collect();
        assert_eq!(saves.len(), 4);
        for (found, theirs) in saves.iter().zip([800, 1600, 2400, 3200]) {
            assert!(found.abs_diff(theirs) < 20, "{found} for {theirs}");
        }
        assert_eq!(
            (1..=6)
                .filter(|&step| saved_at(step, 6))
                .collect::<Vec<_>>(),
            [2, 3, 4, 6]
        );
    }

    #[test]
    fn one_process_of_four_sees_normalised_scores() {
        let live = Normalisation {
            mean: 1.0,
            std: 2.0,
            low: 0.0,
            bound: 0.0,
        };
        let raw = [5.0, 5.0, 5.0, 5.0, 5.0, 5.0];
        assert_eq!(host(mixed(tensor(&raw), 0, None)).unwrap(), raw);
        assert_eq!(
            host(mixed(tensor(&raw), 0, Some(live))).unwrap(),
            [2.0, 5.0, 5.0, 5.0, 2.0, 5.0]
        );
        // A micro-batch that begins at the fourth pair of its step.
        assert_eq!(
            host(mixed(tensor(&raw), 3, Some(live))).unwrap(),
            [5.0, 2.0, 5.0, 5.0, 5.0, 2.0]
        );
    }

    #[test]
    fn later_constants_are_of_the_mixture() {
        let model = RewardModel::on(
            &LanguageModel::tiny(1),
            0.0,
            &mut rng::stream(1, "test/head", &[]),
        );
        let row = |token: u32| Sequence::new(vec![3, 4], vec![token, 1]);
        let pairs: Vec<Pair> = (5..10)
            .map(|token| Pair {
                chosen: row(token),
                rejected: row(token + 5),
            })
            .collect();
        let raw = score(&model, &responses(&pairs).collect::<Vec<_>>()).unwrap();
        let once = normalise(&model, &pairs, None).unwrap();
        let live = Normalisation {
            mean: 3.0,
            std: 0.5,
            ..once
        };
        let twice = normalise(&model, &pairs, Some(live)).unwrap();
        // The first and the fifth pair were assigned to the first process.
        let seen = |index: usize| {
            if [0, 1, 8, 9].contains(&index) {
                (raw[index] - 3.0) / 0.5
            } else {
                raw[index]
            }
        };
        let mean = (0..10).map(seen).sum::<f32>() / 10.0;
        assert!(
            (twice.mean - mean).abs() < 1e-5
                && (once.mean - raw.iter().sum::<f32>() / 10.0).abs() < 1e-5
        );
        let lowest = raw.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(
            (twice.low - twice.apply(lowest)).abs() < 1e-5,
            "a policy step sees raw scores and these constants"
        );
    }
}
