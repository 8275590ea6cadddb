//! The evaluation set as stages open it: posts of the embedded world, or real posts with a reward
//! model in the place of gold.

use super::common::{encoder, frozen_reward, needed};
use crate::Result;
use crate::data::rows;
use crate::eval::evaluation_set::{EvaluationSet, WorldEvaluationSet};
use crate::experiment::GenerationSettings;
use crate::judges::Judge;
use crate::judges::reward_model::Reward;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

/// Real posts of an evaluation set; both fields are `None` in the embedded world.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct EvaluationSetInputs {
    /// Demonstrations, with the held-out ones in the same artifact.
    pub demonstrations: Option<StageKey>,
    /// The reward model that takes the place of gold, if there is one.
    pub judge: Option<StageKey>,
}

impl EvaluationSetInputs {
    /// Opens the evaluation set of the embedded world, or that of real posts.
    pub fn open(
        &self,
        context: &StageContext,
        evaluation_set: Option<&WorldEvaluationSet>,
        generation: &GenerationSettings,
        dtype: Dtype,
    ) -> Result<EvaluationSet> {
        if let Some(evaluation_set) = evaluation_set {
            return EvaluationSet::of_world(evaluation_set);
        }
        let judge = self
            .judge
            .as_ref()
            .map(|input| judge(context, input, generation, dtype))
            .transpose()?;
        let posts = context.artifact(needed(&self.demonstrations, "demonstrations", context)?)?;
        Ok(EvaluationSet::of_corpus(
            rows::read(&posts.join("held_out.jsonl"))?,
            judge,
        ))
    }
}

/// The reward model of an input, used in the place of gold.
pub fn judge(
    context: &StageContext,
    input: &StageKey,
    generation: &GenerationSettings,
    dtype: Dtype,
) -> Result<Box<dyn Judge>> {
    let (model, normalisation) = frozen_reward(context, input, dtype)?;
    Ok(Box::new(Reward {
        model,
        normalisation: Some(normalisation),
        encoder: Some(encoder(context, input, generation)?),
    }))
}
