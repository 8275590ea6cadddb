//! `touchstone plan`: shows the stages of a study, those that are done, and the resources that the
//! others will need. Runs nothing and downloads nothing.

mod hyperqueue;
mod json;

pub use hyperqueue::LOGS;

use super::bytes::Bytes;
use super::local::{LocalArgs, resolve};
use super::study::StudyArgs;
use super::units::duration;
use super::{complain, print};
use crate::device::DeviceSpec;
use crate::device::hardware::{BackendProfile, Hardware};
use crate::executor::{MemoryBytes, Resources};
use crate::experiment::{Hyper, Study};
use crate::pipeline::{Listing, PlannedStage, Store};
use crate::plan::{Plan, fit};
use crate::{Context, Result, files};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    /// Show every stage instead of a line per kind
    #[arg(long)]
    pub stages: bool,
    /// One JSON document for programs that start stages themselves, with every stage behind its
    /// inputs; short for --format json
    #[arg(long, conflicts_with = "stages")]
    pub json: bool,
    /// Form of the output: text for people, json for programs, hq for `hq job submit-file` of HyperQueue,
    /// which writes the stages to the store too
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t, conflicts_with_all = ["stages", "json"])]
    pub format: PlanFormat,
    /// Write the stages to the store, where `touchstone stage <KEY>` computes them
    #[arg(long)]
    pub record: bool,
    /// Hardware to estimate for: here, or a GPU such as h100-80gb [default: what the scale names,
    /// else here]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

/// The form of the output of `plan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    #[default]
    Text,
    Json,
    Hq,
}

impl PlanArgs {
    fn format(&self) -> PlanFormat {
        if self.json {
            PlanFormat::Json
        } else {
            self.format
        }
    }
}

pub fn run(args: &PlanArgs) -> Result<()> {
    let (study, local) = resolve(&args.study.experiment, &args.study.choice, &args.local)?;
    let plan = Plan::new(&study, local.as_ref())?;
    let target = Target::choose(args, &study)?;
    let format = args.format();
    if args.record || format == PlanFormat::Hq {
        Store::open(&args.study.store)?.plan(&plan.graph)?;
    }
    // A plan must not create the store: one that does not exist yet counts as empty.
    let store = if args.study.store.exists() {
        Some(Store::open_existing(&args.study.store)?.listing()?)
    } else {
        None
    };
    let lines: Vec<Line> = plan
        .graph
        .iter()
        .map(|stage| Line::new(&plan, stage, &target, store.as_ref()))
        .collect();
    let document = match format {
        PlanFormat::Text => None,
        PlanFormat::Json => Some(json::document(&args.study, &study, &target, &lines)?),
        PlanFormat::Hq => {
            files::create_dir(&args.study.store.join(LOGS))?;
            Some(hyperqueue::job(&args.study, &study, &lines)?)
        }
    };
    if let Some(document) = document {
        if format == PlanFormat::Hq && lines.iter().all(|line| line.done) {
            complain("nothing is left to compute, so the job has no task\n");
        }
        print(&document)?;
        return fit::check(
            &study,
            local.as_ref(),
            &plan,
            target.hardware.memory,
            target.backend,
        );
    }
    let finished = lines.iter().filter(|line| line.done).count();
    let (methods, sizes, seeds) = (study.methods.len(), study.sizes.len(), study.seeds.len());
    let mut text = format!(
        "{}: {} at scale {}, profile {}\n{methods} methods × {sizes} sizes × {seeds} seeds: {} stages, {finished} done\n",
        study.name,
        study.title,
        study.scale,
        study.profile,
        lines.len(),
    );
    for (size, model) in study
        .sizes
        .iter()
        .filter(|(_, model)| model.checkpoint.is_some())
    {
        text += &format!(
            "model {size}: {}\n",
            model.checkpoint.as_deref().unwrap_or_default()
        );
    }
    for (name, source) in study.data.iter().flat_map(|data| data.named()) {
        text += &format!("{name}: {source}\n");
    }
    if study.data.is_some() {
        text += &hyper_parameters(&study, &plan)?;
    }
    text += &format!(
        "{}\n",
        if args.stages {
            stages(&lines)
        } else {
            kinds(&lines)
        }
    );
    text += &format!(
        "\nMemory of the widest stage of each kind, GiB\n{}\n",
        memory(&lines)
    );
    let left: f64 = lines
        .iter()
        .filter(|line| !line.done)
        .map(|line| line.resources.seconds)
        .sum();
    if study.data.is_some() {
        for sentence in fit::on_common_gpus(&study, local.as_ref(), &plan)? {
            text += &format!("\n{sentence}");
        }
        text += "\n";
    }
    text += &format!(
        "\nleft to do: about {} on {}, one stage at a time (reckoned from operations and bytes, {})\n",
        duration(left),
        target.hardware.name,
        match &plan.texts {
            Some(texts) => format!("texts at {:.0} % of their limits", 100.0 * texts.mean),
            None => "texts at their limits".into(),
        }
    );
    print(&text)?;
    fit::check(
        &study,
        local.as_ref(),
        &plan,
        target.hardware.memory,
        target.backend,
    )
}

/// The hyper-parameters that the stages of `plan` use, a line for each section. Methods may have
/// others.
fn hyper_parameters(study: &Study, plan: &Plan) -> Result<String> {
    const ALWAYS: [&str; 5] = [
        "demonstrations",
        "generation",
        "training",
        "irl",
        "evaluation",
    ];
    let kinds: BTreeSet<&str> = plan
        .graph
        .iter()
        .map(|stage| stage.spec.kind.as_str())
        .collect();
    let is_used = |section: &str| {
        ALWAYS.contains(&section)
            || kinds.contains(section)
            || (section == "preferences" && kinds.contains("comparisons"))
    };
    let values = serde_json::to_value(&study.shared)
        .context(|| "cannot encode the hyper-parameters".into())?;
    let lines = Hyper::SECTIONS
        .iter()
        .filter(|section| is_used(section))
        .map(|section| {
            let mut values_of = Vec::new();
            flatten("", &values[*section], &mut values_of);
            format!("[{section}] {}\n", values_of.join(", "))
        });
    Ok(lines.collect())
}

/// Keys that mean something on the embedded world alone.
const OF_THE_WORLD: [&str; 10] = [
    "quality",
    "agreement",
    "labels",
    "split",
    "decoding_posts",
    "selection_posts",
    "temperatures",
    "likelihood_posts",
    "likelihood_delta",
    "mt_bench_noise",
];

/// Adds every value below `value` with its dotted key.
fn flatten(key: &str, value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(name, value)| {
            if OF_THE_WORLD.contains(&name.as_str()) {
                return;
            }
            let key = match key {
                "" => name.clone(),
                _ => format!("{key}.{name}"),
            };
            flatten(&key, value, into);
        }),
        _ => into.push(format!("{key} {}", shortest(value))),
    }
}

/// A value as the file would have it: numbers of 32 bits are not shown with the digits of 64.
fn shortest(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            match number as f32 {
                narrow if f64::from(narrow) == number => format!("{narrow:?}"),
                _ => format!("{number:?}"),
            }
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(shortest).collect();
            format!("[{}]", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// The hardware that the stages would run on.
pub struct Target {
    pub hardware: Hardware,
    backend: BackendProfile,
}

impl Target {
    fn choose(args: &PlanArgs, study: &Study) -> Result<Self> {
        let (mut hardware, backend) = match args
            .target
            .as_ref()
            .or(study.target.as_ref())
            .map(String::as_str)
        {
            None | Some("here") => return Ok(Self::here(&args.study)),
            Some(name) => (Hardware::named(name)?, BackendProfile::GPU),
        };
        if let Some(Bytes(limit)) = args.study.memory {
            hardware.memory = limit;
        }
        Ok(Self { hardware, backend })
    }

    /// This machine, with the memory that `args` allow.
    pub fn here(args: &StudyArgs) -> Self {
        let mut hardware = Hardware::here(args.stages_at_once());
        if let Some(Bytes(limit)) = args.memory {
            hardware.memory = limit;
        }
        let device = args.device.first();
        Self {
            hardware,
            backend: device.map_or(BackendProfile::FLEX, |device| device.profile()),
        }
    }

    /// The nodes of a cluster: the GPU that the scale names or, without one, cores like those here,
    /// with as much memory as the stages can use unless `args` limit it.
    pub fn of_nodes(args: &StudyArgs, study: &Study) -> Result<Self> {
        let mut target = Self::here(args);
        let on_gpu = args.device.iter().any(|device| device.gpu().is_some());
        match study.target.as_deref().filter(|name| *name != "here") {
            Some(name) if on_gpu => target.hardware = Hardware::named(name)?,
            _ => target.hardware.memory = u64::MAX,
        }
        if let Some(Bytes(limit)) = args.memory {
            target.hardware.memory = limit;
        }
        Ok(target)
    }

    pub fn backend(&self) -> BackendProfile {
        self.backend
    }

    /// The resources that a stage of `plan` needs.
    pub fn resources(&self, plan: &Plan, stage: &PlannedStage) -> Resources {
        plan.work(&stage.key)
            .resources(plan.texts.as_ref(), &self.hardware, self.backend)
    }
}

/// A stage with the resources that it needs. The measured memory is known if the stage is done, on
/// a device without memory of its own.
struct Line<'a> {
    stage: &'a PlannedStage,
    done: bool,
    resources: Resources,
}

impl<'a> Line<'a> {
    fn new(plan: &Plan, stage: &'a PlannedStage, target: &Target, store: Option<&Listing>) -> Self {
        let manifest = store.and_then(|store| store.manifest(&stage.key));
        let done = manifest.is_some();
        let on_cpu = manifest.filter(|manifest| {
            manifest
                .device
                .parse::<DeviceSpec>()
                .is_ok_and(|spec| spec.gpu().is_none())
        });
        let resources = Resources {
            measured_memory_bytes: on_cpu.and_then(|manifest| manifest.peak_memory_bytes),
            ..target.resources(plan, stage)
        };
        Self {
            stage,
            done,
            resources,
        }
    }

    /// Estimated bytes at the stage's peak.
    fn bytes(&self) -> f64 {
        self.resources.memory_bytes.total
    }
}

/// A table whose first column is text and whose others are numbers.
fn table<const N: usize>(headers: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(headers).add_rows(rows);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

fn stages(lines: &[Line]) -> Table {
    let rows = lines.iter().map(|line| {
        let state = if line.done { "done" } else { "to do" };
        [
            line.stage.label.clone(),
            line.stage.key.short(),
            line.stage.spec.kind.clone(),
            state.into(),
            count(line.resources.tokens),
            count(line.resources.flops),
            gib(line.bytes()),
            measured(line),
            duration(line.resources.seconds),
        ]
    });
    table(
        [
            "stage", "key", "kind", "state", "tokens", "FLOPs", "GiB", "measured", "time",
        ],
        rows,
    )
}

fn kinds(lines: &[Line]) -> Table {
    let mut kinds: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        kinds.entry(&line.stage.spec.kind).or_default().push(line);
    }
    let rows = kinds.into_iter().map(|(kind, lines)| {
        let sum = |value: fn(&Line) -> f64| lines.iter().map(|line| value(line)).sum::<f64>();
        let widest = lines.iter().map(|line| line.bytes()).fold(0.0, f64::max);
        [
            kind.to_string(),
            lines.len().to_string(),
            lines.iter().filter(|line| line.done).count().to_string(),
            count(sum(|line| line.resources.tokens)),
            count(sum(|line| line.resources.flops)),
            gib(widest),
            duration(sum(|line| line.resources.seconds)),
        ]
    });
    table(
        ["kind", "stages", "done", "tokens", "FLOPs", "GiB", "time"],
        rows,
    )
}

/// A table with the stage of each kind that needs the most memory.
fn memory(lines: &[Line]) -> Table {
    let mut widest: BTreeMap<&str, &Line> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.resources.tokens > 0.0) {
        let held = widest.entry(&line.stage.spec.kind).or_insert(line);
        if line.bytes() > held.bytes() {
            *held = line;
        }
    }
    let rows = widest.into_values().map(|line| {
        let MemoryBytes {
            weights,
            gradients,
            optimiser,
            activations,
            kv_cache,
            read_only_models,
            program,
            total,
        } = line.resources.memory_bytes;
        let parts = [
            weights,
            gradients,
            optimiser,
            activations,
            kv_cache,
            read_only_models,
            program,
            total,
        ];
        let [
            weights,
            gradients,
            optimiser,
            activations,
            kv_cache,
            others,
            program,
            all,
        ] = parts.map(gib);
        [
            line.stage.label.clone(),
            weights,
            gradients,
            optimiser,
            activations,
            kv_cache,
            others,
            program,
            all,
            gib(line.resources.expected_memory_bytes),
            measured(line),
            line.resources.rows_at_once.to_string(),
        ]
    });
    table(
        [
            "stage",
            "weights",
            "gradients",
            "optimiser",
            "activations",
            "KV cache",
            "read-only models",
            "program",
            "at most",
            "expected",
            "measured",
            "rows at once",
        ],
        rows,
    )
}

fn measured(line: &Line) -> String {
    line.resources
        .measured_memory_bytes
        .map_or("-".into(), |bytes| gib(bytes as f64))
}

fn gib(bytes: f64) -> String {
    let gib = bytes / (1u64 << 30) as f64;
    match gib {
        0.0 => "-".into(),
        _ if gib < 1.0 => format!("{gib:.3}"),
        _ if gib < 10.0 => format!("{gib:.2}"),
        _ => format!("{gib:.1}"),
    }
}

/// A number with three digits, and a power of ten beyond a million.
fn count(number: f64) -> String {
    match number {
        0.0 => "-".into(),
        _ if number < 1e4 => format!("{number:.0}"),
        _ => format!("{number:.2e}"),
    }
}
