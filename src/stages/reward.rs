//! Stage `reward`: a fresh head on the SFT policy, trained on pairs (eq. 11, 10, or 2 when the pairs are preferences).

use super::common::{
    TRAINING, Watch, checkpoint, codec, count_flops, language_model, training_pairs, within_memory, write_json,
};
use super::work::{self, Regime, Texts};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::reward::{RewardSettings, RewardStart, train_reward};
use crate::methods::training::Training;
use crate::model::checkpoint::Checkpoint;
use crate::pipeline::StageContext;
use crate::rng::round;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "reward";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub generation: GenerationSettings,
    pub reward: RewardSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let seed = round(context.seed()?, stage.round);
    let codec = codec(context, "policy", &stage.generation)?;
    let (pairs, identical) = training_pairs(context, &codec)?;
    let policy = language_model(context, "policy")?;
    let texts = Texts { config: policy.config(), generation: &stage.generation };
    let work = work::reward(texts, &stage.reward, pairs.len(), Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let (start, watch) = (RewardStart::Policy(policy), Watch(context));
    let (model, normalisation, curve) = train_reward(start, &pairs, &stage.reward, &training, seed, &watch)?;
    let curve = serde_json::json!({
        "loss": curve.loss, "accuracy": curve.accuracy, "margin": curve.margin,
        "magnitude": curve.magnitude, "gradient_norm": curve.gradient_norm,
        "pairs": pairs.len(), "identical_share": identical,
    });
    write_json(&context.out().join("curve.json"), &curve)?;
    count_flops(context, model.config(), TRAINING);
    let tokenizer = checkpoint(context, "policy")?.folder().join("tokenizer.json");
    Checkpoint::save_reward_model(context.out(), &model, &normalisation, &tokenizer)
}
