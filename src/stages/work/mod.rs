//! Estimates of a stage's work and memory, from its settings and its model's shape alone: tokens,
//! operations, memory. The planner prints them before anything runs; the stage itself derives its
//! micro-batches from the same numbers. Each kind of stage has its estimate in its own file;
//! `shared` holds the passes that several kinds make.
//!
//! Prompts and responses are counted at the study's limits, so the numbers are upper bounds if
//! texts are shorter; `texts` has estimates for known lengths.

mod resources;
mod shared;
mod sizes;
mod texts;

pub use shared::{PolicyGradient, judging, policy_gradient, readers, reading, sampling};
pub(super) use shared::{preference_optimisation, steps, supervised};
pub use sizes::{Precision, Shapes, Sizes};
pub use texts::TextLengths;

use crate::device::hardware::{BackendProfile, Hardware, Operations};
use crate::model::DecoderConfig;
use crate::model::footprint::{
    Load, TrainingOptions, TrainingState, frozen, inference_activations, kv_cache,
    training_activations, update_transient,
};
use std::num::NonZeroUsize;

/// Work and memory of a stage.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Tokens that go through a model; a token counts once per pass.
    pub tokens: f64,
    pub flops: f64,
    /// Optimiser steps.
    pub steps: f64,
    /// Bytes of weights read sequentially in generation, whose time is limited by memory bandwidth,
    /// not arithmetic.
    pub(super) streamed: f64,
    /// True if matrix products have bf16 factors.
    pub(super) halves: bool,
    /// Bytes of the trained model's state, held from the first step to the last.
    pub(super) trained: TrainingState,
    /// Bytes of read-only models.
    pub(super) other_models: f64,
    pub(super) phases: Vec<Phase>,
}

/// A pass that a stage repeats, one pass at a time.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pass: Pass,
    /// Bytes of models held only for these passes.
    beside: f64,
}

/// The kind of a pass. An item is a row, or a pair of rows.
#[derive(Clone, Debug)]
enum Pass {
    /// A training step; `loads` holds the load of one item for each trained network.
    Train {
        config: DecoderConfig,
        loads: Vec<Load>,
        items: usize,
        computation: TrainingOptions,
    },
    /// A forward pass; its rows are split into smaller passes only if `splits` is true.
    Read {
        config: DecoderConfig,
        load: Load,
        rows: usize,
        splits: bool,
        computation: TrainingOptions,
    },
    Generate {
        config: DecoderConfig,
        rows: usize,
        prompt: f64,
        response: f64,
        computation: TrainingOptions,
    },
}

/// Bytes of a stage at its peak, by purpose. Gradients and the activations of a pass exist at the
/// same time only if gradients of several micro-batches are added up; [`total`](Self::total)
/// accounts for this.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub weights: f64,
    pub gradients: f64,
    pub optimiser: f64,
    pub other_models: f64,
    pub activations: f64,
    pub kv_cache: f64,
    /// Bytes of the program itself, on a device that shares the machine's memory.
    pub program: f64,
    /// Bytes of gradients and activations together at the peak.
    passing: f64,
}

impl Memory {
    pub fn total(&self) -> f64 {
        self.weights + self.optimiser + self.other_models + self.passing + self.program
    }

    /// The bytes that several devices could share at the peak: everything but activations, keys and
    /// values, and the program.
    pub fn shared(&self) -> f64 {
        let gradients = self.passing - self.activations - self.kv_cache;
        self.weights + self.optimiser + self.other_models + gradients.clamp(0.0, self.gradients)
    }
}

impl Work {
    /// Memory at the peak, with at most `micro_batch` items in a pass.
    pub fn memory(&self, micro_batch: usize, backend: BackendProfile) -> Memory {
        let TrainingState {
            weights,
            gradients,
            moments,
        } = self.trained;
        let held = Memory {
            weights,
            gradients,
            optimiser: moments,
            other_models: self.other_models,
            program: backend.program_with(
                self.phases
                    .iter()
                    .map(|phase| phase.pass.config().vocab_size())
                    .max()
                    .unwrap_or(0),
            ),
            ..Memory::default()
        };
        let phases = self
            .phases
            .iter()
            .map(|phase| phase.memory(micro_batch, held, backend.operations));
        phases
            .max_by(|a, b| a.total().total_cmp(&b.total()))
            .unwrap_or(held)
    }

    /// Seconds on `hardware`, excluding loading and starting.
    pub fn seconds(&self, hardware: &Hardware) -> f64 {
        let peak = if self.halves {
            hardware.peak_bf16
        } else {
            hardware.peak_f32
        };
        self.flops / (peak * hardware.utilisation) + self.streamed / hardware.bandwidth
    }

    /// Bytes of the model that the stage writes in f32; 0 if it trains none.
    pub fn written_model(&self) -> f64 {
        const F32: f64 = 4.0;
        let models = self.phases.iter().filter_map(|phase| match &phase.pass {
            Pass::Train { config, loads, .. } => {
                let outputs = loads.iter().map(|load| load.outputs).fold(1.0, f64::max);
                Some(frozen(config, outputs as usize, F32))
            }
            Pass::Read { .. } | Pass::Generate { .. } => None,
        });
        models.fold(0.0, f64::max)
    }

    /// Seconds on a slow core, used for the order of stages and the remaining time; small stages
    /// mostly start and load.
    pub fn relative_cost(&self) -> f64 {
        const START: f64 = 0.1;
        const FLOPS: f64 = 5e10;
        START + self.flops / FLOPS
    }

    /// The largest number of items per pass that fits into `limit` bytes; `None` if not even one
    /// fits.
    pub fn micro_batch(&self, limit: u64, backend: BackendProfile) -> Option<NonZeroUsize> {
        let most = self
            .phases
            .iter()
            .map(|phase| phase.pass.items())
            .max()
            .unwrap_or(1);
        // Memory never falls with more items, so bisection finds the largest number that fits.
        let (mut fits, mut too_many) = (0, most + 1);
        while too_many - fits > 1 {
            let middle = (fits + too_many) / 2;
            match self.memory(middle, backend).total() <= limit as f64 {
                true => fits = middle,
                false => too_many = middle,
            }
        }
        NonZeroUsize::new(fits)
    }
}

impl Phase {
    pub(super) fn beside(self, bytes: f64) -> Self {
        Self {
            beside: self.beside + bytes,
            ..self
        }
    }

    fn memory(&self, micro_batch: usize, held: Memory, operations: Operations) -> Memory {
        let held = Memory {
            other_models: held.other_models + self.beside,
            ..held
        };
        self.pass.memory(micro_batch, held, operations)
    }
}

impl From<Pass> for Phase {
    fn from(pass: Pass) -> Self {
        Self { pass, beside: 0.0 }
    }
}

impl Pass {
    fn config(&self) -> &DecoderConfig {
        match self {
            Self::Train { config, .. }
            | Self::Read { config, .. }
            | Self::Generate { config, .. } => config,
        }
    }

    /// Number of items that a pass may split.
    fn items(&self) -> usize {
        match self {
            Self::Train { items, .. }
            | Self::Read {
                rows: items,
                splits: true,
                ..
            } => *items,
            Self::Read { .. } | Self::Generate { .. } => 1,
        }
    }

    fn memory(&self, micro_batch: usize, held: Memory, operations: Operations) -> Memory {
        match self {
            Self::Train {
                config,
                loads,
                items,
                computation,
            } => {
                let rows = (*items).min(micro_batch) as f64;
                let kept = |load: &Load| {
                    training_activations(config, &load.times(rows), computation, operations)
                };
                let activations = loads.iter().map(kept).sum();
                let updating = held.gradients + update_transient(config, computation);
                let passing = if *items > micro_batch {
                    held.gradients + activations
                } else {
                    activations
                };
                Memory {
                    activations,
                    passing: passing.max(updating),
                    ..held
                }
            }
            Self::Read {
                config,
                load,
                rows,
                splits,
                computation,
            } => {
                let rows = if *splits {
                    (*rows).min(micro_batch)
                } else {
                    *rows
                } as f64;
                let activations =
                    inference_activations(config, &load.times(rows), computation, operations);
                Memory {
                    activations,
                    passing: activations,
                    gradients: 0.0,
                    ..held
                }
            }
            Self::Generate {
                config,
                rows,
                prompt,
                response,
                computation,
            } => {
                let outputs = config.vocab_size() as f64;
                let load = Load {
                    rows: *rows as f64,
                    width: *prompt,
                    read: 1.0,
                    outputs,
                    last: *prompt,
                };
                let activations = inference_activations(config, &load, computation, operations);
                let kv_cache = kv_cache(config, *rows as f64, prompt + response, computation.bytes);
                Memory {
                    activations,
                    kv_cache,
                    passing: activations + kv_cache,
                    gradients: 0.0,
                    ..held
                }
            }
        }
    }
}

impl Work {
    /// Work of `self` followed by `other`, whose read-only models are loaded after those of `self`
    /// are freed.
    pub fn then(self, other: Self) -> Self {
        let other_models = self.other_models.max(other.other_models);
        Self {
            other_models,
            ..self + other
        }
    }
}

impl std::ops::Add for Work {
    type Output = Self;

    /// Work of both in one process, with all models held throughout.
    fn add(mut self, other: Self) -> Self {
        self.tokens += other.tokens;
        self.flops += other.flops;
        self.steps += other.steps;
        self.streamed += other.streamed;
        self.trained = self.trained + other.trained;
        self.other_models += other.other_models;
        self.phases.extend(other.phases);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Selection, Study};
    use crate::methods::ppo::{Critic, PpoSettings};
    use crate::methods::training::Training;

    fn study() -> Study {
        Experiment::load("tldr")
            .and_then(|experiment| experiment.resolve(&Selection::default()))
            .unwrap()
    }

    /// Work of PPO at the first size, with its critic.
    fn policy_step(critic: Critic) -> Work {
        let study = study();
        let config = &study.sizes[0].1.config(256);
        let shapes = Shapes {
            config,
            generation: &study.shared.generation,
        };
        let settings = PpoSettings {
            critic,
            ..study.shared.ppo.clone()
        };
        policy_gradient(
            shapes,
            (&settings).into(),
            true,
            Precision::from(&Training::default()),
        )
    }

    #[test]
    fn the_largest_micro_batch_that_fits_is_chosen() {
        let work = policy_step(Critic::ZeroHead);
        for rows in [1, 2, 7, 63] {
            let limit = work.memory(rows, BackendProfile::FLEX).total() as u64 + 1;
            let chosen = usize::from(work.micro_batch(limit, BackendProfile::FLEX).unwrap());
            assert!(
                chosen >= rows && work.memory(chosen, BackendProfile::FLEX).total() <= limit as f64
            );
            assert!(
                chosen == 64
                    || work.memory(chosen + 1, BackendProfile::FLEX).total() > limit as f64,
                "{rows}"
            );
        }
        assert_eq!(work.micro_batch(1 << 20, BackendProfile::FLEX), None);
    }

    #[test]
    fn a_copied_critic_costs_memory_and_work() {
        let (head, copy) = (
            policy_step(Critic::ZeroHead),
            policy_step(Critic::RewardCopy),
        );
        assert!(
            copy.memory(64, BackendProfile::FLEX).total()
                > head.memory(64, BackendProfile::FLEX).total()
        );
        assert!(copy.flops > 1.5 * head.flops);
    }

    #[test]
    fn time_is_that_of_the_operations_and_of_the_bytes_that_are_waited_for() {
        let hardware = Hardware {
            utilisation: 0.5,
            bandwidth: 1e9,
            peak_f32: 1e12,
            peak_bf16: 4e12,
            ..Hardware::here(1)
        };
        let work = Work {
            flops: 1e12,
            streamed: 3e9,
            ..Work::default()
        };
        assert_eq!(work.seconds(&hardware), 2.0 + 3.0);
        assert_eq!(
            Work {
                halves: true,
                ..work
            }
            .seconds(&hardware),
            0.5 + 3.0
        );
    }

    #[test]
    fn what_trains_writes_its_model_and_what_reads_none() {
        let study = study();
        let config = &study.sizes[0].1.config(256);
        let shapes = Shapes {
            config,
            generation: &study.shared.generation,
        };
        let written = policy_step(Critic::ZeroHead).written_model();
        assert_eq!(written, 4.0 * config.parameters(config.vocab_size()) as f64);
        assert_eq!(
            sampling(shapes, 8, Precision::from(&Training::default())).written_model(),
            0.0
        );
    }
}
