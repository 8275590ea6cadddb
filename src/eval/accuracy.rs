//! Accuracy of a reward on pairs: how often the preferred response scores strictly higher (ties are wrong). An explicit
//! reward, an implicit one and the heuristics that any reward has to beat are measured on the same pairs.

use crate::Result;
use crate::data::rows::ResponsePair;
use crate::data::{Codec, codec};
use crate::experiment::Heuristic;
use crate::methods::reward::score;
use crate::methods::spin::sequence_log_probs;
use crate::model::{LanguageModel, RewardModel, Sequence};
use crate::rng::stream;
use rand::Rng;
use std::collections::HashSet;

/// What scores a response.
pub enum Judge<'a> {
    /// r(x, y) of a reward model.
    Explicit(&'a RewardModel),
    /// log π(y|x) − log π_ref(y|x), summed over the response: the implicit reward of SPIN and DPO.
    Implicit { policy: &'a LanguageModel, reference: &'a LanguageModel },
    /// log π(y|x), summed over the response: [`Heuristic::LogProbability`].
    LogProbability(&'a LanguageModel),
    /// Any other ranking that needs no learning.
    Heuristic { heuristic: Heuristic, seed: u64 },
}

impl Judge<'_> {
    /// A score per row of `sequences`; `texts` are the same rows as (prompt, response).
    fn scores(&self, sequences: &[&Sequence], texts: &[(&str, &str)]) -> Result<Vec<f64>> {
        let widen = |scores: Vec<f32>| scores.into_iter().map(f64::from).collect::<Vec<f64>>();
        Ok(match self {
            Self::Explicit(model) => widen(score(model, sequences)?),
            Self::Implicit { policy, reference } => {
                let (own, base) = (sequence_log_probs(policy, sequences)?, sequence_log_probs(reference, sequences)?);
                widen(own.iter().zip(base).map(|(p, q)| p - q).collect())
            }
            Self::LogProbability(model) => widen(sequence_log_probs(model, sequences)?),
            Self::Heuristic { heuristic, seed } => match heuristic {
                Heuristic::Chance => {
                    (0..sequences.len() as u64).map(|row| stream(*seed, "heuristic/chance", &[row]).random()).collect()
                }
                Heuristic::Shorter => sequences.iter().map(|row| -(row.response.len() as f64)).collect(),
                Heuristic::Longer => sequences.iter().map(|row| row.response.len() as f64).collect(),
                Heuristic::LogProbability => unreachable!("a judge of its own"),
                Heuristic::CopyOverlap => texts.iter().map(|(prompt, response)| overlap(prompt, response)).collect(),
            },
        })
    }
}

/// Share of the response's words that stand in the prompt.
fn overlap(prompt: &str, response: &str) -> f64 {
    let known: HashSet<&str> = prompt.split_whitespace().collect();
    let words: Vec<&str> = response.split_whitespace().collect();
    words.iter().filter(|word| known.contains(**word)).count() as f64 / words.len().max(1) as f64
}

/// Which of `pairs` the judge ranks right, by the whole score and by the score per token of the response.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    /// 1 where the preferred response scores strictly higher, else 0.
    pub by_score: Vec<f64>,
    pub per_token: Vec<f64>,
}

/// Ranks `pairs` by `judge`.
pub fn rank(judge: &Judge, pairs: &[ResponsePair], codec: &codec::Codec) -> Result<Ranked> {
    let sequences = pairs.iter().map(|pair| Codec::pair(codec, pair)).collect::<Result<Vec<_>>>()?;
    let rows: Vec<&Sequence> = sequences.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
    let texts: Vec<(&str, &str)> = pairs
        .iter()
        .flat_map(|pair| [&pair.chosen, &pair.rejected].map(|side| (pair.prompt.as_str(), side.text.as_str())))
        .collect();
    let scores = judge.scores(&rows, &texts)?;
    let per_token: Vec<f64> =
        scores.iter().zip(&rows).map(|(score, row)| score / row.response.len().max(1) as f64).collect();
    let right = |scores: &[f64]| scores.chunks(2).map(|pair| f64::from(u8::from(pair[0] > pair[1]))).collect();
    Ok(Ranked { by_score: right(&scores), per_token: right(&per_token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_counts_words_of_the_prompt() {
        assert_eq!(overlap("my boss fired me", "my boss left"), 2.0 / 3.0);
        assert_eq!(overlap("anything", ""), 0.0);
    }
}
