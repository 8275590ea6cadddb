//! Stage `pairs`: pairs every demonstration with samples of a policy for the same prompt, P_t of
//! Algorithm 1.

use super::Stage;
use super::common::{demonstrations, encoder, frozen, sample, sampling};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, Encodable, ResponsePair, RowText};
use crate::data::world::WorldAt;
use crate::experiment::GenerationSettings;
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{round, stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairs {
    pub generation: GenerationSettings,
    pub temperature: f32,
    pub dtype: Dtype,
    /// Samples per demonstration.
    pub negatives: usize,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
    /// The world that writes the prompts of the samples in a format of their own; `None` for the
    /// prompts of the demonstrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructed_by: Option<WorldAt>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PairsInputs {
    pub policy: StageKey,
    pub demonstrations: StageKey,
}

impl Stage for Pairs {
    const KIND: &'static str = "pairs";
    const VERSION: u32 = 1;
    type Inputs = PairsInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        let samples = sizes.rows * self.negatives;
        work::sampling(
            sizes.shapes(&self.generation),
            samples,
            Precision::from(self.dtype),
        )
    }

    fn run(self, inputs: PairsInputs, context: &StageContext) -> Result<()> {
        let seed = round(context.seed()?, self.round);
        let policy = frozen(context, &inputs.policy, self.dtype)?;
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let demonstrations = demonstrations(context, &inputs.demonstrations)?;
        let world = self.instructed_by.as_ref().map(WorldAt::open).transpose()?;
        let asked = |prompt: &RowText| match &world {
            Some(world) => encoder.prompt(&world.instruction(prompt.text())),
            None => encoder.prompt(prompt),
        };
        let prompts = demonstrations
            .iter()
            .flat_map(|row| std::iter::repeat_n(&row.prompt, self.negatives))
            .map(asked)
            .collect::<Result<Vec<_>>>()?;
        let sampling = sampling(&encoder, &self.generation, self.temperature);
        let samples = sample(context, &policy, &prompts, &sampling, |item| {
            stream(seed, "pairs", &[item as u64])
        })?;
        let mut pairs = Vec::with_capacity(samples.len());
        for (index, sample) in samples.into_iter().enumerate() {
            let row = &demonstrations[index / self.negatives];
            pairs.push(ResponsePair {
                id: row.id.clone(),
                prompt: row.prompt.clone(),
                chosen: encoder.response(&row.response)?,
                rejected: encoder.decoded(sample.ids, sample.ended)?,
            });
        }
        rows::write(&context.out().join("pairs.jsonl"), pairs)
    }
}
