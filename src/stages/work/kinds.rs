//! What each kind of stage does, pass by pass. Prompts and responses are reckoned at the study's limits.

use super::{Pass, Phase, Regime, Texts, Work};
use crate::methods::dpo::DpoSettings;
use crate::methods::iq_learn::IqLearnSettings;
use crate::methods::ppo::{Critic, PpoSettings};
use crate::methods::reward::RewardSettings;
use crate::methods::rloo::RlooSettings;
use crate::methods::sft::SftSettings;
use crate::methods::spin::SpinSettings;
use crate::model::footprint::{Load, TrainingState, forward_flops, frozen, training_flops, training_state};

/// Stage `sft`.
pub fn sft(texts: Texts, settings: &SftSettings, demonstrations: usize, regime: Regime) -> Work {
    let read = if settings.prompt_weight > 0.0 { texts.width() } else { texts.likelihood().read };
    let load = Load { read, ..texts.likelihood() };
    let rows = (settings.epochs * demonstrations) as f64;
    Work {
        tokens: rows * texts.width(),
        flops: training_flops(texts.config, &load.times(rows), &regime.training),
        steps: steps(settings.epochs, demonstrations, settings.batch_size),
        streamed: 0.0,
        halves: regime.halves(),
        trained: training_state(texts.config, texts.language_model(), &regime.training),
        other_models: 0.0,
        phases: vec![texts.train(&[load], settings.batch_size.min(demonstrations), regime.training)],
    }
}

/// Optimiser steps of so many passes over `rows` rows or pairs; the last batch of a pass may be smaller.
fn steps(epochs: usize, rows: usize, batch_size: usize) -> f64 {
    (epochs * rows.div_ceil(batch_size.max(1))) as f64
}

/// Stage `tune`: `candidates` are trained one after the other, and each reads the demonstrations that are held out. No line is
/// reckoned to end early, so this is the most that a search can take.
pub fn tune(texts: Texts, candidates: &[Work], held_out: usize, regime: Regime) -> Work {
    let mut whole = candidates.first().cloned().unwrap_or_default();
    let sum = |value: fn(&Work) -> f64| candidates.iter().map(value).sum();
    (whole.tokens, whole.flops, whole.steps) = (sum(|it| it.tokens), sum(|it| it.flops), sum(|it| it.steps));
    let read = reading(&[(texts, false)], candidates.len(), held_out, regime);
    // What reads is the model that was trained.
    whole + Work { other_models: 0.0, ..read }
}

/// Stage `reward`: training, and the scores that normalise.
pub fn reward(texts: Texts, settings: &RewardSettings, pairs: usize, regime: Regime) -> Work {
    let (pair, rows) = (texts.score().times(2.0), 2.0 * pairs as f64);
    let trained_rows = settings.epochs as f64 * rows;
    let scored_rows = rows * settings.normalise.times() as f64;
    Work {
        tokens: (trained_rows + scored_rows) * texts.width(),
        flops: training_flops(texts.config, &texts.score().times(trained_rows), &regime.training)
            + forward_flops(texts.config, &texts.score().times(scored_rows)),
        steps: steps(settings.epochs, pairs, settings.batch_size),
        streamed: 0.0,
        halves: regime.halves(),
        trained: training_state(texts.config, 1, &regime.training),
        other_models: 0.0,
        phases: vec![
            texts.train(&[pair], settings.batch_size.min(pairs), regime.training),
            texts.read(texts.score(), 2 * pairs, regime.reading),
        ],
    }
}

/// Stage `spin`: the opponent's log-probabilities once, then training.
pub fn spin(texts: Texts, settings: &SpinSettings, pairs: usize, regime: Regime) -> Work {
    // The opponent's weights are those that training starts from, unless it is held in another type.
    let opponent =
        if regime.halves() { frozen(texts.config, texts.language_model(), regime.reading.bytes) } else { 0.0 };
    preference_optimisation(texts, settings.epochs, settings.batch_size, pairs, opponent, regime)
}

/// Stage `dpo`: as `spin`, with a reference of its own.
pub fn dpo(texts: Texts, settings: &DpoSettings, pairs: usize, regime: Regime) -> Work {
    let reference = frozen(texts.config, texts.language_model(), regime.reading.bytes);
    let mut work = preference_optimisation(texts, settings.epochs, settings.batch_size, pairs, 0.0, regime);
    work.other_models = reference;
    work
}

/// Stage `iq_learn`: supervised training, with the values of states beside the log-probabilities.
pub fn iq_learn(texts: Texts, settings: &IqLearnSettings, demonstrations: usize, regime: Regime) -> Work {
    // Q at the chosen tokens has a gradient of the logits' size of its own.
    let kept = Load { outputs: 2.0 * texts.likelihood().outputs, ..texts.likelihood() };
    let rows = (settings.epochs * demonstrations) as f64;
    Work {
        tokens: rows * texts.width(),
        flops: training_flops(texts.config, &texts.likelihood().times(rows), &regime.training),
        steps: steps(settings.epochs, demonstrations, settings.batch_size),
        streamed: 0.0,
        halves: regime.halves(),
        trained: training_state(texts.config, texts.language_model(), &regime.training),
        other_models: 0.0,
        phases: vec![texts.train(&[kept], settings.batch_size.min(demonstrations), regime.training)],
    }
}

/// `opponent`: bytes of weights that are held while log-probabilities are read, and are gone before training.
fn preference_optimisation(
    texts: Texts,
    epochs: usize,
    batch_size: usize,
    pairs: usize,
    opponent: f64,
    regime: Regime,
) -> Work {
    let (pair, rows) = (texts.likelihood().times(2.0), 2.0 * pairs as f64);
    let trained_rows = epochs as f64 * rows;
    Work {
        tokens: (trained_rows + rows) * texts.width(),
        flops: training_flops(texts.config, &texts.likelihood().times(trained_rows), &regime.training)
            + forward_flops(texts.config, &texts.likelihood().times(rows)),
        steps: steps(epochs, pairs, batch_size),
        streamed: 0.0,
        halves: regime.halves(),
        trained: training_state(texts.config, texts.language_model(), &regime.training),
        other_models: 0.0,
        phases: vec![
            texts.read(texts.likelihood(), pairs, regime.reading).beside(opponent),
            texts.train(&[pair], batch_size.min(pairs), regime.training),
        ],
    }
}

/// What policy-gradient methods do, as far as work is concerned.
#[derive(Clone, Copy, Debug)]
pub struct PolicyGradient {
    updates: usize,
    rollouts: usize,
    epochs: usize,
    /// Optimiser steps per pass over a rollout batch.
    minibatches: usize,
    copied_critic: bool,
}

impl From<&PpoSettings> for PolicyGradient {
    fn from(settings: &PpoSettings) -> Self {
        let PpoSettings { updates, rollouts, epochs, minibatches, .. } = *settings;
        Self { updates, rollouts, epochs, minibatches, copied_critic: settings.critic == Critic::RewardCopy }
    }
}

impl From<&RlooSettings> for PolicyGradient {
    fn from(settings: &RlooSettings) -> Self {
        let RlooSettings { updates, rollouts, epochs, .. } = *settings;
        Self { updates, rollouts, epochs, minibatches: 1, copied_critic: false }
    }
}

/// Stages `ppo` and `rloo`. Of every rollout: sampling, a score, log-probabilities of policy and reference, then training.
pub fn policy_gradient(texts: Texts, settings: &PolicyGradient, learned_reward: bool, regime: Regime) -> Work {
    let (likelihood, score, config) = (texts.likelihood(), texts.score(), texts.config);
    let rollouts = (settings.updates * settings.rollouts) as f64;
    let epochs = settings.epochs as f64;
    let copied_critic = settings.copied_critic;
    let critic = if copied_critic { training_state(config, 1, &regime.training) } else { TrainingState::default() };
    let reads = likelihood.times(2.0 * rollouts);
    // Sampling with kept keys and values does the work of a forward pass.
    let mut flops = forward_flops(config, &likelihood.times(rollouts))
        + forward_flops(config, &reads)
        + training_flops(config, &likelihood.times(epochs * rollouts), &regime.training);
    if learned_reward {
        flops += forward_flops(config, &score.times(rollouts));
    }
    if copied_critic {
        flops += training_flops(config, &texts.values().times(epochs * rollouts), &regime.training);
    }
    let items = settings.rollouts.div_ceil(settings.minibatches.max(1));
    let trained: &[Load] = if copied_critic { &[likelihood, texts.values()] } else { &[likelihood] };
    // Rollouts are drawn and read by copies of the networks in the type that is computed in, if it is another.
    let copies = match regime.halves() {
        true => frozen(config, texts.language_model(), 2.0) + if copied_critic { frozen(config, 1, 2.0) } else { 0.0 },
        false => 0.0,
    };
    let phases = vec![
        texts.generate(settings.rollouts, regime.reading).beside(copies),
        Phase::from(Pass::Read {
            config: config.clone(),
            load: likelihood,
            rows: settings.rollouts,
            splits: true,
            computation: regime.reading,
        })
        .beside(copies),
        texts.train(trained, items, regime.training),
    ];
    let reward = if learned_reward { frozen(config, 1, regime.reading.bytes) } else { 0.0 };
    Work {
        tokens: rollouts * (3.0 + epochs) * texts.width(),
        flops,
        steps: (settings.updates * settings.epochs * settings.minibatches) as f64,
        streamed: texts.streamed(rollouts, regime.reading),
        halves: regime.halves(),
        trained: training_state(config, texts.language_model(), &regime.training) + critic,
        other_models: frozen(config, texts.language_model(), regime.reading.bytes) + reward,
        phases,
    }
}

/// Sampling `samples` responses.
pub fn sampling(texts: Texts, samples: usize, regime: Regime) -> Work {
    Work {
        tokens: samples as f64 * texts.width(),
        flops: forward_flops(texts.config, &texts.likelihood().times(samples as f64)),
        steps: 0.0,
        streamed: texts.streamed(samples as f64, regime.reading),
        halves: regime.halves(),
        trained: TrainingState::default(),
        other_models: frozen(texts.config, texts.language_model(), regime.reading.bytes),
        phases: vec![texts.generate(samples, regime.reading)],
    }
}

/// Reading `times` sets of `together` texts with `models`: (shape, whether its head is scalar).
pub fn reading(models: &[(Texts, bool)], times: usize, together: usize, regime: Regime) -> Work {
    let rows = times * together;
    let mut work = Work { halves: regime.halves(), ..Work::default() };
    for (texts, scalar) in models {
        let (load, outputs) = match scalar {
            true => (texts.score(), 1),
            false => (texts.likelihood(), texts.language_model()),
        };
        work.tokens += rows as f64 * texts.width();
        work.flops += forward_flops(texts.config, &load.times(rows as f64));
        work.other_models += frozen(texts.config, outputs, regime.reading.bytes);
        work.phases.push(texts.read(load, together, regime.reading));
    }
    work
}
