//! Two one-sided tests of equivalence.

use super::estimate::Estimate;
use super::{check, estimate, paired, student};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Two one-sided tests of equivalence (Schuirmann 1987) on paired differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tost {
    /// The difference; its interval has level 1 − 2α, and equivalence at α means that it lies
    /// inside ±`margin`.
    pub difference: Estimate,
    pub margin: f64,
    /// The p-value of "the difference is at most −margin"; `None` below two pairs or without
    /// spread.
    pub p_lower: Option<f64>,
    /// The p-value of "the difference is at least margin"; `None` in the same cases.
    pub p_upper: Option<f64>,
    /// The larger of the two p-values, which is that of equivalence.
    pub p: Option<f64>,
    /// Whether `p` is below α.
    pub equivalent: bool,
}

/// Tests whether `a` and `b`, paired by index, differ by less than `margin`.
///
/// # Errors
/// As [`paired`](super::paired()), a `margin` that is not positive and finite, or an `alpha`
/// outside (0, ½).
pub fn tost(a: &[f64], b: &[f64], margin: f64, alpha: f64) -> Result<Tost> {
    check::pairs("equivalence test", a, b)?;
    if !(margin > 0.0 && margin.is_finite()) {
        return Err(Error::data(format!("an equivalence margin of {margin}"))
            .hint("give the smallest difference that matters, above 0"));
    }
    check::open_unit("twice the level of the equivalence test", 2.0 * alpha)?;
    let difference = estimate::mean(&paired::differences(a, b), 1.0 - 2.0 * alpha)?;
    let [p_lower, p_upper] = one_sided(&difference, margin);
    let p = p_lower.zip(p_upper).map(|(lower, upper)| lower.max(upper));
    Ok(Tost {
        difference,
        margin,
        p_lower,
        p_upper,
        p,
        equivalent: p.is_some_and(|p| p < alpha),
    })
}

/// The p-values of "difference ≤ −margin" and of "difference ≥ margin".
pub(super) fn one_sided(difference: &Estimate, margin: f64) -> [Option<f64>; 2] {
    let freedom = difference.n as f64 - 1.0;
    let se = difference.se.filter(|se| *se > 0.0);
    let tail = |distance: f64| se.map(|se| student::upper_tail(distance / se, freedom));
    [
        tail(margin + difference.point),
        tail(margin - difference.point),
    ]
}
