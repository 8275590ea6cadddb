//! Stage `spin`: one SPIN iteration from the previous iterate, which is also the opponent.

use super::common::write_json;
use super::common::{Watch, checkpoint, codec, language_model, save_policy, training_pairs, within_memory};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::spin::SpinSettings;
use crate::methods::training::Training;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "spin";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub spin: SpinSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let seed = round(context.seed()?, stage.round);
    let codec = codec(context, "policy", &stage.generation)?;
    let (pairs, identical) = training_pairs(context, &codec)?;
    let opponent = language_model(context, "policy")?;
    let texts = Texts { config: opponent.config(), generation: &stage.generation };
    let work = work::spin(texts, &stage.spin, pairs.len(), Regime::from(&stage.training));
    let (training, watch) = (within_memory(context, &stage.training, &work)?, Watch(context));
    let (model, losses) = crate::methods::spin::spin(opponent, &pairs, &stage.spin, &training, seed, &watch)?;
    let curve = serde_json::json!({ "loss": losses, "pairs": pairs.len(), "identical_share": identical });
    write_json(&context.out().join("curve.json"), &curve)?;
    save_policy(context, &model, &checkpoint(context, "policy")?)
}
