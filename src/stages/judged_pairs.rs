//! Stage `judged_pairs`: two samples of a policy for every prompt, the one with the higher score
//! preferred.

use super::Stage;
use super::common::{demonstrations, encoder, prompts};
use super::reward_function::{RewardSource, Samples, scores};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::experiment::GenerationSettings;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedPairs {
    pub generation: GenerationSettings,
    pub temperature: f32,
    pub reward: RewardSource,
    pub dtype: Dtype,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct JudgedPairsInputs {
    pub policy: StageKey,
    /// Demonstrations, for their prompts.
    pub demonstrations: StageKey,
    /// The reward model, if the reward is learned.
    pub reward: Option<StageKey>,
}

/// Samples per prompt.
const SAMPLES: usize = 2;

impl Stage for JudgedPairs {
    const KIND: &'static str = "judged_pairs";
    const VERSION: u32 = 1;
    type Inputs = JudgedPairsInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (sizes.shapes(&self.generation), Precision::from(self.dtype));
        let samples = SAMPLES * sizes.rows;
        let drawn = work::sampling(shapes, samples, precision);
        match self.reward {
            RewardSource::Learned => {
                drawn.then(work::reading(&[(shapes, true)], 1, samples, precision))
            }
            RewardSource::Gold { .. } => drawn,
        }
    }

    /// Writes the pairs; those with equal scores are left out.
    fn run(self, inputs: JudgedPairsInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let prompts = prompts(context, &inputs.demonstrations, &encoder)?;
        let settings = Samples {
            n: SAMPLES,
            temperature: self.temperature,
            purpose: "judged_pairs",
            round: self.round,
        };
        let samples = settings.draw(
            context,
            &inputs.policy,
            &self.generation,
            self.dtype,
            &prompts,
        )?;
        let reward =
            self.reward
                .function(context, &inputs.reward, &encoder, prompts.len(), self.dtype)?;
        let scores = scores(&reward, &self.reward, &prompts, &samples)?;
        let mut pairs = Vec::with_capacity(prompts.len());
        for (index, row) in demonstrations(context, &inputs.demonstrations)?
            .into_iter()
            .enumerate()
        {
            let (first, second) = (SAMPLES * index, SAMPLES * index + 1);
            let (chosen, rejected) = if scores[first] >= scores[second] {
                (first, second)
            } else {
                (second, first)
            };
            if scores[chosen] > scores[rejected] {
                let response = |place: usize| {
                    encoder.decoded(samples[place].ids.clone(), samples[place].ended)
                };
                let (chosen, rejected) = (response(chosen)?, response(rejected)?);
                pairs.push(ResponsePair {
                    id: row.id,
                    prompt: row.prompt,
                    chosen,
                    rejected,
                });
            }
        }
        rows::write(&context.out().join("pairs.jsonl"), pairs)
    }
}
