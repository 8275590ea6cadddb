//! `touchstone work`: a pool that shares a stored plan with others, on this machine or on other
//! nodes that see the store.

use super::bytes::Bytes;
use super::decide::Budget;
use super::{SUCCESS, complain, device_spec};
use crate::device::{self, DeviceSpec, hardware};
use crate::error::Result;
use crate::executor::{Executor, Interrupt, LocalPool, Outcome, Round, Slot, StoredPlan};
use crate::pipeline::{Holder, Store, job_here};
use clap::Args;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time without anything to compute after which a worker leaves.
const IDLE: Duration = Duration::from_secs(600);
/// Time for which a worker leaves a stage that failed with it to others.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Args)]
pub struct WorkArgs {
    /// First digits of the id of a plan in the store, as `reproduce --executor slurm` writes it
    plan: String,
    /// Folder of the artifacts, which all workers see
    #[arg(
        long,
        value_name = "DIR",
        default_value = "runs",
        env = "TOUCHSTONE_STORE"
    )]
    store: PathBuf,
    /// Where tensors are computed; several devices, separated by commas, share the stages
    #[arg(long, value_name = "DEVICE", value_delimiter = ',', default_values_t = [device::DEFAULT],
          value_parser = device_spec, env = "TOUCHSTONE_DEVICE")]
    device: Vec<DeviceSpec>,
    /// Stages that run at once
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Memory that one stage may fill, as 16GiB [default: what is free, or the GPU's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Bytes>,
    /// Name that workers share which count failures together [default: one of its own]
    #[arg(long, value_name = "NAME")]
    round: Option<String>,
    /// Take only what ran out of memory with other workers
    #[arg(long)]
    roomy: bool,
    /// Leave after so long without anything to compute, as 10min
    #[arg(long, value_name = "TIME")]
    idle: Option<Budget>,
}

/// Computes until the plan is done, nothing is left for this worker, or it is asked to leave.
///
/// # Errors
/// A plan that is not there or of another program; a store that cannot be read or written.
pub fn run(args: &WorkArgs) -> Result<u8> {
    // First of all, so that a signal during the start is not lost.
    let interrupt = Interrupt::of_worker()?;
    let store = Store::open(&args.store)?;
    let plan = StoredPlan::read(&store, &args.plan)?;
    plan.check_program()?;
    store.probe()?;
    let graph = plan.graph(&store)?;
    let jobs = args.jobs.get();
    let slot = |device: &DeviceSpec| Slot {
        device: device.to_string(),
        memory: match args.memory {
            Some(limit) => Some(limit.0),
            None => hardware::memory_of(*device, jobs),
        },
    };
    let devices: Vec<Slot> = args.device.iter().map(slot).collect();
    let mut pool = LocalPool::new(Slot::in_turn(jobs, &devices))?;
    let idle = args.idle.map_or(IDLE, |time| time.0);
    let own_name = || format!("{}-{}", std::process::id(), Holder::here(None).since);
    pool.round = Some(Round {
        name: args.round.clone().unwrap_or_else(own_name),
        roomy: args.roomy,
        // Few stages run out of memory, so that a large worker should not wait for more of them.
        idle: if args.roomy { idle.min(PAUSE) } else { idle },
        pause: PAUSE.min(idle),
    });
    let here = Holder::here(None);
    let job = job_here().map_or_else(String::new, |job| format!(" in job {job}"));
    complain(&format!(
        "worker on {}{job}: plan {} of {}, {} stages, {jobs} at once\n",
        here.host,
        plan.id.short(),
        plan.name,
        graph.len()
    ));
    let outcome = pool.run(&store, &graph, &plan.resources(), &interrupt)?;
    complain(&format!("{}\n", farewell(&outcome, &interrupt)));
    if !outcome.interrupted {
        return Ok(if outcome.left {
            SUCCESS
        } else {
            outcome.exit_code()
        });
    }
    if interrupt.asks_to_go_on_elsewhere()
        && let Some(job) = job_here()
    {
        complain(&format!("{}\n", requeue(&job)));
    }
    Ok(SUCCESS)
}

/// The worker's last line about its work.
fn farewell(outcome: &Outcome, interrupt: &Interrupt) -> String {
    let reason = if outcome.interrupted && interrupt.asks_to_go_on_elsewhere() {
        "asked to make room (SIGUSR1)"
    } else if outcome.interrupted {
        "asked to stop"
    } else if outcome.halted.is_some() {
        "the disk of the store takes nothing more"
    } else if outcome.left {
        "nothing to do here"
    } else {
        "the plan is done"
    };
    format!(
        "left: {reason}; {} finished here, {} by others or before, {} failed",
        outcome.finished.len(),
        outcome.cached.len(),
        outcome.failed.len()
    )
}

/// Asks Slurm to start this job again later; says how it went.
fn requeue(job: &str) -> String {
    let asked = Command::new("scontrol")
        .args(["requeue", job])
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => format!("job {job} will start again"),
        Ok(output) => format!(
            "job {job} is not started again: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(cause) => format!("job {job} is not started again: scontrol: {cause}"),
    }
}
