//! What every training loop shares: AdamW with global-norm clipping and a learning-rate schedule, gradient accumulation
//! that does not change the result, and checkpoints from which a killed run goes on bitwise as if nothing had happened.

use crate::model::names::store;
use crate::model::weights::{Weights, host};
use crate::{Context, Error, Result};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Tensor, TensorData};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Shape of the learning rate after warm-up, over the planned number of optimiser steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Linear to zero.
    Linear,
    /// Half a cosine to zero.
    Cosine,
}

/// AdamW and its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSettings {
    /// Peak learning rate.
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Optimiser steps of linear warm-up.
    pub warmup_steps: usize,
    pub beta_1: f32,
    pub beta_2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Largest L2 norm of all gradients together; 0 turns clipping off.
    pub clip_norm: f64,
    /// Rows per forward pass; gradients accumulate to the full batch. 0 takes the whole batch at once.
    #[serde(default)]
    pub micro_batch_size: usize,
}

impl OptimiserSettings {
    /// Learning rate of optimiser step `step` (from 0) of `total`.
    pub fn rate(&self, step: usize, total: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = total.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = ((step - self.warmup_steps) as f64 / length).min(1.0);
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - progress,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}

/// Who watches a training loop: draws progress, counts tokens, keeps checkpoints.
pub trait Monitor {
    fn progress(&self, _done: usize, _total: usize, _note: &str) {}
    /// Tokens that went through a forward pass, padding not counted.
    fn tokens(&self, _count: usize) {}
    /// A folder that outlives a kill; none where nothing is to be kept.
    fn checkpoint_folder(&self) -> Option<PathBuf> {
        None
    }
    /// What the loop has cost so far, to be kept in a checkpoint.
    fn cost(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// The loop goes on from a checkpoint that had cost this much.
    fn resumed(&self, _cost: serde_json::Value) {}
    /// Optimiser step `step` (from 0) is about to be taken. `read` copies to the host every parameter's gradient, accumulated
    /// over the whole step and not clipped, by the name and in the layout that the parameter has in a checkpoint; PPO's
    /// follow `policy.`, `value_head.` and `value_network.`. Nothing is copied unless it is called.
    fn gradients(&self, _step: usize, _read: &dyn Fn() -> Weights) {}
    /// Optimiser step `step` (from 0) has been taken.
    fn stepped(&self, _step: usize, _report: &StepReport) {}
    /// How much work a kill may cost at most: time between two checkpoints of a running loop.
    fn checkpoint_interval(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// A monitor that does nothing.
pub struct Unwatched;

impl Monitor for Unwatched {}

/// A module being trained for a planned number of optimiser steps.
pub struct Trainer<M: Module> {
    pub model: M,
    optimiser: ModuleOptimizer,
    settings: OptimiserSettings,
    /// Optimiser steps done.
    pub step: usize,
    pub total: usize,
    saved: Instant,
}

/// What one optimiser step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    pub loss: f32,
    /// L2 norm of all gradients before clipping.
    pub gradient_norm: f32,
}

impl<M: Module> Trainer<M> {
    pub fn new(model: M, settings: &OptimiserSettings, total: usize) -> Self {
        let optimiser = AdamWConfig::new()
            .with_beta_1(settings.beta_1)
            .with_beta_2(settings.beta_2)
            .with_epsilon(settings.epsilon)
            .with_weight_decay(settings.weight_decay)
            .init();
        Self { model: model.train(), optimiser, settings: settings.clone(), step: 0, total, saved: Instant::now() }
    }

    /// One optimiser step on `rows` rows. `loss(model, range)` is the *part* of the step's loss that rows `range`
    /// contribute, divided by the normaliser of the whole step, so that micro-batches add up to the same gradient.
    pub fn step(
        &mut self,
        rows: usize,
        monitor: &dyn Monitor,
        loss: impl Fn(&M, Range<usize>) -> Tensor<1>,
    ) -> StepReport {
        let size = if self.settings.micro_batch_size == 0 { rows } else { self.settings.micro_batch_size };
        let mut gradients = GradientsAccumulator::new();
        let mut total_loss = 0.0;
        let mut start = 0;
        while start < rows {
            let end = (start + size).min(rows);
            let part = loss(&self.model, start..end);
            total_loss += host(part.clone().detach())[0];
            gradients.accumulate(&self.model, GradientsParams::from_grads(part.backward(), &self.model));
            start = end;
        }
        let gradients = gradients.grads();
        monitor.gradients(self.step, &|| named(&gradients, &self.model));
        let (gradients, gradient_norm) = clipped(gradients, &self.model, self.settings.clip_norm);
        let rate = self.settings.rate(self.step, self.total);
        self.model = self.optimiser.step(rate, self.model.clone(), gradients);
        let report = StepReport { loss: total_loss, gradient_norm };
        monitor.stepped(self.step, &report);
        self.step += 1;
        report
    }

    /// Goes on from the last checkpoint, if there is one; returns what the loop saved beside it.
    pub fn resume<S: DeserializeOwned>(&mut self, monitor: &dyn Monitor) -> Result<Option<S>> {
        let Some(folder) = monitor.checkpoint_folder().map(|folder| folder.join("checkpoint")) else { return Ok(None) };
        let state = folder.join("state.json");
        if !state.exists() {
            return Ok(None);
        }
        let damaged = || {
            format!("the checkpoint {} cannot be read; remove the folder to start this stage again", folder.display())
        };
        let text = std::fs::read_to_string(&state).context(damaged)?;
        let (step, cost, loop_state): (usize, serde_json::Value, S) = serde_json::from_str(&text).context(damaged)?;
        let record = ModuleRecord::load(folder.join("model.bpk")).context(damaged)?;
        self.model = self.model.clone().load_record(record).train();
        let fresh = std::mem::replace(&mut self.optimiser, AdamWConfig::new().init());
        self.optimiser = fresh.load(folder.join("optimiser.bpk")).context(damaged)?;
        self.step = step;
        monitor.resumed(cost);
        Ok(Some(loop_state))
    }

    /// Writes a checkpoint if the last one is old enough.
    pub fn checkpoint<S: Serialize>(&mut self, monitor: &dyn Monitor, loop_state: &S) -> Result<()> {
        match monitor.checkpoint_folder() {
            Some(folder) if self.saved.elapsed() >= monitor.checkpoint_interval() => {
                self.save(&folder, &monitor.cost(), loop_state)
            }
            _ => Ok(()),
        }
    }

    /// Weights, optimiser and loop state travel together: written beside, then renamed.
    fn save<S: Serialize>(&mut self, folder: &Path, cost: &serde_json::Value, loop_state: &S) -> Result<()> {
        let (beside, old, place) =
            (folder.join("checkpoint.new"), folder.join("checkpoint.old"), folder.join("checkpoint"));
        let failed = || format!("cannot write the checkpoint {}", place.display());
        for left_over in [&beside, &old] {
            if left_over.exists() {
                std::fs::remove_dir_all(left_over).context(failed)?;
            }
        }
        std::fs::create_dir_all(&beside).context(failed)?;
        self.model.clone().into_record().save(beside.join("model.bpk")).context(failed)?;
        self.optimiser.save(beside.join("optimiser.bpk")).context(failed)?;
        let state = serde_json::to_string(&(self.step, cost, loop_state)).context(failed)?;
        std::fs::write(beside.join("state.json"), state).context(failed)?;
        if place.exists() {
            std::fs::rename(&place, &old).context(failed)?;
        }
        std::fs::rename(&beside, &place).context(failed)?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// Gradients scaled so that their common L2 norm is at most `limit` (0: unlimited), and the norm they had.
fn clipped<M: Module>(mut gradients: GradientsParams, model: &M, limit: f64) -> (GradientsParams, f32) {
    struct Norm<'a> {
        gradients: &'a GradientsParams,
        squares: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
                self.squares.push(gradient.square().sum());
            }
        }
    }
    struct Scale<'a> {
        gradients: &'a mut GradientsParams,
        factor: f64,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
                self.gradients.register(parameter.id, gradient * self.factor);
            }
        }
    }
    let mut norm = Norm { gradients: &gradients, squares: Vec::new() };
    model.visit(&mut norm);
    if norm.squares.is_empty() {
        return (gradients, 0.0);
    }
    let total = host(Tensor::cat(norm.squares, 0).sum())[0].sqrt();
    if limit > 0.0 && f64::from(total) > limit {
        let factor = limit / (f64::from(total) + 1e-6);
        model.visit(&mut Scale { gradients: &mut gradients, factor });
    }
    (gradients, total)
}

/// Gradients as a checkpoint would hold them.
fn named<M: Module>(gradients: &GradientsParams, model: &M) -> Weights {
    struct Read<'a> {
        gradients: &'a GradientsParams,
        path: Vec<String>,
        weights: Weights,
    }
    impl ModuleVisitor for Read<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
                store(&mut self.weights, &self.path, gradient);
            }
        }
    }
    let mut read = Read { gradients, path: Vec::new(), weights: Weights::new("gradients") };
    model.visit(&mut read);
    read.weights
}

/// Errors when training has produced something that is not a number, naming what and where.
pub fn finite(value: f32, what: &str, step: usize) -> Result<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Error::new(format!("{what} became {value} at optimiser step {step}"))
            .hint("training diverged: lower the learning rate, or bound the reward head"))
    }
}

/// A `[rows, columns]` tensor of host values.
pub fn matrix(values: Vec<f32>, rows: usize, columns: usize, device: &burn::tensor::Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}
