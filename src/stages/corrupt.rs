//! Stage `corrupt`: replaces a declared share of the demonstrations by bad ones.

use super::Stage;
use super::common::{demonstrations, encoder, frozen, needed, sample, sampling};
use super::work::{self, Precision, Sizes, Work};
use crate::Result;
use crate::data::rows::{self, Demonstration, Encodable, RowText};
use crate::experiment::{Corruption, GenerationSettings};
use crate::methods::training::Dtype;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::{permutation, stream};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    pub corruption: Corruption,
    pub fraction: f64,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CorruptInputs {
    pub demonstrations: StageKey,
    /// The model whose samples are the bad demonstrations, if these are samples.
    pub base: Option<StageKey>,
}

impl Stage for Corrupt {
    const KIND: &'static str = "corrupt";
    const VERSION: u32 = 2;
    type Inputs = CorruptInputs;
    type Sizes<'a> = Sizes<'a>;

    fn work(&self, sizes: Sizes) -> Work {
        match self.corruption {
            Corruption::BaseSamples => {
                let samples = (sizes.rows as f64 * self.fraction).round() as usize;
                work::sampling(
                    sizes.shapes(&self.generation),
                    samples,
                    Precision::from(self.dtype),
                )
            }
            Corruption::Shuffled | Corruption::Truncated => Work::default(),
        }
    }

    /// Replaces a random choice of demonstrations, which depends on the seed. A larger share
    /// contains a smaller one.
    fn run(self, inputs: CorruptInputs, context: &StageContext) -> Result<()> {
        let seed = context.seed()?;
        let mut rows = demonstrations(context, &inputs.demonstrations)?;
        let order = permutation(rows.len(), seed, "spoil/order", 0);
        let mut chosen = order[..corrupted(rows.len(), self.fraction)].to_vec();
        chosen.sort_unstable();
        let replacements = match self.corruption {
            Corruption::BaseSamples => self.base_samples(
                context,
                needed(&inputs.base, "base", context)?,
                &rows,
                &chosen,
            )?,
            // Each chosen demonstration takes the response of the next one, the last that of the
            // first.
            Corruption::Shuffled => (0..chosen.len())
                .map(|place| rows[chosen[(place + 1) % chosen.len()]].response.clone())
                .collect(),
            Corruption::Truncated => chosen
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

impl Corrupt {
    fn base_samples(
        &self,
        context: &StageContext,
        base: &StageKey,
        rows: &[Demonstration],
        chosen: &[usize],
    ) -> Result<Vec<RowText>> {
        let encoder = encoder(context, base, &self.generation)?;
        let base = frozen(context, base, self.dtype)?;
        let prompts = chosen
            .iter()
            .map(|&place| encoder.prompt(&rows[place].prompt))
            .collect::<Result<Vec<_>>>()?;
        let seed = context.seed()?;
        // Streams are indexed by the demonstration's position, so that a larger share keeps the
        // samples of a smaller one.
        let stream = |item: usize| stream(seed, "spoil/base", &[chosen[item] as u64]);
        let samples = sample(
            context,
            &base,
            &prompts,
            &sampling(&encoder, &self.generation, 1.0),
            stream,
        )?;
        let responses = samples.into_iter().zip(chosen).map(|(sample, &place)| {
            let response = encoder.decoded(sample.ids, sample.ended)?;
            Ok(rows[place].clone().answered(response).response)
        });
        responses.collect()
    }
}

/// Number of bad demonstrations among `count`.
fn corrupted(count: usize, fraction: f64) -> usize {
    ((count as f64 * fraction).round() as usize).min(count)
}

/// The first half of a response's words, with the original white space before them, or of its
/// tokens where they are known.
fn first_half(response: &RowText) -> RowText {
    let half = first_words(response.as_str());
    match response.ids() {
        None => half.into(),
        Some(ids) => RowText::encoded(half, ids[..ids.len().div_ceil(2)].to_vec()),
    }
}

fn first_words(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lead = &text[..text.len() - text.trim_start().len()];
    format!("{lead}{}", words[..words.len().div_ceil(2)].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_text_is_half_of_its_words() {
        assert_eq!(first_words(" my boss fired me today"), " my boss fired");
        assert_eq!(first_words("word"), "word");
        assert_eq!(first_words(""), "");
    }

    #[test]
    fn a_share_is_rounded_and_never_more_than_all() {
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|share| corrupted(10, share)),
            [0, 3, 5, 10]
        );
    }
}
