//! What is trained, and the record of its training.

use crate::common::{cpu, fixture, micro_batches, optimiser, rows};
use rand::Rng;
use serde_json::{Value, json};
use std::cell::RefCell;
use touchstone::Result;
use touchstone::conformance::recorder::Recorder;
use touchstone::methods::irl::Accumulate;
use touchstone::methods::optimise::{OptimiserSettings, Schedule};
use touchstone::methods::ppo::{Critic, MissingEos, Objective, PpoSettings, Rollout, Task, ppo};
use touchstone::methods::reward::{Normalise, ReadOut, RewardLoss, RewardSettings, RewardStart, train_reward};
use touchstone::methods::sft::{SftSettings, sft};
use touchstone::methods::spin::{SpinSettings, spin};
use touchstone::methods::training::Training;
use touchstone::model::checkpoint::{Checkpoint, Normalisation};
use touchstone::model::weights::Weights;
use touchstone::model::{LanguageModel, Pair, RewardModel, Sampling, Sequence};
use touchstone::rng::{permutation, stream};

/// Checkpoints made by transformers that training starts from: parallel residual with a quarter of each head rotated, and
/// one branch after the other with half of it rotated.
pub const CHECKPOINTS: [&str; 2] = ["pythia", "sequential"];
/// Optimiser steps of every case.
pub const STEPS: usize = 20;
const SEED: u64 = 7;
/// Rows of SFT, pairs of SPIN and the reward. Four epochs of five steps, the last of which is smaller.
const ROWS: usize = 38;
const BATCH: usize = 8;
const EPOCHS: usize = 4;
/// Tokens of a PPO response at most.
const RESPONSE: usize = 6;
/// Ends a response; a token that both checkpoints sample now and then.
pub const EOS: u32 = 1;

pub enum Method {
    Sft(SftSettings),
    Spin(SpinSettings),
    Reward(RewardSettings),
    /// With a seed for each of the [`CHECKPOINTS`]. They are chosen so that no uniform drew its token by less than 8e-5 of
    /// probability, which is tens of times what rounding moves: any machine samples the same responses.
    Ppo(PpoSettings, [u64; CHECKPOINTS.len()]),
}

pub struct Case {
    pub name: &'static str,
    pub method: Method,
    /// Rows of a forward pass; 0 takes whole steps.
    pub micro_batch: usize,
}

/// Schedules, warm-up, clipping and micro-batches differ, so that each is compared somewhere.
pub fn cases() -> Vec<Case> {
    let case = |name, micro_batch, method| Case { name, method, micro_batch };
    let with = |schedule, warmup_steps, clip_norm| OptimiserSettings {
        learning_rate: 1e-3,
        schedule,
        warmup_steps,
        clip_norm,
        ..optimiser()
    };
    let sft = |prompt_weight, optimiser| {
        Method::Sft(SftSettings { epochs: EPOCHS, batch_size: BATCH, prompt_weight, optimiser })
    };
    let spin = Method::Spin(SpinSettings {
        iterations: 1,
        accumulate: Accumulate::Last,
        negatives_temperature: 1.0,
        beta: 0.1,
        epochs: EPOCHS,
        batch_size: BATCH,
        optimiser: with(Schedule::Linear, 4, 1.0),
    });
    let reward = |loss, bound, optimiser| {
        Method::Reward(RewardSettings {
            loss,
            margin: 0.0,
            bound,
            l2: 0.0,
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
    let copy = PpoSettings { critic: Critic::RewardCopy, missing_eos: MissingEos::MinusOne, ..head.clone() };
    let cooler_head = PpoSettings { temperature: 0.7, gamma: 0.97, ..head.clone() };
    let cooler_copy = PpoSettings {
        temperature: 0.7,
        whiten_advantages: false,
        missing_eos: MissingEos::BelowScores,
        ..copy.clone()
    };
    vec![
        case("sft", 0, sft(0.0, with(Schedule::Cosine, 0, 1.0))),
        case("sft-prompt", 3, sft(0.25, with(Schedule::Constant, 3, 0.0))),
        case("sft-all", 5, sft(1.0, with(Schedule::Linear, 2, 1.0))),
        case("spin", 3, spin),
        case("reward-eq11", 3, reward(RewardLoss::Eq11, 0.0, with(Schedule::Cosine, 10, 1.0))),
        case("reward-eq10", 0, reward(RewardLoss::Eq10, 3.0, with(Schedule::Linear, 2, 1.0))),
        case("ppo-head", 2, Method::Ppo(head, [8, 6])),
        case("ppo-head-0.7", 0, Method::Ppo(cooler_head, [5, 5])),
        case("ppo-copy", 2, Method::Ppo(copy, [17, 1])),
        case("ppo-copy-0.7", 0, Method::Ppo(cooler_copy, [5, 2])),
    ]
}

/// Training as the outside sees it: every optimiser step, and the weights it ends with (of PPO, the policy's).
pub struct Trajectory {
    pub losses: Vec<f32>,
    pub norms: Vec<f32>,
    pub gradients: Vec<Weights>,
    pub end: Weights,
}

/// A case on a checkpoint, trained.
pub struct Trained {
    /// Settings, and the rows of every step in order: what it takes to train the same again elsewhere.
    pub problem: Value,
    /// Weights before the first step, of PPO those of the policy and of a value head.
    pub start: Weights,
    /// The reward model that PPO's critic is a copy of.
    pub critic: Option<Weights>,
    pub trajectory: Trajectory,
}

fn trajectory(recorder: Recorder, end: Weights) -> Trajectory {
    let Recorder { losses, norms, gradients } = recorder;
    Trajectory { losses: losses.into_inner(), norms: norms.into_inner(), gradients: gradients.into_inner(), end }
}

impl Case {
    pub fn train(&self, checkpoint: &str) -> Trained {
        let policy = Checkpoint::open(fixture("gpt_neox").join(checkpoint)).unwrap().language_model(&cpu()).unwrap();
        let training = micro_batches(self.micro_batch);
        match &self.method {
            Method::Sft(settings) => {
                let (recorder, demonstrations) = (Recorder::default(), rows(ROWS, 1));
                let (end, _) = sft(policy.clone(), &demonstrations, settings, &training, SEED, &recorder).unwrap();
                let steps = in_order(&demonstrations, "sft/order", sequence);
                let problem = problem("sft", &policy, settings, json!({"steps": steps}));
                Trained {
                    problem,
                    start: policy.weights(),
                    critic: None,
                    trajectory: trajectory(recorder, end.weights()),
                }
            }
            Method::Spin(settings) => {
                let (recorder, pairs) = (Recorder::default(), pairs());
                let (end, _) = spin(policy.clone(), &pairs, settings, &training, SEED, &recorder).unwrap();
                let problem =
                    problem("spin", &policy, settings, json!({"steps": in_order(&pairs, "spin/order", pair)}));
                Trained {
                    problem,
                    start: policy.weights(),
                    critic: None,
                    trajectory: trajectory(recorder, end.weights()),
                }
            }
            Method::Reward(settings) => {
                let (recorder, pairs) = (Recorder::default(), pairs());
                let fresh = RewardModel::on(&policy, settings.bound, &mut stream(SEED, "reward/head", &[]));
                let start = RewardStart::Policy(policy.clone());
                let (end, _, _) = train_reward(start, &pairs, settings, &training, SEED, &recorder).unwrap();
                let steps = in_order(&pairs, "reward/order", pair);
                let problem = problem("reward", &policy, settings, json!({"steps": steps}));
                Trained {
                    problem,
                    start: fresh.weights(),
                    critic: None,
                    trajectory: trajectory(recorder, end.weights()),
                }
            }
            Method::Ppo(settings, seeds) => {
                let place = CHECKPOINTS.iter().position(|name| *name == checkpoint).unwrap();
                train_ppo(policy, settings, &training, seeds[place])
            }
        }
    }
}

fn train_ppo(policy: LanguageModel, settings: &PpoSettings, training: &Training, seed: u64) -> Trained {
    const LOW: f32 = -1.5;
    let (recorder, updates) = (Recorder::default(), RefCell::new(Vec::new()));
    let score = |rollouts: &[Rollout]| -> Result<Vec<f32>> {
        let scores: Vec<f32> = rollouts.iter().map(|rollout| taste(&rollout.sequence.response)).collect();
        updates.borrow_mut().push(rollouts.iter().cloned().zip(scores.clone()).collect::<Vec<_>>());
        Ok(scores)
    };
    let objective = Objective { score: Box::new(score), low: LOW };
    let random = LanguageModel::random(policy.config(), 0.3, &mut stream(SEED, "parity/critic", &[]), &cpu()).unwrap();
    let critic = RewardModel::on(&random, 0.0, &mut stream(SEED, "parity/head", &[]));
    let normalisation = Normalisation { mean: 0.25, std: 1.75, low: LOW, bound: 0.0 };
    let copied = (settings.critic == Critic::RewardCopy).then(|| critic.weights());
    let sampling = Sampling { temperature: 1.0, top_p: 1.0, max_new_tokens: RESPONSE, eos: EOS, batch_size: 8 };
    let prompts: Vec<Vec<u32>> = rows(10, 3).into_iter().map(|row| row.prompt).collect();
    let critic = Some((critic, normalisation));
    let task = Task { reference: &policy, objective, critic, prompts: &prompts, sampling: &sampling };
    let (end, _) = ppo(policy.clone(), task, settings, training, seed, &recorder).unwrap();

    let mut start = policy.weights();
    if settings.critic == Critic::ZeroHead {
        let d = policy.config().hidden_size;
        start.insert("value_head.weight", &[1, d], vec![0.0; d]);
        start.insert("value_head.bias", &[1], vec![0.0]);
    }
    let floor = match settings.missing_eos {
        MissingEos::BelowScores => LOW - 1.0,
        MissingEos::MinusOne => -1.0,
    };
    let updates: Vec<Value> =
        updates.borrow().iter().enumerate().map(|(index, rollouts)| update(index, rollouts, settings, seed)).collect();
    let more = json!({"updates": updates, "floor": floor, "normalisation": normalisation});
    let problem = problem("ppo", &policy, settings, more);
    Trained { problem, start, critic: copied, trajectory: trajectory(recorder, end.weights()) }
}

/// A score that any response has, of mean about 0 and deviation about 1.
fn taste(response: &[u32]) -> f32 {
    let sum: u32 = response.iter().sum();
    (sum % 13) as f32 / 4.0 - 1.5
}

/// What update number `index` was made of: the rollouts, the uniforms that drew them, and the rows of every minibatch.
pub fn update(index: usize, rollouts: &[(Rollout, f32)], settings: &PpoSettings, seed: u64) -> Value {
    let rollout = |(row, (rollout, score)): (usize, &(Rollout, f32))| {
        let mut stream = stream(seed, "ppo/rollout", &[index as u64, row as u64]);
        let uniforms: Vec<f32> = rollout.sequence.response.iter().map(|_| stream.random()).collect();
        let mut value = sequence(&rollout.sequence);
        value["ended"] = json!(rollout.ended);
        value["score"] = json!(score);
        value["uniforms"] = json!(uniforms);
        value
    };
    let minibatches = (0..settings.epochs).flat_map(|epoch| {
        let order = permutation(settings.rollouts, seed, "ppo/minibatches", (index * settings.epochs + epoch) as u64);
        order.chunks(settings.rollouts / settings.minibatches).map(<[usize]>::to_vec).collect::<Vec<_>>()
    });
    json!({
        "rollouts": rollouts.iter().enumerate().map(rollout).collect::<Vec<_>>(),
        "minibatches": minibatches.collect::<Vec<_>>(),
    })
}

pub fn problem(method: &str, model: &LanguageModel, settings: &impl serde::Serialize, more: Value) -> Value {
    let mut problem = json!({"method": method, "config": model.config(), "settings": settings});
    problem.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    problem
}

/// The rows of every optimiser step.
fn in_order<T>(rows: &[T], purpose: &str, value: fn(&T) -> Value) -> Vec<Vec<Value>> {
    let epoch = |epoch| {
        let order = permutation(rows.len(), SEED, purpose, epoch as u64);
        order.chunks(BATCH).map(|step| step.iter().map(|&row| value(&rows[row])).collect()).collect::<Vec<_>>()
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
    rows(ROWS, 1).into_iter().zip(rows(ROWS, 2)).map(pair).collect()
}
