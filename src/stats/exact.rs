//! Exact tests: p-values counted over a permutation distribution, for the few replicates that
//! benchmarks have.
//!
//! All are two-sided by doubling the smaller tail (at most 1). Ties get midranks and the
//! distribution is conditional on them, so it stays exact.

use super::check;
use crate::error::{Error, Result};
use statrs::function::factorial::ln_binomial;

/// The most values that are counted: counting takes time in the fourth power of the sample, and the
/// t test is as good at far fewer values.
const MOST_VALUES: usize = 200;

/// Wilcoxon's signed rank test of the paired differences a − b (Wilcoxon 1945). Differences of 0
/// are left out; if none remains p is 1. With fewer than 6 pairs p cannot fall below .05.
///
/// # Errors
/// Unequal lengths, no values, values that are not finite, or more than 200 pairs.
pub fn wilcoxon_exact(a: &[f64], b: &[f64]) -> Result<f64> {
    check::pairs("Wilcoxon's signed rank test", a, b)?;
    few_enough(a.len())?;
    let differences: Vec<f64> = a
        .iter()
        .zip(b)
        .map(|(a, b)| a - b)
        .filter(|d| *d != 0.0)
        .collect();
    let sizes: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    let ranks = doubled_midranks(&sizes);
    let observed = differences
        .iter()
        .zip(&ranks)
        .filter(|(d, _)| **d > 0.0)
        .map(|(_, rank)| rank)
        .sum();
    // `share[s]` is the probability that the (doubled) ranks with positive sign add up to s, with
    // signs from fair coins.
    let mut share = vec![0.0; ranks.iter().sum::<usize>() + 1];
    share[0] = 1.0;
    for rank in ranks {
        for sum in (0..share.len()).rev() {
            let with = if sum >= rank { share[sum - rank] } else { 0.0 };
            share[sum] = (share[sum] + with) / 2.0;
        }
    }
    Ok(doubled_tail(&share, observed))
}

/// The Mann–Whitney (Wilcoxon rank sum) test of two independent samples (Mann and Whitney 1947).
///
/// # Errors
/// No values, values that are not finite, or more than 200 values together.
pub fn mann_whitney_exact(x: &[f64], y: &[f64]) -> Result<f64> {
    check::values("the Mann–Whitney test", x)?;
    check::values("the Mann–Whitney test", y)?;
    few_enough(x.len() + y.len())?;
    let (x, y) = if x.len() <= y.len() { (x, y) } else { (y, x) };
    let pooled: Vec<f64> = x.iter().chain(y).copied().collect();
    let ranks = doubled_midranks(&pooled);
    let observed = ranks[..x.len()].iter().sum();
    // `ways[k][s]` is the number of ways in which k of the ranks add up to s.
    let mut ways = vec![vec![0.0; ranks.iter().sum::<usize>() + 1]; x.len() + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for k in (1..=x.len()).rev() {
            let (fewer, same) = ways.split_at_mut(k);
            for (to, from) in same[0][rank..].iter_mut().zip(&fewer[k - 1]) {
                *to += from;
            }
        }
    }
    let counts = &ways[x.len()];
    let total: f64 = counts.iter().sum();
    let share: Vec<f64> = counts.iter().map(|count| count / total).collect();
    Ok(doubled_tail(&share, observed))
}

/// McNemar's exact test of two paired accuracies, from the items that only the first (`b`) and only
/// the second (`c`) gets right: b is binomial with chance ½ if neither is better (McNemar 1947).
/// Without such items p is 1.
pub fn mcnemar_exact(b: u64, c: u64) -> f64 {
    let n = b + c;
    let tail: f64 = (0..=b.min(c))
        .map(|k| (ln_binomial(n, k) - n as f64 * std::f64::consts::LN_2).exp())
        .sum();
    (2.0 * tail).min(1.0)
}

fn few_enough(n: usize) -> Result<()> {
    if n <= MOST_VALUES {
        return Ok(());
    }
    Err(Error::data(format!("an exact rank test of {n} values")).hint(format!(
        "exact tests are for at most {MOST_VALUES} values; use the t test, which is accurate for so many"
    )))
}

/// Twice the ranks 1, 2, …, with the mean rank for ties (doubling keeps midranks whole).
fn doubled_midranks(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    values
        .iter()
        .map(|value| {
            let below = sorted.partition_point(|other| other < value);
            let not_above = sorted.partition_point(|other| other <= value);
            below + not_above + 1
        })
        .collect()
}

fn doubled_tail(share: &[f64], observed: usize) -> f64 {
    let lower: f64 = share[..=observed].iter().sum();
    let upper: f64 = share[observed..].iter().sum();
    (2.0 * lower.min(upper)).min(1.0)
}
