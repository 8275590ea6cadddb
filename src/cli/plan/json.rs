//! A plan as one JSON document: stages in an order in which each follows its inputs, with the
//! resources that each needs.

use super::{Line, Target};
use crate::cli::study::StudyArgs;
use crate::executor::Resources;
use crate::experiment::Study;
use crate::pipeline::{StageKey, StageSpec};
use crate::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;

/// Version of the document: raised when a key is renamed or removed.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    experiment: &'a str,
    title: &'a str,
    scale: &'a str,
    profile: &'a str,
    methods: Vec<&'a str>,
    sizes: Vec<&'a str>,
    seeds: &'a [u64],
    /// The hardware for which seconds and rows at once are estimated.
    hardware: &'a str,
    hardware_memory_bytes: u64,
    /// The names for `touchstone stage --device`.
    devices: Vec<String>,
    /// The store for `touchstone stage --store`, from the root on.
    store: PathBuf,
    /// Estimated seconds for the unfinished stages, one at a time.
    seconds_left: f64,
    stages: Vec<StageEntry<'a>>,
}

#[derive(Serialize)]
struct StageEntry<'a> {
    key: StageKey,
    label: &'a str,
    /// Kind, version, settings, inputs by role and seed: everything that the key is a hash of.
    spec: &'a StageSpec,
    done: bool,
    resources: Resources,
}

/// The JSON document of the plan in `lines`.
///
/// # Errors
/// If the current folder cannot be determined.
pub(super) fn document(
    args: &StudyArgs,
    study: &Study,
    target: &Target,
    lines: &[Line],
) -> Result<String> {
    let document = Document {
        format: FORMAT,
        experiment: &study.name,
        title: &study.title,
        scale: &study.scale,
        profile: &study.profile,
        methods: study
            .methods
            .iter()
            .map(|method| method.id.as_str())
            .collect(),
        sizes: study.sizes.iter().map(|(size, _)| size.as_str()).collect(),
        seeds: &study.seeds,
        hardware: &target.hardware.name,
        hardware_memory_bytes: target.hardware.memory,
        devices: args.devices(),
        store: std::path::absolute(&args.store)
            .context(|| format!("cannot find {}", args.store.display()))?,
        seconds_left: lines
            .iter()
            .filter(|line| !line.done)
            .map(|line| line.resources.seconds)
            .sum(),
        stages: lines.iter().map(entry).collect(),
    };
    let text =
        serde_json::to_string_pretty(&document).context(|| "cannot encode the plan".into())?;
    Ok(text + "\n")
}

fn entry<'a>(line: &Line<'a>) -> StageEntry<'a> {
    StageEntry {
        key: line.stage.key,
        label: &line.stage.label,
        spec: &line.stage.spec,
        done: line.done,
        resources: line.resources.clone(),
    }
}
