//! The inside of a stage's process: lock, compute, publish.

use super::claim::Watch;
use super::context::{Place, StageContext};
use super::draft::Draft;
use super::event::Event;
use super::key::StageKey;
use super::manifest::{FORMAT_VERSION, Manifest};
use super::store::Store;
use crate::error::{Error, Result};
use miette::Diagnostic;
use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

/// Set by a parent that keeps the stage's standard input open for as long as it lives.
pub const SUPERVISED_ENV: &str = "TOUCHSTONE_SUPERVISED";

/// How often to look again at a stage that another node computes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Outcome of the wish to have a stage computed.
enum Computed {
    Here,
    /// By another process, which is still at it.
    Elsewhere,
}

/// Computes the planned stage `key` with `body` and publishes what it wrote. Does nothing if the artifact is there. If
/// another process is computing it, a process that a pool supervises leaves, so that the pool can do something else
/// meanwhile; any other waits. Events go to standard output.
///
/// # Errors
/// If the stage is not planned, `body` fails, or the artifact cannot be written. Then nothing is published; checkpoints
/// in scratch remain.
pub fn run_stage(
    store: &Store,
    key: &StageKey,
    place: &Place,
    body: impl FnOnce(&StageContext) -> Result<()>,
) -> Result<()> {
    match compute(store, key, place, body) {
        Ok(Computed::Here) => Event::Finished.send(),
        Ok(Computed::Elsewhere) => Event::Waiting.send(),
        Err(error) => {
            Event::Failed { kind: error.kind(), error: describe(&error) }.send();
            return Err(error);
        }
    }
    Ok(())
}

fn compute(
    store: &Store,
    key: &StageKey,
    place: &Place,
    body: impl FnOnce(&StageContext) -> Result<()>,
) -> Result<Computed> {
    let Some(draft) = begin(store, key)? else {
        return Ok(if store.is_complete(key) { Computed::Here } else { Computed::Elsewhere });
    };
    let context = StageContext::new(store.planned(key)?, place, store, &draft);
    match body(&context).and_then(|()| draft.publish(manifest(&context, *key))) {
        Ok(()) => draft.finish().map(|()| Computed::Here),
        // Another attempt, on a node that took this one for dead, was faster or goes on from its checkpoints. Asked in this
        // order, since the other's claim goes once its artifact is there.
        Err(error) => match (draft.is_given_up(), store.is_complete(key)) {
            (_, true) => Ok(Computed::Here),
            (true, false) => Ok(Computed::Elsewhere),
            (false, false) => Err(error),
        },
    }
}

/// The right to compute `key`; `None` if it is there, or if another process computes it and this one should not wait.
fn begin(store: &Store, key: &StageKey) -> Result<Option<Draft>> {
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
        match store.claim(&lock, &mut watch)? {
            Some(claim) => break claim,
            None if !waits => return Ok(None),
            None => {
                Event::Waiting.send();
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    };
    // Looked at once more: another attempt may have published it and given up its claim just before this one was made.
    if store.is_complete(key) {
        claim.settle();
        return Ok(None);
    }
    store.begin(lock, claim).map(Some)
}

/// All but the files, which publishing adds.
fn manifest(context: &StageContext, key: StageKey) -> Manifest {
    let cost = context.cost();
    Manifest {
        format_version: FORMAT_VERSION,
        key,
        spec: context.spec.clone(),
        label: context.label.clone(),
        touchstone: env!("CARGO_PKG_VERSION").to_owned(),
        code_revision: option_env!("TOUCHSTONE_REVISION").unwrap_or("unknown").to_owned(),
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

/// If a parent supervises this process, leaves when that parent is gone: a parent killed outright cannot stop its
/// children, but the operating system then closes the pipe that it held to their standard input.
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
