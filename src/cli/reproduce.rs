//! `touchstone reproduce`: runs a study from nothing to a report. Running it again finishes what is
//! missing.

use super::decide::{self, DecideArgs};
use super::plan::Target;
use super::study::StudyArgs;
use super::{complain, output, preflight, print};
use crate::collect::collect;
use crate::data::TextEncoder;
use crate::data::contents::TokenizerFolder;
use crate::data::corpus::Corpus;
use crate::data::hub::Source;
use crate::device::{DeviceSpec, hardware};
use crate::executor::{Executor, Interrupt, LocalPool, Outcome, Slot};
use crate::experiment::Study;
use crate::model::tokenizer::TOKENIZER_FILES;
use crate::pipeline::{PlannedStage, Store};
use crate::plan::{HELD_OUT, LocalData, Plan, fit};
use crate::report::{self, ReportInput};
use crate::stages::corpus::check_splits;
use crate::{Context, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct ReproduceArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    #[command(flatten)]
    pub decide: DecideArgs,
}

/// Real posts instead of the embedded world.
#[derive(Clone, Debug, Args)]
pub struct LocalArgs {
    /// Real posts (jsonl, csv or parquet with id, subreddit, title, post, summary) instead of the
    /// embedded world
    #[arg(long, value_name = "FILE", requires = "tokenizer")]
    pub data: Option<PathBuf>,
    /// Folder with the tokenizer.json for --data, or hf:owner/name@revision
    #[arg(long, value_name = "DIR", requires = "data")]
    pub tokenizer: Option<PathBuf>,
}

/// The scale of an experiment file that `--data` selects, and the profile unless another is
/// requested.
const LOCAL: &str = "local";

pub fn run(args: &ReproduceArgs) -> Result<u8> {
    let (study, local) = resolve(&args.study, &args.local)?;
    if args.decide.decide {
        return decide::run(&args.study, &args.decide, study, local.as_ref());
    }
    let plan = Plan::new(&study, local.as_ref())?;
    let runner = Runner::ready(&args.study, &study, &plan, local.as_ref())?;
    let outcome = runner.run(&plan)?;
    if outcome.interrupted {
        complain(&format!("{}\n", outcome.summary()));
        return Ok(outcome.exit_code());
    }
    let written = write_report(&args.study, &study, &plan, &runner.store, local.as_ref());
    complain(&format!("{}\n", outcome.summary()));
    written.map(|()| outcome.exit_code())
}

/// The store and the executor that carry out the plans of a study.
pub struct Runner {
    pub store: Store,
    executor: Box<dyn Executor>,
    jobs: usize,
    /// The hardware for which the needs of stages are estimated.
    target: Target,
    interrupt: Interrupt,
}

impl Runner {
    /// Checks everything that `plan` needs, so that faults show now and not after hours.
    pub fn ready(
        args: &StudyArgs,
        study: &Study,
        plan: &Plan,
        local: Option<&LocalData>,
    ) -> Result<Self> {
        let jobs = args.stages_at_once().min(plan.graph.len().max(1));
        let slot = |device: &DeviceSpec| Slot {
            device: device.to_string(),
            memory: match args.memory {
                Some(limit) => Some(limit.0),
                None => hardware::memory_of(*device, jobs),
            },
        };
        let devices: Vec<Slot> = args.device.iter().map(slot).collect();
        preflight::devices(&args.device)?;
        for (device, slot) in args.device.iter().zip(&devices) {
            if let Some(limit) = slot.memory {
                fit::check(study, local, plan, limit, device.profile())?;
            }
        }
        let mut target = Target::here(args);
        let least = devices.iter().filter_map(|slot| slot.memory).min();
        target.hardware.memory = least.unwrap_or(target.hardware.memory);
        let report = args.out.join(folder(study));
        output::check_folder(&report)?;
        report::check_place(&report)?;
        let store = Store::open(&args.store)?;
        preflight::room(&store, plan)?;
        Ok(Self {
            store,
            executor: Box::new(LocalPool::new(Slot::in_turn(jobs, &devices))?),
            jobs,
            target,
            interrupt: Interrupt::on_signals()?,
        })
    }

    /// Computes the missing stages of `plan`.
    pub fn run(&self, plan: &Plan) -> Result<Outcome> {
        let needs = |stage: &PlannedStage| (stage.key, self.target.resources(plan, stage));
        let resources = plan.graph.iter().map(needs).collect();
        self.executor
            .run(&self.store, &plan.graph, &resources, &self.interrupt)
    }

    /// Number of stages that run at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }
}

/// The study that the flags choose, and its local data, if any.
pub fn resolve(study: &StudyArgs, local: &LocalArgs) -> Result<(Study, Option<LocalData>)> {
    let (Some(file), Some(tokenizer)) = (&local.data, &local.tokenizer) else {
        return Ok((study.study()?, None));
    };
    let mut study = study.clone();
    study.scale = LOCAL.into();
    study.profile = study.profile.or(Some(LOCAL.into()));
    let study = study.study()?;
    let tokenizer = &Source::parse(tokenizer)?.fetch(&["tokenizer.json"], &TOKENIZER_FILES)?;
    let files = TokenizerFolder::read(tokenizer)?;
    // Read from a copy, so that the data behind the plan's estimates is the data that its keys
    // name.
    let copy = tempfile::tempdir().context(|| "cannot make a temporary folder".into())?;
    files.copy_to(copy.path())?;
    let read = |prompt, response| {
        // The error should name the user's folder.
        let named = |error| {
            TextEncoder::open(tokenizer, prompt, response)
                .err()
                .unwrap_or(error)
        };
        TextEncoder::open(copy.path(), prompt, response).map_err(named)
    };
    let corpus = Corpus::open(file)?;
    check_splits(file, &corpus.posts, HELD_OUT)?;
    let limits = study
        .methods
        .iter()
        .map(|method| &method.hyper)
        .chain([&study.shared]);
    let limits: BTreeSet<(usize, usize)> = limits
        .map(|hyper| {
            (
                hyper.generation.max_prompt_tokens,
                hyper.generation.max_response_tokens,
            )
        })
        .collect();
    for (prompt, response) in limits {
        corpus.check_lengths(&read(prompt, response)?)?;
    }
    let data = LocalData {
        file: absolute(file)?,
        blake3: corpus.source.blake3,
        tokenizer: absolute(tokenizer)?,
        tokenizer_blake3: files.blake3(),
        vocabulary: read(usize::MAX, usize::MAX)?.vocabulary_size(),
        rows: corpus.posts.len(),
    };
    Ok((study, Some(data)))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| format!("cannot find {}", path.display()))
}

/// Writes the report of everything that is finished and prints its summary.
pub fn write_report(
    args: &StudyArgs,
    study: &Study,
    plan: &Plan,
    store: &Store,
    local: Option<&LocalData>,
) -> Result<()> {
    let input = report_input(study, plan, store, &args.devices().join(","), local)?;
    let folder = args.out.join(folder(study));
    let path = report::write(&input, &folder)?;
    print(&format!(
        "{}\nreport: {}\n",
        report::console(&input)?,
        path.display()
    ))
}

/// The input of the report of `study`, as far as `store` has it.
pub fn report_input(
    study: &Study,
    plan: &Plan,
    store: &Store,
    device: &str,
    local: Option<&LocalData>,
) -> Result<ReportInput> {
    collect(study, plan, store, device, notes(study, local))
}

/// Name of the report's folder. A report of a profile other than the standard one must not replace
/// the study's own.
fn folder(study: &Study) -> String {
    match study.profile.as_str() {
        "standard" => study.name.clone(),
        profile => format!("{}-{profile}", study.name),
    }
}

/// A note about the source of gold.
fn gold(study: &Study) -> &'static str {
    match &study.data {
        None => {
            "Gold is the known reward of a synthetic world. It says which method raises that reward under these models and \
             budgets, not which summaries people would prefer."
        }
        Some(data) if data.judge.is_some() => {
            "Gold is the score of a published reward model, which no training stage is given. It can be wrong, and it can be \
             won over without a better summary; it is not which summaries people would prefer."
        }
        Some(_) => "No judge is declared, so gold and what is made from it are absent.",
    }
}

/// Notes that the report's numbers need in order to be understood.
fn notes(study: &Study, local: Option<&LocalData>) -> Vec<String> {
    let mut notes = vec![
        study.scale_description.clone(),
        study.profile_description.clone(),
    ];
    let others = study
        .data
        .iter()
        .flat_map(|data| data.demonstrator.iter().chain(&data.judge));
    let models = study.sizes.iter().map(|(_, model)| model).chain(others);
    let models: Vec<_> = models
        .map(|model| format!("{} stands for {}", model.label, model.stands_for))
        .collect();
    notes.push(format!("Models: {}.", models.join("; ")));
    let methods = study
        .methods
        .iter()
        .filter(|method| !method.note.is_empty());
    notes.extend(
        methods.map(|method| format!("{}: {}.", method.label, method.note.trim_end_matches('.'))),
    );
    match local {
        None => notes.push(gold(study).into()),
        Some(data) => {
            let file = data
                .file
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            notes.push(format!(
                "Real posts from {file} with a randomly initialised model. Gold reward, win rate, copied slots and accuracy \
                 on preferences and on SFT samples are absent: real text has no known gold reward, and no preferences were \
                 given. What can be measured is the log-likelihood of held-out human summaries, how often the reward \
                 prefers a held-out human summary to a sample, KL, length and cost."
            ));
        }
    }
    if !study.untested_claims.is_empty() {
        let claims = study.untested_claims.join(", ");
        notes.push(format!(
            "Declared claims that this selection of methods and sizes does not test: {claims}."
        ));
    }
    notes
}
