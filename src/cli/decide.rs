//! `reproduce --decide`: runs look after look, each with fresh seeds for the methods whose claims
//! are open, until every primary claim is decided or the budget is spent.

use super::reproduce::{ReproduceArgs, Runner, report_input, write_report};
use super::{complain, print};
use crate::executor::Slurm;
use crate::experiment::Study;
use crate::pipeline::Store;
use crate::plan::{LocalData, Plan};
use crate::report::{self, Decision};
use crate::{Error, Result};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Args)]
pub struct DecideArgs {
    /// Run look by look as the claims are registered, only the methods whose claims are open, until
    /// all are decided
    #[arg(long, conflicts_with = "seeds")]
    pub decide: bool,
    /// With --decide: the most seeds that a method may have [default: those of the last look]
    #[arg(long, value_name = "N", requires = "decide")]
    pub max_seeds: Option<usize>,
    /// Start no stage (with --decide: no look) that would probably end later than this after the
    /// start, as 3h or 90min; what is done is reported, and the same command goes on
    #[arg(long, value_name = "TIME")]
    pub budget: Option<Budget>,
}

/// A duration as people write it: `3h`, `90min`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub Duration);

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match humantime::parse_duration(text.trim()) {
            Ok(time) if !time.is_zero() => Ok(Self(time)),
            _ => Err(format!(
                "`{text}` is not a time; write it as 3h, 90min or 1h 30m"
            )),
        }
    }
}

/// Runs `study` look by look and writes the report of all looks.
pub fn run(
    args: &ReproduceArgs,
    mut study: Study,
    local: Option<&LocalData>,
    slurm: Option<Slurm>,
) -> Result<u8> {
    let (args, limits) = (&args.study, &args.decide);
    let looks = looks(&study, limits)?;
    let started = Instant::now();
    study.seeds = seeds(&study, looks[0])?;
    let mut plan = Plan::new(&study, local)?;
    let runner = Runner::ready(args, &study, &plan, local, slurm)?;
    let mut look = 0;
    let outcome = loop {
        let began = Instant::now();
        let outcome = runner.run(&plan)?;
        if outcome.is_partial() {
            complain(&format!("{}\n", outcome.summary()));
            return Ok(outcome.exit_code());
        }
        let input = report_input(
            &study,
            &plan,
            &runner.store,
            &args.devices().join(","),
            local,
        )?;
        let decisions = report::decisions(&input)?;
        print(&said(look, &looks, &study, &decisions, began.elapsed()))?;
        let open: Vec<&Decision> = decisions
            .iter()
            .filter(|decision| !decision.decided)
            .collect();
        let Some(&next) = looks.get(look + 1).filter(|_| !open.is_empty()) else {
            break outcome;
        };
        let wanted = narrowed(&study, looks[look], seeds(&study, next)?, &open);
        let next_plan = Plan::new(&wanted, local)?;
        let cost = seconds(&next_plan, &runner.store)?.map(|all| all / runner.jobs() as f64);
        let about = cost.map_or_else(
            || "an unknown time".into(),
            |cost| minutes(Duration::from_secs_f64(cost)),
        );
        let methods: Vec<&str> = running(&wanted).map(|method| method.id.as_str()).collect();
        print(&format!(
            "next: {next} seeds of {}, about {about}\n\n",
            methods.join(", ")
        ))?;
        let end = started.elapsed() + Duration::from_secs_f64(cost.unwrap_or(0.0));
        if let Some(Budget(budget)) = limits.budget.filter(|budget| end > budget.0) {
            print(&format!(
                "the budget of {} ends before that; go on with a larger --budget\n",
                minutes(budget)
            ))?;
            break outcome;
        }
        (study, plan, look) = (wanted, next_plan, look + 1);
    };
    let written = write_report(args, &study, &plan, &runner.store, local);
    complain(&format!("{}\n", outcome.summary()));
    written.map(|()| outcome.exit_code())
}

/// Numbers of seeds at which the looks take place.
fn looks(study: &Study, limits: &DecideArgs) -> Result<Vec<usize>> {
    let most = limits.max_seeds.unwrap_or(usize::MAX);
    let looks: Vec<usize> = study
        .design
        .looks
        .iter()
        .copied()
        .filter(|look| *look <= most)
        .collect();
    match study.design.looks.first() {
        _ if !looks.is_empty() => Ok(looks),
        Some(first) => Err(Error::configuration(format!(
            "{most} seeds are fewer than the {first} of the first look"
        ))
        .hint("raise --max-seeds")),
        None => Err(Error::configuration("the claims have no planned look")),
    }
}

/// The first `count` seeds that the claims may use.
fn seeds(study: &Study, count: usize) -> Result<Vec<u64>> {
    match &study.registration {
        Some(registration) => Ok(registration.seeds.first_of(count)),
        None => Err(Error::configuration(format!("the claims of `{}` are not registered", study.name))
            .hint("name a claim file in a table [registration] (docs/registration.md), or choose --seeds yourself")),
    }
}

/// `study` with the next look's seeds for the methods that an open claim needs; the others stay at
/// `had` seeds.
fn narrowed(study: &Study, had: usize, seeds: Vec<u64>, open: &[&Decision]) -> Study {
    let needed: BTreeSet<&str> = open
        .iter()
        .flat_map(|decision| &decision.methods)
        .map(String::as_str)
        .collect();
    let mut next = Study {
        seeds,
        ..study.clone()
    };
    for method in &mut next.methods {
        if method.first_seeds.is_none() && !needed.contains(method.id.as_str()) {
            method.first_seeds = Some(had);
        }
    }
    next
}

/// The methods that run on all seeds of `study`.
fn running(study: &Study) -> impl Iterator<Item = &crate::experiment::MethodPlan> {
    study
        .methods
        .iter()
        .filter(|method| method.first_seeds.is_none())
}

/// Estimated seconds that one process needs for the missing stages of `plan`, from the mean of the
/// finished stages of each kind; `None` if a kind has no finished stage.
fn seconds(plan: &Plan, store: &Store) -> Result<Option<f64>> {
    let (mut took, mut missing) = (BTreeMap::<&str, (f64, usize)>::new(), Vec::new());
    for stage in plan.graph.iter() {
        if !store.is_complete(&stage.key) {
            missing.push(stage.spec.kind.as_str());
            continue;
        }
        let (sum, count) = took.entry(&stage.spec.kind).or_default();
        *sum += store.manifest(&stage.key)?.wall_seconds;
        *count += 1;
    }
    let mean = |kind: &str| took.get(kind).map(|(sum, count)| sum / *count as f64);
    Ok(missing.into_iter().map(mean).sum())
}

/// The message about a look's decisions.
fn said(
    look: usize,
    looks: &[usize],
    study: &Study,
    decisions: &[Decision],
    took: Duration,
) -> String {
    let (first, last) = (
        study.seeds.first().copied().unwrap_or(0),
        study.seeds.last().copied().unwrap_or(0),
    );
    let mut text = format!(
        "look {} of {}: {} seeds ({first} to {last}), {}\n",
        look + 1,
        looks.len(),
        looks[look],
        minutes(took)
    );
    let width = decisions
        .iter()
        .map(|decision| decision.claim.len())
        .max()
        .unwrap_or(0);
    for Decision {
        claim,
        words,
        decided,
        ..
    } in decisions
    {
        let state = if *decided { "decided" } else { "open" };
        text += &format!("  {state:<8} {claim:<width$}  {words}\n");
    }
    text
}

/// A time in minutes and seconds.
fn minutes(time: Duration) -> String {
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}
