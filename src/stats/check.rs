//! Checks that inputs must pass before arithmetic on them means anything.

use crate::error::{Error, Result};

/// Checks that there is at least one value and that all are finite. `what` names the input in the
/// message.
pub(super) fn values(what: &str, values: &[f64]) -> Result<()> {
    if values.is_empty() {
        return Err(
            Error::data(format!("{what}: there are no values")).hint("give at least one value")
        );
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::data(format!(
            "{what}: value {} is {}, not a finite number",
            at + 1,
            values[at]
        ))
        .hint("leave failed runs out and count them, or find out why a number is missing")),
    }
}

/// Checks two inputs that are matched by index.
pub(super) fn pairs(what: &str, a: &[f64], b: &[f64]) -> Result<()> {
    if a.len() != b.len() {
        return Err(Error::data(format!(
            "{what}: {} values cannot be paired with {}",
            a.len(),
            b.len()
        ))
        .hint("keep only the units that both sides have, in the same order"));
    }
    values(what, a)?;
    values(what, b)
}

/// Checks a probability strictly between 0 and 1, such as a confidence level.
pub(super) fn open_unit(what: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(Error::data(format!(
        "{what} must lie strictly between 0 and 1, not {value}"
    ))
    .hint("95 % is written 0.95"))
}
