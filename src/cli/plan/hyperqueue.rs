//! A plan as a job file of HyperQueue: a task for each stage that is not done, behind the tasks of
//! its inputs.

use super::Line;
use crate::cli::study::StudyArgs;
use crate::experiment::Study;
use crate::pipeline::StageKey;
use crate::{Context, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The folder of the store for what stages print that other programs start, by key.
pub const LOGS: &str = "logs";

#[derive(Serialize)]
struct Job {
    name: String,
    task: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    id: usize,
    command: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deps: Vec<usize>,
    stdout: &'static str,
    stderr: Log,
    env: BTreeMap<&'static str, String>,
    request: [Request; 1],
}

#[derive(Serialize)]
struct Log {
    path: PathBuf,
    /// Logs of stages that succeed are removed.
    on_close: &'static str,
}

#[derive(Serialize)]
struct Request {
    resources: BTreeMap<&'static str, u64>,
}

/// The job file of the stages in `lines` that are not done.
///
/// # Errors
/// If the program's own file or the store cannot be found.
pub(super) fn job(args: &StudyArgs, study: &Study, lines: &[Line]) -> Result<String> {
    let program =
        std::env::current_exe().context(|| "cannot find the program's own file".into())?;
    let store = std::path::absolute(&args.store)
        .context(|| format!("cannot find {}", args.store.display()))?;
    let missing: Vec<&Line> = lines.iter().filter(|line| !line.done).collect();
    let numbers: HashMap<StageKey, usize> = missing
        .iter()
        .enumerate()
        .map(|(number, line)| (line.stage.key, number))
        .collect();
    let job = Job {
        name: format!("touchstone-{}", study.name),
        task: missing
            .iter()
            .enumerate()
            .map(|(id, line)| task(id, line, &numbers, args, &program, &store))
            .collect(),
    };
    toml::to_string(&job).context(|| "cannot encode the job".into())
}

fn task(
    id: usize,
    line: &Line,
    numbers: &HashMap<StageKey, usize>,
    args: &StudyArgs,
    program: &Path,
    store: &Path,
) -> Task {
    let key = line.stage.key.to_string();
    let gpu = args.device.iter().any(|device| device.gpu().is_some());
    let device = args.device.first().map(ToString::to_string);
    let mut command = vec![
        program.display().to_string(),
        "stage".into(),
        key.clone(),
        "--store".into(),
        store.display().to_string(),
        "--device".into(),
        device.unwrap_or_default(),
    ];
    command.extend(args.memory.map(|limit| format!("--memory={}", limit.0)));
    let inputs = line.stage.spec.inputs.values();
    let deps: BTreeSet<usize> = inputs.filter_map(|key| numbers.get(key).copied()).collect();
    let processors = line.resources.processors.max(1);
    // HyperQueue counts memory in MiB. That of a GPU belongs to whoever has the GPU.
    let needs = match gpu {
        true => ("gpus/nvidia", 1),
        false => (
            "mem",
            (line.bytes() / f64::from(1 << 20)).ceil().max(1.0) as u64,
        ),
    };
    Task {
        id,
        command,
        deps: deps.into_iter().collect(),
        stdout: "none",
        stderr: Log {
            path: store.join(LOGS).join(format!("{key}.log")),
            on_close: "rm-if-finished",
        },
        env: ["RAYON_NUM_THREADS", "OMP_NUM_THREADS"]
            .map(|name| (name, processors.to_string()))
            .into(),
        request: [Request {
            resources: [("cpus", processors as u64), needs].into(),
        }],
    }
}
