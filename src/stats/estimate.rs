//! Point estimates with their uncertainty: the mean of few replicates and a proportion.

use super::{check, student};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// The method by which an interval was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMethod {
    /// Student t over independent replicates (or over their paired differences).
    StudentT,
    /// Student t with Welch's degrees of freedom over two independent samples.
    Welch,
    /// Wilson's score interval of a proportion (Wilson 1927).
    Wilson,
    /// Wilson's interval with the effective number of items that a cluster-robust standard error
    /// implies, and Student's quantile.
    WilsonClustered,
    /// The exact interval of a proportion (Clopper & Pearson 1934).
    ClopperPearson,
    /// Percentiles of bootstrap resamples (Efron and Tibshirani 1993).
    BootstrapPercentile,
    /// Student t with a cluster-robust standard error and one degree of freedom fewer than there
    /// are clusters.
    Clustered,
    /// Student t with a cluster-robust standard error of a weighted mean over strata, with
    /// Satterthwaite's degrees of freedom.
    Stratified,
    /// Student t with Satterthwaite's degrees of freedom over two crossed random factors.
    TwoWay,
    /// A repeated confidence interval, which holds together with those of all other planned looks.
    Repeated,
    /// A confidence sequence, whose intervals hold at every number of replicates together.
    Sequence,
}

/// A confidence interval; `level` is its nominal coverage, for example 0.95.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    pub level: f64,
    pub method: IntervalMethod,
}

impl Interval {
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The interval `point ± quantile·se` with Student's quantile at `freedom` degrees of freedom.
    /// `None` if `se` is 0: values without spread say nothing about the distance of other values.
    pub(super) fn student(
        point: f64,
        se: f64,
        freedom: f64,
        level: f64,
        method: IntervalMethod,
    ) -> Option<Self> {
        let half = student::two_sided_quantile(level, freedom) * se;
        (se > 0.0).then_some(Self {
            low: point - half,
            high: point + half,
            level,
            method,
        })
    }
}

/// An estimate over `n` replicates. `se` and `interval` are `None` where they are undefined: for a
/// mean, both below two values, and the interval also if the values show no spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub point: f64,
    pub se: Option<f64>,
    pub interval: Option<Interval>,
    pub n: usize,
}

/// The mean of independent replicates with its Student t interval. Values that are equal up to
/// rounding have a computed standard error of 0 but no interval: one of width zero would claim
/// certainty.
///
/// # Errors
/// No values, values that are not finite, or a `level` outside (0, 1).
pub fn mean(values: &[f64], level: f64) -> Result<Estimate> {
    check::values("mean", values)?;
    check::open_unit("the confidence level", level)?;
    let point = average(values);
    let se = deviation(values).map(|sd| sd / (values.len() as f64).sqrt());
    let freedom = values.len() as f64 - 1.0;
    let interval =
        se.and_then(|se| Interval::student(point, se, freedom, level, IntervalMethod::StudentT));
    Ok(Estimate {
        point,
        se,
        interval,
        n: values.len(),
    })
}

/// A proportion with Wilson's score interval, which keeps its coverage near 0 and 1 and for few
/// trials. `successes` may be fractional, since a tie counts a half. The (binomial) standard error
/// is `None` at 0 and at 1, where its plug-in formula would claim certainty.
///
/// # Errors
/// No trials, `successes` outside `0..=n`, or a `level` outside (0, 1).
pub fn wilson(successes: f64, n: usize, level: f64) -> Result<Estimate> {
    check::open_unit("the confidence level", level)?;
    if n == 0 {
        return Err(
            Error::data("a proportion of 0 trials is undefined").hint("give at least one trial")
        );
    }
    let trials = n as f64;
    if !(0.0..=trials).contains(&successes) {
        return Err(Error::data(format!("{successes} successes in {n} trials"))
            .hint("count between 0 and the number of trials"));
    }
    let share = successes / trials;
    let z = Normal::standard().inverse_cdf(0.5 + level / 2.0);
    let (low, high) = score_bounds(share, z * z / trials);
    let se = (share > 0.0 && share < 1.0).then(|| (share * (1.0 - share) / trials).sqrt());
    Ok(Estimate {
        point: share,
        se,
        interval: Some(Interval {
            low,
            high,
            level,
            method: IntervalMethod::Wilson,
        }),
        n,
    })
}

/// The bounds of Wilson's score interval of `share`, where `ratio` is the squared quantile over the
/// number of trials.
pub(super) fn score_bounds(share: f64, ratio: f64) -> (f64, f64) {
    let scale = 1.0 + ratio;
    let centre = (share + ratio / 2.0) / scale;
    let half = (ratio * share * (1.0 - share) + ratio * ratio / 4.0).sqrt() / scale;
    // At the ends the bound equals the point algebraically; rounding must not put it on the other
    // side.
    let low = (centre - half).clamp(0.0, share);
    let high = (centre + half).clamp(share, 1.0);
    (
        if share == 0.0 { 0.0 } else { low },
        if share == 1.0 { 1.0 } else { high },
    )
}

/// The arithmetic mean of at least one value.
pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Whether all values agree up to the rounding of numbers as large as `largest`.
pub(super) fn agree(values: &[f64], largest: f64) -> bool {
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.iter().fold(ends, |(low, high), value| {
        (low.min(*value), high.max(*value))
    });
    high - low <= 4.0 * f64::EPSILON * largest
}

/// Makes sums or differences of `terms` exactly equal if they agree up to the rounding of the
/// terms, so that rounding does not count as spread.
pub fn without_rounding<'a>(rows: &mut [Vec<f64>], terms: impl IntoIterator<Item = &'a f64>) {
    let values = rows.concat();
    if let Some(first) = values.first().filter(|_| agree(&values, largest(terms))) {
        rows.iter_mut().for_each(|row| row.fill(*first));
    }
}

/// The largest magnitude of `values`; 0 without any.
pub(super) fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values
        .into_iter()
        .fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The sample standard deviation (divisor n − 1), `None` below two values. Exactly 0 when all
/// values are equal up to rounding, which the rounding of their mean would otherwise hide.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    if agree(values, largest(values)) {
        return Some(0.0);
    }
    let centre = average(values);
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}
