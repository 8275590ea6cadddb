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
}

/// Checks settings that are probabilities.
///
/// # Errors
/// The first that is none.
pub(super) fn check_probabilities(named: &[(&str, f64)]) -> Result<()> {
    named.iter().try_for_each(|(name, value)| {
        within(
            name,
            *value,
            (0.0..=1.0).contains(value),
            "a probability from 0 to 1",
        )
    })
}

/// Checks settings that are flaws.
///
/// # Errors
/// The first strength that is negative or not finite.
pub(super) fn check_flaws(named: &[(&str, Flaw)]) -> Result<()> {
    named.iter().try_for_each(|(name, flaw)| {
        check_strength(&format!("{name}.plain"), flaw.plain)?;
        check_strength(&format!("{name}.provoked"), flaw.provoked)
    })
}

/// Checks a setting that is the strength of a flaw.
///
/// # Errors
/// A strength that is negative or not finite.
pub(super) fn check_strength(name: &str, value: f64) -> Result<()> {
    within(
        name,
        value,
        value.is_finite() && value >= 0.0,
        "a finite number, 0 or more",
    )
}
