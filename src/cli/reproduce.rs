//! `touchstone reproduce`: runs a study from nothing to a report. Running it again finishes what is
//! missing.

use super::cluster::{self, ClusterArgs};
use super::decide::{self, Budget, DecideArgs};
use super::local::{LocalArgs, resolve};
use super::plan::Target;
use super::study::StudyArgs;
use super::{complain, output, preflight, print};
use crate::collect::collect;
use crate::device::{DeviceSpec, hardware};
use crate::executor::{Executor, Forecast, Interrupt, LocalPool, Outcome, Slot, Slurm};
use crate::experiment::Study;
use crate::pipeline::{PlannedStage, StageKey, Store};
use crate::plan::{LocalData, Plan, RowFile, fit};
use crate::report::{self, ReportInput};
use crate::{Error, Result};
use clap::Args;
use std::time::Instant;

#[derive(Clone, Debug, Args)]
pub struct ReproduceArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    #[command(flatten)]
    pub decide: DecideArgs,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

pub fn run(args: &ReproduceArgs) -> Result<u8> {
    let (study, local) = resolve(&args.study.experiment, &args.study.choice, &args.local)?;
    let slurm = cluster::slurm(&args.cluster, &args.study, &study)?;
    if args.decide.decide {
        return decide::run(args, study, local.as_ref(), slurm);
    }
    let started = Instant::now();
    let plan = Plan::new(&study, local.as_ref())?;
    if let Some(slurm) = slurm.as_ref().filter(|_| args.cluster.cancel) {
        return cluster::cancel(slurm, &args.study, &plan);
    }
    if slurm.is_some() && args.decide.budget.is_some() {
        return Err(Error::configuration("--budget counts the time of this machine's stages, and those of a cluster run elsewhere")
            .hint("leave it out and limit the workers: --workers and --time"));
    }
    let mut runner = Runner::ready(&args.study, &study, &plan, local.as_ref(), slurm)?;
    if let Some(Budget(time)) = args.decide.budget {
        runner.end_by(started + time);
    }
    let outcome = runner.run(&plan)?;
    if outcome.is_partial() {
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
        slurm: Option<Slurm>,
    ) -> Result<Self> {
        if let Some(slurm) = slurm {
            return Self::on_cluster(args, study, plan, local, slurm);
        }
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

    /// Sets the time after which no stage should end.
    pub fn end_by(&mut self, deadline: Instant) {
        self.interrupt = self.interrupt.with_deadline(Some(deadline));
    }

    /// Checks what `plan` needs of a cluster, as far as it can be known here.
    fn on_cluster(
        args: &StudyArgs,
        study: &Study,
        plan: &Plan,
        local: Option<&LocalData>,
        slurm: Slurm,
    ) -> Result<Self> {
        let target = Target::of_nodes(args, study)?;
        if let Some(limit) = args.memory {
            fit::check(study, local, plan, limit.0, target.backend())?;
        }
        let report = args.out.join(folder(study));
        output::check_folder(&report)?;
        report::check_place(&report)?;
        let store = Store::open(&args.store)?;
        preflight::room(&store, plan)?;
        Ok(Self {
            store,
            jobs: slurm.settings.workers * slurm.jobs.or(slurm.settings.cpus).unwrap_or(1),
            executor: Box::new(slurm),
            target,
            interrupt: Interrupt::on_signals()?,
        })
    }

    /// Computes the missing stages of `plan`.
    pub fn run(&self, plan: &Plan) -> Result<Outcome> {
        let forecast = self.forecast(plan)?;
        let needs = |stage: &PlannedStage| {
            let mut needs = self.target.resources(plan, stage);
            needs.seconds = forecast.seconds(stage).unwrap_or(needs.seconds);
            (stage.key, needs)
        };
        let resources = plan.graph.iter().map(needs).collect();
        self.executor
            .run(&self.store, &plan.graph, &resources, &self.interrupt)
    }

    /// A forecast of stages' times from those of the finished stages of `plan`.
    fn forecast(&self, plan: &Plan) -> Result<Forecast> {
        let listing = self.store.listing()?;
        let keys = plan.graph.iter().map(|stage| stage.key);
        let there: Vec<StageKey> = keys.filter(|key| listing.has(key)).collect();
        let spent = self.store.spent(&there);
        let mut forecast = Forecast::default();
        for stage in &plan.graph {
            if let Some(cost) = spent.get(&stage.key) {
                forecast.learn(stage, cost.wall_seconds);
            }
        }
        Ok(forecast)
    }

    /// Number of stages that run at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }
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
        Some(data) => notes.push(real_rows(data)),
    }
    if !study.untested_claims.is_empty() {
        let claims = study.untested_claims.join(", ");
        notes.push(format!(
            "Declared claims that this run does not test: {claims}."
        ));
    }
    notes
}

/// A note about what can be measured on local rows.
fn real_rows(data: &LocalData) -> String {
    let name = |file: &RowFile| {
        let name = file.file.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let preferences = match &data.preferences {
        Some(pairs) => format!("Labelled pairs are those of {}.", name(pairs)),
        None => "No preferences were given, so accuracy on them is absent.".into(),
    };
    format!(
        "Real rows from {} with a randomly initialised model. {preferences} Gold reward, win rate, copied slots and accuracy \
         on SFT samples are absent: real text has no known gold reward. What can be measured is the log-likelihood of \
         held-out human responses, how often the reward prefers a held-out human response to a sample, KL, length and cost.",
        name(&data.demonstrations)
    )
}
