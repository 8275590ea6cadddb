//! The passes that several kinds of stage make. Prompts and responses are counted at the study's
//! limits.

use super::{Pass, Phase, Precision, Shapes, Work};
use crate::experiment::GenerationSettings;
use crate::judges::JudgeId;
use crate::methods::grpo::GrpoSettings;
use crate::methods::ppo::{Critic, PpoSettings};
use crate::methods::rloo::RlooSettings;
use crate::methods::sft::SftSettings;
use crate::model::DecoderConfig;
use crate::model::footprint::{
    Load, TrainingState, forward_flops, frozen, training_flops, training_state,
};
use crate::model::layout::Head;

/// Work of supervised training on `rows` rows.
pub fn supervised(
    shapes: Shapes,
    settings: &SftSettings,
    rows: usize,
    precision: Precision,
) -> Work {
    let read = if settings.prompt_weight > 0.0 {
        shapes.width()
    } else {
        shapes.likelihood().read
    };
    let load = Load {
        read,
        ..shapes.likelihood()
    };
    let trained_rows = (settings.epochs * rows) as f64;
    Work {
        tokens: trained_rows * shapes.width(),
        flops: training_flops(
            shapes.config,
            &load.times(trained_rows),
            &precision.training,
        ),
        steps: steps(settings.epochs, rows, settings.batch_size),
        streamed: 0.0,
        halves: precision.halves(),
        trained: training_state(shapes.config, shapes.language_model(), &precision.training),
        other_models: 0.0,
        phases: vec![shapes.train(&[load], settings.batch_size.min(rows), precision.training)],
    }
}

/// Optimiser steps of `epochs` passes over `rows` rows or pairs; the last batch of a pass may be
/// smaller.
pub fn steps(epochs: usize, rows: usize, batch_size: usize) -> f64 {
    (epochs * rows.div_ceil(batch_size.max(1))) as f64
}

/// Work of training on `pairs` pairs against log-probabilities that are read once. `opponent` is
/// the number of bytes of weights held only while these are read, before training.
pub fn preference_optimisation(
    shapes: Shapes,
    epochs: usize,
    batch_size: usize,
    pairs: usize,
    opponent: f64,
    precision: Precision,
) -> Work {
    let (pair, rows) = (shapes.likelihood().times(2.0), 2.0 * pairs as f64);
    let trained_rows = epochs as f64 * rows;
    Work {
        tokens: (trained_rows + rows) * shapes.width(),
        flops: training_flops(
            shapes.config,
            &shapes.likelihood().times(trained_rows),
            &precision.training,
        ) + forward_flops(shapes.config, &shapes.likelihood().times(rows)),
        steps: steps(epochs, pairs, batch_size),
        streamed: 0.0,
        halves: precision.halves(),
        trained: training_state(shapes.config, shapes.language_model(), &precision.training),
        other_models: 0.0,
        phases: vec![
            shapes
                .read(shapes.likelihood(), pairs, precision.reading)
                .beside(opponent),
            shapes.train(&[pair], batch_size.min(pairs), precision.training),
        ],
    }
}

/// The counts of a policy-gradient method that determine its work.
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
        let PpoSettings {
            updates,
            rollouts,
            epochs,
            minibatches,
            ..
        } = *settings;
        Self {
            updates,
            rollouts,
            epochs,
            minibatches,
            copied_critic: settings.critic == Critic::RewardCopy,
        }
    }
}

impl From<&RlooSettings> for PolicyGradient {
    fn from(settings: &RlooSettings) -> Self {
        let RlooSettings {
            updates,
            rollouts,
            epochs,
            ..
        } = *settings;
        Self {
            updates,
            rollouts,
            epochs,
            minibatches: 1,
            copied_critic: false,
        }
    }
}

impl From<&GrpoSettings> for PolicyGradient {
    fn from(settings: &GrpoSettings) -> Self {
        let GrpoSettings {
            updates,
            rollouts,
            epochs,
            ..
        } = *settings;
        Self {
            updates,
            rollouts,
            epochs,
            minibatches: 1,
            copied_critic: false,
        }
    }
}

/// Work of rollouts, each with sampling, a score and log-probabilities of policy and reference, and
/// of the training that follows.
pub fn policy_gradient(
    shapes: Shapes,
    settings: PolicyGradient,
    learned_reward: bool,
    precision: Precision,
) -> Work {
    let (likelihood, score, config) = (shapes.likelihood(), shapes.score(), shapes.config);
    let rollouts = (settings.updates * settings.rollouts) as f64;
    let epochs = settings.epochs as f64;
    let copied_critic = settings.copied_critic;
    let critic = if copied_critic {
        training_state(config, 1, &precision.training)
    } else {
        TrainingState::default()
    };
    let reads = likelihood.times(2.0 * rollouts);
    // Sampling with cached keys and values takes the operations of one forward pass.
    let mut flops = forward_flops(config, &likelihood.times(rollouts))
        + forward_flops(config, &reads)
        + training_flops(
            config,
            &likelihood.times(epochs * rollouts),
            &precision.training,
        );
    if learned_reward {
        flops += forward_flops(config, &score.times(rollouts));
    }
    if copied_critic {
        flops += training_flops(
            config,
            &shapes.values().times(epochs * rollouts),
            &precision.training,
        );
    }
    let items = settings.rollouts.div_ceil(settings.minibatches.max(1));
    let trained: &[Load] = if copied_critic {
        &[likelihood, shapes.values()]
    } else {
        &[likelihood]
    };
    // Rollouts are drawn and read by copies of the networks in the computation's number type, if it
    // differs.
    let copies = match precision.halves() {
        true => {
            frozen(config, shapes.language_model(), 2.0)
                + if copied_critic {
                    frozen(config, 1, 2.0)
                } else {
                    0.0
                }
        }
        false => 0.0,
    };
    let phases = vec![
        shapes
            .generate(settings.rollouts, precision.reading)
            .beside(copies),
        Phase::from(Pass::Read {
            config: config.clone(),
            load: likelihood,
            rows: settings.rollouts,
            splits: true,
            computation: precision.reading,
        })
        .beside(copies),
        shapes.train(trained, items, precision.training),
    ];
    let reward = if learned_reward {
        frozen(config, 1, precision.reading.bytes)
    } else {
        0.0
    };
    Work {
        tokens: rollouts * (3.0 + epochs) * shapes.width(),
        flops,
        steps: (settings.updates * settings.epochs * settings.minibatches) as f64,
        streamed: shapes.streamed(rollouts, precision.reading),
        halves: precision.halves(),
        trained: training_state(config, shapes.language_model(), &precision.training) + critic,
        other_models: frozen(config, shapes.language_model(), precision.reading.bytes) + reward,
        phases,
    }
}

/// Work of sampling `samples` responses.
pub fn sampling(shapes: Shapes, samples: usize, precision: Precision) -> Work {
    Work {
        tokens: samples as f64 * shapes.width(),
        flops: forward_flops(shapes.config, &shapes.likelihood().times(samples as f64)),
        steps: 0.0,
        streamed: shapes.streamed(samples as f64, precision.reading),
        halves: precision.halves(),
        trained: TrainingState::default(),
        other_models: frozen(
            shapes.config,
            shapes.language_model(),
            precision.reading.bytes,
        ),
        phases: vec![shapes.generate(samples, precision.reading)],
    }
}

/// Work of reading `times` sets of `together` texts with `models`: (shape, whether its head is
/// scalar).
pub fn reading(
    models: &[(Shapes, bool)],
    times: usize,
    together: usize,
    precision: Precision,
) -> Work {
    let rows = times * together;
    let mut work = Work {
        halves: precision.halves(),
        ..Work::default()
    };
    for (shapes, scalar) in models {
        let (load, outputs) = match scalar {
            true => (shapes.score(), 1),
            false => (shapes.likelihood(), shapes.language_model()),
        };
        work.tokens += rows as f64 * shapes.width();
        work.flops += forward_flops(shapes.config, &load.times(rows as f64));
        work.other_models += frozen(shapes.config, outputs, precision.reading.bytes);
        work.phases
            .push(shapes.read(load, together, precision.reading));
    }
    work
}

/// The models that read every response for `judge`, in the form that [`reading`] takes.
pub fn readers<'a>(judge: &JudgeId, shapes: Shapes<'a>) -> Vec<(Shapes<'a>, bool)> {
    let heads = judge.reads().iter();
    heads.map(|head| (shapes, *head == Head::Reward)).collect()
}

/// Work of scoring `rows` texts with the judge of real posts, if there is one.
pub fn judging(
    judge: Option<&DecoderConfig>,
    generation: &GenerationSettings,
    rows: usize,
    precision: Precision,
) -> Work {
    judge.map_or_else(Work::default, |config| {
        reading(&[(Shapes { config, generation }, true)], 1, rows, precision)
    })
}
