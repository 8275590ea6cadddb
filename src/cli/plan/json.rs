//! A plan as one JSON document: stages in an order in which each follows its inputs, with the
//! resources that each needs.

use super::{Line, Target};
use crate::experiment::Study;
use crate::pipeline::{StageKey, StageSpec};
use crate::stages::work::Memory;
use crate::{Context, Result};
use serde::Serialize;

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

/// Estimated resources of a stage. Texts are assumed to have their largest length, so that the
/// estimates are upper bounds.
#[derive(Serialize)]
struct Resources {
    tokens: f64,
    flops: f64,
    optimiser_steps: f64,
    seconds: f64,
    /// Rows or pairs in a pass, as many as the memory allows.
    rows_at_once: usize,
    memory_bytes: MemoryBytes,
    /// Largest resident set of the process that computed the stage, if known.
    measured_memory_bytes: Option<u64>,
}

/// Memory at the stage's peak, by use. `total` is less than the sum if uses follow each other.
#[derive(Serialize)]
struct MemoryBytes {
    weights: f64,
    gradients: f64,
    optimiser: f64,
    activations: f64,
    kv_cache: f64,
    read_only_models: f64,
    program: f64,
    total: f64,
}

/// The JSON document of the plan in `lines`.
pub(super) fn document(study: &Study, target: &Target, lines: &[Line]) -> Result<String> {
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
        seconds_left: lines
            .iter()
            .filter(|line| !line.done)
            .map(|line| line.seconds)
            .sum(),
        stages: lines.iter().map(entry).collect(),
    };
    let text =
        serde_json::to_string_pretty(&document).context(|| "cannot encode the plan".into())?;
    Ok(text + "\n")
}

fn entry<'a>(line: &Line<'a>) -> StageEntry<'a> {
    let Memory {
        weights,
        gradients,
        optimiser,
        other_models,
        activations,
        kv_cache,
        program,
        ..
    } = line.memory;
    let memory_bytes = MemoryBytes {
        weights,
        gradients,
        optimiser,
        activations,
        kv_cache,
        read_only_models: other_models,
        program,
        total: line.memory.total(),
    };
    StageEntry {
        key: line.stage.key,
        label: &line.stage.label,
        spec: &line.stage.spec,
        done: line.done,
        resources: Resources {
            tokens: line.tokens,
            flops: line.flops,
            optimiser_steps: line.steps,
            seconds: line.seconds,
            rows_at_once: line.micro_batch,
            memory_bytes,
            measured_memory_bytes: line.measured,
        },
    }
}
