//! `touchstone eval leaderboard`: the six tasks of the Open LLM Leaderboard v1 for a model folder.

use super::folder::EvaluationFolder;
use super::progress::Progress;
use super::show;
use crate::benchmarks::Evaluation;
use crate::benchmarks::leaderboard::evaluate::{TaskRun, evaluation};
use crate::benchmarks::leaderboard::{Convention, Data, Responder, Task, results};
use crate::cli::complain;
use crate::cli::model::open;
use crate::model::checkpoint::{Checkpoint, FILES_BESIDE};
use crate::{Result, device, files};
use clap::Args;
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Args)]
pub struct LeaderboardArgs {
    /// Folder with config.json, weights and tokenizer.json; or hf:owner/name@revision
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Tasks: arc_challenge, hellaswag, mmlu, truthfulqa_mc2, winogrande, gsm8k; also
    /// mmlu_<subject>
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "arc_challenge,hellaswag,mmlu,truthfulqa_mc2,winogrande,gsm8k"
    )]
    tasks: Vec<String>,
    /// Folder with a folder for each task, or `hub` for the published data sets
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Version of lm-evaluation-harness: h3 (June 2023, the leaderboard's), h4 (December 2023), h5
    /// (v0.4.12), v0.3.0
    #[arg(long, value_name = "NAME")]
    convention: String,
    /// Few-shot examples of every task but TruthfulQA, which has its own; the leaderboard's number
    /// for each task unless given
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Documents of each task (and of each subject), the first in the convention's order
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Also write every document with its prompts, responses and scores
    #[arg(long)]
    log_samples: bool,
    /// Folder to write; absent, empty, or with an earlier evaluation of this kind
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Documents per forward pass; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value = "32")]
    batch: NonZeroUsize,
    /// Where tensors are computed: flex, libtorch, libtorch:cuda:N or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = device::DEFAULT, value_parser = crate::cli::device_spec, env = "TOUCHSTONE_DEVICE")]
    device: device::DeviceSpec,
}

/// Evaluates a model.
///
/// # Errors
/// Data, a model or a folder that cannot be read or written.
pub fn run(args: &LeaderboardArgs) -> Result<()> {
    let convention = Convention::named(&args.convention)?;
    let tasks = tasks(&args.tasks)?;
    let mut folder = EvaluationFolder::new(&args.out, "leaderboard", &results::FILES)?;
    let data = Data::named(&args.data)?;
    let device = device::select(args.device)?;
    let checkpoint = open(&args.model, &FILES_BESIDE)?;
    let tokenizer = checkpoint.tokenizer()?;
    let ends = checkpoint.ends(Some(&tokenizer))?;
    let mut runs = prepare(&data, &tasks, convention, args)?;
    let identity = identity(&checkpoint, &runs, convention, args)?;
    let work = folder.work(&identity)?;

    let model = checkpoint.language_model(&device)?;
    let responder = Responder::new(&model, &tokenizer, ends, convention, args.batch.get())?;
    let total = runs.iter().map(|run| run.items.len()).sum();
    let mut progress = Progress::new("documents", total);
    let mut done = 0;
    let (mut answered, mut spent) = (0, Duration::ZERO);
    for run in &mut runs {
        let kept = work.join(format!("{}.jsonl", run.task.name()));
        let started = Instant::now();
        answered += run.answer(&responder, args.batch.get(), &kept, |of_task| {
            progress.set(done + of_task);
        })?;
        spent += started.elapsed();
        done += run.items.len();
    }
    drop(progress);

    let found = evaluation(
        &runs,
        convention,
        args.model.display().to_string(),
        identity,
    );
    found.check("the evaluation")?;
    let fill = |place: &Path| {
        found.write(place)?;
        results::write(
            place,
            &runs,
            convention,
            config(args, convention),
            args.log_samples,
        )
    };
    folder.publish(fill)?;
    tell(&runs, &found, answered, spent);
    show::print(&found)
}

/// The tasks of all names, each once.
fn tasks(names: &[String]) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for name in names {
        for task in Task::named(name.trim())? {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
    }
    Ok(tasks)
}

/// Reads the data of all tasks and makes their prompts.
fn prepare(
    data: &Data,
    tasks: &[Task],
    convention: Convention,
    args: &LeaderboardArgs,
) -> Result<Vec<TaskRun>> {
    let mut runs = Vec::new();
    for &task in tasks {
        let shots = task.shots(args.shots);
        if shots == 0 && args.shots.is_some_and(|shots| shots > 0) {
            complain(&format!(
                "{}: its six examples are fixed, --shots is ignored\n",
                task.name()
            ));
        }
        let limit = args.limit.map(NonZeroUsize::get);
        runs.push(TaskRun::prepare(data, task, convention, shots, limit)?);
    }
    Ok(runs)
}

/// Everything that can move a score.
fn identity(
    checkpoint: &Checkpoint,
    runs: &[TaskRun],
    convention: Convention,
    args: &LeaderboardArgs,
) -> Result<Value> {
    let folder = checkpoint.folder();
    let mut model = Map::new();
    for name in files::names_in(folder)? {
        let read = ["json", "safetensors", "bin", "jinja"];
        if read.iter().any(|end| name.ends_with(&format!(".{end}"))) {
            let record = files::hash(&folder.join(&name))?;
            model.insert(name, record.blake3.into());
        }
    }
    let tasks: Map<String, Value> = runs
        .iter()
        .map(|run| {
            let entry = json!({"shots": run.shots, "data": run.data});
            (run.task.name(), entry)
        })
        .collect();
    Ok(json!({
        "convention": convention, "harness": convention.harness(), "model": model, "dtype": "float32",
        "device": args.device.to_string(), "limit": args.limit, "tasks": tasks,
        "touchstone": env!("CARGO_PKG_VERSION"),
    }))
}

/// The settings of the run, as the harness writes them.
fn config(args: &LeaderboardArgs, convention: Convention) -> Value {
    json!({
        "model": "touchstone", "model_args": format!("pretrained={},dtype=float32", args.model.display()),
        "batch_size": args.batch, "device": args.device.to_string(), "limit": args.limit,
        "num_fewshot": args.shots, "convention": convention, "no_cache": true,
    })
}

/// Tells what the numbers do not show: data that are not the published ones, prompts that were cut,
/// scores that are missing, the speed.
fn tell(runs: &[TaskRun], found: &Evaluation, answered: usize, spent: Duration) {
    for run in runs {
        for print in &run.data {
            if let Some(published) = print.published_rows {
                complain(&format!(
                    "{}: split {} has {} rows, and the published one {published}: numbers and few-shot examples \
                     are others\n",
                    print.task,
                    print.split.name(),
                    print.data.rows
                ));
            }
        }
        if run.items_cut() > 0 {
            complain(&format!(
                "{}: {} of {} prompts are longer than the model and were cut from the left\n",
                run.task.name(),
                run.items_cut(),
                run.items.len()
            ));
        }
    }
    for item in found
        .items
        .iter()
        .filter(|item| item.value.is_none())
        .take(5)
    {
        let why = item.missing.as_deref().unwrap_or_default();
        complain(&format!(
            "{}, item {}: no {}: {why}\n",
            item.task, item.item, item.metric
        ));
    }
    let missing = found
        .items
        .iter()
        .filter(|item| item.value.is_none())
        .count();
    if missing > 0 {
        complain(&format!(
            "{missing} scores are missing, so that their means are not those of all items\n"
        ));
    }
    if answered > 0 {
        let rate = answered as f64 / spent.as_secs_f64().max(1e-9);
        complain(&format!(
            "{answered} documents in {:.1} s, {rate:.1} a second\n",
            spent.as_secs_f64()
        ));
    }
}
