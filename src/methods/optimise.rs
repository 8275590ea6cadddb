//! Parts shared by all training loops: AdamW with global-norm clipping and a learning-rate
//! schedule, gradient accumulation that does not change the result, and checkpoints from which a
//! killed run continues bitwise identically.

mod checkpoint;

use crate::methods::training::{Trainable, Training};
use crate::model::Passes;
use crate::model::names;
use crate::model::tape::add_gradients;
use crate::model::weights::{Weights, host, stable_id};
use crate::{Error, Result, rng};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Shape of the learning rate after warm-up, over the planned number of optimiser steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Constant,
    /// Falls linearly to zero.
    Linear,
    /// Falls to zero as half a cosine.
    Cosine,
}

/// Settings of AdamW and its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimiserSettings {
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Optimiser steps of linear warm-up.
    pub warmup_steps: usize,
    /// Linear warm-up as a share of all optimiser steps, rounded up, where `warmup_steps` is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub warmup_ratio: f64,
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta_1: f32,
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta_2: f32,
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub epsilon: f32,
    #[schemars(range(min = 0.0))]
    pub weight_decay: f32,
    /// Largest allowed L2 norm of all gradients together; 0 turns clipping off.
    #[schemars(range(min = 0.0))]
    pub clip_norm: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl OptimiserSettings {
    /// Learning rate of optimiser step `step` (from 0) of `total`.
    pub fn rate(&self, step: usize, total: usize) -> f64 {
        let warmup = match self.warmup_steps {
            0 => (self.warmup_ratio * total as f64).ceil() as usize,
            steps => steps,
        };
        if step < warmup {
            return self.learning_rate * (step + 1) as f64 / warmup as f64;
        }
        let length = total.saturating_sub(warmup).max(1) as f64;
        let progress = ((step - warmup) as f64 / length).min(1.0);
        self.learning_rate
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - progress,
                Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            }
    }
}

/// An observer of a training loop, which shows progress, counts computation and keeps checkpoints.
pub trait Monitor {
    fn progress(&self, _done: usize, _total: usize, _note: &str) {}
    /// Counts tokens and operations processed since the last call.
    fn passes(&self, _passes: Passes) {}
    /// The folder for checkpoints, which survives if the process is killed; `None` if no
    /// checkpoints are kept.
    fn checkpoint_folder(&self) -> Option<PathBuf> {
        None
    }
    /// The cost of the loop so far, to be stored in a checkpoint.
    fn cost(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// Called when the loop continues from a checkpoint that had this cost.
    fn resumed(&self, _cost: serde_json::Value) {}
    /// Called before optimiser step `step` (from 0). `read` copies every parameter's gradient to
    /// the host, accumulated over the whole step and not clipped, with the name and layout that the
    /// parameter has in a checkpoint; the names of PPO's begin with `policy.`, `value_head.` and
    /// `value_network.`. Nothing is copied unless `read` is called.
    fn gradients(&self, _step: usize, _read: &dyn Fn() -> Weights) {}
    /// Called after optimiser step `step` (from 0).
    fn stepped(&self, _step: usize, _report: &StepReport) {}
    /// Receives a message for readers of the log.
    fn note(&self, _text: &str) {}
    /// Time between two checkpoints of a running loop: the most work that is lost if the process is
    /// killed.
    fn checkpoint_interval(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// A monitor that does nothing.
pub struct Unwatched;

impl Monitor for Unwatched {}

/// A model being trained for a planned number of optimiser steps.
pub struct Trainer<M: Trainable> {
    /// Absent only while the optimiser updates it, so that old and new weights never exist side by
    /// side.
    model: Option<M>,
    optimiser: ModuleOptimizer,
    settings: OptimiserSettings,
    training: Training,
    /// Number of optimiser steps done.
    pub step: usize,
    pub total: usize,
    saved: Instant,
}

/// Measurements of one optimiser step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    pub loss: f32,
    /// L2 norm of all gradients before clipping.
    pub gradient_norm: f32,
}

impl<M: Trainable> Trainer<M> {
    /// Creates a trainer; `seed` draws the adapters if `training` has any.
    pub fn new(
        model: M,
        settings: &OptimiserSettings,
        training: &Training,
        seed: u64,
        total: usize,
    ) -> Self {
        let prepared = model.prepared(
            &training.computation(),
            &mut rng::stream(seed, "training/adapters", &[]),
        );
        Self {
            model: Some(identified(prepared).train()),
            optimiser: fresh_optimiser(settings),
            settings: settings.clone(),
            training: training.clone(),
            step: 0,
            total,
            saved: Instant::now(),
        }
    }

    /// The model in the form that is trained.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("a step gives the model back")
    }

    /// The passes, including the cost of gradients in this training.
    pub fn with_gradients(&self, passes: Passes) -> Passes {
        passes.with_gradients(self.training.gradient_checkpointing)
    }

    /// The trained model, in the form that is saved.
    pub fn finish(self) -> M {
        self.model().valid().restored()
    }

    /// Takes one optimiser step on `rows` rows. `loss(model, range)` is the *part* of the step's
    /// loss that rows `range` contribute, divided by the normaliser of the whole step, so that
    /// micro-batches add up to the same gradient.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite, before any weight has changed; `what` names the
    /// loss.
    pub fn step(
        &mut self,
        what: &str,
        rows: usize,
        monitor: &dyn Monitor,
        loss: impl Fn(&M, Range<usize>) -> Tensor<1>,
    ) -> Result<StepReport> {
        let (size, model) = (self.training.rows_at_once(rows), self.model());
        let mut gradients = GradientsParams::new();
        let mut losses = Vec::new();
        for start in (0..rows).step_by(size) {
            let part = loss(model, start..(start + size).min(rows));
            losses.push(part.clone().inner());
            let mut found = part.backward();
            add_gradients(model, &mut found, &mut gradients);
            for decoder in model.decoders() {
                decoder.replay(&mut found, &mut gradients);
            }
        }
        monitor.gradients(self.step, &|| {
            names::tensors(model, model.naming(), "gradients", &gradients)
        });
        let (loss, gradient_norm) = loss_and_norm(losses, &gradients, model)?;
        finite(loss, what, self.step + 1)?;
        if !gradient_norm.is_finite() {
            return Err(diverged(
                &names::tensors(model, model.naming(), "gradients", &gradients),
                gradient_norm,
                self.step + 1,
            ));
        }
        let limit = self.settings.clip_norm;
        if limit > 0.0 && f64::from(gradient_norm) > limit {
            let factor = limit / (f64::from(gradient_norm) + 1e-6);
            model.visit(&mut ScaleGradients {
                gradients: &mut gradients,
                factor,
            });
        }
        let rate = self.settings.rate(self.step, self.total);
        self.model = self
            .model
            .take()
            .map(|model| self.optimiser.step(rate, model, gradients));
        let report = StepReport {
            loss,
            gradient_norm,
        };
        monitor.stepped(self.step, &report);
        self.step += 1;
        Ok(report)
    }
}

fn fresh_optimiser(settings: &OptimiserSettings) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_beta_1(settings.beta_1)
        .with_beta_2(settings.beta_2)
        .with_epsilon(settings.epsilon)
        .with_weight_decay(settings.weight_decay)
        .init()
}

/// The model with parameter ids derived from parameter paths. Two networks of one kind have
/// parameters of the same name; gradients and the optimiser's state, which outlives a process, are
/// stored by these ids.
fn identified<M: Trainable>(model: M) -> M {
    struct Identify(names::Path);
    impl ModuleMapper for Identify {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }

        fn map_float<const D: usize>(
            &mut self,
            mut parameter: Param<Tensor<D>>,
        ) -> Param<Tensor<D>> {
            parameter.id = stable_id(&self.0.joined());
            parameter
        }
    }
    let path = names::Path::new(model.naming());
    model.map(&mut Identify(path))
}

/// The parameters that are trained.
fn trained<M: Module>(model: &M) -> Vec<ParamId> {
    #[derive(Default)]
    struct Trained(Vec<ParamId>);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if parameter.is_require_grad() {
                self.0.push(parameter.id);
            }
        }
    }
    let mut found = Trained::default();
    model.visit(&mut found);
    found.0
}

impl names::Read for GradientsParams {
    fn read<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        self.get(parameter.id)
    }
}

/// The sum of the parts of a loss and the L2 norm of all gradients together, in one read from the
/// device.
fn loss_and_norm<M: Module>(
    mut parts: Vec<Tensor<1>>,
    gradients: &GradientsParams,
    model: &M,
) -> Result<(f32, f32)> {
    struct Squares<'a> {
        gradients: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
                self.sums.push(gradient.square().sum());
            }
        }
    }
    let mut squares = Squares {
        gradients,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    let count = parts.len();
    if !squares.sums.is_empty() {
        parts.push(Tensor::cat(squares.sums, 0).sum());
    }
    let read = host(Tensor::cat(parts, 0))?;
    Ok((
        read[..count].iter().sum(),
        read[count..].iter().sum::<f32>().sqrt(),
    ))
}

/// The error for gradients whose norm is not finite; names the first tensor with such a gradient.
fn diverged(gradients: &Weights, norm: f32, step: usize) -> Error {
    let wrong = |name: &&str| {
        gradients
            .values(name)
            .is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
    };
    let message = match gradients.list().map(|listed| listed.name).find(wrong) {
        Some(name) => format!("the gradient of `{name}` is not finite at optimiser step {step}"),
        None => format!("the norm of all gradients became {norm} at optimiser step {step}"),
    };
    Error::divergence(message).hint(DIVERGED)
}

const DIVERGED: &str = "training diverged: lower the learning rate, or bound the reward head";

/// A visitor that multiplies each gradient by a factor.
struct ScaleGradients<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for ScaleGradients<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients
                .register(parameter.id, gradient * self.factor);
        }
    }
}

/// Returns `value` if it is finite, else an error that names `what` and the step.
pub fn finite(value: f32, what: &str, step: usize) -> Result<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(
            Error::divergence(format!("{what} became {value} at optimiser step {step}"))
                .hint(DIVERGED),
        )
    }
}

/// Returns an error unless every value is finite; `what` names the values, one per row.
pub fn all_finite(values: &[f32], what: &str) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::divergence(format!("row {}: {what} is {}", row + 1, values[row])).hint(
            "the model computes numbers that are too large or undefined; take another checkpoint, or compute in f32",
        )),
    }
}

/// A `[rows, columns]` tensor of values from the host.
pub fn matrix(
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    device: &burn::tensor::Device,
) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

#[cfg(test)]
mod tests {
    use super::checkpoint::{MODEL, STATE, checkpoints};
    use super::*;
    use crate::methods::sft::negative_log_likelihood;
    use crate::model::{LanguageModel, Sequence};
    use std::path::Path;

    struct At<'a>(&'a Path);

    impl Monitor for At<'_> {
        fn checkpoint_folder(&self) -> Option<PathBuf> {
            Some(self.0.to_owned())
        }
    }

    const STEPS: usize = 5;

    fn trainer() -> Trainer<LanguageModel> {
        let settings = OptimiserSettings {
            learning_rate: 1e-2,
            schedule: Schedule::Linear,
            warmup_steps: 0,
            warmup_ratio: 0.0,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
        };
        Trainer::new(
            LanguageModel::tiny(1),
            &settings,
            &Training::default(),
            7,
            STEPS,
        )
    }

    fn step(trainer: &mut Trainer<LanguageModel>) {
        let row = Sequence::new(vec![3, 4 + trainer.step as u32], vec![5, 6, 1]);
        let loss = |model: &LanguageModel, _| negative_log_likelihood(model, &[&row], 0.0);
        trainer.step("the loss", 1, &Unwatched, loss).unwrap();
    }

    /// The weights after all steps.
    fn ended(mut trainer: Trainer<LanguageModel>) -> Vec<Vec<f32>> {
        while trainer.step < STEPS {
            step(&mut trainer);
        }
        let weights = trainer.finish().weights();
        weights
            .list()
            .map(|listed| weights.values(listed.name).unwrap().into_owned())
            .collect()
    }

    #[test]
    fn a_share_of_the_steps_warms_up_as_so_many_steps_do() {
        let settings = |warmup_steps, warmup_ratio| OptimiserSettings {
            learning_rate: 1.0,
            schedule: Schedule::Linear,
            warmup_steps,
            warmup_ratio,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-6,
            weight_decay: 0.0,
            clip_norm: 1.0,
        };
        let rates = |settings: OptimiserSettings, total| -> Vec<f64> {
            (0..total).map(|step| settings.rate(step, total)).collect()
        };
        // 3 % of 40 steps are 1.2, which is 2 steps; a number of steps is not overruled.
        assert_eq!(rates(settings(0, 0.03), 40), rates(settings(2, 0.0), 40));
        assert_eq!(rates(settings(5, 0.5), 40), rates(settings(5, 0.0), 40));
        assert_eq!(rates(settings(0, 0.0), 40)[0], 1.0);
        assert_eq!(rates(settings(0, 0.1), 40)[..4], [0.25, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn a_stop_at_any_step_of_saving_costs_one_interval_at_most() {
        let undisturbed = ended(trainer());
        let (mut stop, mut finished) = (0, false);
        while !finished {
            let folder = tempfile::tempdir().unwrap();
            let mut running = trainer();
            for _ in 0..3 {
                step(&mut running);
                let done = running.step.to_string();
                running
                    .save(folder.path(), &serde_json::Value::Null, &done)
                    .unwrap();
            }
            step(&mut running);
            let mut left = stop;
            let mut before = || {
                left -= 1;
                if left < 0 {
                    Err(Error::files("stopped"))
                } else {
                    Ok(())
                }
            };
            let saved =
                running.save_in_steps(folder.path(), &serde_json::Value::Null, &"4", &mut before);
            finished = saved.is_ok();
            let mut resumed = trainer();
            let state: Option<String> = resumed.resume(&At(folder.path())).unwrap();
            let expected = if finished { 4 } else { 3 };
            assert_eq!(
                (state, resumed.step),
                (Some(expected.to_string()), expected),
                "stopped before operation {stop}"
            );
            // The next process saves as if nothing had been left behind.
            while resumed.step < 4 {
                step(&mut resumed);
            }
            resumed
                .save(folder.path(), &serde_json::Value::Null, &"4")
                .unwrap();
            let mut last = trainer();
            assert_eq!(
                last.resume::<String>(&At(folder.path())).unwrap().unwrap(),
                "4"
            );
            assert!(
                ended(last) == undisturbed,
                "other weights after a stop before operation {stop}"
            );
            stop += 1;
        }
        assert!(stop > 7, "operations of saving: {stop}");
    }

    #[test]
    fn a_newest_checkpoint_that_is_damaged_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut running = trainer();
        for _ in 0..3 {
            step(&mut running);
            let done = running.step;
            running
                .save(folder.path(), &serde_json::Value::Null, &done)
                .unwrap();
        }
        let kept = checkpoints(folder.path()).unwrap();
        assert_eq!(kept.len(), 2, "the newest and the one before");
        std::fs::write(kept[1].join(STATE), "[3,null,9]").unwrap();
        assert_eq!(
            trainer().resume::<usize>(&At(folder.path())).unwrap(),
            Some(2)
        );
        assert_eq!(
            checkpoints(folder.path()).unwrap(),
            kept[..1],
            "the damaged one is gone"
        );
        std::fs::remove_file(kept[0].join(MODEL)).unwrap();
        assert_eq!(trainer().resume::<usize>(&At(folder.path())).unwrap(), None);
    }

    /// No weight has changed when the fault is detected.
    #[test]
    fn a_loss_or_a_gradient_that_is_not_finite_ends_training_by_step() {
        let mut running = trainer();
        step(&mut running);
        let row = Sequence::new(vec![3], vec![5, 1]);
        let scaled = |factor: f32| {
            let row = row.clone();
            move |model: &LanguageModel, _: Range<usize>| {
                negative_log_likelihood(model, &[&row], 0.0) * factor
            }
        };
        let error = running
            .step("the loss", 1, &Unwatched, scaled(f32::NAN))
            .unwrap_err();
        assert_eq!(error.to_string(), "the loss became NaN at optimiser step 2");
        assert_eq!(error.kind(), crate::ErrorKind::Divergence);
        let error = running
            .step("the loss", 1, &Unwatched, scaled(1e30))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("gradient") && error.contains("at optimiser step 2"),
            "{error}"
        );
        assert_eq!(running.step, 1);
        assert!(
            ended(running) == ended(trainer()),
            "a step that failed has moved weights"
        );
    }
}
