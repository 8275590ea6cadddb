//! What the runs say about a claim that was declared before them.

use super::estimate::Estimate;
use super::paired::{self, Paired};
use super::power::{seeds_needed, seeds_needed_for_equivalence};
use super::student;
use super::{check, estimate};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The power at which minimum detectable effects and needed seeds are stated.
pub const POWER: f64 = 0.8;

/// Two one-sided tests of equivalence (Schuirmann 1987) on paired differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tost {
    /// The difference; its interval has level 1 − 2α, and equivalence at α means that it lies inside ±`margin`.
    pub difference: Estimate,
    pub margin: f64,
    /// p-value of "the difference is at most −margin"; `None` below two pairs or without spread.
    pub p_lower: Option<f64>,
    /// p-value of "the difference is at least margin"; `None` as above.
    pub p_upper: Option<f64>,
    /// The larger of the two: the p-value of equivalence.
    pub p: Option<f64>,
    /// Whether p is below α.
    pub equivalent: bool,
}

/// Tests whether `a` and `b`, paired by index, differ by less than `margin`.
///
/// # Errors
/// As [`paired`](super::paired()), a `margin` that is not positive and finite, or an `alpha` outside (0, ½).
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
    Ok(Tost { difference, margin, p_lower, p_upper, p, equivalent: p.is_some_and(|p| p < alpha) })
}

/// The p-values of "difference ≤ −margin" and of "difference ≥ margin".
fn one_sided(difference: &Estimate, margin: f64) -> [Option<f64>; 2] {
    let freedom = difference.n as f64 - 1.0;
    let se = difference.se.filter(|se| *se > 0.0);
    let tail = |distance: f64| se.map(|se| student::upper_tail(distance / se, freedom));
    [tail(margin + difference.point), tail(margin - difference.point)]
}

/// Which way a claim says that a − b goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Greater,
    Less,
    /// They do not differ by the margin.
    Equivalent,
}

/// What the data say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Separated from 0 after correction, in the claimed direction.
    Supported,
    /// Separated from 0 after correction, in the other direction.
    Contradicted,
    /// Within the declared margin: the difference is too small to matter, even if it is separated from 0.
    Equivalent,
    /// Neither. `seeds_needed` is the total number of paired seeds (not the additional ones) that would decide at 80 %
    /// power if the observed difference and spread were the true ones; `None` if no number is known to.
    Inconclusive { seeds_needed: Option<usize> },
}

/// The two answers that a claim may get, each with its p-value. Whatever the true difference, one of them at most is wrong, so
/// a claim enters the correction of its family once, by the smaller of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// "There is a difference": two-sided from 0, or for a claim of equivalence from all that lies within the margin.
    pub difference: Option<f64>,
    /// "The difference is within the margin": two one-sided tests. `None` without a margin.
    pub equivalence: Option<f64>,
}

impl Answers {
    pub fn to(paired: &Paired, direction: Direction, margin: Option<f64>) -> Self {
        let sides = margin.map(|margin| one_sided(&paired.difference, margin));
        let both = |combine: fn(f64, f64) -> f64| {
            let [lower, upper] = sides?;
            lower.zip(upper).map(|(lower, upper)| combine(lower, upper))
        };
        let difference = match direction {
            Direction::Equivalent if sides.is_some() => both(|lower, upper| (2.0 * (1.0 - lower.max(upper))).min(1.0)),
            _ => paired.p,
        };
        Self { difference, equivalence: both(f64::max) }
    }

    /// By which a claim enters its family.
    pub fn p(&self) -> Option<f64> {
        [self.difference, self.equivalence].into_iter().flatten().min_by(f64::total_cmp)
    }

    /// How much the correction of the family raised [`p`](Self::p) to `adjusted`; both answers are held to it.
    fn correction(&self, adjusted: Option<f64>) -> f64 {
        match (self.p(), adjusted) {
            (Some(p), Some(adjusted)) if p > 0.0 => (adjusted / p).max(1.0),
            _ => 1.0,
        }
    }
}

/// Judges the claim that a − b is [`Greater`](Direction::Greater) or [`Less`](Direction::Less) than 0, or
/// [`Equivalent`](Direction::Equivalent) to it within the margin, from its `paired` comparison. `p_adjusted` is the p-value of
/// its [`Answers`] after correction within the claim's family, `margin` the equivalence margin if one was declared, `alpha` the
/// level that the family keeps.
///
/// Equivalence is looked at first: who declares a margin has said that less than it does not matter, so a tiny
/// difference is no support however surely it is not 0. The needed seeds are those for the cheaper of separation (at
/// the level left after correction) and, with a margin, equivalence.
pub fn verdict(
    paired: &Paired,
    p_adjusted: Option<f64>,
    direction: Direction,
    margin: Option<f64>,
    alpha: f64,
) -> Verdict {
    let answers = Answers::to(paired, direction, margin);
    let correction = answers.correction(p_adjusted);
    let given = |p: Option<f64>| p_adjusted.is_some() && p.is_some_and(|p| p * correction < alpha);
    if given(answers.equivalence) {
        return if direction == Direction::Equivalent { Verdict::Supported } else { Verdict::Equivalent };
    }
    if given(answers.difference) {
        let claimed = match direction {
            Direction::Greater => paired.difference.point > 0.0,
            Direction::Less => paired.difference.point < 0.0,
            Direction::Equivalent => false,
        };
        return if claimed { Verdict::Supported } else { Verdict::Contradicted };
    }
    Verdict::Inconclusive { seeds_needed: deciding_seeds(paired, correction, margin, alpha) }
}

fn deciding_seeds(paired: &Paired, correction: f64, margin: Option<f64>, alpha: f64) -> Option<usize> {
    let (difference, sd) = (paired.difference.point, paired.sd?);
    let left = alpha / correction;
    let separation = seeds_needed(difference, sd, left, POWER);
    let equivalence = margin.and_then(|margin| seeds_needed_for_equivalence(difference, sd, margin, left, POWER));
    [separation, equivalence].into_iter().flatten().min()
}
