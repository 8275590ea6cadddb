//! Measurement of policies and rewards on held-out posts. Training stages call nothing here except
//! `copying`, the check of pre-training on validation posts; a test of the planner enforces this.

pub mod accuracy;
pub mod copying;
pub mod decoding;
pub mod evaluation_set;
pub mod likelihood;
pub mod policy;

use crate::experiment::Metric;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Refuses scores that are not finite, which can be neither ranked nor averaged; `of` names the
/// item of the score at an index.
///
/// # Errors
/// A score that is NaN or infinite.
pub fn check_finite(scores: &[f64], of: impl Fn(usize) -> String) -> Result<()> {
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::divergence(format!(
            "the score of {} is {}, not a finite number",
            of(at),
            scores[at]
        ))
        .hint(
            "look for NaN or infinity in the weights of what scores, with `touchstone model info`",
        )),
    }
}

/// One metric's mean, and the number of items it is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub metric: Metric,
    pub value: f64,
    pub n: usize,
}

/// Metrics as measured on every item (a post, or a pair), in the order of the items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Items(pub BTreeMap<Metric, Vec<f64>>);

impl Items {
    pub fn insert(&mut self, metric: Metric, values: Vec<f64>) {
        self.0.insert(metric, values);
    }

    /// Inserts a metric of pairs whose `values` are 1 where a pair is right, 0 where it is wrong
    /// and ½ where it is a tie, together with its share of ties and its strict share.
    pub fn insert_ranked(&mut self, metric: Metric, values: Vec<f64>) {
        let share = |counts: fn(f64) -> bool| {
            values
                .iter()
                .map(|value| f64::from(u8::from(counts(*value))))
                .collect()
        };
        let (ties, strict) = (share(|value| value == 0.5), share(|value| value == 1.0));
        self.0.extend(metric.ties().map(|metric| (metric, ties)));
        self.0
            .extend(metric.strict().map(|metric| (metric, strict)));
        self.insert(metric, values);
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The mean of every metric that has at least one item.
    pub fn means(&self) -> Vec<Measured> {
        let measured = self.0.iter().filter(|(_, values)| !values.is_empty());
        measured
            .map(|(&metric, values)| {
                let n = values.len();
                Measured {
                    metric,
                    value: values.iter().sum::<f64>() / n as f64,
                    n,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_pairs_comes_with_its_ties_and_its_strict_count() {
        let mut items = Items::default();
        items.insert_ranked(Metric::PreferenceAccuracy, vec![1.0, 0.5, 0.0, 0.5]);
        let means: Vec<(Metric, f64)> = items
            .means()
            .into_iter()
            .map(|it| (it.metric, it.value))
            .collect();
        let expected = [
            (Metric::PreferenceAccuracy, 0.5),
            (Metric::PreferenceTies, 0.5),
            (Metric::PreferenceAccuracyStrict, 0.25),
        ];
        assert_eq!(means, expected);
    }
}
