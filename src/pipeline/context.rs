//! The pipeline as a stage's code sees it: settings, inputs, an output folder and progress reports.

use super::attempt::Attempt;
use super::event::Event;
use super::graph::PlannedStage;
use super::key::{StageKey, StageSpec};
use super::measure::{Cost, Meter};
use super::roles::gather;
use super::store::Store;
use crate::error::{Context, Error, Result};
use miette::Diagnostic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two progress reports, so that a stage may report at every step.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Everything that is handed to a stage's body; shared freely between its threads.
pub struct StageContext {
    pub spec: StageSpec,
    /// The device to compute on, as the user wrote it.
    pub device: String,
    /// Bytes of the device's memory that the stage may fill, where a limit is known.
    pub memory: Option<u64>,
    pub label: String,
    store: Store,
    out: PathBuf,
    scratch: PathBuf,
    meter: Mutex<Meter>,
    reported: Mutex<Option<Instant>>,
    sources: Mutex<Vec<Value>>,
    /// Inputs whose bytes were compared with their manifests.
    rehashed: Mutex<BTreeSet<StageKey>>,
}

/// The device that a stage computes on, and its memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub device: String,
    /// Bytes of the device's memory that one stage may fill, where a limit is known.
    pub memory: Option<u64>,
}

impl StageContext {
    pub(super) fn new(
        stage: PlannedStage,
        place: &Placement,
        store: &Store,
        draft: &Attempt,
    ) -> Self {
        Self {
            spec: stage.spec,
            device: place.device.clone(),
            memory: place.memory,
            label: stage.label,
            store: store.clone(),
            out: draft.out().to_owned(),
            scratch: draft.scratch().to_owned(),
            meter: Mutex::new(Meter::start()),
            reported: Mutex::default(),
            sources: Mutex::default(),
            rehashed: Mutex::default(),
        }
    }

    /// The stage's settings, deserialised into their own type.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.spec.settings).context(|| {
            format!(
                "the settings of stage `{}` (kind `{}`) do not fit it",
                self.label, self.spec.kind
            )
        })
    }

    /// The seed that this stage depends on.
    ///
    /// # Errors
    /// If the stage was planned without a seed: random numbers drawn anyway would be the same for
    /// all seeds.
    pub fn seed(&self) -> Result<u64> {
        self.spec.seed.ok_or_else(|| {
            Error::internal(format!(
                "stage `{}` (kind `{}`) was planned without a seed",
                self.label, self.spec.kind
            ))
            .hint("plan stages of this kind with a seed")
        })
    }

    /// The stage's inputs as a struct that has a field for each role.
    ///
    /// # Errors
    /// If a role is missing, or the struct lacks a role that the stage has.
    pub fn inputs<T: Serialize + DeserializeOwned>(&self) -> Result<T> {
        gather(&self.spec.inputs).map_err(|cause| {
            let error = format!(
                "the inputs of stage `{}` (kind `{}`) do not fit it",
                self.label, self.spec.kind
            );
            Error::new(cause.kind(), error).caused_by(cause)
        })
    }

    /// The complete artifact of an input.
    ///
    /// # Errors
    /// If the artifact is missing, or if its bytes are not those that were written.
    pub fn artifact(&self, input: &StageKey) -> Result<PathBuf> {
        let Some((role, key)) = self.spec.inputs.iter().find(|(_, key)| *key == input) else {
            let error = format!(
                "{} is not an input of stage `{}`",
                input.short(),
                self.label
            );
            return Err(
                Error::internal(error).hint("a stage reads what its key names, and nothing else")
            );
        };
        if lock(&self.rehashed).contains(key)
            && let Some(folder) = self.store.artifact(key)
        {
            return Ok(folder);
        }
        let intact = self
            .store
            .intact(key)
            .map_err(|error| self.name_input(role, error))?;
        lock(&self.rehashed).extend(intact.is_some().then_some(*key));
        intact.ok_or_else(|| {
            Error::store(format!(
                "input `{role}` ({}) of stage `{}` is not in the store",
                key.short(),
                self.label
            ))
            .hint("run the experiment's command again: it computes what is missing, inputs first")
        })
    }

    /// Adds the stage that reads it to an error about an input.
    fn name_input(&self, role: &str, error: Error) -> Error {
        let hint = error.help().map(|hint| hint.to_string());
        let named = Error::new(
            error.kind(),
            format!("input `{role}` of stage `{}` is damaged", self.label),
        );
        let named = named.caused_by(error);
        match hint {
            Some(hint) => named.hint(hint),
            None => named,
        }
    }

    /// The folder for the artifact's files; empty at first.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder for checkpoints. Its contents survive if this stage is killed, and are removed
    /// when the stage is finished. It belongs to this attempt alone and includes the checkpoints of
    /// an earlier attempt. A checkpoint must be written beside its place and renamed, since the
    /// stage may be killed at any moment.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Reports that `done` of `total` units (0 if unknown) are finished; cheap enough to call at
    /// every step.
    pub fn progress(&self, done: u64, total: u64, note: &str) {
        let mut reported = lock(&self.reported);
        if done == total || reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            *reported = Some(Instant::now());
            Event::Progress {
                done,
                total,
                note: note.to_owned(),
            }
            .send();
        }
    }

    /// Counts tokens that went through a model.
    pub fn add_tokens(&self, tokens: u64) {
        lock(&self.meter).add_tokens(tokens);
    }

    /// Counts floating-point operations.
    pub fn add_flops(&self, flops: f64) {
        lock(&self.meter).add_flops(flops);
    }

    /// The stage's cost so far, to be written into every checkpoint.
    pub fn cost(&self) -> Cost {
        lock(&self.meter).cost()
    }

    /// Continues from a checkpoint that had cost `earlier`.
    pub fn resume(&self, earlier: Cost) {
        lock(&self.meter).resume(earlier);
    }

    /// Records in the manifest which data from outside the store the stage read, and which version.
    pub fn add_source(&self, fingerprint: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(fingerprint)
            .context(|| "a fingerprint that is no JSON".to_owned())?;
        lock(&self.sources).push(value);
        Ok(())
    }

    pub(super) fn sources(&self) -> Vec<Value> {
        lock(&self.sources).clone()
    }

    pub(super) fn started(&self) -> String {
        lock(&self.meter).started()
    }
}

/// Locks a mutex even after a thread panicked with it: the counters stay valid in any case.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
