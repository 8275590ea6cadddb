//! Looks at paired differences while seeds are being added, with error probabilities that hold for
//! all looks together: group-sequential boundaries for looks that are planned, and a confidence
//! sequence for looks that are not.
//!
//! Under equal means the statistics T₁, T₂, … of a growing sample are free of the variance, so
//! their boundaries are numbers. With S = Σd, Q = Σd² and R = S/√(nQ), T = R·√(n−1)/√(1−R²), and R
//! is a Markov chain: a sample of n values and one of m more give R′ = √(n/n′)·√B·R +
//! √(m/n′)·√(1−B)·V, where n′ = n + m, B ~ Beta(n/2, m/2) is the first sample's share of the
//! squares, (1 + V)/2 ~ Beta((m−1)/2, (m−1)/2) is R of the second, and B, V and R are independent,
//! since the direction of a normal vector is independent of its length. The density of R that has
//! not left the boundaries is therefore carried from look to look by one integral. It is held in
//! the angle φ = asin R, where T = √(n−1)·tan φ.

use super::estimate::{Interval, IntervalMethod, mean};
use super::student::upper_quantile;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::ln_beta;
use std::collections::BTreeMap;
use std::f64::consts::{E, FRAC_PI_2, PI};
use std::sync::{Arc, Mutex, PoisonError};

/// The function that gives the share of the error probability that may be spent up to a share of
/// the planned seeds (Lan & DeMets 1983).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Spending {
    /// α·ln(1 + (e − 1)·t), which gives about equal boundaries at all looks.
    Pocock,
    /// 2 − 2Φ(z/√t) with z the two-sided normal quantile of α, which spends very little at early
    /// looks.
    #[serde(rename = "obrien_fleming")]
    OBrienFleming,
}

impl Spending {
    /// The error probability spent up to the share `t` of the seeds, 0 ≤ t ≤ 1.
    pub fn spent(self, alpha: f64, t: f64) -> f64 {
        match self {
            _ if t >= 1.0 => alpha,
            _ if t <= 0.0 => 0.0,
            Self::Pocock => alpha * (1.0 + (E - 1.0) * t).ln(),
            Self::OBrienFleming => {
                let normal = Normal::standard();
                2.0 * normal.sf(normal.inverse_cdf(1.0 - alpha / 2.0) / t.sqrt())
            }
        }
    }
}

/// Looks at a growing sample of paired differences, with the boundary of |T| at which each ends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Looks {
    /// The two-sided error probability of all planned looks together.
    pub alpha: f64,
    /// The number of seeds at each look, ascending.
    pub seeds: Vec<usize>,
    /// The critical |T| at each look: P(|T| < c before, |T| ≥ c here) is the share of α that the
    /// spending function gives to it.
    pub boundaries: Vec<f64>,
}

/// The number of Chebyshev nodes for functions on [0, π/2]; few give the integral and interpolant
/// to many digits.
const NODES: usize = 72;
/// The number of Gauss–Legendre nodes for the share B of squares.
const SHARES: usize = 160;
/// The number of Gauss–Legendre nodes for the angles inside the boundary.
const ANGLES: usize = 64;
/// The fewest seeds that a look must add: R of two values has a density that this integration
/// cannot follow.
const FEWEST_ADDED: usize = 3;

impl Looks {
    /// The boundaries for all looks planned at `planned` seeds under a two-sided `alpha`. They are
    /// cached, since computing them takes some hundredths of a second.
    ///
    /// # Errors
    /// No look, fewer than 2 seeds at the first, looks that add fewer than 3 seeds, an `alpha`
    /// outside (0, 1).
    pub fn new(planned: &[usize], alpha: f64, spending: Spending) -> Result<Arc<Self>> {
        check(planned, alpha)?;
        Ok(solved(planned, planned[planned.len() - 1], alpha, spending))
    }

    /// The boundaries for a sample that has reached `n` of the `planned` seeds: the looks planned
    /// below `n`, then one at `n`, which spends up to what the spending function allows there.
    /// Seeds beyond the last planned look are not used.
    ///
    /// # Errors
    /// As [`Looks::new`], and fewer than 2 seeds.
    pub fn until(planned: &[usize], n: usize, alpha: f64, spending: Spending) -> Result<Arc<Self>> {
        check(planned, alpha)?;
        if n < 2 {
            return Err(Error::data(format!("a look at {n} seeds"))
                .hint("a spread takes two seeds or more"));
        }
        let last = planned[planned.len() - 1];
        let n = n.min(last);
        let taken: Vec<usize> = planned
            .iter()
            .copied()
            .take_while(|look| *look < n)
            .chain([n])
            .collect();
        Ok(solved(&taken, last, alpha, spending))
    }

    /// The repeated confidence interval d̄ ± c·s/√n of the mean of `differences` at the look with
    /// that number of seeds (Jennison & Turnbull 1989): the intervals of all looks hold together
    /// with probability 1 − α. `None` if no look has that number of seeds, the differences have no
    /// spread, or the look has no error to spend.
    ///
    /// # Errors
    /// A difference that is not a finite number.
    pub fn interval(&self, differences: &[f64]) -> Result<Option<Interval>> {
        let Some(look) = self
            .seeds
            .iter()
            .position(|seeds| *seeds == differences.len())
        else {
            return Ok(None);
        };
        let estimate = mean(differences, 0.95)?;
        let half = |se: f64| self.boundaries[look] * se;
        let (level, method) = (1.0 - self.alpha, IntervalMethod::Repeated);
        let around = |half: f64| Interval {
            low: estimate.point - half,
            high: estimate.point + half,
            level,
            method,
        };
        Ok(estimate
            .se
            .filter(|se| *se > 0.0)
            .map(half)
            .filter(|half| half.is_finite())
            .map(around))
    }
}

fn check(planned: &[usize], alpha: f64) -> Result<()> {
    let apart = planned
        .windows(2)
        .all(|pair| pair[1] >= pair[0] + FEWEST_ADDED);
    if planned.first().is_none_or(|first| *first < 2) || !apart {
        return Err(Error::configuration(format!("looks at {planned:?} seeds"))
            .hint(format!("look at 2 seeds or more, and add at least {FEWEST_ADDED} each time, as in 5, 10, 20, 40")));
    }
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(
            Error::configuration(format!("an error probability of {alpha}")).hint("0.05 is usual"),
        );
    }
    Ok(())
}

/// The looks at `seeds`, of `last` planned seeds, cached once they are computed.
fn solved(seeds: &[usize], last: usize, alpha: f64, spending: Spending) -> Arc<Looks> {
    type Solved = BTreeMap<(Vec<usize>, usize, u64, Spending), Arc<Looks>>;
    static SOLVED: Mutex<Solved> = Mutex::new(BTreeMap::new());
    let key = (seeds.to_vec(), last, alpha.to_bits(), spending);
    let solved = || SOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(looks) = solved().get(&key) {
        return Arc::clone(looks);
    }
    let boundaries = boundaries(seeds, last, alpha, spending);
    let looks = Arc::new(Looks {
        alpha,
        seeds: seeds.to_vec(),
        boundaries,
    });
    solved().insert(key, Arc::clone(&looks));
    looks
}

fn boundaries(seeds: &[usize], last: usize, alpha: f64, spending: Spending) -> Vec<f64> {
    let share = |look: usize| spending.spent(alpha, seeds[look] as f64 / last as f64);
    let mut found = vec![upper_quantile(share(0) / 2.0, seeds[0] as f64 - 1.0)];
    // At the first look, R is that of one sample.
    let first = seeds[0] as f64;
    let scale = -ln_beta(0.5, (first - 1.0) / 2.0);
    let mut density = Chebyshev::of(|angle| (scale + (first - 2.0) * angle.cos().ln()).exp());
    for look in 1..seeds.len() {
        let wanted = share(look) - share(look - 1);
        if seeds[look] - seeds[look - 1] < FEWEST_ADDED {
            // Only an unplanned look can be so near to the one before, so this is the last. Error
            // of samples that earlier looks would have ended counts again, which makes the boundary
            // slightly wider than necessary.
            found.push(upper_quantile(wanted / 2.0, seeds[look] as f64 - 1.0));
            break;
        }
        let end = angle_of(found[look - 1], seeds[look - 1]);
        density = carried(&density, end, seeds[look - 1], seeds[look]);
        let tail = |angle: f64| 2.0 * density.integral(angle, FRAC_PI_2);
        // Only rounding can leave less than is to be spent; the last look then decides all that is
        // left.
        let angle = bisect(|angle| tail(angle) - wanted, 0.0, FRAC_PI_2);
        found.push(angle.tan() * (seeds[look] as f64 - 1.0).sqrt());
    }
    found
}

fn angle_of(t: f64, seeds: usize) -> f64 {
    (t / (seeds as f64 - 1.0).sqrt()).atan()
}

/// The density of φ at `to` seeds, from the part with |φ| < `end` of its `density` at `from` seeds.
/// It is even in φ, so one half is enough.
fn carried(density: &Chebyshev, end: f64, from: usize, to: usize) -> Chebyshev {
    let (n, m, all) = (from as f64, (to - from) as f64, to as f64);
    let (kept, added) = ((n / all).sqrt(), (m / all).sqrt());
    // The substitution B = sin²ψ removes the roots from the integrand.
    let log_share = 2.0_f64.ln() - ln_beta(n / 2.0, m / 2.0);
    let shares: Vec<(f64, f64, f64)> = gauss_legendre(SHARES)
        .into_iter()
        .map(|(x, w)| {
            let psi = FRAC_PI_2 * (x + 1.0) / 2.0;
            let (sine, cosine) = psi.sin_cos();
            let weight =
                (log_share + (n - 1.0) * sine.ln() + (m - 1.0) * cosine.ln()).exp() * w * FRAC_PI_2
                    / 2.0;
            (kept * sine, added * cosine, weight)
        })
        .collect();
    let angles: Vec<(f64, f64)> = gauss_legendre(ANGLES)
        .into_iter()
        .map(|(x, w)| {
            let angle = end * (x + 1.0) / 2.0;
            (angle.sin(), density.at(angle) * w * end / 2.0)
        })
        .collect();
    let scale = (-ln_beta(0.5, (m - 1.0) / 2.0)).exp();
    // (1 − v²)^((m−3)/2) by whole powers, which are several times as fast.
    let (whole, half) = (((to - from - 3) / 2) as i32, (to - from - 3) % 2 == 1);
    let power = |inside: f64| inside.powi(whole) * if half { inside.sqrt() } else { 1.0 };
    Chebyshev::of(|angle| {
        let (sine, cosine) = angle.sin_cos();
        let mut sum = 0.0;
        for &(r, mass) in &angles {
            for &(by_kept, by_added, weight) in &shares {
                for side in [r, -r] {
                    let v = (sine - by_kept * side) / by_added;
                    let inside = 1.0 - v * v;
                    if inside > 0.0 {
                        sum += mass * weight / by_added * power(inside);
                    }
                }
            }
        }
        sum * scale * cosine
    })
}

/// A smooth function on [0, π/2], known at Chebyshev nodes of the second kind.
struct Chebyshev(Vec<f64>);

impl Chebyshev {
    fn of(function: impl Fn(f64) -> f64) -> Self {
        Self(
            (0..=NODES)
                .map(|node| function(Self::node(node)).max(0.0))
                .map(|y| if y.is_finite() { y } else { 0.0 })
                .collect(),
        )
    }

    fn node(node: usize) -> f64 {
        FRAC_PI_2 * (1.0 - (PI * node as f64 / NODES as f64).cos()) / 2.0
    }

    /// The interpolant in barycentric form (Berrut & Trefethen 2004).
    fn at(&self, x: f64) -> f64 {
        let (mut above, mut below) = (0.0, 0.0);
        for (node, y) in self.0.iter().enumerate() {
            let distance = x - Self::node(node);
            if distance == 0.0 {
                return *y;
            }
            let half = if node == 0 || node == NODES { 0.5 } else { 1.0 };
            let weight = half * if node % 2 == 0 { 1.0 } else { -1.0 } / distance;
            above += weight * y;
            below += weight;
        }
        above / below
    }

    fn integral(&self, from: f64, to: f64) -> f64 {
        let half = (to - from) / 2.0;
        gauss_legendre(ANGLES)
            .into_iter()
            .map(|(x, w)| w * half * self.at(from + half * (x + 1.0)))
            .sum()
    }
}

/// Nodes and weights of Gauss–Legendre quadrature on [−1, 1].
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|i| {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..8 {
                let (mut before, mut here) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (before, here) = (here, ((2.0 * k - 1.0) * x * here - (k - 1.0) * before) / k);
                }
                slope = n as f64 * (x * here - before) / (x * x - 1.0);
                x -= here / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

/// The root of a falling function between `low` and `high`.
fn bisect(function: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if function(middle) > 0.0 {
            low = middle
        } else {
            high = middle
        }
    }
    (low + high) / 2.0
}

/// The confidence sequence of a mean for unplanned looks: the intervals at all numbers of values
/// hold together with probability 1 − `alpha`. It comes from the t likelihood ratio with a normal
/// mixture over standardised effects of variance `mixture` (Lai 1976; Wang & Ramdas, arXiv
/// 2310.03722): with k = 1 + n·g and c = (k/α²)^(1/n) the half-width is s/√n·√((n−1)(c−1)/(1−c/k)),
/// and infinite if c ≥ k. `None` if it is infinite or there is no spread.
///
/// # Errors
/// No values, or one that is not a finite number; an `alpha` outside (0, 1); a `mixture` that is
/// not positive.
pub fn confidence_sequence(values: &[f64], alpha: f64, mixture: f64) -> Result<Option<Interval>> {
    if !(alpha > 0.0 && alpha < 1.0 && mixture > 0.0 && mixture.is_finite()) {
        return Err(Error::configuration(format!(
            "a confidence sequence of error {alpha} and mixture variance {mixture}"
        ))
        .hint("0.05 and 4 are usual"));
    }
    let estimate = mean(values, 0.95)?;
    let critical = sequence_critical(values.len(), alpha, mixture);
    let half = estimate
        .se
        .filter(|se| *se > 0.0)
        .zip(critical)
        .map(|(se, critical)| critical * se);
    let (level, method) = (1.0 - alpha, IntervalMethod::Sequence);
    Ok(half.map(|half| Interval {
        low: estimate.point - half,
        high: estimate.point + half,
        level,
        method,
    }))
}

/// The |T| beyond which `n` values exclude 0 from the confidence sequence.
fn sequence_critical(n: usize, alpha: f64, mixture: f64) -> Option<f64> {
    let n = n as f64;
    let k = 1.0 + n * mixture;
    let c = (k / (alpha * alpha)).powf(1.0 / n);
    (n >= 2.0 && c < k).then(|| ((n - 1.0) * (c - 1.0) / (1.0 - c / k)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::student::two_sided_quantile;
    use super::*;
    use crate::rng::stream;
    use rand::Rng;
    use rayon::prelude::*;

    const PLAN: [usize; 4] = [5, 10, 20, 40];

    fn critical(alpha: f64, spending: Spending) -> Vec<f64> {
        Looks::new(&PLAN, alpha, spending)
            .unwrap()
            .boundaries
            .clone()
    }

    fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < tolerance,
                "{found} is not {expected}"
            );
        }
    }

    /// Expected values are from an independent simulation of two to three million draws.
    #[test]
    fn boundaries_are_those_of_an_independent_simulation() {
        close(
            &critical(0.05, Spending::Pocock),
            &[4.63, 3.29, 2.65, 2.34],
            0.02,
        );
        close(
            &critical(0.05 / 3.0, Spending::Pocock),
            &[6.31, 4.03, 3.18, 2.82],
            0.02,
        );
        close(
            &critical(0.05 / 4.0, Spending::Pocock),
            &[6.82, 4.22, 3.31, 2.93],
            0.02,
        );
        close(
            &critical(0.05 / 5.0, Spending::Pocock),
            &[7.24, 4.37, 3.41, 3.02],
            0.02,
        );
        let late = critical(0.05, Spending::OBrienFleming);
        assert!(late[0] > 50.0, "{late:?}");
        // The first look spends very little, which leaves the second one Student's test; a
        // simulation of three million draws crosses there about 270 times and gives 6.65 ± 0.05.
        let second = Spending::OBrienFleming.spent(0.05, 0.25);
        close(&late[1..], &[two_sided_quantile(1.0 - second, 9.0)], 1e-3);
        close(&late[2..], &[3.13, 2.05], 0.02);
    }

    #[test]
    fn one_look_is_student_s_test() {
        let looks = Looks::new(&[12], 0.05, Spending::Pocock).unwrap();
        close(&looks.boundaries, &[two_sided_quantile(0.95, 11.0)], 1e-9);
    }

    /// Draws whole experiments and counts how often any look is beyond its boundary.
    #[test]
    fn all_looks_together_keep_the_error() {
        let draws = 20_000;
        for (plan, alpha, spending) in [
            (&PLAN[..], 0.05, Spending::Pocock),
            (&[4, 7, 13], 0.1, Spending::OBrienFleming),
            (&[5, 10, 15, 20, 30], 0.2, Spending::Pocock),
        ] {
            let looks = Looks::new(plan, alpha, spending).unwrap();
            let mut rng = stream(3, "test/looks", &[plan.len() as u64]);
            let normal = Normal::standard();
            let crossed = (0..draws).filter(|_| {
                let values: Vec<f64> = (0..plan[plan.len() - 1])
                    .map(|_| normal.inverse_cdf(rng.random_range(1e-12..1.0)))
                    .collect();
                plan.iter().any(|n| {
                    looks
                        .interval(&values[..*n])
                        .unwrap()
                        .is_some_and(|at| at.low > 0.0 || at.high < 0.0)
                })
            });
            let (share, error) = (
                crossed.count() as f64 / draws as f64,
                (alpha * (1.0 - alpha) / draws as f64).sqrt(),
            );
            assert!(
                (share - alpha).abs() < 4.0 * error,
                "{plan:?} at {alpha}: {share}"
            );
        }
    }

    /// Checks the error of one of forty comparisons, look by look.
    #[test]
    fn boundaries_far_out_spend_what_they_should() {
        let alpha = 0.05 / 40.0;
        let looks = Looks::new(&PLAN, alpha, Spending::Pocock).unwrap();
        let draws = 300_000_u64;
        let first_crossed = |draw: u64| {
            let mut rng = stream(3, "test/looks/far", &[draw]);
            let normal = Normal::standard();
            let values: Vec<f64> = (0..40)
                .map(|_| normal.inverse_cdf(rng.random_range(1e-12..1.0)))
                .collect();
            PLAN.iter().position(|n| {
                looks
                    .interval(&values[..*n])
                    .unwrap()
                    .is_some_and(|at| at.low > 0.0 || at.high < 0.0)
            })
        };
        let crossed: Vec<usize> = (0..draws)
            .into_par_iter()
            .filter_map(first_crossed)
            .collect();
        let mut before = 0.0;
        for (look, n) in PLAN.iter().enumerate() {
            let spent = Spending::Pocock.spent(alpha, *n as f64 / 40.0);
            let expected = spent - before;
            before = spent;
            let share = crossed.iter().filter(|at| **at == look).count() as f64 / draws as f64;
            let error = (expected / draws as f64).sqrt();
            assert!(
                (share - expected).abs() < 4.0 * error,
                "look at {n}: {share}, not {expected}"
            );
        }
    }

    #[test]
    fn the_confidence_sequence_has_its_published_width_and_error() {
        let at: Vec<f64> = PLAN
            .iter()
            .map(|n| sequence_critical(*n, 0.05, 4.0).unwrap())
            .collect();
        close(&at, &[5.36, 3.97, 3.63, 3.54], 0.01);
        let (draws, most) = (2_000, 300);
        let mut rng = stream(3, "test/sequence", &[]);
        let normal = Normal::standard();
        let crossed = (0..draws).filter(|_| {
            let (mut sum, mut squares) = (0.0, 0.0);
            (1..=most).any(|n| {
                let value: f64 = normal.inverse_cdf(rng.random_range(1e-12..1.0));
                sum += value;
                squares += value * value;
                let n = n as f64;
                let variance = (squares - sum * sum / n) / (n - 1.0);
                sequence_critical(n as usize, 0.05, 4.0)
                    .is_some_and(|critical| (sum / n).abs() > critical * (variance / n).sqrt())
            })
        });
        let share = crossed.count() as f64 / draws as f64;
        assert!(share < 0.05 && share > 0.01, "{share}");
    }

    #[test]
    fn what_cannot_be_looked_at_is_refused_or_undefined() {
        for plan in [&[][..], &[1, 5], &[5, 5], &[5, 4], &[5, 6]] {
            assert!(
                Looks::new(plan, 0.05, Spending::Pocock).is_err(),
                "{plan:?}"
            );
        }
        assert!(Looks::new(&PLAN, 1.0, Spending::Pocock).is_err());
        let looks = Looks::new(&PLAN, 0.05, Spending::Pocock).unwrap();
        assert_eq!(
            looks.interval(&[0.1, 0.2, 0.3]).unwrap(),
            None,
            "there is no look at three"
        );
        assert_eq!(
            looks.interval(&[0.5; 5]).unwrap(),
            None,
            "nothing to judge by"
        );
        assert!(looks.interval(&[0.1, 0.2, f64::NAN, 0.0, 0.3]).is_err());
        assert_eq!(confidence_sequence(&[0.5; 9], 0.05, 4.0).unwrap(), None);
        assert!(confidence_sequence(&[1.0, 2.0], 0.0, 4.0).is_err());
    }
}
