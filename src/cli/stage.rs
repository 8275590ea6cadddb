//! `touchstone stage`: computes one planned stage. It is meant for executors rather than people.

use super::device_spec;
use crate::defect;
use crate::device::{self, DeviceSpec};
use crate::error::Result;
use crate::pipeline::{
    Placement, SUPERVISED_ENV, StageContext, StageKey, Store, leave_with_parent, run_stage,
};
use std::path::PathBuf;

/// Compute one planned stage and publish its artifact; events go to standard output as JSON lines.
#[derive(Debug, clap::Args)]
pub struct StageArgs {
    /// Key of a stage that was planned in the store.
    key: StageKey,
    /// Folder of the artifacts.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    store: PathBuf,
    /// Device to compute on.
    #[arg(long, default_value_t = device::DEFAULT, value_parser = device_spec)]
    device: DeviceSpec,
    /// Bytes of the device's memory that the stage may fill.
    #[arg(long)]
    memory: Option<u64>,
}

/// Runs the command; `body` can compute every kind of stage.
pub fn run(args: &StageArgs, body: impl FnOnce(&StageContext) -> Result<()>) -> Result<()> {
    leave_with_parent();
    let place = Placement {
        device: args.device.to_string(),
        memory: args.memory,
    };
    // A panic is reported like any other failure of the stage.
    let store = Store::open(&args.store)?;
    let done = run_stage(&store, &args.key, &place, |context| {
        defect::catch(|| body(context))
    });
    // A pool writes the log itself, with what the process printed last.
    if let Err(error) = &done
        && std::env::var_os(SUPERVISED_ENV).is_none()
    {
        store.note_failure(&args.key, error);
    }
    done
}
