//! Filtered behaviour cloning: SFT on the demonstrations that a learned reward ranks highest. A
//! control. A reward that distinguishes good demonstrations from bad ones yields a better policy
//! from fewer demonstrations, without any sample; a reward that only distinguishes demonstrations
//! from samples cannot filter them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilteredBcSettings {
    /// Share of the demonstrations that are kept, in (0, 1].
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub keep: f64,
}

/// The indices of the ⌈keep·n⌉ highest of n scores, in their original order; of equal scores, the
/// first are kept.
pub fn keep_best(scores: &[f32], keep: f64) -> Vec<usize> {
    // In floating point, 0.07 · 100 is slightly more than 7.
    let count = (keep * scores.len() as f64 - 1e-9).ceil() as usize;
    let mut ranked: Vec<usize> = (0..scores.len()).collect();
    ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    ranked.truncate(count);
    ranked.sort_unstable();
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_stay_in_their_order() {
        let scores = [0.5, -1.0, 3.0, 2.0, 0.5];
        assert_eq!(keep_best(&scores, 0.4), [2, 3]);
        assert_eq!(keep_best(&scores, 0.41), [0, 2, 3]);
        assert_eq!(keep_best(&scores, 1.0), [0, 1, 2, 3, 4]);
        assert_eq!(keep_best(&scores, 1e-6), [2]);
        assert_eq!(keep_best(&vec![0.0; 100], 0.07), [0, 1, 2, 3, 4, 5, 6]);
    }
}
