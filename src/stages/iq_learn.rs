//! Stage `iq_learn`: the SFT policy's logits as a soft Q-function, fitted to the demonstrations.

use super::common::{Watch, checkpoint, codec, demonstrations, language_model, save_policy, within_memory, write_json};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::iq_learn::IqLearnSettings;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "iq_learn";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub iq_learn: IqLearnSettings,
    pub training: Training,
}

pub fn run(context: &StageContext) -> Result<()> {
    let mut stage: Stage = context.settings()?;
    if let Some(choice) = super::tune::chosen(context)? {
        super::tune::apply_to_iq_learn(&mut stage.iq_learn, &choice);
    }
    let codec = codec(context, "policy", &stage.generation)?;
    let rows = demonstrations(context)?.iter().map(|row| codec.demonstration(row)).collect::<Result<Vec<_>>>()?;
    let policy = language_model(context, "policy")?;
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let work = work::iq_learn(texts, &stage.iq_learn, rows.len(), Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let (seed, watch) = (context.seed()?, Watch(context));
    let (model, losses) = crate::methods::iq_learn::iq_learn(policy, &rows, &stage.iq_learn, &training, seed, &watch)?;
    write_json(&context.out().join("curve.json"), &serde_json::json!({ "loss": losses }))?;
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
