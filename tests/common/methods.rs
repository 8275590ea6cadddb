//! Every method on a problem small enough to train in a moment.

use super::{EOS, optimiser, rows, small_model};
use std::fs;
use touchstone::Result;
use touchstone::methods::dpo::{DpoPairs, DpoSettings, PairLoss, dpo};
use touchstone::methods::grpo::{GrpoSettings, grpo};
use touchstone::methods::iq_learn::{IqLearnSettings, iq_learn};
use touchstone::methods::irl::{Accumulate, Anchor};
use touchstone::methods::optimise::Monitor;
use touchstone::methods::ppo::{
    Critic, MissingEos, PpoSettings, RewardFunction, Rollout, Task, UpdateRecord, ppo,
};
use touchstone::methods::pretrain::{PretrainSettings, pretrain};
use touchstone::methods::reward::{
    Normalise, ReadOut, RewardLoss, RewardSettings, RewardStart, train_reward,
};
use touchstone::methods::rloo::{RlooSettings, rloo};
use touchstone::methods::sft::{SftSettings, sft};
use touchstone::methods::spin::{PromptFormat, SpinSettings, spin};
use touchstone::methods::training::Training;
use touchstone::model::checkpoint::Normalisation;
use touchstone::model::weights::{StoredAs, Weights};
use touchstone::model::{LanguageModel, Pair, RewardModel, Sampling, Sequence};
use touchstone::rng::stream;

pub fn small_reward(seed: u64) -> RewardModel {
    RewardModel::on(&small_model(seed), 0.0, &mut stream(seed, "test/head", &[]))
}

pub fn sampling(temperature: f32, top_p: f32) -> Sampling {
    Sampling {
        temperature,
        top_p,
        top_k: None,
        max_new_tokens: 14,
        ends: EOS.into(),
        batch_size: 8,
    }
}

#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what}, {place}: {found} instead of {expected}"
        );
    }
}

pub fn pairs(count: usize) -> Vec<Pair> {
    let (chosen, rejected) = (rows(count, 11), rows(count, 12));
    let pair = |(chosen, rejected): (Sequence, Sequence)| {
        let rejected = Sequence::new(chosen.prompt.clone(), rejected.response);
        Pair { chosen, rejected }
    };
    chosen.into_iter().zip(rejected).map(pair).collect()
}

pub fn ppo_settings() -> PpoSettings {
    PpoSettings {
        updates: 5,
        rollouts: 12,
        epochs: 2,
        minibatches: 2,
        temperature: 0.7,
        kl_coefficient: 0.05,
        gamma: 1.0,
        lambda: 0.95,
        clip: 0.2,
        clip_value: 0.2,
        value_coefficient: 0.1,
        whiten_advantages: true,
        critic: Critic::ZeroHead,
        missing_eos: MissingEos::BelowScores,
        optimiser: optimiser(),
    }
}

pub fn rloo_settings() -> RlooSettings {
    RlooSettings {
        updates: 5,
        rollouts: 12,
        samples: 3,
        epochs: 2,
        temperature: 0.7,
        kl_coefficient: 0.05,
        clip: 0.2,
        missing_eos: MissingEos::BelowScores,
        optimiser: optimiser(),
    }
}

pub fn grpo_settings() -> GrpoSettings {
    GrpoSettings {
        updates: 5,
        rollouts: 12,
        samples: 3,
        epochs: 2,
        temperature: 0.7,
        kl_coefficient: 0.05,
        clip: 0.2,
        missing_eos: MissingEos::BelowScores,
        optimiser: optimiser(),
    }
}

pub fn reward_settings() -> RewardSettings {
    RewardSettings {
        loss: RewardLoss::Eq11,
        margin: 0.5,
        bound: 0.0,
        l2: 0.0,
        read_out: ReadOut::LastToken,
        normalise: Normalise::AfterTraining,
        epochs: 2,
        batch_size: 4,
        optimiser: optimiser(),
    }
}

/// The starting point of a reward: a fresh head on a fresh decoder.
pub fn small_start(seed: u64) -> RewardStart {
    RewardStart::Policy(small_model(seed))
}

pub fn run_reward(
    settings: &RewardSettings,
    training: &Training,
    monitor: &dyn Monitor,
) -> Trained {
    let (model, normalisation, curve) =
        train_reward(small_start(1), &pairs(11), settings, training, 7, monitor).unwrap();
    (model.weights(), format!("{normalisation:?} {curve:?}"))
}

/// Runs a policy step from a small model towards short responses, with the same model as reference.
fn policy_step<T>(training: &Training, step: impl FnOnce(LanguageModel, Task) -> T) -> T {
    let (policy, prompts) = (
        small_model(20),
        rows(9, 20)
            .into_iter()
            .map(|row| row.prompt)
            .collect::<Vec<_>>(),
    );
    let reference = policy.clone().in_dtype(training.dtype.float());
    let score = |rollouts: &[Rollout]| -> Result<Vec<f32>> {
        Ok(rollouts
            .iter()
            .map(|rollout| 1.0 - 0.2 * rollout.sequence.response.len() as f32)
            .collect())
    };
    let reward = RewardFunction {
        score: Box::new(score),
        low: -2.0,
    };
    let (critic, sampling) = (
        Some((small_reward(20), Normalisation::none(0.0))),
        sampling(1.0, 1.0),
    );
    step(
        policy,
        Task {
            reference: &reference,
            reward,
            critic,
            prompts: &prompts,
            sampling: &sampling,
        },
    )
}

pub fn run_ppo(
    settings: &PpoSettings,
    training: &Training,
    monitor: &dyn Monitor,
) -> (LanguageModel, Vec<UpdateRecord>) {
    policy_step(training, |policy, task| {
        ppo(policy, task, settings, training, 20, monitor)
    })
    .unwrap()
}

pub fn run_rloo(
    settings: &RlooSettings,
    training: &Training,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<UpdateRecord>)> {
    policy_step(training, |policy, task| {
        rloo(policy, task, settings, training, 20, monitor)
    })
}

pub fn run_grpo(
    settings: &GrpoSettings,
    training: &Training,
    monitor: &dyn Monitor,
) -> Result<(LanguageModel, Vec<UpdateRecord>)> {
    policy_step(training, |policy, task| {
        grpo(policy, task, settings, training, 20, monitor)
    })
}

/// The result of a training run: the weights' file, and the curve as text.
pub type Trained = (Weights, String);
/// A method on a small problem of six optimiser steps or more.
pub type Run = fn(&Training, &dyn Monitor) -> Trained;

pub const METHODS: [(&str, Run); 11] = [
    ("pretrain", |training, monitor| {
        let optimiser = optimiser();
        let settings = PretrainSettings {
            steps: 6,
            batch_size: 5,
            prompt_weight: 0.1,
            curriculum: 0.5,
            copy_gate: 0.0,
            optimiser,
        };
        let (model, losses) = pretrain(
            small_model(1),
            &settings,
            training,
            7,
            |step| Ok(rows(5, step as u64)),
            monitor,
        )
        .unwrap();
        (model.weights(), format!("{losses:?}"))
    }),
    ("sft", |training, monitor| {
        let settings = SftSettings {
            epochs: 2,
            batch_size: 4,
            prompt_weight: 0.0,
            optimiser: optimiser(),
        };
        let (model, losses) = sft(
            small_model(1),
            &rows(11, 2),
            &settings,
            training,
            7,
            monitor,
        )
        .unwrap();
        (model.weights(), format!("{losses:?}"))
    }),
    ("reward", |training, monitor| {
        run_reward(&reward_settings(), training, monitor)
    }),
    ("spin", |training, monitor| {
        let settings = SpinSettings {
            iterations: 1,
            accumulate: Accumulate::Last,
            negatives_temperature: 1.0,
            prompt: PromptFormat::Template,
            beta: 0.1,
            betas: Vec::new(),
            learning_rates: Vec::new(),
            epochs: 2,
            batch_size: 4,
            optimiser: optimiser(),
        };
        let (model, losses) =
            spin(small_model(1), &pairs(11), &settings, training, 7, monitor).unwrap();
        (model.weights(), format!("{losses:?}"))
    }),
    ("ppo", |training, monitor| {
        let (model, records) = run_ppo(&ppo_settings(), training, monitor);
        (model.weights(), format!("{records:?}"))
    }),
    ("reward with the authors' errors", |training, monitor| {
        let (read_out, normalise) = (ReadOut::LastSlot, Normalise::DuringTraining);
        let settings = RewardSettings {
            loss: RewardLoss::Hinge,
            l2: 0.1,
            read_out,
            normalise,
            ..reward_settings()
        };
        run_reward(&settings, training, monitor)
    }),
    ("dpo", |training, monitor| {
        let settings = DpoSettings {
            pairs: DpoPairs::Synthetic,
            iterations: 1,
            temperature: 1.0,
            anchor: Anchor::Sft,
            beta: 0.1,
            loss: PairLoss::Sigmoid,
            epochs: 2,
            batch_size: 4,
            optimiser: optimiser(),
        };
        let reference = small_model(5).in_dtype(training.dtype.float());
        let (model, losses) = dpo(
            small_model(1),
            &reference,
            &pairs(11),
            &settings,
            training,
            7,
            monitor,
        )
        .unwrap();
        (model.weights(), format!("{losses:?}"))
    }),
    ("iq_learn", |training, monitor| {
        let settings = IqLearnSettings {
            lambda: 0.1,
            epochs: 2,
            batch_size: 4,
            optimiser: optimiser(),
        };
        let (model, losses) = iq_learn(
            small_model(1),
            &rows(11, 2),
            &settings,
            training,
            7,
            monitor,
        )
        .unwrap();
        (model.weights(), format!("{losses:?}"))
    }),
    ("grpo", |training, monitor| {
        let (model, records) = run_grpo(&grpo_settings(), training, monitor).unwrap();
        (model.weights(), format!("{records:?}"))
    }),
    ("rloo", |training, monitor| {
        let (model, records) = run_rloo(&rloo_settings(), training, monitor).unwrap();
        (model.weights(), format!("{records:?}"))
    }),
    ("ppo with a critic of its own", |training, monitor| {
        let settings = PpoSettings {
            critic: Critic::RewardCopy,
            ..ppo_settings()
        };
        let (model, records) = run_ppo(&settings, training, monitor);
        (model.weights(), format!("{records:?}"))
    }),
];

/// The bytes of the weights as they would be saved.
pub fn bytes(weights: &Weights) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    weights.write(&path, StoredAs::F32).unwrap();
    fs::read(path).unwrap()
}

pub fn parameters(weights: &Weights) -> Vec<f32> {
    let bytes = bytes(weights);
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let values = tensors
        .iter()
        .flat_map(|(_, tensor)| tensor.data().as_chunks().0);
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
