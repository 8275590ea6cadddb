//! Stage `sft`: the base model fine-tuned on the demonstrations.

use super::common::{Watch, checkpoint, codec, demonstrations, language_model, save_policy, within_memory, write_json};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::sft::SftSettings;
use crate::methods::training::Training;
use crate::methods::tune::Candidate;
use crate::pipeline::StageContext;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "sft";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub sft: SftSettings,
    pub training: Training,
    /// Whether the epochs stand although an input `tuning` chooses the learning rate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_epochs: bool,
}

pub fn run(context: &StageContext) -> Result<()> {
    let mut stage: Stage = context.settings()?;
    if let Some(Candidate { epochs, learning_rate, .. }) = super::tune::chosen(context)? {
        let optimiser = &mut stage.sft.optimiser;
        optimiser.learning_rate = learning_rate.unwrap_or(optimiser.learning_rate);
        stage.sft.epochs = if stage.own_epochs { stage.sft.epochs } else { epochs };
    }
    let codec = codec(context, "base", &stage.generation)?;
    let rows = demonstrations(context)?.iter().map(|row| codec.demonstration(row)).collect::<Result<Vec<_>>>()?;
    let base = language_model(context, "base")?;
    let texts = Texts { config: base.config(), generation: &stage.generation };
    let work = work::sft(texts, &stage.sft, rows.len(), Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let (seed, watch) = (context.seed()?, Watch(context));
    let (model, losses) = crate::methods::sft::sft(base, &rows, &stage.sft, &training, seed, &watch)?;
    write_json(&context.out().join("curve.json"), &serde_json::json!({ "loss": losses }))?;
    save_policy(context, &model, &checkpoint(context, "base")?)
}
