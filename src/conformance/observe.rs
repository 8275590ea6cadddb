//! The results of one device on a problem.

use super::compare::Tensors;
use super::problem::{NORMALISATION, Problem, SAMPLINGS, taste};
use super::recorder::Recorder;
use crate::Result;
use crate::methods::ppo::{RewardFunction, Rollout, Task, ppo};
use crate::methods::reward::{RewardStart, train_reward};
use crate::methods::sft::sft;
use crate::methods::training::{Dtype, Training};
use crate::model::generate::generate;
use crate::model::weights::{Weights, host};
use crate::model::{Batch, Packed};
use burn::tensor::Device;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    Logits,
    LogProbabilities,
    Scores,
    SampledTokens,
    SftLoss,
    SftGradients,
    /// The change of the weights in SFT's optimiser step.
    SftStep,
    RewardLoss,
    RewardGradients,
    RewardStep,
    PpoTokens,
    /// The losses of every minibatch.
    PpoLosses,
    /// The gradients of the last minibatch.
    PpoGradients,
    /// The change of the weights over all optimiser steps.
    PpoSteps,
}

impl Quantity {
    pub const ALL: [Self; 14] = [
        Self::Logits,
        Self::LogProbabilities,
        Self::Scores,
        Self::SampledTokens,
        Self::SftLoss,
        Self::SftGradients,
        Self::SftStep,
        Self::RewardLoss,
        Self::RewardGradients,
        Self::RewardStep,
        Self::PpoTokens,
        Self::PpoLosses,
        Self::PpoGradients,
        Self::PpoSteps,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::LogProbabilities => "log-probabilities",
            Self::Scores => "scores",
            Self::SampledTokens => "sampled tokens",
            Self::SftLoss => "SFT loss",
            Self::SftGradients => "SFT gradients",
            Self::SftStep => "SFT step",
            Self::RewardLoss => "reward loss",
            Self::RewardGradients => "reward gradients",
            Self::RewardStep => "reward step",
            Self::PpoTokens => "PPO tokens",
            Self::PpoLosses => "PPO losses",
            Self::PpoGradients => "PPO gradients",
            Self::PpoSteps => "PPO steps",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|quantity| quantity.name() == name)
    }

    /// The largest relative difference that rounding explains. Single precision rounds to 6e-8.
    /// Over a forward pass of two layers this adds up to some 1e-6, whatever the order of its sums,
    /// and over a backward pass to some 1e-5 of a tensor's largest gradient. A step is a difference
    /// of weights, which move by a hundredth of themselves and thus by a number with 1e-5 of
    /// rounding each time. Ten times these values are allowed, and fifty times for steps. Tokens
    /// are drawn from the same uniforms and must be equal.
    pub fn tolerance(self) -> f64 {
        match self {
            Self::SampledTokens | Self::PpoTokens => 0.0,
            Self::Logits
            | Self::LogProbabilities
            | Self::Scores
            | Self::SftLoss
            | Self::RewardLoss => 1e-5,
            Self::PpoLosses | Self::SftGradients | Self::RewardGradients | Self::PpoGradients => {
                1e-4
            }
            Self::SftStep | Self::RewardStep | Self::PpoSteps => 5e-4,
        }
    }

    /// The largest relative difference that products in TF32 explain, which round factors by 5e-4;
    /// `None` for tokens: a uniform that is closer to another token than that draws it.
    pub fn tolerance_in_tf32(self) -> Option<f64> {
        match self {
            Self::SampledTokens | Self::PpoTokens => None,
            Self::Logits
            | Self::LogProbabilities
            | Self::Scores
            | Self::SftLoss
            | Self::RewardLoss => Some(1e-2),
            Self::PpoLosses | Self::SftGradients | Self::RewardGradients | Self::PpoGradients => {
                Some(5e-2)
            }
            Self::SftStep | Self::RewardStep | Self::PpoSteps => Some(0.1),
        }
    }

    /// True for what follows from the tokens of a rollout, and is comparable only if they are equal.
    pub fn follows_tokens(self) -> bool {
        matches!(self, Self::PpoLosses | Self::PpoGradients | Self::PpoSteps)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.pad(self.name())
    }
}

/// Largest relative difference of results in bf16: it rounds by up to 2e-3, and a pass through two
/// layers rounds a dozen times; sums that nearly cancel lose the most.
pub const BF16: f64 = 0.1;

pub type Observed = BTreeMap<Quantity, Tensors>;

/// Observes every quantity, in f32.
pub fn observe(problem: &Problem, device: &Device) -> Result<Observed> {
    let mut observed = training(problem, device, Dtype::F32)?;
    observed.insert(Quantity::SampledTokens, samples(problem, device)?);
    observed.extend(policy_step(problem, device)?.observed);
    Ok(observed)
}

/// Observes the quantities that need no sampling, in `dtype`; optimiser steps are observed in f32
/// only.
pub fn training(problem: &Problem, device: &Device, dtype: Dtype) -> Result<Observed> {
    let (policy, training) = (
        problem.policy(device)?,
        Training {
            dtype,
            ..Training::default()
        },
    );
    let (rows, pairs) = (problem.rows(), problem.pairs());
    let batch = Batch::new(&rows, device);

    let reading = policy.clone().in_dtype(dtype.float());
    let logits = real(
        &host(reading.logits(reading.response_states(&batch)))?,
        &batch,
    );
    let log_probs = real(&host(reading.response_log_probs(&batch, 1.0))?, &batch);
    let fresh = problem.reward(&policy);
    let packed = Packed::new(&rows, device);
    let scores = host(fresh.clone().in_dtype(dtype.float()).rewards(&packed))?;

    let recorder = Recorder::default();
    let (tuned, _) = sft(
        policy.clone(),
        &rows,
        &problem.sft_settings(),
        &training,
        problem.seed,
        &recorder,
    )?;
    let sft = steps(&recorder, &policy.weights(), &tuned.weights())?;
    let recorder = Recorder::default();
    let (start, settings) = (RewardStart::Policy(policy), problem.reward_settings());
    let (rewarding, ..) =
        train_reward(start, &pairs, &settings, &training, problem.seed, &recorder)?;
    let reward = steps(&recorder, &fresh.weights(), &rewarding.weights())?;

    let mut observed = Observed::from([
        (Quantity::Logits, one(logits)),
        (Quantity::LogProbabilities, one(log_probs)),
        (Quantity::Scores, one(scores)),
        (Quantity::SftLoss, sft.losses),
        (Quantity::SftGradients, sft.gradients),
        (Quantity::RewardLoss, reward.losses),
        (Quantity::RewardGradients, reward.gradients),
    ]);
    if dtype == Dtype::F32 {
        observed.extend([
            (Quantity::SftStep, sft.change),
            (Quantity::RewardStep, reward.change),
        ]);
    }
    Ok(observed)
}

/// Responses to all prompts, for each setting of sampling.
fn samples(problem: &Problem, device: &Device) -> Result<Tensors> {
    let (policy, prompts) = (problem.policy(device)?, problem.prompts());
    let draw = |(temperature, top_p)| {
        let sampling = problem.sampling(temperature, top_p);
        let responses = generate(
            &policy,
            &prompts,
            &sampling,
            |item| problem.sample_stream(item),
            |_| {},
        )?;
        Ok((
            format!("temperature {temperature}, top-p {top_p}"),
            tokens(responses.iter().map(|drawn| &drawn.ids)),
        ))
    };
    SAMPLINGS.into_iter().map(draw).collect()
}

/// One update of PPO, with its rollouts and scores.
pub struct PolicyStep {
    pub observed: Observed,
    /// The rollouts with their scores.
    pub rollouts: Vec<(Rollout, f32)>,
}

pub fn policy_step(problem: &Problem, device: &Device) -> Result<PolicyStep> {
    let (policy, prompts, recorder) = (
        problem.policy(device)?,
        problem.prompts(),
        Recorder::default(),
    );
    let rollouts = RefCell::new(Vec::new());
    let score = |drawn: &[Rollout]| {
        let scores: Vec<f32> = drawn.iter().map(taste).collect();
        rollouts
            .borrow_mut()
            .extend(drawn.iter().cloned().zip(scores.clone()));
        Ok(scores)
    };
    let task = Task {
        reference: &policy,
        reward: RewardFunction {
            score: Box::new(score),
            low: NORMALISATION.low,
        },
        critic: Some((problem.reward(&policy), NORMALISATION)),
        prompts: &prompts,
        sampling: &problem.sampling(1.0, 1.0),
    };
    let (improved, _) = ppo(
        policy.clone(),
        task,
        &problem.ppo_settings(),
        &Training::default(),
        problem.seed,
        &recorder,
    )?;
    let steps = steps(&recorder, &policy.weights(), &improved.weights())?;
    let rollouts = rollouts.into_inner();
    let observed = Observed::from([
        (
            Quantity::PpoTokens,
            one(tokens(
                rollouts
                    .iter()
                    .map(|(rollout, _)| &rollout.sequence.response),
            )),
        ),
        (Quantity::PpoLosses, steps.losses),
        (Quantity::PpoGradients, steps.gradients),
        (Quantity::PpoSteps, steps.change),
    ]);
    Ok(PolicyStep { observed, rollouts })
}

/// The losses, gradients and weight changes of a training run.
struct Steps {
    losses: Tensors,
    /// Gradients of the last step.
    gradients: Tensors,
    change: Tensors,
}

fn steps(recorder: &Recorder, before: &Weights, after: &Weights) -> Result<Steps> {
    let gradients = recorder
        .gradients
        .borrow()
        .last()
        .map(tensors)
        .transpose()?
        .unwrap_or_default();
    let mut change = tensors(after)?;
    for (name, values) in &mut change {
        let before = before.values(name)?;
        values
            .iter_mut()
            .zip(before.iter())
            .for_each(|(after, before)| *after -= before);
    }
    Ok(Steps {
        losses: one(recorder.losses.borrow().clone()),
        gradients,
        change,
    })
}

/// The values of all tensors, copied to the host.
pub fn tensors(weights: &Weights) -> Result<Tensors> {
    weights
        .list()
        .map(|listed| {
            Ok((
                listed.name.to_owned(),
                weights.values(listed.name)?.into_owned(),
            ))
        })
        .collect()
}

/// A quantity that is one tensor.
fn one(values: Vec<f32>) -> Tensors {
    Tensors::from([("all".to_owned(), values)])
}

/// Token ids, with −1 after each response.
fn tokens<'a>(responses: impl Iterator<Item = &'a Vec<u32>>) -> Vec<f32> {
    responses
        .flat_map(|ids| ids.iter().map(|&id| id as f32).chain([-1.0]))
        .collect()
}

/// The values that belong to real response tokens; `values` has equally many for every slot of the
/// response.
fn real(values: &[f32], batch: &Batch) -> Vec<f32> {
    let each = values.len() / (batch.rows() * batch.response_width);
    let row = |(row, &length): (usize, &usize)| {
        let start = row * batch.response_width * each;
        &values[start..start + length * each]
    };
    batch
        .response_lengths
        .iter()
        .enumerate()
        .flat_map(row)
        .copied()
        .collect()
}
