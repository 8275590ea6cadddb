//! The status as one JSON document.

use super::StatusArgs;
use super::tally::{Counts, Hours, Tally};
use crate::pipeline::{Graph, StageKey, Store};
use crate::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the document: raised when a key is renamed or removed.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    store: &'a Path,
    /// Names as they were given; empty for all that is recorded.
    experiments: &'a [String],
    stages: Counts,
    hours_spent: Hours,
    /// `None` while nothing has finished.
    time_left: Option<TimeLeft>,
    kinds: BTreeMap<&'a str, KindEntry>,
    held: Vec<HeldEntry<'a>>,
    failed: Vec<FailedEntry<'a>>,
    /// Keys of the stages that are neither done nor held nor failed.
    left: Vec<StageKey>,
    held_by_other_studies: usize,
    damaged_records: usize,
}

#[derive(Serialize)]
struct TimeLeft {
    seconds_one_at_a_time: f64,
    seconds_of_the_longest_chain: f64,
    /// With as many stages at once as run now; `None` if none does.
    seconds_to_the_end: Option<f64>,
}

#[derive(Serialize)]
struct KindEntry {
    #[serde(flatten)]
    counts: Counts,
    mean_seconds: Option<f64>,
    seconds_left: f64,
}

#[derive(Serialize)]
struct HeldEntry<'a> {
    key: StageKey,
    label: &'a str,
    kind: &'a str,
    /// False if the attempt has ended or has been silent for too long.
    runs: bool,
    attempt: u64,
    place: &'a BTreeMap<String, String>,
    seconds: f64,
    seconds_since_the_last_sign: f64,
}

#[derive(Serialize)]
struct FailedEntry<'a> {
    key: StageKey,
    label: &'a str,
    kind: &'a str,
    reason: String,
    log: &'a Path,
}

pub fn document(
    args: &StatusArgs,
    store: &Store,
    graph: &Graph,
    tally: &Tally,
    damaged: usize,
) -> Result<String> {
    let running = tally.running();
    let time_left = tally.time.map(|left| TimeLeft {
        seconds_one_at_a_time: left.alone,
        seconds_of_the_longest_chain: left.longest_chain,
        seconds_to_the_end: (running > 0).then(|| left.with(running)),
    });
    let kinds = tally.kinds.iter().map(|(name, kind)| {
        let entry = KindEntry {
            counts: kind.counts,
            mean_seconds: kind.mean_seconds,
            seconds_left: kind.seconds_left,
        };
        (*name, entry)
    });
    let held = tally.held.iter().map(|held| HeldEntry {
        key: held.stage.key,
        label: &held.stage.label,
        kind: &held.stage.spec.kind,
        runs: held.alive,
        attempt: held.holder.attempt,
        place: &held.holder.place,
        seconds: held.holder.passed().as_secs_f64(),
        seconds_since_the_last_sign: held.holder.silent.as_secs_f64(),
    });
    let failed = tally.failed.iter().map(|failed| FailedEntry {
        key: failed.stage.key,
        label: &failed.stage.label,
        kind: &failed.stage.spec.kind,
        reason: failed.reason(),
        log: &failed.log,
    });
    let document = Document {
        format: FORMAT,
        store: store.root(),
        experiments: &args.experiments,
        stages: tally.counts,
        hours_spent: tally.hours,
        time_left,
        kinds: kinds.collect(),
        held: held.collect(),
        failed: failed.collect(),
        left: tally.left(graph),
        held_by_other_studies: tally.others,
        damaged_records: damaged,
    };
    let text =
        serde_json::to_string_pretty(&document).context(|| "cannot encode the status".into())?;
    Ok(text + "\n")
}
