//! Rankings that need no learning and that a meaningful reward must beat.

use super::log_probability::LogProbability;
use super::{Identity, Judge, Row, Sources};
use crate::Result;
use crate::data::rows::Response;
use crate::experiment::Heuristic;
use crate::model::layout::Head;
use crate::rng::stream;
use rand::Rng;
use std::collections::HashSet;

impl Identity for Heuristic {
    fn reads(&self) -> &'static [Head] {
        match self {
            Self::LogProbability => &[Head::LanguageModel],
            Self::Chance | Self::Shorter | Self::Longer | Self::CopyOverlap => &[],
        }
    }

    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        Ok(match self {
            Self::Chance => Box::new(Chance(from.seed()?)),
            Self::Shorter => Box::new(Simple(|_, response| -(response.ids.len() as f64))),
            Self::Longer => Box::new(Simple(|_, response| response.ids.len() as f64)),
            Self::CopyOverlap => {
                Box::new(Simple(|prompt, response| overlap(prompt, &response.text)))
            }
            Self::LogProbability => Box::new(LogProbability {
                policy: from.reference()?,
            }),
        })
    }
}

/// A fair coin of the seed that it holds, tossed anew for each row.
struct Chance(u64);

impl Judge for Chance {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        Ok((0..rows.len() as u64)
            .map(|row| stream(self.0, "heuristic/chance", &[row]).random())
            .collect())
    }

    fn divides_by_tokens(&self) -> bool {
        false
    }
}

/// A function of the prompt's text and the response.
struct Simple(fn(&str, &Response) -> f64);

impl Judge for Simple {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        let score = |(prompt, response): &Row| self.0(prompt.text, response);
        Ok(rows.iter().map(score).collect())
    }

    /// False: per token a length is the same for all responses, and an overlap is not a sum over
    /// tokens.
    fn divides_by_tokens(&self) -> bool {
        false
    }
}

/// Share of the response's words that occur in the prompt.
fn overlap(prompt: &str, response: &str) -> f64 {
    let known: HashSet<&str> = prompt.split_whitespace().collect();
    let words: Vec<&str> = response.split_whitespace().collect();
    words.iter().filter(|word| known.contains(**word)).count() as f64 / words.len().max(1) as f64
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
