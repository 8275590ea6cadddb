//! Comparisons of two methods over the same seeds, and over independent ones.

use super::estimate::{self, Estimate, Interval, IntervalMethod};
use super::verdict::POWER;
use super::{check, power, student};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// The comparison a − b of two methods that share their replicates (seeds).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The mean of the differences with its Student t interval; `n` counts pairs.
    pub difference: Estimate,
    /// The paired t statistic; `None` below two pairs, or when the differences show no spread.
    pub t: Option<f64>,
    /// The two-sided p-value, not corrected for multiplicity.
    pub p: Option<f64>,
    /// The standard deviation of the differences.
    pub sd: Option<f64>,
    /// The minimum detectable effect at 80 % power and α = 1 − level; `None` where `t` is.
    pub mde: Option<f64>,
    /// The probability P(A > B) over the raw values, ignoring the pairing
    /// ([`probability_of_improvement`]).
    pub probability_of_improvement: f64,
}

/// Compares `a` with `b`, whose values at one index come from one seed.
///
/// Differences without spread (identical up to rounding) have a standard error of 0 but neither an
/// interval nor t, p or minimum detectable effect, because a t test measures against spread.
///
/// # Errors
/// Unequal lengths, no values, values that are not finite, or a `level` outside (0, 1).
pub fn paired(a: &[f64], b: &[f64], level: f64) -> Result<Paired> {
    check::pairs("paired comparison", a, b)?;
    let differences = differences(a, b);
    let difference = estimate::mean(&differences, level)?;
    let sd = estimate::deviation(&differences);
    let spread = sd.filter(|sd| *sd > 0.0);
    let t = spread.and(difference.se).map(|se| difference.point / se);
    let p = t.map(|t| student::two_sided_p(t, difference.n as f64 - 1.0));
    let mde = spread
        .and_then(|sd| power::minimum_detectable_effect(sd, difference.n, 1.0 - level, POWER));
    Ok(Paired {
        difference,
        t,
        p,
        sd,
        mde,
        probability_of_improvement: probability_of_improvement(a, b),
    })
}

/// The differences a − b by index. If all agree up to the rounding of their terms, they become
/// exactly equal, so that rounding does not count as spread.
pub(super) fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
    let raw: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let largest = estimate::largest(a.iter().chain(b));
    if estimate::agree(&raw, largest) {
        vec![raw[0]; raw.len()]
    } else {
        raw
    }
}

/// The probability P(X > Y), ties counting a half: the Mann–Whitney U over nx·ny (Agarwal et al.
/// 2021). Every x is compared with every y, whatever the pairing; 0.5 if either side is empty,
/// which favours neither.
pub fn probability_of_improvement(x: &[f64], y: &[f64]) -> f64 {
    if x.is_empty() || y.is_empty() {
        return 0.5;
    }
    let [xs, ys] = [x, y].map(|side| {
        let mut sorted = side.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    });
    // The numbers of y below the current x and of y not above it, which only grow with x.
    let (mut below, mut not_above, mut wins) = (0, 0, 0.0);
    for x in &xs {
        below += ys[below..].iter().take_while(|y| *y < x).count();
        not_above += ys[not_above..].iter().take_while(|y| *y <= x).count();
        wins += (below + not_above) as f64 / 2.0;
    }
    wins / (x.len() as f64 * y.len() as f64)
}

/// The summary of one of two independent samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub mean: f64,
    /// The sample standard deviation; `None` below two values.
    pub sd: Option<f64>,
    pub n: usize,
}

impl Sample {
    /// # Errors
    /// No values, or values that are not finite.
    pub fn of(values: &[f64]) -> Result<Self> {
        check::values("sample", values)?;
        Ok(Self {
            mean: estimate::average(values),
            sd: estimate::deviation(values),
            n: values.len(),
        })
    }
}

/// A comparison of two independent samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Welch {
    /// The difference x − y; its `n` is that of the smaller sample. Standard error and interval are
    /// `None` if a sample has fewer than two values, the interval also if neither sample shows
    /// spread.
    pub difference: Estimate,
    /// The two-sided p-value; `None` where the error is, or if neither sample shows spread.
    pub p: Option<f64>,
}

/// The difference of the means of two independent samples with Welch's t test and interval (Welch
/// 1947).
///
/// # Errors
/// A `level` outside (0, 1).
pub fn welch_difference(x: &Sample, y: &Sample, level: f64) -> Result<Welch> {
    check::open_unit("the confidence level", level)?;
    let point = x.mean - y.mean;
    let n = x.n.min(y.n);
    let unknown = Welch {
        difference: Estimate {
            point,
            se: None,
            interval: None,
            n,
        },
        p: None,
    };
    let (Some(sx), Some(sy)) = (x.sd, y.sd) else {
        return Ok(unknown);
    };
    let (nx, ny) = (x.n as f64, y.n as f64);
    let (vx, vy) = (sx * sx / nx, sy * sy / ny);
    let se = (vx + vy).sqrt();
    // Welch–Satterthwaite, through shares so that small variances do not underflow.
    let share = vx / (vx + vy);
    let freedom = 1.0 / (share * share / (nx - 1.0) + (1.0 - share).powi(2) / (ny - 1.0));
    let interval = Interval::student(point, se, freedom, level, IntervalMethod::Welch);
    let p = (se > 0.0).then(|| student::two_sided_p(point / se, freedom));
    Ok(Welch {
        difference: Estimate {
            point,
            se: Some(se),
            interval,
            n,
        },
        p,
    })
}

/// The two-sided p-value of Welch's t test of two independent samples (Welch 1947). `None` if a
/// sample has fewer than two values or neither shows spread.
///
/// # Errors
/// No values, or values that are not finite.
pub fn welch(x: &[f64], y: &[f64]) -> Result<Option<f64>> {
    Ok(welch_difference(&Sample::of(x)?, &Sample::of(y)?, 0.95)?.p)
}
