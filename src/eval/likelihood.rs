//! Lemma 4.1: a bound on the difference between the surrogate that is maximised on N demonstrations
//! (eq. 6) and the likelihood that it stands for (eq. 5a), and the observed difference.
//!
//! The surrogate is a mean over demonstrations of ℓ = r(x, y; θ) + β·log π_ref(y|x) − V_θ(x), here
//! in units of the reward, with V_θ(x) = E_{ỹ~π_θ}[r(x, ỹ)] − β·KL(π_θ ‖ π_ref), which one sample
//! of the policy trained on r estimates. With S the span of the rewards and C_p the least log
//! π_ref(y|x), at confidence 1 − δ:
//!
//! | line | bound |
//! |---|---|
//! | as stated | (S − C_p)·√(ln(2/δ) / 2N): Hoeffding, with the lemma's two constants |
//! | empirical Bernstein | √(2·Var ln(4/δ) / N) + 7·R·ln(4/δ) / 3(N − 1), R = 2S + β·abs(C_p) (Maurer and Pontil 2009, arXiv 0907.3740) |
//! | without the fixed term | 2S·√(ln(2/δ) / 2N), for r − V alone: β·log π_ref does not depend on θ, so no choice of θ feels it |
//!
//! Observed: samples of N are drawn with replacement from a pool that represents the population;
//! the deviation of their mean from the pool's mean that a share δ of the samples exceeds.

use crate::rng::stream;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The terms of ℓ for one demonstration; rewards are normalised as the policy step sees them,
/// log-probabilities are in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// r(x, y).
    pub reward: f64,
    /// log π_ref(y|x).
    pub reference: f64,
    /// r(x, ỹ), ỹ ~ π.
    pub sample_reward: f64,
    /// log π(ỹ|x) − log π_ref(ỹ|x).
    pub sample_ratio: f64,
}

impl Term {
    /// r − V, the part that depends on θ.
    fn moved(&self, beta: f64) -> f64 {
        self.reward - (self.sample_reward - beta * self.sample_ratio)
    }

    /// ℓ.
    pub fn whole(&self, beta: f64) -> f64 {
        self.moved(beta) + beta * self.reference
    }
}

/// Bounds and deviations at one N, in units of the reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    pub n: usize,
    pub as_stated: f64,
    pub bernstein: f64,
    pub without_fixed: f64,
    pub without_fixed_bernstein: f64,
    pub observed: f64,
    pub observed_without_fixed: f64,
}

/// Number of samples drawn for every N.
const DRAWS: usize = 1000;

/// Bounds and observed deviations at N = 100, 200, 400, … and at the whole `pool`.
pub fn deviations(pool: &[Term], beta: f64, delta: f64, seed: u64) -> Vec<Deviation> {
    let rewards = || {
        pool.iter()
            .flat_map(|term| [term.reward, term.sample_reward])
    };
    let span = rewards().fold(f64::MIN, f64::max) - rewards().fold(f64::MAX, f64::min);
    let least = pool.iter().map(|term| term.reference).fold(0.0, f64::min);
    let whole: Vec<f64> = pool.iter().map(|term| term.whole(beta)).collect();
    let moved: Vec<f64> = pool.iter().map(|term| term.moved(beta)).collect();
    let mut sizes: Vec<usize> = std::iter::successors(Some(100), |n| Some(2 * n))
        .take_while(|n| *n < pool.len())
        .collect();
    sizes.push(pool.len());
    let at = |n: usize| Deviation {
        n,
        as_stated: hoeffding(span - least, n, delta),
        bernstein: bernstein(variance(&whole), 2.0 * span - beta * least, n, delta),
        without_fixed: hoeffding(2.0 * span, n, delta),
        without_fixed_bernstein: bernstein(variance(&moved), 2.0 * span, n, delta),
        observed: observed(&whole, n, delta, seed),
        observed_without_fixed: observed(&moved, n, delta, seed),
    };
    sizes.into_iter().map(at).collect()
}

/// Hoeffding's half-width for the mean of `n` values in a range of this width.
fn hoeffding(range: f64, n: usize, delta: f64) -> f64 {
    range * ((2.0 / delta).ln() / (2.0 * n as f64)).sqrt()
}

/// The empirical Bernstein half-width from the values' variance, two-sided.
fn bernstein(variance: f64, range: f64, n: usize, delta: f64) -> f64 {
    let (log, n) = ((4.0 / delta).ln(), n as f64);
    (2.0 * variance * log / n).sqrt() + 7.0 * range * log / (3.0 * (n - 1.0))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values
        .iter()
        .map(|value| (value - centre).powi(2))
        .sum::<f64>()
        / (values.len() as f64 - 1.0)
}

/// The deviation of a mean of `n` draws that a share `delta` of draws exceeds.
fn observed(pool: &[f64], n: usize, delta: f64, seed: u64) -> f64 {
    let centre = mean(pool);
    let mut found: Vec<f64> = (0..DRAWS as u64)
        .map(|draw| {
            let mut rng = stream(seed, "likelihood/draws", &[n as u64, draw]);
            let sum: f64 = (0..n).map(|_| pool[rng.random_range(0..pool.len())]).sum();
            (sum / n as f64 - centre).abs()
        })
        .collect();
    found.sort_by(f64::total_cmp);
    found[((1.0 - delta) * (DRAWS - 1) as f64).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_bound_reproduces_the_reviewer_s_two_million() {
        // log π = −100, r up to 1, δ = .05: an error of .1 needs about 1.88 million demonstrations.
        assert!((hoeffding(101.0, 1_880_000, 0.05) - 0.1).abs() < 1e-3);
        // At 10,000 demonstrations it is 1.37.
        assert!((hoeffding(101.0, 10_000, 0.05) - 1.37).abs() < 5e-3);
    }

    #[test]
    fn every_bound_holds_where_it_must_and_the_observed_deviation_falls_with_the_root_of_n() {
        let pool: Vec<Term> = (0..1600u64)
            .map(|index| {
                let mut rng = stream(7, "test/terms", &[index]);
                let mut unit = || rng.random::<f64>();
                Term {
                    reward: unit(),
                    reference: -8.0 * unit(),
                    sample_reward: unit(),
                    sample_ratio: unit(),
                }
            })
            .collect();
        let found = deviations(&pool, 0.05, 0.05, 1);
        assert_eq!(
            found.iter().map(|at| at.n).collect::<Vec<_>>(),
            [100, 200, 400, 800, 1600]
        );
        for at in &found {
            assert!(at.observed <= at.as_stated.min(at.bernstein), "{at:?}");
            assert!(
                at.observed_without_fixed <= at.without_fixed.min(at.without_fixed_bernstein),
                "{at:?}"
            );
        }
        let ratio = found[0].observed / found[4].observed;
        assert!(
            (3.2..4.8).contains(&ratio),
            "sixteen times the demonstrations divide it by about four: {ratio}"
        );
    }
}
