//! `touchstone base`: remakes the base checkpoints that come with touchstone and compares them with
//! the ones it carries.

use super::study::StudyArgs;
use super::{FAILURE, SUCCESS, complain, output, preflight, print};
use crate::executor::{Executor, Interrupt, LocalPool, Slot};
use crate::model::tokenizer::CHAT_TEMPLATE;
use crate::model::weights::Weights;
use crate::pipeline::Store;
use crate::plan::{Pretraining, bases};
use crate::stages::bundled::{bundled_name, provenance};
use crate::{Context, Error, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct BaseArgs {
    #[command(flatten)]
    pub study: StudyArgs,
    /// Replace the checkpoints in the folder instead of comparing with them
    #[arg(long)]
    pub update: bool,
    /// Where the checkpoints lie, one folder per base of a model size
    #[arg(long, value_name = "DIR", default_value = "datasets/base")]
    pub folder: PathBuf,
}

/// Largest distance, as a share of the weights' root mean square, between two checkpoints made in
/// the same way. Training on another processor differs in the last digits, and thousands of steps
/// amplify the difference.
const TOLERANCE: f32 = 0.25;

pub fn run(args: &BaseArgs) -> Result<u8> {
    let study = args.study.study()?;
    let (graph, stages) = bases(&study)?;
    preflight::devices(&args.study.device)?;
    for Pretraining { size, number, .. } in &stages {
        let place = args.folder.join(bundled_name(size, *number));
        match args.update {
            true => output::check_folder(&place)?,
            false => drop(Weights::read(&place.join("model.safetensors"))?),
        }
    }
    let store = Store::open(&args.study.store)?;
    let jobs = args.study.stages_at_once().min(stages.len().max(1));
    let slot = |device| Slot {
        device,
        memory: None,
    };
    let devices: Vec<Slot> = args.study.devices().into_iter().map(slot).collect();
    let pool = LocalPool::new(Slot::in_turn(jobs, &devices))?;
    let outcome = pool.run(&store, &graph, &BTreeMap::new(), &Interrupt::on_signals()?)?;
    if !outcome.is_success() {
        complain(&format!("{}\n", outcome.summary()));
        return Ok(outcome.exit_code());
    }
    let mut alike = true;
    for Pretraining {
        size,
        number,
        stage,
        key,
    } in stages
    {
        let name = bundled_name(&size, number);
        let made = store
            .artifact(&key)
            .ok_or_else(|| Error::store(format!("the base {name} is not in the store")))?;
        let place = args.folder.join(&name);
        if args.update {
            std::fs::create_dir_all(&place)
                .context(|| format!("cannot create {}", place.display()))?;
            let template = made.join(CHAT_TEMPLATE).is_file().then_some(CHAT_TEMPLATE);
            let files = ["config.json", "model.safetensors", "tokenizer.json"];
            for file in files.into_iter().chain(template) {
                let copied = std::fs::copy(made.join(file), place.join(file));
                copied.context(|| format!("cannot write {}", place.join(file).display()))?;
            }
            let note = serde_json::to_string_pretty(&provenance(&stage, number))
                .context(|| "cannot encode".into())?;
            let path = place.join("made_by.json");
            std::fs::write(&path, note + "\n")
                .context(|| format!("cannot write {}", path.display()))?;
            print(&format!(
                "{name}: written to {}; build again to carry it\n",
                place.display()
            ))?;
        } else {
            let distance = distance(&made, &place)?;
            let verdict = if distance <= TOLERANCE {
                "the same making"
            } else {
                "DIFFERENT"
            };
            alike &= distance <= TOLERANCE;
            print(&format!(
                "{name}: differs by {distance:.2e} of the weights' root mean square: {verdict}\n"
            ))?;
        }
    }
    Ok(if alike { SUCCESS } else { FAILURE })
}

/// Root mean square of the difference of two checkpoints' weights, as a share of the second's own.
fn distance(made: &Path, carried: &Path) -> Result<f32> {
    let [made, carried] =
        [made, carried].map(|folder| Weights::read(&folder.join("model.safetensors")));
    let (made, carried) = (made?, carried?);
    let (mut difference, mut size) = (0.0, 0.0);
    for tensor in made.list() {
        carried.check(tensor.name, tensor.shape)?;
        let (ours, theirs) = (made.values(tensor.name)?, carried.values(tensor.name)?);
        difference += ours
            .iter()
            .zip(theirs.iter())
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f32>();
        size += theirs.iter().map(|b| b.powi(2)).sum::<f32>();
    }
    Ok((difference / size).sqrt())
}
