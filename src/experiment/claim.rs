//! Claims, declared before any run: the comparison, its metrics, and the result that would count as
//! support.

use super::vocabulary::{Heuristic, Metric};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use crate::stats::{Direction, Role};

/// A claim as it stands in the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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

/// Two methods whose own difference is subtracted from the claim's, as in "loses less than".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct RelativeTo {
    pub method: String,
    pub versus: String,
}

/// The other side of a claim's comparison.
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
    /// The authors of the claim and the place where they make it.
    pub source: String,
    /// Metrics, each a comparison of its own; one for each decoding, for example.
    pub metrics: Vec<Metric>,
    /// Id of the method that the claim is about.
    pub method: String,
    pub versus: Versus,
    /// Methods whose difference is subtracted: the claim is then about (method − versus) −
    /// (relative_to.method − relative_to.versus).
    pub relative_to: Option<RelativeTo>,
    /// Model sizes on which the claim is tested, each separately.
    pub sizes: Vec<String>,
    pub direction: Direction,
    /// The difference that must be exceeded (or undercut), in units of the metric; 0 unless
    /// declared.
    pub threshold: f64,
    pub role: Role,
    /// Differences smaller than this do not matter; with 0 all differences matter.
    pub margin: f64,
    /// The reason for the size of the margin.
    pub margin_reason: Option<String>,
    /// Standard deviation over seeds of the difference, per metric, as expected when the claim was
    /// written. The chances that the claim is decided are estimated from it.
    pub sd: BTreeMap<Metric, f64>,
}

impl Claim {
    /// Number of comparisons that the claim makes on `sizes`.
    pub(super) fn comparisons<'a>(&self, sizes: impl IntoIterator<Item = &'a str>) -> usize {
        sizes
            .into_iter()
            .filter(|size| self.sizes.iter().any(|own| own == size))
            .count()
            * self.metrics.len()
    }
}
