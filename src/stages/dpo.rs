//! Stage `dpo`: direct preference optimisation of a policy on pairs, against a fixed reference.

use super::common::{
    Watch, checkpoint, codec, frozen, language_model, save_policy, training_pairs, within_memory, write_json,
};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::dpo::DpoSettings;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "dpo";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub dpo: DpoSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

pub fn run(context: &StageContext) -> Result<()> {
    let mut stage: Stage = context.settings()?;
    if let Some(choice) = super::tune::chosen(context)? {
        super::tune::apply_to_dpo(&mut stage.dpo, &choice);
    }
    let seed = round(context.seed()?, stage.round);
    let codec = codec(context, "policy", &stage.generation)?;
    let (pairs, identical) = training_pairs(context, &codec)?;
    let policy = language_model(context, "policy")?;
    let reference = frozen(context, "reference", stage.training.dtype)?;
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let work = work::dpo(texts, &stage.dpo, pairs.len(), Regime::from(&stage.training));
    let (training, watch) = (within_memory(context, &stage.training, &work)?, Watch(context));
    let (model, losses) = crate::methods::dpo::dpo(policy, &reference, &pairs, &stage.dpo, &training, seed, &watch)?;
    let curve = serde_json::json!({ "loss": losses, "pairs": pairs.len(), "identical_share": identical });
    write_json(&context.out().join("curve.json"), &curve)?;
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
