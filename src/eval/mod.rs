//! Measuring policies and rewards on held-out posts. Training stages call nothing here but `copying`, the gate of
//! pre-training on validation posts; a test of the planner holds them to it.

pub mod accuracy;
pub mod copying;
pub mod exam;
pub mod likelihood;
pub mod policy;

use crate::experiment::Metric;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One number, with how many items it is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub metric: Metric,
    pub value: f64,
    pub n: usize,
}

/// Metrics as they were measured on every item (a post, or a pair), in the order of the items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Items(pub BTreeMap<Metric, Vec<f64>>);

impl Items {
    pub fn insert(&mut self, metric: Metric, values: Vec<f64>) {
        self.0.insert(metric, values);
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The mean of every metric that has an item.
    pub fn means(&self) -> Vec<Measured> {
        let measured = self.0.iter().filter(|(_, values)| !values.is_empty());
        measured
            .map(|(&metric, values)| {
                let n = values.len();
                Measured { metric, value: values.iter().sum::<f64>() / n as f64, n }
            })
            .collect()
    }
}
