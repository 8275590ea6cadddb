//! Checks whether a study fits into a device's memory, and finds the switches that make it fit.

use super::{LocalData, Plan};
use crate::device::hardware::{BackendProfile, Hardware};
use crate::experiment::Study;
use crate::methods::ppo::Critic;
use crate::methods::training::{Dtype, Training};
use crate::pipeline::PlannedStage;
use crate::{Error, Result};

/// A change of a study's hyper-parameters that saves memory, as `--set` writes it.
type Switch = (&'static str, fn(&mut Training, &mut Critic));

/// Switches in increasing order of their effect: from a change of time alone to a change in what is
/// learned.
const SWITCHES: [Switch; 4] = [
    ("training.gradient_checkpointing=true", |training, _| {
        training.gradient_checkpointing = true
    }),
    ("training.dtype=bf16", |training, _| {
        training.dtype = Dtype::Bf16
    }),
    ("ppo.critic=zero_head", |_, critic| {
        *critic = Critic::ZeroHead
    }),
    ("training.lora_rank=16", |training, _| {
        training.lora_rank = 16
    }),
];

/// The stage of `plan` that needs the most memory, among those that exceed `limit` bytes even with
/// one row at a time.
fn too_large(plan: &Plan, limit: u64, backend: BackendProfile) -> Option<(&PlannedStage, f64)> {
    let needs = |stage: &PlannedStage| plan.work(&stage.key).memory(1, backend).total();
    let all = plan.graph.iter().map(|stage| (stage, needs(stage)));
    all.filter(|(_, bytes)| *bytes > limit as f64)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// GPUs that a plan of published models is reckoned for beside its target, by their names.
const COMMON_GPUS: [&str; 2] = ["h100-80gb", "h200-141gb"];

/// A sentence for one GPU of each common size: whether every stage of `plan` fits it, and otherwise
/// what would do.
///
/// # Errors
/// A study that cannot be planned with a switch.
pub fn on_common_gpus(
    study: &Study,
    local: Option<&LocalData>,
    plan: &Plan,
) -> Result<Vec<String>> {
    let backend = BackendProfile::GPU;
    let sentence = |name: &str| {
        let limit = Hardware::named(name)?.memory;
        let Some((stage, bytes)) = too_large(plan, limit, backend) else {
            return Ok(format!("one {name}: every stage fits"));
        };
        let held = format!(
            "one {name}: stage `{}` needs {} GiB of {}",
            stage.label,
            gib(bytes),
            gib(limit as f64)
        );
        let gpus = sharing(plan, stage, limit, backend);
        Ok(match (remedy(study, local, limit, backend)?, gpus) {
            (Some(switches), _) => format!("{held}; it fits with {}", switches.join(" ")),
            (None, Some(gpus)) => format!("{held}; {gpus} of them would do, {UNSHARED}"),
            (None, None) => format!("{held}; no number of them would do"),
        })
    };
    COMMON_GPUS.into_iter().map(sentence).collect()
}

const UNSHARED: &str = "sharing weights, gradients and moments, which touchstone does not do";

/// The number of GPUs of `limit` bytes that hold `stage` one row at a time, if they share what
/// training holds from step to step and models that are only read; `None` if activations alone are
/// too large.
fn sharing(plan: &Plan, stage: &PlannedStage, limit: u64, backend: BackendProfile) -> Option<u64> {
    let memory = plan.work(&stage.key).memory(1, backend);
    let shared = memory.shared();
    let room = limit as f64 - (memory.total() - shared);
    (room > 0.0).then(|| (shared / room).ceil() as u64)
}

/// A stage that does not fit; the hint names the fewest and mildest switches with which the whole
/// study fits.
pub fn check(
    study: &Study,
    local: Option<&LocalData>,
    plan: &Plan,
    limit: u64,
    backend: BackendProfile,
) -> Result<()> {
    let Some((stage, bytes)) = too_large(plan, limit, backend) else {
        return Ok(());
    };
    let (needed, available) = (gib(bytes), gib(limit as f64));
    let error = Error::memory(format!(
        "stage `{}` needs {needed} GiB even one row at a time, and {available} GiB are available",
        stage.label
    ));
    Err(match remedy(study, local, limit, backend)? {
        Some(switches) => error.hint(format!("it fits with {}", switches.join(" "))),
        None => {
            let gpus = sharing(plan, stage, limit, backend);
            let gpus = gpus.map_or_else(String::new, |gpus| {
                format!("; {gpus} such devices would do, {UNSHARED}")
            });
            error.hint(format!(
                "no switch of touchstone makes it fit: choose smaller models with --sizes, shorter texts, a smaller \
                 generation.batch_size, or a larger device with --target or --memory{gpus}"
            ))
        }
    })
}

fn gib(bytes: f64) -> String {
    format!("{:.1}", bytes / (1u64 << 30) as f64)
}

/// The switches with which the whole study fits: the smallest set, and among equals the first in
/// the order of [`SWITCHES`].
fn remedy(
    study: &Study,
    local: Option<&LocalData>,
    limit: u64,
    backend: BackendProfile,
) -> Result<Option<Vec<String>>> {
    let mut sets: Vec<u32> = (1..1 << SWITCHES.len()).collect();
    sets.sort_by_key(|set| (set.count_ones(), *set));
    for set in sets {
        let chosen = || {
            SWITCHES
                .iter()
                .enumerate()
                .filter(move |(index, _)| set & (1 << index) != 0)
        };
        let mut changed = study.clone();
        let hypers = changed.methods.iter_mut().map(|method| &mut method.hyper);
        for hyper in std::iter::once(&mut changed.shared).chain(hypers) {
            chosen().for_each(|(_, (_, apply))| apply(&mut hyper.training, &mut hyper.ppo.critic));
        }
        if too_large(&Plan::new(&changed, local)?, limit, backend).is_none() {
            return Ok(Some(
                chosen()
                    .map(|(_, (text, _))| format!("--set {text}"))
                    .collect(),
            ));
        }
    }
    Ok(None)
}
