//! Verdicts on claims that were declared before the runs, from repeated confidence intervals.
//!
//! At each look the comparison has one interval, and the intervals of all comparisons at all looks
//! cover the true differences together with probability 1 − α. Every answer below follows from such
//! an interval, so an answer can be wrong only if an interval fails to cover: the probability of
//! any wrong answer, of whatever kind, to any comparison is at most α.

use super::design::Design;
use super::estimate::{Interval, average, deviation};
use super::student::noncentral_upper_tail;
use super::{check, paired};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// The power at which minimum detectable effects and needed seeds are stated.
pub const POWER: f64 = 0.8;
/// The confidence of the upper limit of a standard deviation for cautious planning.
const CAUTION: f64 = 0.8;

/// The direction that a claim gives to a − b.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Greater,
    Less,
    /// The two do not differ by the margin.
    Equivalent,
    /// The first is not smaller than the second by the margin (non-inferiority, for quantities
    /// where more is better).
    NotWorse,
}

/// The statement of a claim about the mean difference a − b.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hypothesis {
    pub direction: Direction,
    /// The difference from which `direction` and `margin` count, usually 0.
    pub threshold: f64,
    /// The distance from the threshold up to which differences do not matter. `None`: every
    /// difference matters.
    pub margin: Option<f64>,
}

/// The answer that a simultaneous interval gives to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval agrees with the claim.
    Supported,
    /// The whole interval disagrees with the claim.
    Contradicted,
    /// The whole interval lies within the margin: the difference is too small to matter, whatever
    /// its sign.
    Equivalent,
    /// The interval of a claim of more (or less) ends before the margin: if there is such a
    /// difference, it does not matter.
    NotByMargin,
    /// The interval leaves more than one answer open.
    Inconclusive,
}

/// The planned looks at which a comparison would be decided with 80 % power, as numbers of pairs;
/// `None` beyond the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The look if the observed difference and spread were the true ones.
    pub plug_in: Option<usize>,
    /// The look with the upper 80 % confidence limit as the standard deviation, since few seeds
    /// tend to show too little spread (Browne 1995).
    pub cautious: Option<usize>,
}

/// The finding of the looks at one comparison: that of the first look that decided, or else of the
/// last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The verdict; `None` if no look had spread to judge by.
    pub verdict: Option<Verdict>,
    /// The number of the look, from 1.
    pub look: usize,
    /// The number of pairs at that look.
    pub n: usize,
    /// The mean difference of these pairs.
    pub estimate: f64,
    /// The simultaneous interval of the difference, over all looks and comparisons of the design;
    /// `None` without spread, or if the design spends nothing on the look.
    pub interval: Option<Interval>,
    /// The forecast of where the comparison would be decided; only for inconclusive findings.
    pub forecast: Option<Forecast>,
}

/// Looks at the pairs `a`, `b` (in the order in which their seeds were run) as `design` plans it,
/// and answers `hypothesis` at the first look that can. Pairs beyond the last planned look are not
/// used. `None` without pairs.
///
/// # Errors
/// Unequal lengths, values that are not finite, a margin that is not positive, a claim of
/// equivalence or non-inferiority without one, or an invalid design ([`Design::check`]).
pub fn assess(
    a: &[f64],
    b: &[f64],
    hypothesis: &Hypothesis,
    design: &Design,
) -> Result<Option<Finding>> {
    let Some(mut finding) = look_through(a, b, hypothesis, design)? else {
        return Ok(None);
    };
    if finding.verdict == Some(Verdict::Inconclusive) {
        let differences = paired::differences(&a[..finding.n], &b[..finding.n]);
        finding.forecast = Some(forecast(&differences, hypothesis, design)?);
    }
    Ok(Some(finding))
}

/// The finding of the last look that `a` and `b` have reached, whatever an earlier one has decided:
/// like [`assess`], except that looks do not end at the first answer. The intervals of all looks
/// hold together, so this one is as valid as the one that decided.
///
/// # Errors
/// As [`assess`].
pub fn at_last_look(
    a: &[f64],
    b: &[f64],
    hypothesis: &Hypothesis,
    design: &Design,
) -> Result<Option<Finding>> {
    looks(a, b, hypothesis, design, false)
}

/// The finding of [`assess`], without a forecast.
pub(super) fn look_through(
    a: &[f64],
    b: &[f64],
    hypothesis: &Hypothesis,
    design: &Design,
) -> Result<Option<Finding>> {
    looks(a, b, hypothesis, design, true)
}

/// The finding after one look after the other, up to the first answer (if `stop`) or to the last.
fn looks(
    a: &[f64],
    b: &[f64],
    hypothesis: &Hypothesis,
    design: &Design,
    stop: bool,
) -> Result<Option<Finding>> {
    hypothesis.check()?;
    design.check()?;
    if a.is_empty() && b.is_empty() {
        return Ok(None);
    }
    check::pairs("comparison", a, b)?;
    let n = a.len().min(design.most());
    if n < 2 {
        let estimate = a[0] - b[0];
        return Ok(Some(Finding {
            verdict: None,
            look: 1,
            n,
            estimate,
            interval: None,
            forecast: None,
        }));
    }
    let looks = design.until(n)?;
    let mut last = None;
    for (look, &n) in looks.seeds.iter().enumerate() {
        let differences = paired::differences(&a[..n], &b[..n]);
        let interval = looks.interval(&differences)?;
        let spread = deviation(&differences).is_some_and(|sd| sd > 0.0);
        let verdict = match interval {
            Some(interval) => Some(hypothesis.answer(&interval)),
            None => spread.then_some(Verdict::Inconclusive),
        };
        let estimate = average(&differences);
        let finding = Finding {
            verdict,
            look: look + 1,
            n,
            estimate,
            interval,
            forecast: None,
        };
        if stop && verdict.is_some_and(|verdict| verdict != Verdict::Inconclusive) {
            return Ok(Some(finding));
        }
        last = Some(finding);
    }
    Ok(last)
}

impl Hypothesis {
    fn check(&self) -> Result<()> {
        let needs = matches!(self.direction, Direction::Equivalent | Direction::NotWorse);
        let margin = self
            .margin
            .map_or(!needs, |margin| margin > 0.0 && margin.is_finite());
        if margin && self.threshold.is_finite() {
            return Ok(());
        }
        Err(Error::configuration(format!("a claim with the margin {:?} and threshold {}", self.margin, self.threshold))
            .hint(
                "a margin is the smallest difference that matters, above 0; equivalence and non-inferiority need one",
            ))
    }

    /// The answer that an interval of the difference gives. Equivalence is checked first: a
    /// declared margin states that smaller differences do not matter, so a tiny difference doesn't
    /// support a claim however certainly it is not 0.
    pub fn answer(&self, interval: &Interval) -> Verdict {
        let (low, high) = (
            interval.low - self.threshold,
            interval.high - self.threshold,
        );
        let within = self
            .margin
            .is_some_and(|margin| low > -margin && high < margin);
        let margin = self.margin.unwrap_or(0.0);
        let (supported, contradicted, not_by_margin) = match self.direction {
            Direction::Greater => (
                low > 0.0,
                high < 0.0,
                self.margin.is_some() && high < margin,
            ),
            Direction::Less => (
                high < 0.0,
                low > 0.0,
                self.margin.is_some() && low > -margin,
            ),
            Direction::Equivalent => (within, low > margin || high < -margin, false),
            Direction::NotWorse => (low > -margin, high < -margin, false),
        };
        match self.direction {
            Direction::Greater | Direction::Less if within => Verdict::Equivalent,
            _ if supported => Verdict::Supported,
            _ if contradicted => Verdict::Contradicted,
            _ if not_by_margin => Verdict::NotByMargin,
            _ => Verdict::Inconclusive,
        }
    }

    /// Whether an answer is wrong if the true difference is `truth`. An inconclusive answer is
    /// never wrong.
    pub fn is_wrong(&self, verdict: Verdict, truth: f64) -> bool {
        let truth = truth - self.threshold;
        let margin = self.margin.unwrap_or(0.0);
        let holds = match self.direction {
            Direction::Greater => truth > 0.0,
            Direction::Less => truth < 0.0,
            Direction::Equivalent => truth.abs() < margin,
            Direction::NotWorse => truth > -margin,
        };
        match verdict {
            Verdict::Inconclusive => false,
            Verdict::Equivalent => truth.abs() >= margin,
            Verdict::NotByMargin if self.direction == Direction::Less => truth <= -margin,
            Verdict::NotByMargin => truth >= margin,
            Verdict::Supported => !holds,
            Verdict::Contradicted => match self.direction {
                Direction::Greater => truth >= 0.0,
                Direction::Less => truth <= 0.0,
                Direction::Equivalent => truth.abs() <= margin,
                Direction::NotWorse => truth >= -margin,
            },
        }
    }

    /// A lower bound of the probability that `n` pairs decide at the critical |T| `critical`, if
    /// `difference` and `sd` are true.
    fn power(&self, difference: f64, sd: f64, n: usize, critical: f64) -> f64 {
        let room = |room: f64| match critical.is_finite() {
            true => noncentral_upper_tail(critical, n as f64 - 1.0, room / sd * (n as f64).sqrt()),
            false => 0.0,
        };
        let difference = difference - self.threshold;
        let margin = self.margin.unwrap_or(0.0);
        let beyond = [room(difference), room(-difference)];
        let above_lower = || room(margin + difference);
        let below_upper = || room(margin - difference);
        let ways: Vec<f64> = match self.direction {
            Direction::Greater | Direction::Less if self.margin.is_none() => beyond.to_vec(),
            Direction::Greater => [&beyond[..], &[below_upper()]].concat(),
            Direction::Less => [&beyond[..], &[above_lower()]].concat(),
            Direction::Equivalent => {
                vec![
                    above_lower() + below_upper() - 1.0,
                    room(difference - margin),
                    room(-margin - difference),
                ]
            }
            Direction::NotWorse => vec![above_lower(), room(-margin - difference)],
        };
        ways.into_iter().fold(0.0, f64::max)
    }
}

fn forecast(differences: &[f64], hypothesis: &Hypothesis, design: &Design) -> Result<Forecast> {
    let nothing = Forecast {
        plug_in: None,
        cautious: None,
    };
    let Some(sd) = deviation(differences).filter(|sd| *sd > 0.0) else {
        return Ok(nothing);
    };
    let looks = design.planned()?;
    let at = |sd: f64| {
        let to_come = looks
            .seeds
            .iter()
            .zip(&looks.boundaries)
            .filter(|(n, _)| **n > differences.len());
        let mut deciding = to_come.filter(|(n, critical)| {
            hypothesis.power(average(differences), sd, **n, **critical) >= POWER
        });
        deciding.next().map(|(n, _)| *n)
    };
    Ok(Forecast {
        plug_in: at(sd),
        cautious: upper_limit(sd, differences.len()).and_then(at),
    })
}

/// The upper confidence limit of a standard deviation that `n` normal values showed as `sd`.
fn upper_limit(sd: f64, n: usize) -> Option<f64> {
    let freedom = n as f64 - 1.0;
    let quantile = ChiSquared::new(freedom).ok()?.inverse_cdf(1.0 - CAUTION);
    (quantile > 0.0).then(|| sd * (freedom / quantile).sqrt())
}
