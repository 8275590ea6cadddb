//! The inside of a stage's process: lock, compute, publish.

use super::attempt::Attempt;
use super::claim::Watch;
use super::context::{Placement, StageContext};
use super::event::Event;
use super::holder::Holder;
use super::key::StageKey;
use super::manifest::{FORMAT_VERSION, Manifest};
use super::store::Store;
use crate::error::{Error, Result};
use crate::files;
use miette::Diagnostic;
use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

/// Environment variable set by a parent that keeps the stage's standard input open for as long as
/// it lives.
pub const SUPERVISED_ENV: &str = "TOUCHSTONE_SUPERVISED";

/// Time between two checks of a stage that another node computes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The result of a request to compute a stage.
pub(crate) enum Computed {
    Here,
    /// Being computed by another process.
    Elsewhere,
}

/// Computes the planned stage `key` with `body` and publishes its files. Does nothing if the
/// artifact is there. If another process is computing it, a process that a pool supervises exits,
/// so that the pool can use the slot for something else; any other process waits. Events go to
/// standard output.
///
/// # Errors
/// If the stage is not planned, `body` fails, or the artifact cannot be written. Then nothing is
/// published; checkpoints in scratch remain.
pub fn run_stage(
    store: &Store,
    key: &StageKey,
    place: &Placement,
    body: impl FnOnce(&StageContext) -> Result<()>,
) -> Result<()> {
    match compute(store, key, place, body) {
        Ok(Computed::Here) => Event::Finished.send(),
        Ok(Computed::Elsewhere) => Event::Waiting.send(),
        Err(error) => {
            Event::Failed {
                kind: error.kind(),
                error: describe(&error),
            }
            .send();
            return Err(error);
        }
    }
    Ok(())
}

/// Does what [`run_stage`] does without events about the end.
pub(crate) fn compute(
    store: &Store,
    key: &StageKey,
    place: &Placement,
    body: impl FnOnce(&StageContext) -> Result<()>,
) -> Result<Computed> {
    let Some(draft) = begin(store, key, place)? else {
        return Ok(if store.is_complete(key) {
            Computed::Here
        } else {
            Computed::Elsewhere
        });
    };
    let context = StageContext::new(store.planned(key)?, place, store, &draft);
    match body(&context).and_then(|()| draft.publish(manifest(&context, *key))) {
        Ok(()) => draft.finish().map(|()| Computed::Here),
        // Another attempt, on a node that took this one for dead, was faster or has taken over its
        // checkpoints. The checks are in this order because the other attempt removes its claim
        // once its artifact is there.
        Err(error) => match (draft.is_given_up(), store.is_complete(key)) {
            (_, true) => Ok(Computed::Here),
            (true, false) => Ok(Computed::Elsewhere),
            (false, false) => Err(error),
        },
    }
}

/// Obtains the right to compute `key`; `None` if its artifact is there, or if another process
/// computes it and this one should not wait.
fn begin(store: &Store, key: &StageKey, place: &Placement) -> Result<Option<Attempt>> {
    let waits = std::env::var_os(SUPERVISED_ENV).is_none();
    let lock = match store.try_lock(key)? {
        Some(lock) => lock,
        None if !waits => return Ok(None),
        None => {
            Event::Waiting.send();
            store.lock(key)?
        }
    };
    let mut watch = Watch::new();
    let claim = loop {
        if store.is_complete(key) {
            return Ok(None);
        }
        match store.claim(&lock, &mut watch, Holder::here(Some(&place.device)))? {
            Some(claim) => break claim,
            None if !waits => return Ok(None),
            None => {
                Event::Waiting.send();
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    };
    // Checked once more: another attempt may have published the artifact and given up its claim
    // just before this claim was made.
    if store.is_complete(key) {
        claim.settle();
        return Ok(None);
    }
    store.begin(lock, claim).map(Some)
}

/// The manifest except for the files, which publishing adds.
fn manifest(context: &StageContext, key: StageKey) -> Manifest {
    let cost = context.cost();
    Manifest {
        format_version: FORMAT_VERSION,
        key,
        spec: context.spec.clone(),
        label: context.label.clone(),
        touchstone: env!("CARGO_PKG_VERSION").to_owned(),
        code_revision: option_env!("TOUCHSTONE_REVISION")
            .unwrap_or("unknown")
            .to_owned(),
        device: context.device.clone(),
        started: context.started(),
        wall_seconds: cost.wall_seconds,
        cpu_seconds: cost.cpu_seconds,
        peak_memory_bytes: cost.peak_memory_bytes,
        tokens: cost.tokens,
        flops: cost.flops,
        sources: context.sources(),
        files: Default::default(),
    }
}

impl Store {
    /// Writes the log of a failed attempt whose process nobody watches. If this fails too, the
    /// error itself is all that is told.
    pub fn note_failure(&self, key: &StageKey, error: &Error) {
        let text = format!("{}\n\nkind: {}\n", describe(error), error.kind());
        let _ = files::replace(&self.failure_log(key), text.as_bytes());
    }
}

/// The error with its causes on one line and its hint on the next.
pub(super) fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    if let Some(hint) = error.help() {
        text.push_str(&format!("\n{hint}"));
    }
    text
}

/// Makes a supervised process exit when its parent is gone: a parent that was killed outright
/// cannot stop its children, but the operating system then closes the pipe that it held to their
/// standard input.
pub fn leave_with_parent() {
    if std::env::var_os(SUPERVISED_ENV).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 64];
        while matches!(stdin.read(&mut ignored), Ok(1..)) {}
        // A library's exit handlers can hang while its other threads still compute.
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(5));
            std::process::abort();
        });
        std::process::exit(1);
    });
}
