//! Claims, declared before any run: what is compared with what, on which metric, and what would count as support.

use super::vocabulary::{Heuristic, Metric};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use crate::stats::{Direction, Role};

/// A claim as the file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClaim {
    pub id: String,
    pub text: String,
    pub source: String,
    pub metrics: Vec<Metric>,
    pub method: String,
    pub versus: String,
    pub relative_to: Option<RelativeTo>,
    #[serde(default)]
    pub sizes: Vec<String>,
    pub direction: Direction,
    #[serde(default)]
    pub threshold: f64,
    pub role: Role,
    pub margin: Option<f64>,
    /// The margin as a share of the claim file's gap.
    pub margin_share: Option<f64>,
    pub margin_reason: Option<String>,
    #[serde(default)]
    pub sd: BTreeMap<Metric, f64>,
}

/// Two methods whose own difference is taken off the claim's: "loses less than".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeTo {
    pub method: String,
    pub versus: String,
}

/// What a claim compares its method with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Versus {
    /// Another method of the experiment, by its id.
    Method(String),
    /// A ranking that needs no learning, on the same pairs.
    Heuristic(Heuristic),
}

/// A claim whose references are all known to exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub id: String,
    /// The claim in a sentence.
    pub text: String,
    /// Who makes it, and where.
    pub source: String,
    /// Each is a comparison of its own; one for each decoding, for example.
    pub metrics: Vec<Metric>,
    /// Id of the method that the claim is about.
    pub method: String,
    pub versus: Versus,
    /// The claim is then about (method − versus) − (relative_to.method − relative_to.versus).
    pub relative_to: Option<RelativeTo>,
    /// Model sizes on which the claim is tested, each by itself.
    pub sizes: Vec<String>,
    pub direction: Direction,
    /// The difference that has to be exceeded (or undercut), in units of the metric; 0 unless declared.
    pub threshold: f64,
    pub role: Role,
    /// Differences smaller than this do not matter; 0: all do.
    pub margin: f64,
    /// Why the margin is as large as it is.
    pub margin_reason: Option<String>,
    /// Standard deviation over seeds of the difference that was expected when the claim was written, per metric: what its chances to be
    /// decided are reckoned from.
    pub sd: BTreeMap<Metric, f64>,
}

impl Claim {
    /// How many comparisons it makes on `sizes`.
    pub(super) fn comparisons<'a>(&self, sizes: impl IntoIterator<Item = &'a str>) -> usize {
        sizes.into_iter().filter(|size| self.sizes.iter().any(|own| own == size)).count() * self.metrics.len()
    }
}
