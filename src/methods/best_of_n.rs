//! Best-of-N (Stiennon et al. 2020, arXiv 2009.01325): of n samples ỹ_1 … ỹ_n ~ π(·|x), the one
//! with the highest r(x, ỹ_i). It can replace eq. 9 because the winner's distribution has a KL to π
//! of at most log n − (n − 1)/n and no parameters to train. SFT on the winners puts that
//! distribution into a policy; this is the policy step of the paper's 7B half.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOfNSettings {
    /// Samples per prompt.
    #[schemars(range(min = 1))]
    pub n: usize,
    /// Temperature of the samples.
    #[schemars(range(min = 0.0))]
    pub temperature: f32,
    pub start: BestOfNStart,
}

/// The policy from which SFT on the winners starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BestOfNStart {
    /// The SFT policy.
    Sft,
    /// The policy that generated the samples.
    Previous,
}

/// For each group of `n` consecutive scores, the index in `scores` of the highest; of equal ones,
/// of the first.
pub fn best(scores: &[f32], n: usize) -> Vec<usize> {
    let highest = |group: &[f32]| {
        (1..group.len()).fold(0, |best, i| if group[i] > group[best] { i } else { best })
    };
    scores
        .chunks(n)
        .enumerate()
        .map(|(prompt, group)| prompt * n + highest(group))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_each_prompt_wins_and_the_first_of_equals() {
        assert_eq!(best(&[0.0, 2.0, 1.0, -3.0, -4.0, -3.5], 3), [1, 3]);
        assert_eq!(best(&[5.0, 5.0, 1.0, 1.0, 7.0, 7.0], 2), [0, 2, 4]);
        assert_eq!(best(&[3.0, 1.0, 2.0], 1), [0, 1, 2]);
    }
}
