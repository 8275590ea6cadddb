//! Stage `judged_pairs`: two samples of a policy for every prompt, the one with the higher score
//! preferred.

use super::Stage;
use super::common::{demonstrations, encoder, prompts};
use super::scoring::{JudgeInputs, SampleJudge, Samples};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::experiment::GenerationSettings;
use crate::judges::JudgeId;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedPairs {
    pub generation: GenerationSettings,
    pub temperature: f32,
    pub reward: JudgeId,
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
        let models = work::readers(&self.reward, shapes);
        drawn.then(work::reading(&models, 1, samples, precision))
    }

    /// Writes the pairs; those with equal scores are left out.
    fn run(self, inputs: JudgedPairsInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let demonstrations = demonstrations(context, &inputs.demonstrations)?;
        let prompts = prompts(&demonstrations, &encoder)?;
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
        let sources = JudgeInputs {
            context,
            dtype: self.dtype,
            reward: inputs.reward,
            policy: Some(inputs.policy),
            reference: None,
        };
        let judge = SampleJudge::open(&self.reward, &sources, &encoder, &demonstrations, &prompts)?;
        let scores = judge.scores(&samples)?;
        let mut pairs = Vec::with_capacity(prompts.len());
        for (index, row) in demonstrations.iter().enumerate() {
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
                    id: row.id.clone(),
                    prompt: row.prompt.clone(),
                    chosen,
                    rejected,
                });
            }
        }
        rows::write(&context.out().join("pairs.jsonl"), pairs)
    }
}
