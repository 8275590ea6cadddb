//! Checks of everything that a run will need, made before its first stage.

use super::complain;
use crate::device::{self, DeviceSpec};
use crate::pipeline::Store;
use crate::plan::Plan;
use crate::{Error, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

/// Disk space that a run needs besides its models: rows, metrics, logs.
const LEAST_ROOM: f64 = 16.0 * (1 << 20) as f64;

/// Compute a small product on a device
#[derive(Clone, Debug, Args)]
pub struct TryDeviceArgs {
    /// Device to try
    #[arg(value_parser = super::device_spec)]
    device: DeviceSpec,
}

/// Runs the hidden command that [`devices`] starts.
///
/// # Errors
/// Those of [`device::try_out`].
pub fn try_device(args: &TryDeviceArgs) -> Result<()> {
    device::try_out(args.device)
}

/// Checks that every device of a run computes.
///
/// # Errors
/// The first device that is not built in or does not compute.
pub fn devices(specs: &[DeviceSpec]) -> Result<()> {
    for &spec in specs.iter().collect::<BTreeSet<_>>() {
        device::select(spec)?;
        match spec.gpu() {
            None => device::try_out(spec)?,
            Some(_) => try_apart(spec)?,
        }
    }
    Ok(())
}

/// Tries a GPU in a separate process, since a process never releases GPU memory that it has used.
fn try_apart(spec: DeviceSpec) -> Result<()> {
    let failed = |cause: String| {
        Error::device(format!("`{spec}` cannot be used"))
            .caused_by(cause)
            .hint("check the driver and the number of the GPU: `touchstone doctor` tries it too")
    };
    let exe = std::env::current_exe().map_err(|cause| failed(cause.to_string()))?;
    let mut command = Command::new(exe);
    command
        .args(["try-device", &spec.to_string()])
        .stdin(Stdio::null());
    let tried = command
        .output()
        .map_err(|cause| failed(cause.to_string()))?;
    match tried.status.success() {
        true => Ok(()),
        false => Err(failed(format!(
            "{}\n{}",
            tried.status,
            String::from_utf8_lossy(&tried.stderr).trim()
        ))),
    }
}

/// Checks that the disk of `store` has room for the missing stages of `plan`; warns if it may be
/// too small.
///
/// # Errors
/// A disk with less room than the models that the run will write.
pub fn room(store: &Store, plan: &Plan) -> Result<()> {
    let listing = store.listing()?;
    let missing = plan
        .graph
        .iter()
        .filter(|stage| !listing.is_complete(&stage.key));
    let models: f64 = missing
        .map(|stage| plan.work(&stage.key).written_model())
        .sum();
    // If the free space cannot be determined, the run goes ahead.
    let Ok(free) = fs4::available_space(store.root()) else {
        return Ok(());
    };
    if let Some(warning) = judge_room(models, free as f64, &store.root().display().to_string())? {
        complain(&format!("warning: {warning}\n"));
    }
    Ok(())
}

/// A warning if `models` bytes of models hardly fit into `free` bytes.
fn judge_room(models: f64, free: f64, place: &str) -> Result<Option<String>> {
    // All models exist already: only a report is written.
    if models == 0.0 {
        return Ok(None);
    }
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / (1u64 << 30) as f64);
    let text = format!(
        "the models of this run take about {}, and {} are free at {place}",
        gib(models),
        gib(free)
    );
    match free {
        // A base is written in half precision, and heads may be smaller.
        _ if free < 0.5 * models || free < LEAST_ROOM => Err(Error::store(text)
            .hint("free some space, choose another folder with --store, or run fewer methods, sizes or seeds")),
        _ if free < 1.5 * models + LEAST_ROOM => Ok(Some(text)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn too_little_room_is_refused_and_hardly_enough_is_said() {
        const GIB: f64 = (1u64 << 30) as f64;
        let judge = |models: f64, free: f64| judge_room(models * GIB, free * GIB, "runs");
        assert_eq!(judge(0.0, 0.001).unwrap(), None, "nothing is missing");
        assert_eq!(judge(2.0, 10.0).unwrap(), None);
        assert!(
            judge(2.0, 2.5)
                .unwrap()
                .unwrap()
                .contains("2.0 GiB, and 2.5 GiB are free at runs")
        );
        for (models, free) in [(100.0, 10.0), (0.001, 0.01)] {
            assert_eq!(judge(models, free).unwrap_err().kind(), ErrorKind::Store);
        }
    }

    #[test]
    fn the_default_device_is_ready() {
        devices(&[device::DEFAULT, device::DEFAULT]).unwrap();
    }
}
