//! Stage `spoil`: replaces a declared share of the demonstrations by bad ones.

use super::Stage;
use super::common::{codec, demonstrations, frozen, needed, sample, sampling};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, Demonstration};
use crate::experiment::{Bad, GenerationSettings};
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{permutation, stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spoil {
    pub bad: Bad,
    pub fraction: f64,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SpoilInputs {
    pub demonstrations: StageKey,
    /// The model whose samples are the bad demonstrations, if these are samples.
    pub base: Option<StageKey>,
}

impl Stage for Spoil {
    const KIND: &'static str = "spoil";
    const VERSION: u32 = 2;
    type Inputs = SpoilInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        match self.bad {
            Bad::BaseSamples => {
                let samples = (sizes.rows as f64 * self.fraction).round() as usize;
                work::sampling(
                    sizes.shapes(&self.generation),
                    samples,
                    Precision::from(self.dtype),
                )
            }
            Bad::Shuffled | Bad::Truncated => Work::default(),
        }
    }

    /// Replaces a random choice of demonstrations, which depends on the seed. A larger share
    /// contains a smaller one.
    fn run(self, inputs: SpoilInputs, context: &StageContext) -> Result<()> {
        let seed = context.seed()?;
        let mut rows = demonstrations(context, &inputs.demonstrations)?;
        let order = permutation(rows.len(), seed, "spoil/order", 0);
        let mut chosen = order[..spoilt(rows.len(), self.fraction)].to_vec();
        chosen.sort_unstable();
        let replacements = match self.bad {
            Bad::BaseSamples => self.base_samples(
                context,
                needed(&inputs.base, "base", context)?,
                &rows,
                &chosen,
            )?,
            // Each chosen demonstration takes the response of the next one, the last that of the
            // first.
            Bad::Shuffled => (0..chosen.len())
                .map(|place| rows[chosen[(place + 1) % chosen.len()]].response.clone())
                .collect(),
            Bad::Truncated => chosen
                .iter()
                .map(|&place| first_half(&rows[place].response))
                .collect(),
        };
        for (place, response) in chosen.into_iter().zip(replacements) {
            rows[place].response = response;
        }
        rows::write(&context.out().join("demonstrations.jsonl"), rows)
    }
}

impl Spoil {
    fn base_samples(
        &self,
        context: &StageContext,
        base: &StageKey,
        rows: &[Demonstration],
        chosen: &[usize],
    ) -> Result<Vec<String>> {
        let codec = codec(context, base, &self.generation)?;
        let base = frozen(context, base, self.dtype)?;
        let prompts = chosen
            .iter()
            .map(|&place| codec.prompt(&rows[place].prompt))
            .collect::<Result<Vec<_>>>()?;
        let seed = context.seed()?;
        // Streams are indexed by the demonstration's position, so that a larger share keeps the
        // samples of a smaller one.
        let stream = |item: usize| stream(seed, "spoil/base", &[chosen[item] as u64]);
        let samples = sample(
            context,
            &base,
            &prompts,
            &sampling(&codec, &self.generation, 1.0),
            stream,
        )?;
        samples
            .into_iter()
            .map(|sample| Ok(codec.decoded(sample.ids, sample.ended)?.text))
            .collect()
    }
}

/// Number of bad demonstrations among `count`.
fn spoilt(count: usize, fraction: f64) -> usize {
    ((count as f64 * fraction).round() as usize).min(count)
}

/// The first half of a text's words, with the original white space before them.
fn first_half(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lead = &text[..text.len() - text.trim_start().len()];
    format!("{lead}{}", words[..words.len().div_ceil(2)].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_text_is_half_of_its_words() {
        assert_eq!(first_half(" my boss fired me today"), " my boss fired");
        assert_eq!(first_half("word"), "word");
        assert_eq!(first_half(""), "");
    }

    #[test]
    fn a_share_is_rounded_and_never_more_than_all() {
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|share| spoilt(10, share)),
            [0, 3, 5, 10]
        );
    }
}
