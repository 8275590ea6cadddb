//! The training cases, and the record of their training.

use crate::common::{cpu, fixture, micro_batches, optimiser, rows};
use rand::Rng;
use serde_json::{Value, json};
use std::cell::RefCell;
use touchstone::Result;
use touchstone::conformance::recorder::Recorder;
use touchstone::methods::dpo::{DpoPairs, DpoSettings, PairLoss, dpo};
use touchstone::methods::grpo::{GrpoSettings, grpo};
use touchstone::methods::iq_learn::{IqLearnSettings, iq_learn};
use touchstone::methods::irl::{Accumulate, Anchor};
use touchstone::methods::optimise::{OptimiserSettings, Schedule};
use touchstone::methods::ppo::{
    Critic, MissingEos, PpoSettings, RewardFunction, Rollout, Task, ppo,
};
use touchstone::methods::reward::{
    Normalise, ReadOut, RewardLoss, RewardSettings, RewardStart, train_reward,
};
use touchstone::methods::rloo::{RlooSettings, rloo};
use touchstone::methods::sft::{SftSettings, sft};
use touchstone::methods::spin::{PromptFormat, SpinSettings, spin};
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::Weights;
use touchstone::model::{LanguageModel, Pair, RewardModel, Sampling, Sequence};
use touchstone::rng::{permutation, stream};

/// Folders of the transformers checkpoints from which every case starts: one with a parallel
/// residual and a quarter of each head rotated, one with sequential branches and half of each head
/// rotated.
const GPT_NEOX: [&str; 2] = ["gpt_neox/pythia", "gpt_neox/sequential"];
/// Checkpoint with two key heads for four query heads, and a window shorter than most rows.
const MISTRAL: &str = "llama/mistral";
/// Checkpoint with the same heads, each normalised and together wider than the residual, and a tied
/// output head.
const QWEN3: &str = "llama/qwen3";
/// Checkpoint with queries and keys normalised as a whole, and norms after attention and
/// feed-forward layer.
const OLMO2: &str = "llama/olmo2";
/// Optimiser steps of every case.
pub const STEPS: usize = 20;
const SEED: u64 = 7;
/// Number of rows of SFT and IQ-Learn, and of pairs of SPIN, DPO and the reward. There are four
/// epochs of five steps, and the last step of an epoch is smaller.
const ROWS: usize = 38;
const BATCH: usize = 8;
const EPOCHS: usize = 4;
/// Maximum number of tokens of a sampled response.
const RESPONSE: usize = 6;
/// The token that ends a response; all checkpoints sample it now and then.
pub const EOS: u32 = 1;

pub enum Method {
    Sft(SftSettings),
    Spin(SpinSettings),
    /// DPO against a reference that is not the start.
    Dpo(DpoSettings),
    IqLearn(IqLearnSettings),
    Reward(RewardSettings),
    /// PPO with a seed for each checkpoint of the case. The seeds are chosen so that every uniform
    /// drew its token with a margin of at least 8e-5 of probability, tens of times the effect of
    /// rounding: any machine samples the same responses.
    Ppo(PpoSettings, &'static [u64]),
    /// RLOO with seeds for which that margin is 2.8e-5 and no step's gradient nearly vanishes.
    /// Where no response to a prompt ends, all have almost the same value, and their differences
    /// are mostly rounding.
    Rloo(RlooSettings, &'static [u64]),
    /// GRPO with seeds for which that margin is at least 4e-5.
    Grpo(GrpoSettings, &'static [u64]),
}

pub struct Case {
    pub name: &'static str,
    pub method: Method,
    /// Rows of a forward pass; 0 stands for whole steps.
    pub micro_batch: usize,
    /// Folders of the checkpoints that the case starts from, among the fixtures.
    pub checkpoints: Vec<&'static str>,
}

/// All cases. Schedules, warm-up, clipping and micro-batches vary so that each is compared
/// somewhere. A few cases suffice for the Llama family: methods use only logits, states and
/// parameters of a model.
pub fn cases() -> Vec<Case> {
    let case = |name, micro_batch, method| Case {
        name,
        method,
        micro_batch,
        checkpoints: GPT_NEOX.to_vec(),
    };
    let with = |schedule, warmup_steps, clip_norm| OptimiserSettings {
        learning_rate: 1e-3,
        schedule,
        warmup_steps,
        clip_norm,
        ..optimiser()
    };
    let sft = |prompt_weight, optimiser| {
        Method::Sft(SftSettings {
            epochs: EPOCHS,
            batch_size: BATCH,
            prompt_weight,
            optimiser,
        })
    };
    let spin = Method::Spin(SpinSettings {
        iterations: 1,
        accumulate: Accumulate::Last,
        negatives_temperature: 1.0,
        prompt: PromptFormat::Template,
        beta: 0.1,
        betas: Vec::new(),
        learning_rates: Vec::new(),
        epochs: EPOCHS,
        batch_size: BATCH,
        optimiser: with(Schedule::Linear, 4, 1.0),
    });
    let dpo = |beta, loss| {
        Method::Dpo(DpoSettings {
            pairs: DpoPairs::Preferences,
            iterations: 1,
            temperature: 1.0,
            anchor: Anchor::Sft,
            beta,
            loss,
            epochs: EPOCHS,
            batch_size: BATCH,
            optimiser: with(Schedule::Cosine, 0, 1.0),
        })
    };
    let iq_learn = Method::IqLearn(IqLearnSettings {
        lambda: 0.05,
        epochs: EPOCHS,
        batch_size: BATCH,
        optimiser: with(Schedule::Linear, 2, 1.0),
    });
    let reward = |loss, [margin, bound, l2]: [f32; 3], optimiser| {
        Method::Reward(RewardSettings {
            loss,
            margin,
            bound,
            l2,
            read_out: ReadOut::LastToken,
            normalise: Normalise::AfterTraining,
            epochs: EPOCHS,
            batch_size: BATCH,
            optimiser,
        })
    };
    let head = PpoSettings {
        updates: 5,
        rollouts: 6,
        epochs: 2,
        minibatches: 2,
        temperature: 1.0,
        kl_coefficient: 0.05,
        gamma: 1.0,
        lambda: 0.95,
        clip: 0.2,
        clip_value: 0.2,
        value_coefficient: 0.1,
        whiten_advantages: true,
        critic: Critic::ZeroHead,
        missing_eos: MissingEos::BelowScores,
        optimiser: with(Schedule::Linear, 0, 1.0),
    };
    let copy = PpoSettings {
        critic: Critic::RewardCopy,
        missing_eos: MissingEos::MinusOne,
        ..head.clone()
    };
    let cooler_head = PpoSettings {
        temperature: 0.7,
        gamma: 0.97,
        ..head.clone()
    };
    let cooler_copy = PpoSettings {
        temperature: 0.7,
        whiten_advantages: false,
        missing_eos: MissingEos::BelowScores,
        ..copy.clone()
    };
    let rloo = |epochs, temperature, missing_eos| RlooSettings {
        updates: STEPS / epochs,
        rollouts: 6,
        samples: 3,
        epochs,
        temperature,
        kl_coefficient: 0.05,
        clip: 0.2,
        missing_eos,
        optimiser: with(Schedule::Linear, 0, 1.0),
    };
    let grpo = |epochs, temperature, missing_eos| GrpoSettings {
        updates: STEPS / epochs,
        rollouts: 6,
        samples: 3,
        epochs,
        temperature,
        kl_coefficient: 0.04,
        clip: 0.2,
        missing_eos,
        optimiser: with(Schedule::Linear, 0, 1.0),
    };
    vec![
        case("sft", 0, sft(0.0, with(Schedule::Cosine, 0, 1.0))).also_on([MISTRAL, QWEN3, OLMO2]),
        case("sft-prompt", 3, sft(0.25, with(Schedule::Constant, 3, 0.0))),
        case("sft-all", 5, sft(1.0, with(Schedule::Linear, 2, 1.0))),
        case("spin", 3, spin),
        case("dpo", 3, dpo(0.3, PairLoss::Sigmoid)),
        // The margins of this checkpoint are wide: at β = 0.1 PyTorch in float32 differs from itself
        // in float64 by more than the tolerance within the twenty steps.
        case("dpo-0.05", 3, dpo(0.05, PairLoss::Sigmoid)).only_on([MISTRAL]),
        case("ipo", 3, dpo(0.3, PairLoss::Ipo)),
        case("iq-learn", 3, iq_learn),
        case(
            "reward-eq11",
            3,
            reward(RewardLoss::Eq11, [0.0; 3], with(Schedule::Cosine, 10, 1.0)),
        )
        .also_on([MISTRAL]),
        case(
            "reward-eq11-margin",
            0,
            reward(
                RewardLoss::Eq11Margin,
                [0.5, 0.0, 0.0],
                with(Schedule::Cosine, 2, 1.0),
            ),
        ),
        case(
            "reward-eq10",
            0,
            reward(
                RewardLoss::Eq10,
                [0.0, 3.0, 0.0],
                with(Schedule::Linear, 2, 1.0),
            ),
        ),
        case(
            "reward-eq10-l2",
            3,
            reward(
                RewardLoss::Eq10,
                [0.0, 0.0, 0.2],
                with(Schedule::Constant, 0, 0.0),
            ),
        ),
        case(
            "reward-hinge",
            3,
            reward(
                RewardLoss::Hinge,
                [1.0, 0.0, 0.0],
                with(Schedule::Linear, 0, 1.0),
            ),
        ),
        case("ppo-head", 2, Method::Ppo(head, &[8, 6, 3])).also_on([MISTRAL]),
        case("ppo-head-0.7", 0, Method::Ppo(cooler_head, &[5, 5])),
        case("ppo-copy", 2, Method::Ppo(copy, &[17, 1, 12])).also_on([MISTRAL]),
        case("ppo-copy-0.7", 0, Method::Ppo(cooler_copy, &[5, 2])),
        case(
            "rloo",
            2,
            Method::Rloo(rloo(2, 1.0, MissingEos::BelowScores), &[18, 41]),
        ),
        case(
            "rloo-0.7",
            0,
            Method::Rloo(rloo(1, 0.7, MissingEos::MinusOne), &[68, 35]),
        ),
        case(
            "grpo",
            2,
            Method::Grpo(grpo(2, 1.0, MissingEos::BelowScores), &[17, 16]),
        ),
        case(
            "grpo-0.7",
            0,
            Method::Grpo(grpo(1, 0.7, MissingEos::MinusOne), &[82, 4]),
        ),
    ]
}

/// The observable course of training: every optimiser step, and the final weights (for PPO, those
/// of the policy).
pub struct Trajectory {
    pub losses: Vec<f32>,
    pub norms: Vec<f32>,
    pub gradients: Vec<Weights>,
    pub end: Weights,
}

/// A case after training on a checkpoint.
pub struct Trained {
    /// Settings, and the rows of every step in order: everything needed to repeat the training
    /// elsewhere.
    pub problem: Value,
    /// Weights before the first step; for PPO those of the policy and of a value head.
    pub start: Weights,
    /// Another model with its name: the reward of which PPO's `critic` is a copy, or DPO's
    /// `reference`.
    pub second: Option<(&'static str, Weights)>,
    pub trajectory: Trajectory,
}

/// The lowest score; a response without an end gets less.
const LOW: f32 = -1.5;

impl Case {
    fn also_on<const N: usize>(mut self, checkpoints: [&'static str; N]) -> Self {
        self.checkpoints.extend(checkpoints);
        self
    }

    fn only_on<const N: usize>(mut self, checkpoints: [&'static str; N]) -> Self {
        self.checkpoints = checkpoints.to_vec();
        self
    }

    /// The case's name on a checkpoint, such as `pythia/sft`.
    pub fn name_on(&self, checkpoint: &str) -> String {
        let (_, model) = checkpoint.split_once('/').unwrap();
        format!("{model}/{}", self.name)
    }

    pub fn train(&self, checkpoint: &str) -> Trained {
        let policy = Checkpoint::open(fixture(checkpoint))
            .unwrap()
            .language_model(&cpu())
            .unwrap();
        let place = self
            .checkpoints
            .iter()
            .position(|folder| *folder == checkpoint)
            .unwrap();
        let (training, recorder) = (micro_batches(self.micro_batch), Recorder::default());
        let (mut start, mut second) = (policy.weights(), None);
        let (problem, end) = match &self.method {
            Method::Sft(settings) => {
                let rows = rows(ROWS, 1);
                let (end, _) =
                    sft(policy.clone(), &rows, settings, &training, SEED, &recorder).unwrap();
                let steps = json!({"steps": in_order(&rows, "sft/order", sequence)});
                (problem("sft", &policy, settings, steps), end.weights())
            }
            Method::IqLearn(settings) => {
                let rows = rows(ROWS, 1);
                let (end, _) =
                    iq_learn(policy.clone(), &rows, settings, &training, SEED, &recorder).unwrap();
                let steps = json!({"steps": in_order(&rows, "iq_learn/order", sequence)});
                (problem("iq_learn", &policy, settings, steps), end.weights())
            }
            Method::Spin(settings) => {
                let pairs = pairs();
                let (end, _) =
                    spin(policy.clone(), &pairs, settings, &training, SEED, &recorder).unwrap();
                let steps = json!({"steps": in_order(&pairs, "spin/order", pair)});
                (problem("spin", &policy, settings, steps), end.weights())
            }
            Method::Dpo(settings) => {
                let (pairs, reference) = (pairs(), another(&policy));
                second = Some(("reference", reference.weights()));
                let (end, _) = dpo(
                    policy.clone(),
                    &reference,
                    &pairs,
                    settings,
                    &training,
                    SEED,
                    &recorder,
                )
                .unwrap();
                let steps = json!({"steps": in_order(&pairs, "dpo/order", pair)});
                (problem("dpo", &policy, settings, steps), end.weights())
            }
            Method::Reward(settings) => {
                let pairs = pairs();
                start = RewardModel::on(
                    &policy,
                    settings.bound,
                    &mut stream(SEED, "reward/head", &[]),
                )
                .weights();
                let from = RewardStart::Policy(policy.clone());
                let (end, _, _) =
                    train_reward(from, &pairs, settings, &training, SEED, &recorder).unwrap();
                let steps = json!({"steps": in_order(&pairs, "reward/order", pair)});
                (problem("reward", &policy, settings, steps), end.weights())
            }
            Method::Ppo(settings, seeds) => {
                let critic = RewardModel::on(
                    &another(&policy),
                    0.0,
                    &mut stream(SEED, "parity/head", &[]),
                );
                let normalisation = Normalisation {
                    mean: 0.25,
                    std: 1.75,
                    low: LOW,
                    bound: 0.0,
                };
                match settings.critic {
                    Critic::RewardCopy => second = Some(("critic", critic.weights())),
                    Critic::ZeroHead => {
                        let d = policy.config().hidden_size();
                        start.insert("value_head.weight", &[1, d], vec![0.0; d]);
                        start.insert("value_head.bias", &[1], vec![0.0]);
                    }
                }
                let (end, updates) = on_rollouts(&policy, Some((critic, normalisation)), |task| {
                    ppo(
                        policy.clone(),
                        task,
                        settings,
                        &training,
                        seeds[place],
                        &recorder,
                    )
                    .unwrap()
                    .0
                });
                let updates = updates.iter().enumerate();
                let updates: Vec<Value> = updates
                    .map(|(index, of)| update(index, of, settings, seeds[place]))
                    .collect();
                let floor = floor(settings.missing_eos);
                let more =
                    json!({"updates": updates, "floor": floor, "normalisation": normalisation});
                (problem("ppo", &policy, settings, more), end.weights())
            }
            Method::Rloo(settings, seeds) => {
                let (end, updates) = on_rollouts(&policy, None, |task| {
                    rloo(
                        policy.clone(),
                        task,
                        settings,
                        &training,
                        seeds[place],
                        &recorder,
                    )
                    .unwrap()
                    .0
                });
                let more = groups(&updates, "rloo/rollout", seeds[place], settings.missing_eos);
                (problem("rloo", &policy, settings, more), end.weights())
            }
            Method::Grpo(settings, seeds) => {
                let (end, updates) = on_rollouts(&policy, None, |task| {
                    grpo(
                        policy.clone(),
                        task,
                        settings,
                        &training,
                        seeds[place],
                        &recorder,
                    )
                    .unwrap()
                    .0
                });
                let more = groups(&updates, "grpo/rollout", seeds[place], settings.missing_eos);
                (problem("grpo", &policy, settings, more), end.weights())
            }
        };
        let Recorder {
            losses,
            norms,
            gradients,
        } = recorder;
        let (losses, norms, gradients) = (
            losses.into_inner(),
            norms.into_inner(),
            gradients.into_inner(),
        );
        Trained {
            problem,
            start,
            second,
            trajectory: Trajectory {
                losses,
                norms,
                gradients,
                end,
            },
        }
    }
}

/// A model of the policy's shape with random weights.
fn another(policy: &LanguageModel) -> LanguageModel {
    LanguageModel::random(
        policy.config(),
        0.3,
        &mut stream(SEED, "parity/critic", &[]),
        &cpu(),
    )
    .unwrap()
}

fn floor(missing_eos: MissingEos) -> f32 {
    match missing_eos {
        MissingEos::BelowScores => LOW - 1.0,
        MissingEos::MinusOne => -1.0,
    }
}

/// A rollout and its score.
type Scored = (Rollout, f32);

/// Calls `train` with the reward [`taste`] and the reference `policy`; returns its result and the
/// rollouts of every update.
fn on_rollouts<T>(
    policy: &LanguageModel,
    critic: Option<(RewardModel, Normalisation)>,
    train: impl FnOnce(Task) -> T,
) -> (T, Vec<Vec<Scored>>) {
    let updates = RefCell::new(Vec::new());
    let score = |rollouts: &[Rollout]| -> Result<Vec<f32>> {
        let scores: Vec<f32> = rollouts
            .iter()
            .map(|rollout| taste(&rollout.sequence.response))
            .collect();
        updates
            .borrow_mut()
            .push(rollouts.iter().cloned().zip(scores.clone()).collect());
        Ok(scores)
    };
    let reward = RewardFunction {
        score: Box::new(score),
        low: LOW,
    };
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: None,
        max_new_tokens: RESPONSE,
        ends: EOS.into(),
        batch_size: 8,
    };
    let prompts: Vec<Vec<u32>> = rows(10, 3).into_iter().map(|row| row.prompt).collect();
    let trained = train(Task {
        reference: policy,
        reward,
        critic,
        prompts: &prompts,
        sampling: &sampling,
    });
    (trained, updates.into_inner())
}

/// A score for any response, with a mean of about 0 and a deviation of about 1.
fn taste(response: &[u32]) -> f32 {
    let sum: u32 = response.iter().sum();
    (sum % 13) as f32 / 4.0 - 1.5
}

/// The data of update number `index` of PPO: the rollouts, and the rows of every minibatch.
pub fn update(index: usize, rollouts: &[Scored], settings: &PpoSettings, seed: u64) -> Value {
    let minibatches = (0..settings.epochs).flat_map(|epoch| {
        let order = permutation(
            settings.rollouts,
            seed,
            "ppo/minibatches",
            (index * settings.epochs + epoch) as u64,
        );
        order
            .chunks(settings.rollouts / settings.minibatches)
            .map(<[usize]>::to_vec)
            .collect::<Vec<_>>()
    });
    let rollouts = drawn(index, rollouts, "ppo/rollout", seed);
    json!({"rollouts": rollouts, "minibatches": minibatches.collect::<Vec<_>>()})
}

/// The data of all updates of RLOO or GRPO, whose every step has the rollouts of an update.
fn groups(updates: &[Vec<Scored>], purpose: &str, seed: u64, missing_eos: MissingEos) -> Value {
    let updates = updates.iter().enumerate();
    let updates: Vec<Value> = updates
        .map(|(index, of)| json!({"rollouts": drawn(index, of, purpose, seed)}))
        .collect();
    json!({"updates": updates, "floor": floor(missing_eos)})
}

/// The rollouts of update number `index`, with the uniforms that drew them.
fn drawn(index: usize, rollouts: &[Scored], purpose: &str, seed: u64) -> Vec<Value> {
    let rollout = |(row, (rollout, score)): (usize, &Scored)| {
        let mut stream = stream(seed, purpose, &[index as u64, row as u64]);
        let uniforms: Vec<f32> = rollout
            .sequence
            .response
            .iter()
            .map(|_| stream.random())
            .collect();
        let mut value = sequence(&rollout.sequence);
        value["ended"] = json!(rollout.ended);
        value["score"] = json!(score);
        value["uniforms"] = json!(uniforms);
        value
    };
    rollouts.iter().enumerate().map(rollout).collect()
}

pub fn problem(
    method: &str,
    model: &LanguageModel,
    settings: &impl serde::Serialize,
    more: Value,
) -> Value {
    let mut problem = json!({"method": method, "config": model.config(), "settings": settings});
    problem
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    problem
}

/// The rows of every optimiser step.
fn in_order<T>(rows: &[T], purpose: &str, value: fn(&T) -> Value) -> Vec<Vec<Value>> {
    let epoch = |epoch| {
        let order = permutation(rows.len(), SEED, purpose, epoch as u64);
        order
            .chunks(BATCH)
            .map(|step| step.iter().map(|&row| value(&rows[row])).collect())
            .collect::<Vec<_>>()
    };
    (0..EPOCHS).flat_map(epoch).collect()
}

pub fn sequence(sequence: &Sequence) -> Value {
    json!({"prompt": sequence.prompt, "response": sequence.response})
}

pub fn pair(pair: &Pair) -> Value {
    json!({"chosen": sequence(&pair.chosen), "rejected": sequence(&pair.rejected)})
}

fn pairs() -> Vec<Pair> {
    let pair = |(chosen, rejected): (Sequence, Sequence)| {
        let rejected = Sequence::new(chosen.prompt.clone(), rejected.response);
        Pair { chosen, rejected }
    };
    rows(ROWS, 1)
        .into_iter()
        .zip(rows(ROWS, 2))
        .map(pair)
        .collect()
}
