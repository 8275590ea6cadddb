//! Stage `spoil`: demonstrations of which a declared share is bad, whatever they came from.

use super::common::{codec, demonstrations, frozen, sample, sampling};
use crate::Result;
use crate::data::rows::{self, Demonstration};
use crate::experiment::{Bad, GenerationSettings};
use crate::methods::training::Dtype;
use crate::pipeline::StageContext;
use crate::rng::{permutation, stream};
use serde::{Deserialize, Serialize};

pub const KIND: &str = "spoil";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub bad: Bad,
    pub fraction: f64,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

/// The input `demonstrations`, of which the seed's own choice is replaced. A larger share contains a smaller one. Samples are
/// those of the input `base`.
pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let seed = context.seed()?;
    let mut rows = demonstrations(context)?;
    let order = permutation(rows.len(), seed, "spoil/order", 0);
    let mut chosen = order[..spoilt(rows.len(), stage.fraction)].to_vec();
    chosen.sort_unstable();
    let replacements = match stage.bad {
        Bad::BaseSamples => base_samples(context, &stage, &rows, &chosen)?,
        // Each takes the response of the next one, the last that of the first.
        Bad::Shuffled => {
            (0..chosen.len()).map(|place| rows[chosen[(place + 1) % chosen.len()]].response.clone()).collect()
        }
        Bad::Truncated => chosen.iter().map(|&place| first_half(&rows[place].response)).collect(),
    };
    for (place, response) in chosen.into_iter().zip(replacements) {
        rows[place].response = response;
    }
    rows::write(&context.out().join("demonstrations.jsonl"), rows)
}

/// How many of `count` demonstrations are bad.
fn spoilt(count: usize, fraction: f64) -> usize {
    ((count as f64 * fraction).round() as usize).min(count)
}

/// The first half of a text's words, with the space before them as it was.
fn first_half(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lead = &text[..text.len() - text.trim_start().len()];
    format!("{lead}{}", words[..words.len().div_ceil(2)].join(" "))
}

fn base_samples(
    context: &StageContext,
    stage: &Stage,
    rows: &[Demonstration],
    chosen: &[usize],
) -> Result<Vec<String>> {
    let base = frozen(context, "base", stage.dtype)?;
    let codec = codec(context, "base", &stage.generation)?;
    let prompts = chosen.iter().map(|&place| codec.prompt(&rows[place].prompt)).collect::<Result<Vec<_>>>()?;
    let seed = context.seed()?;
    // By the demonstration's place, so that a larger share keeps the samples of a smaller one.
    let stream = |item: usize| stream(seed, "spoil/base", &[chosen[item] as u64]);
    let samples = sample(context, &base, &prompts, &sampling(&codec, &stage.generation, 1.0), stream)?;
    samples.into_iter().map(|sample| Ok(codec.decoded(sample.ids, sample.ended)?.text)).collect()
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
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| spoilt(10, share)), [0, 3, 5, 10]);
    }
}
