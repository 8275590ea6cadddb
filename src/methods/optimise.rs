//! What every training loop shares: AdamW with global-norm clipping and a learning-rate schedule, gradient accumulation
//! that does not change the result, and checkpoints from which a killed run goes on bitwise as if nothing had happened.

use crate::methods::training::{Trainable, Training};
use crate::model::Passes;
use crate::model::names;
use crate::model::tape::add_gradients;
use crate::model::weights::{Weights, host, stable_id};
use crate::{Context, Error, Result, rng};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Tensor, TensorData};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// Who watches a training loop: draws progress, counts what it computes, keeps checkpoints.
pub trait Monitor {
    fn progress(&self, _done: usize, _total: usize, _note: &str) {}
    /// So much went through networks.
    fn passes(&self, _passes: Passes) {}
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
    /// Something that whoever reads the log should know.
    fn note(&self, _text: &str) {}
    /// How much work a kill may cost at most: time between two checkpoints of a running loop.
    fn checkpoint_interval(&self) -> Duration {
        Duration::from_secs(15)
    }
}

/// A monitor that does nothing.
pub struct Unwatched;

impl Monitor for Unwatched {}

/// A model being trained for a planned number of optimiser steps.
pub struct Trainer<M: Trainable> {
    /// Absent only while the optimiser works on it, so that old and new weights never stand side by side.
    model: Option<M>,
    optimiser: ModuleOptimizer,
    settings: OptimiserSettings,
    training: Training,
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

impl<M: Trainable> Trainer<M> {
    /// `seed` draws the adapters where `training` has some.
    pub fn new(model: M, settings: &OptimiserSettings, training: &Training, seed: u64, total: usize) -> Self {
        let prepared = model.prepared(&training.computation(), &mut rng::stream(seed, "training/adapters", &[]));
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

    /// The model as it is trained.
    pub fn model(&self) -> &M {
        self.model.as_ref().expect("a step gives the model back")
    }

    /// Passes with the gradients that this training takes.
    pub fn with_gradients(&self, passes: Passes) -> Passes {
        passes.with_gradients(self.training.gradient_checkpointing)
    }

    /// The trained model, as it will be saved.
    pub fn finish(self) -> M {
        self.model().valid().restored()
    }

    /// One optimiser step on `rows` rows. `loss(model, range)` is the *part* of the step's loss that rows `range`
    /// contribute, divided by the normaliser of the whole step, so that micro-batches add up to the same gradient.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite, before any weight has moved; `what` names the loss.
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
        monitor.gradients(self.step, &|| names::tensors(model, "gradients", &gradients));
        let (loss, gradient_norm) = loss_and_norm(losses, &gradients, model)?;
        finite(loss, what, self.step + 1)?;
        if !gradient_norm.is_finite() {
            return Err(diverged(&names::tensors(model, "gradients", &gradients), gradient_norm, self.step + 1));
        }
        let limit = self.settings.clip_norm;
        if limit > 0.0 && f64::from(gradient_norm) > limit {
            let factor = limit / (f64::from(gradient_norm) + 1e-6);
            model.visit(&mut Scale { gradients: &mut gradients, factor });
        }
        let rate = self.settings.rate(self.step, self.total);
        self.model = self.model.take().map(|model| self.optimiser.step(rate, model, gradients));
        let report = StepReport { loss, gradient_norm };
        monitor.stepped(self.step, &report);
        self.step += 1;
        Ok(report)
    }

    /// Goes on from the newest checkpoint that is whole, if there is one; returns the state of the loop that was saved with it.
    /// Damaged ones are noted and removed.
    pub fn resume<S: DeserializeOwned>(&mut self, monitor: &dyn Monitor) -> Result<Option<S>> {
        let Some(folder) = monitor.checkpoint_folder() else { return Ok(None) };
        for place in checkpoints(&folder)?.into_iter().rev() {
            match self.load(&place) {
                Ok((cost, state)) => {
                    monitor.resumed(cost);
                    return Ok(Some(state));
                }
                Err(error) => {
                    monitor.note(&format!("{error}; going on from an earlier checkpoint, or from the beginning"));
                    std::fs::remove_dir_all(&place).context(|| format!("cannot remove {}", place.display()))?;
                }
            }
        }
        Ok(None)
    }

    /// Takes over weights, optimiser and step of the checkpoint at `place`, or nothing of it; returns cost and loop state.
    fn load<S: DeserializeOwned>(&mut self, place: &Path) -> Result<(serde_json::Value, S)> {
        let damaged = || format!("the checkpoint {} is damaged", place.display());
        check_sums(place)?;
        let text = std::fs::read_to_string(place.join(STATE)).context(damaged)?;
        let (step, cost, state): (usize, serde_json::Value, S) = serde_json::from_str(&text).context(damaged)?;
        let record = ModuleRecord::load(place.join(MODEL)).context(damaged)?;
        // Of a frozen weight there is no record.
        let recorded = record.len();
        let loaded = self.model().clone().try_load_record(record.allow_partial(true)).context(damaged)?;
        let trained = trained(&loaded).len();
        if recorded != trained {
            return Err(Error::store(damaged()).caused_by(format!("it holds {recorded} of {trained} parameters")));
        }
        let optimiser = fresh_optimiser(&self.settings).load(place.join(OPTIMISER)).context(damaged)?;
        (self.model, self.optimiser, self.step) = (Some(loaded.train()), optimiser, step);
        Ok((cost, state))
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

    /// Writes trained weights, optimiser and loop state together, beside the last checkpoint, which stays until the one after.
    fn save<S: Serialize>(&mut self, folder: &Path, cost: &serde_json::Value, loop_state: &S) -> Result<()> {
        self.save_in_steps(folder, cost, loop_state, &mut || Ok(()))
    }

    /// As [`save`](Self::save); `before` is called before everything that changes the disk, and ends it there with an error.
    fn save_in_steps<S: Serialize>(
        &mut self,
        folder: &Path,
        cost: &serde_json::Value,
        loop_state: &S,
        before: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let place = folder.join(format!("{CHECKPOINT}{:09}", self.step));
        let failed = || format!("cannot write the checkpoint {}", place.display());
        let mut earlier = checkpoints(folder)?;
        if earlier.last() == Some(&place) {
            self.saved = Instant::now();
            return Ok(());
        }
        earlier.pop();
        let beside = folder.join(UNFINISHED);
        for left_over in earlier.iter().chain([&beside]).filter(|folder| folder.exists()) {
            before()?;
            std::fs::remove_dir_all(left_over).context(failed)?;
        }
        before()?;
        std::fs::create_dir_all(&beside).context(failed)?;
        before()?;
        let model = self.model();
        let record = model.clone().into_record_group(ParamGroup::from_ids(trained(model)));
        record.save(beside.join(MODEL)).context(failed)?;
        before()?;
        self.optimiser.save(beside.join(OPTIMISER)).context(failed)?;
        before()?;
        let state = serde_json::to_string(&(self.step, cost, loop_state)).context(failed)?;
        std::fs::write(beside.join(STATE), state).context(failed)?;
        before()?;
        let sums =
            PARTS.iter().map(|name| Ok((*name, sum(&beside.join(name))?))).collect::<Result<BTreeMap<_, _>>>()?;
        std::fs::write(beside.join(SUMS), serde_json::to_string(&sums).context(failed)?).context(failed)?;
        for name in PARTS.into_iter().chain([SUMS]) {
            sync(&beside.join(name))?;
        }
        sync(&beside)?;
        before()?;
        std::fs::rename(&beside, &place).context(failed)?;
        sync(folder)?;
        self.saved = Instant::now();
        Ok(())
    }
}

/// Begins the names of folders with checkpoints; the step follows.
const CHECKPOINT: &str = "checkpoint-";
/// A checkpoint that is being written.
const UNFINISHED: &str = "unfinished-checkpoint";
/// Files of a checkpoint.
const MODEL: &str = "model.bpk";
const OPTIMISER: &str = "optimiser.bpk";
const STATE: &str = "state.json";
const PARTS: [&str; 3] = [MODEL, OPTIMISER, STATE];
/// The blake3 sums of these.
const SUMS: &str = "sums.json";

/// The checkpoints in `folder`, the newest last.
fn checkpoints(folder: &Path) -> Result<Vec<PathBuf>> {
    let unread = || format!("cannot read {}", folder.display());
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).context(unread)? {
        let path = entry.context(unread)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let step = name.and_then(|name| name.strip_prefix(CHECKPOINT)).and_then(|step| step.parse::<usize>().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Errors unless the files of the checkpoint at `place` are those that were written.
fn check_sums(place: &Path) -> Result<()> {
    let damaged = || format!("the checkpoint {} is damaged", place.display());
    let sums = std::fs::read_to_string(place.join(SUMS)).context(damaged)?;
    let sums: BTreeMap<String, String> = serde_json::from_str(&sums).context(damaged)?;
    for name in PARTS {
        if sums.get(name) != Some(&sum(&place.join(name))?) {
            return Err(Error::store(damaged()).caused_by(format!("{name} is not what was written")));
        }
    }
    Ok(())
}

/// The blake3 sum of a file.
fn sum(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Waits until a file, or the names in a folder, are on the disk.
fn sync(path: &Path) -> Result<()> {
    // Only Unix opens folders.
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
    synced.context(|| format!("cannot write {} to the disk", path.display()))
}

fn fresh_optimiser(settings: &OptimiserSettings) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_beta_1(settings.beta_1)
        .with_beta_2(settings.beta_2)
        .with_epsilon(settings.epsilon)
        .with_weight_decay(settings.weight_decay)
        .init()
}

/// The model with every parameter known by its path. Two networks of one kind have parameters of one name, and gradients
/// and the optimiser's state, which outlives a process, are kept by this identity.
fn identified<M: Module>(model: M) -> M {
    #[derive(Default)]
    struct Identify {
        path: Vec<String>,
    }
    impl ModuleMapper for Identify {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn map_float<const D: usize>(&mut self, mut parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
            parameter.id = stable_id(&self.path.join("."));
            parameter
        }
    }
    model.map(&mut Identify::default())
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

/// The sum of the parts of a loss and the L2 norm of all gradients together, in one read from the device.
fn loss_and_norm<M: Module>(mut parts: Vec<Tensor<1>>, gradients: &GradientsParams, model: &M) -> Result<(f32, f32)> {
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
    let mut squares = Squares { gradients, sums: Vec::new() };
    model.visit(&mut squares);
    let count = parts.len();
    if !squares.sums.is_empty() {
        parts.push(Tensor::cat(squares.sums, 0).sum());
    }
    let read = host(Tensor::cat(parts, 0))?;
    Ok((read[..count].iter().sum(), read[count..].iter().sum::<f32>().sqrt()))
}

/// The error that gradients are whose norm is not finite; names the first tensor that is to blame.
fn diverged(gradients: &Weights, norm: f32, step: usize) -> Error {
    let wrong = |name: &&str| gradients.values(name).is_ok_and(|values| values.iter().any(|value| !value.is_finite()));
    let message = match gradients.list().map(|listed| listed.name).find(wrong) {
        Some(name) => format!("the gradient of `{name}` is not finite at optimiser step {step}"),
        None => format!("the norm of all gradients became {norm} at optimiser step {step}"),
    };
    Error::divergence(message).hint(DIVERGED)
}

const DIVERGED: &str = "training diverged: lower the learning rate, or bound the reward head";

/// Multiplies all gradients by a factor, one after the other.
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

/// Errors when training has produced something that is not a number, naming what and where.
pub fn finite(value: f32, what: &str, step: usize) -> Result<f32> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Error::divergence(format!("{what} became {value} at optimiser step {step}")).hint(DIVERGED))
    }
}

/// Errors unless every value is finite; `what` is theirs, one a row.
pub fn all_finite(values: &[f32], what: &str) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(row) => Err(Error::divergence(format!("row {}: {what} is {}", row + 1, values[row])).hint(
            "the model computes numbers that are too large or undefined; take another checkpoint, or compute in f32",
        )),
    }
}

/// A `[rows, columns]` tensor of host values.
pub fn matrix(values: Vec<f32>, rows: usize, columns: usize, device: &burn::tensor::Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}
