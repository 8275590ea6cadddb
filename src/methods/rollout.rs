//! Parts shared by the policy-gradient methods for eq. 9 ([PPO](super::ppo), [RLOO](super::rloo),
//! [GRPO](super::grpo)): the objective of a policy, responses sampled from it, and the record of
//! each update.

use crate::methods::optimise::matrix;
use crate::model::checkpoint::Normalisation;
use crate::model::generate::generate;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, RewardModel, Sampling, Sequence};
use crate::{Error, Result, rng};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One sampled response.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Index of the response's prompt.
    pub prompt: usize,
    pub sequence: Sequence,
    pub ended: bool,
}

/// One score per rollout.
pub type Score<'a> = dyn Fn(&[Rollout]) -> Result<Vec<f32>> + 'a;

/// The objective that the policy is trained to raise.
pub struct RewardFunction<'a> {
    /// Scores of rollouts, on a scale where 1 is about a standard deviation.
    pub score: Box<Score<'a>>,
    /// The first percentile of scores.
    pub low: f32,
}

/// The reference, the critic's start and the sampling settings of a policy step.
pub struct Task<'a> {
    /// π_ref of eq. 9.
    pub reference: &'a LanguageModel,
    pub reward: RewardFunction<'a>,
    /// The reward model from which PPO's [`Critic::RewardCopy`](super::ppo::Critic::RewardCopy)
    /// starts, with its normalisation.
    pub critic: Option<(RewardModel, Normalisation)>,
    pub prompts: &'a [Vec<u32>],
    /// Settings of sampling except temperature and nucleus, which the method sets.
    pub sampling: &'a Sampling,
}

/// The score of a response that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissingEos {
    /// One below the first percentile of the reward's scores on its own training responses.
    BelowScores,
    /// The authors' constant −1, which other scores may fall below.
    MinusOne,
}

impl MissingEos {
    /// Replaces the scores of responses that do not end.
    pub(super) fn apply(
        self,
        scores: &[f32],
        rollouts: &[Rollout],
        reward: &RewardFunction,
    ) -> Vec<f32> {
        let floor = match self {
            Self::BelowScores => reward.low - 1.0,
            Self::MinusOne => -1.0,
        };
        scores
            .iter()
            .zip(rollouts)
            .map(|(&score, rollout)| if rollout.ended { score } else { floor })
            .collect()
    }
}

/// Measurements of one rollout batch and its updates.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Mean score of responses, before the KL penalty.
    pub score: f32,
    /// Mean over responses of Σ_k log π(y_k) − log π_ref(y_k).
    pub kl: f32,
    pub eos_rate: f32,
    /// Mean response length in tokens.
    pub length: f32,
    pub policy_loss: f32,
    /// Mean loss of the value function; 0 without one.
    pub value_loss: f32,
    /// Largest |ratio − 1| before the first update on this batch; 0 up to rounding.
    pub first_ratio_error: f32,
}

impl UpdateRecord {
    /// Creates the record of a batch; `kl` is summed over the rollouts.
    pub(super) fn of(rollouts: &[Rollout], scores: &[f32], kl: f32) -> Self {
        let n = rollouts.len() as f32;
        Self {
            score: scores.iter().sum::<f32>() / n,
            kl: kl / n,
            eos_rate: rollouts.iter().filter(|rollout| rollout.ended).count() as f32 / n,
            length: rollouts
                .iter()
                .map(|rollout| rollout.sequence.response.len())
                .sum::<usize>() as f32
                / n,
            ..Self::default()
        }
    }

    pub(super) fn note(&self) -> String {
        format!(
            "score {:.2}  KL {:.2}  EOS {:.2}",
            self.score, self.kl, self.eos_rate
        )
    }
}

/// Settings of one rollout batch's sampling.
pub(super) struct Draw {
    /// Number of the batch, from 0.
    pub update: usize,
    pub prompts: usize,
    /// Responses per prompt.
    pub samples: usize,
    pub temperature: f32,
    pub seed: u64,
    /// Purposes of the random streams for the order of the prompts and for the responses.
    pub purposes: [&'static str; 2],
}

/// y ~ π(·|x) for the next prompts, in an order that is a function of (seed, epoch); the responses
/// to a prompt are adjacent.
pub(super) fn roll_out(policy: &LanguageModel, task: &Task, draw: &Draw) -> Result<Vec<Rollout>> {
    let (prompts, [order_purpose, rollout_purpose]) = (task.prompts, draw.purposes);
    let first = draw.update * draw.prompts;
    let mut order = (usize::MAX, Vec::new());
    let chosen: Vec<usize> = (first..first + draw.prompts)
        .flat_map(|index| {
            let epoch = index / prompts.len();
            if order.0 != epoch {
                order = (
                    epoch,
                    rng::permutation(prompts.len(), draw.seed, order_purpose, epoch as u64),
                );
            }
            std::iter::repeat_n(order.1[index % prompts.len()], draw.samples)
        })
        .collect();
    let batch: Vec<Vec<u32>> = chosen.iter().map(|&i| prompts[i].clone()).collect();
    let sampling = Sampling {
        temperature: draw.temperature,
        top_p: 1.0,
        ..task.sampling.clone()
    };
    let stream = |row: usize| {
        rng::stream(
            draw.seed,
            rollout_purpose,
            &[draw.update as u64, row as u64],
        )
    };
    let responses = generate(policy, &batch, &sampling, stream, |_| {})?;
    let rows = responses.into_iter().zip(chosen).zip(batch);
    Ok(rows
        .map(|((response, prompt), ids)| Rollout {
            prompt,
            ended: response.ended,
            sequence: Sequence::new(ids, response.ids),
        })
        .collect())
}

/// The real response tokens of every row of a `[b, response_width]` tensor, whose rows are counted
/// from `first`.
///
/// # Errors
/// A number that is not finite, with its row and token; `what` names it.
pub(super) fn rows_of(
    tensor: Tensor<2>,
    batch: &Batch,
    first: usize,
    what: &str,
) -> Result<Vec<Vec<f32>>> {
    let values = host(tensor)?;
    let row = |(row, &length): (usize, &usize)| {
        values[row * batch.response_width..row * batch.response_width + length].to_vec()
    };
    let rows: Vec<Vec<f32>> = batch.response_lengths.iter().enumerate().map(row).collect();
    check_tokens(&rows, first, what)?;
    Ok(rows)
}

/// Returns an error unless every number of every row, counted from `first`, is finite.
pub(super) fn check_tokens(rows: &[Vec<f32>], first: usize, what: &str) -> Result<()> {
    for (row, values) in rows.iter().enumerate() {
        if let Some(token) = values.iter().position(|value| !value.is_finite()) {
            let place = format!("row {}, response token {}", first + row + 1, token + 1);
            return Err(
                Error::divergence(format!("{place}: {what} is {}", values[token]))
                    .hint("training diverged: lower the learning rate, or bound the reward head"),
            );
        }
    }
    Ok(())
}

/// The inverse of [`rows_of`] for some rows: `[rows, width]`, 0 at padding.
pub(super) fn padded(
    values: &[Vec<f32>],
    rows: &[usize],
    width: usize,
    device: &Device,
) -> Tensor<2> {
    let mut out = vec![0.0; rows.len() * width];
    for (index, &row) in rows.iter().enumerate() {
        out[index * width..index * width + values[row].len()].copy_from_slice(&values[row]);
    }
    matrix(out, rows.len(), width, device)
}
