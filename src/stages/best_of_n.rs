//! Stage `best_of_n`: for every prompt the best of n samples of a policy by a reward.

use super::Stage;
use super::common::{demonstrations, encoder, prompts};
use super::scoring::{JudgeInputs, SampleJudge, Samples};
use super::work::{self, Precision, Sizes, Work};
use crate::data::rows;
use crate::experiment::GenerationSettings;
use crate::judges::JudgeId;
use crate::methods::best_of_n::{BestOfNSettings, best};
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestOfN {
    pub generation: GenerationSettings,
    pub best_of_n: BestOfNSettings,
    pub dtype: Dtype,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct BestOfNInputs {
    pub policy: StageKey,
    pub reward: StageKey,
    /// Demonstrations, for their prompts.
    pub demonstrations: StageKey,
}

impl Stage for BestOfN {
    const KIND: &'static str = "best_of_n";
    const VERSION: u32 = 1;
    type Inputs = BestOfNInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (sizes.shapes(&self.generation), Precision::from(self.dtype));
        let samples = sizes.rows * self.best_of_n.n;
        work::sampling(shapes, samples, precision).then(work::reading(
            &[(shapes, true)],
            1,
            samples,
            precision,
        ))
    }

    /// Writes the best sample of every prompt; a prompt whose samples all fail to end is left out.
    fn run(self, inputs: BestOfNInputs, context: &StageContext) -> Result<()> {
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let demonstrations = demonstrations(context, &inputs.demonstrations)?;
        let (prompts, n) = (prompts(&demonstrations, &encoder)?, self.best_of_n.n);
        let settings = Samples {
            n,
            temperature: self.best_of_n.temperature,
            purpose: "best_of_n",
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
            reward: Some(inputs.reward),
            policy: Some(inputs.policy),
            reference: None,
        };
        let judge = JudgeId::Learned;
        let judge = SampleJudge::open(&judge, &sources, &encoder, &demonstrations, &prompts)?;
        let scores = judge.scores(&samples)?;
        let mut winners = Vec::with_capacity(prompts.len());
        for (row, place) in demonstrations.iter().zip(best(&scores, n)) {
            if samples[place].ended {
                let response = encoder.decoded(samples[place].ids.clone(), true)?;
                winners.push(row.clone().answered(response));
            }
        }
        if winners.is_empty() {
            return Err(
                Error::data("no sample of the policy ends, so Best-of-N has no winners")
                    .hint("lower best_of_n.temperature, or raise generation.max_response_tokens"),
            );
        }
        rows::write(&context.out().join("demonstrations.jsonl"), winners)
    }
}
