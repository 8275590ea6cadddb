//! Measuring policies and rewards on held-out posts. Training stages call nothing here but `copying`, the gate of
//! pre-training on validation posts; a test of the planner holds them to it.

pub mod accuracy;
pub mod copying;
pub mod exam;
pub mod policy;

use crate::experiment::Metric;
use serde::{Deserialize, Serialize};

/// One number, with how many items it is a mean of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub metric: Metric,
    pub value: f64,
    pub n: usize,
}

impl Measured {
    /// The mean of `values`; `None` if there are none.
    pub fn mean(metric: Metric, values: &[f64]) -> Option<Self> {
        let n = values.len();
        (n > 0).then(|| Self { metric, value: values.iter().sum::<f64>() / n as f64, n })
    }
}
