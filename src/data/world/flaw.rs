//! The strength of a flaw of a world's authors.

use super::within;
use crate::Result;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The strength of a flaw. An author of quality q commits it with probability min(1, strength · (1
/// − q)), so a strength above 1 makes a flaw that even good authors commit at times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flaw {
    /// The strength on an ordinary prompt.
    #[schemars(range(min = 0.0))]
    pub plain: f64,
    /// The strength on a prompt that provokes the flaw.
    #[schemars(range(min = 0.0))]
    pub provoked: f64,
}

impl Flaw {
    pub(super) fn strength(self, provoked: bool) -> f64 {
        if provoked { self.provoked } else { self.plain }
    }

    /// True if an author with `error` = 1 − quality commits the flaw.
    pub(super) fn strikes(self, error: f64, provoked: bool, rng: &mut impl Rng) -> bool {
        rng.random::<f64>() < self.strength(provoked) * error
    }

    /// # Errors
    /// A strength that is negative or not finite; the error calls the flaw `name`.
    pub(super) fn validate(self, name: &str) -> Result<()> {
        valid_strength(&format!("{name}.plain"), self.plain)?;
        valid_strength(&format!("{name}.provoked"), self.provoked)
    }
}

pub(super) fn valid_strength(name: &str, value: f64) -> Result<()> {
    within(
        name,
        value,
        value.is_finite() && value >= 0.0,
        "a finite number, 0 or more",
    )
}
