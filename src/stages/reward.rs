//! Stage `reward`: a fresh head on the SFT policy, or an earlier reward, trained on pairs (eq. 11, 10, or 2 when the pairs are
//! preferences).

use super::common::{Watch, checkpoint, codec, device, language_model, training_pairs, within_memory, write_json};
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
    let warm = context.spec.inputs.contains_key("reward");
    let role = if warm { "reward" } else { "policy" };
    let codec = codec(context, role, &stage.generation)?;
    let (pairs, identical) = training_pairs(context, &codec)?;
    let start = match warm {
        true => RewardStart::Reward(checkpoint(context, role)?.reward_model(&device(context)?)?.0),
        false => RewardStart::Policy(language_model(context, role)?),
    };
    let config = checkpoint(context, role)?.config()?;
    let texts = Texts { config: &config, generation: &stage.generation };
    let work = work::reward(texts, &stage.reward, pairs.len(), Regime::from(&stage.training));
    let training = within_memory(context, &stage.training, &work)?;
    let (model, normalisation, curve) = train_reward(start, &pairs, &stage.reward, &training, seed, &Watch(context))?;
    let mut seen = serde_json::json!(curve);
    seen["pairs"] = pairs.len().into();
    seen["identical_share"] = identical.into();
    write_json(&context.out().join("curve.json"), &seen)?;
    let tokenizer = checkpoint(context, role)?.folder().join("tokenizer.json");
    Checkpoint::save_reward_model(context.out(), &model, &normalisation, &tokenizer)
}
