//! Sign-flip (permutation) tests of paired differences, which need no normality: where a and b are
//! exchangeable within a pair, each difference is as likely to have the other sign.

use super::check;
use super::sequential::Spending;
use crate::error::{Error, Result};
use crate::rng;
use rand::Rng;

/// The most pairs at which all sign patterns are counted; with more pairs, patterns are drawn.
const COUNTED: usize = 10;
/// The number of drawn sign patterns.
const DRAWN: usize = 20_000;
/// The relative difference up to which statistics count as ties, which rounding must not break.
const TIE: f64 = 1e-9;

/// The two-sided p-value of the mean difference under random signs: the share of sign patterns
/// whose |sum| is as large as the observed one. Exact up to 10 pairs; beyond them from 20,000 drawn
/// patterns and the observed one, with a fixed seed.
///
/// # Errors
/// No differences, or one that is not a finite number.
pub fn sign_flip(differences: &[f64]) -> Result<f64> {
    check::values("sign-flip test", differences)?;
    let patterns = patterns(differences.len(), 0);
    let size = |signs: &[f64]| {
        signs
            .iter()
            .zip(differences)
            .map(|(sign, value)| sign * value)
            .sum::<f64>()
            .abs()
    };
    let observed = size(&patterns[0]) * (1.0 - TIE);
    Ok(patterns
        .iter()
        .filter(|signs| size(signs) >= observed)
        .count() as f64
        / patterns.len() as f64)
}

/// The result of a group-sequential sign-flip test.
#[derive(Clone, Debug, PartialEq)]
pub struct SignFlips {
    /// For each test, the number of seeds at the look that separated it from 0, and the sign of its
    /// mean there.
    pub separated: Vec<Option<(usize, f64)>>,
    /// The number of seeds at the last look.
    pub n: usize,
    /// The smallest possible two-sided p with `n` seeds: 2/2ⁿ.
    pub smallest: f64,
    /// The error that may be spent by the last look; nothing can be separated while it is below
    /// `smallest`.
    pub spent: f64,
}

/// A group-sequential sign-flip test of several rows of differences over the same seeds, with one
/// family-wise error `alpha` for all rows at all looks. After AdaStop (Mathieu et al., TMLR 2024,
/// arXiv 2306.10882), simplified from permutations of runs between two groups to signs of paired
/// differences. A seed has one sign in all rows, which keeps the dependence between rows.
///
/// The statistic of a row is |Σd|/√Σd², whose denominator does not depend on the signs. At each
/// look its boundary is the smallest that lets the maximum over all rows cross, at this look or
/// before, under no more than the share of patterns that `spending` gives; the rows with a true
/// null hypothesis are among all rows, so the bound holds for them whichever they are. `rows[i][s]`
/// is the difference of row i under the s-th seed, 0 if it has none.
///
/// # Errors
/// Rows of unequal length, no seeds, a value that is not finite, or no planned look.
pub fn flips_over_looks(
    rows: &[Vec<f64>],
    planned: &[usize],
    alpha: f64,
    spending: Spending,
) -> Result<SignFlips> {
    let Some(last) = planned.last().copied().filter(|last| *last > 0) else {
        return Err(
            Error::configuration("a sign-flip test without a planned look")
                .hint("plan one, as in 5, 10, 20, 40"),
        );
    };
    for row in rows {
        check::values("sign-flip test", row)?;
        if row.len() != rows[0].len() {
            return Err(Error::data(format!(
                "rows of {} and {} differences",
                rows[0].len(),
                row.len()
            ))
            .hint("give each row a value for each seed, 0 where it has none"));
        }
    }
    let n = rows.first().map_or(0, Vec::len).min(last);
    let looks: Vec<usize> = planned
        .iter()
        .copied()
        .take_while(|look| *look < n)
        .chain([n])
        .filter(|n| *n > 0)
        .collect();
    let mut separated = vec![None; rows.len()];
    let patterns = patterns(n, 1);
    let mut crossed = vec![false; patterns.len()];
    let spent = |look: usize| spending.spent(alpha, look as f64 / last as f64);
    for look in &looks {
        let scales: Vec<f64> = rows
            .iter()
            .map(|row| row[..*look].iter().map(|it| it * it).sum::<f64>().sqrt())
            .collect();
        let statistic = |signs: &[f64], row: &[f64], scale: f64| {
            let sum: f64 = signs[..*look]
                .iter()
                .zip(row)
                .map(|(sign, value)| sign * value)
                .sum();
            if scale > 0.0 { sum / scale } else { 0.0 }
        };
        let largest = |signs: &[f64]| {
            rows.iter()
                .zip(&scales)
                .fold(0.0, |most: f64, (row, scale)| {
                    most.max(statistic(signs, row, *scale).abs())
                })
        };
        let maxima: Vec<f64> = patterns.iter().map(|signs| largest(signs)).collect();
        let allowed = (spent(*look) * patterns.len() as f64).floor() as usize;
        let allowed = allowed.saturating_sub(crossed.iter().filter(|crossed| **crossed).count());
        let Some(boundary) = boundary(&maxima, &crossed, allowed) else {
            continue;
        };
        crossed
            .iter_mut()
            .zip(&maxima)
            .for_each(|(crossed, most)| *crossed |= *most >= boundary);
        for ((found, row), scale) in separated.iter_mut().zip(rows).zip(&scales) {
            let observed = statistic(&patterns[0], row, *scale);
            if found.is_none() && observed.abs() >= boundary {
                *found = Some((*look, observed.signum()));
            }
        }
    }
    Ok(SignFlips {
        separated,
        n,
        smallest: 2.0 / 2.0_f64.powi(n as i32),
        spent: spent(n),
    })
}

/// The smallest boundary that at most `allowed` of the maxima that have not crossed yet reach.
/// `None` if ties at the top exceed `allowed`.
fn boundary(maxima: &[f64], crossed: &[bool], allowed: usize) -> Option<f64> {
    let mut left: Vec<f64> = maxima
        .iter()
        .zip(crossed)
        .filter(|(_, crossed)| !**crossed)
        .map(|(it, _)| *it)
        .collect();
    left.sort_by(|a, b| b.total_cmp(a));
    // Start from the first maximum that may not cross, and go up beyond its ties.
    let beyond = left
        .get(allowed)
        .map_or(0.0, |first_kept| first_kept * (1.0 + TIE));
    left[..allowed.min(left.len())]
        .iter()
        .copied()
        .rfind(|it| *it > beyond && *it > 0.0)
        .map(|it| it * (1.0 - TIE / 2.0))
}

/// The sign patterns of `n` pairs, the observed one first: all of them for few pairs.
fn patterns(n: usize, purpose: u64) -> Vec<Vec<f64>> {
    let sign = |minus: bool| if minus { -1.0 } else { 1.0 };
    if n <= COUNTED {
        return (0..1_u32 << n)
            .map(|bits| (0..n).map(|at| sign(bits >> at & 1 == 1)).collect())
            .collect();
    }
    let mut stream = rng::stream(purpose, "stats/sign-flips", &[n as u64]);
    let drawn = (0..DRAWN).map(|_| (0..n).map(|_| sign(stream.random_bool(0.5))).collect());
    std::iter::once(vec![1.0; n]).chain(drawn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use statrs::distribution::{ContinuousCDF, Normal};

    const PLAN: [usize; 4] = [5, 10, 20, 40];

    fn normals(n: usize, shift: f64, stream: &mut ChaCha8Rng) -> Vec<f64> {
        (0..n)
            .map(|_| shift + Normal::standard().inverse_cdf(stream.random_range(1e-12..1.0)))
            .collect()
    }

    #[test]
    fn few_pairs_are_counted() {
        // All differences have one sign: only the observed pattern and its mirror are as large.
        assert_eq!(sign_flip(&[0.1, 0.2, 0.3, 0.1, 0.2]).unwrap(), 0.0625);
        // Differences 1, 1, 1, −1: sums of ±4 and ±2 are as large as 2, which are 2 + 8 of 16
        // patterns.
        assert_eq!(sign_flip(&[1.0, 1.0, 1.0, -1.0]).unwrap(), 0.625);
        assert_eq!(sign_flip(&[0.0; 4]).unwrap(), 1.0);
        assert!(sign_flip(&[]).is_err() && sign_flip(&[f64::NAN]).is_err());
    }

    #[test]
    fn drawn_patterns_agree_with_the_t_test_on_normal_differences() {
        let values = normals(30, 0.4, &mut rng::stream(2, "test/flips", &[]));
        let t = crate::stats::paired(&values, &vec![0.0; 30], 0.95)
            .unwrap()
            .p
            .unwrap();
        let p = sign_flip(&values).unwrap();
        assert!((p - t).abs() < 0.2 * t + 0.002, "{p} and {t}");
        assert_eq!(p, sign_flip(&values).unwrap());
    }

    #[test]
    fn five_seeds_cannot_be_enough() {
        let found = flips_over_looks(
            &[vec![0.1, 0.11, 0.09, 0.1, 0.12]],
            &PLAN,
            0.05,
            Spending::Pocock,
        )
        .unwrap();
        assert_eq!(
            (found.separated, found.n, found.smallest),
            (vec![None], 5, 0.0625)
        );
        assert!(found.spent < found.smallest);
        // Ten seeds suffice: 2 of 1024 patterns, of .0179 that may be spent by then.
        let clear: Vec<f64> = (0..10).map(|seed| -0.1 - 0.01 * f64::from(seed)).collect();
        let noise = vec![0.1, -0.2, 0.05, 0.1, -0.1, 0.02, -0.03, 0.2, -0.1, 0.01];
        let found = flips_over_looks(&[noise, clear], &PLAN, 0.05, Spending::Pocock).unwrap();
        assert_eq!(found.separated, [None, Some((10, -1.0))]);
        let late = flips_over_looks(&[vec![0.1; 5]], &PLAN, 0.05, Spending::OBrienFleming).unwrap();
        assert_eq!(late.separated, [None]);
    }

    #[test]
    fn rows_that_cannot_be_flipped_are_refused_or_never_separated() {
        assert!(
            flips_over_looks(&[vec![1.0], vec![1.0, 2.0]], &PLAN, 0.05, Spending::Pocock).is_err()
        );
        assert!(flips_over_looks(&[vec![1.0]], &[], 0.05, Spending::Pocock).is_err());
        let nothing = flips_over_looks(&[vec![0.0; 12]], &PLAN, 0.05, Spending::Pocock).unwrap();
        assert_eq!(nothing.separated, [None]);
        assert_eq!(
            flips_over_looks(&[], &PLAN, 0.05, Spending::Pocock)
                .unwrap()
                .separated,
            []
        );
    }

    /// Simulates rows without a difference that share a method, with values far from normal: a
    /// fifth of the runs collapse.
    #[test]
    fn the_family_wise_error_holds_without_normality() {
        let experiments = 150;
        let wrong = (0..experiments).filter(|experiment| {
            let mut stream = rng::stream(4, "test/flips/family", &[*experiment]);
            let mut run = || {
                let collapsed = stream.random_bool(0.2);
                normals(1, if collapsed { -10.0 } else { 0.0 }, &mut stream)[0]
            };
            let common: Vec<f64> = (0..20).map(|_| run()).collect();
            let rows: Vec<Vec<f64>> = (0..6)
                .map(|_| common.iter().map(|value| run() - value).collect())
                .collect();
            flips_over_looks(&rows, &PLAN, 0.2, Spending::Pocock)
                .unwrap()
                .separated
                .iter()
                .any(Option::is_some)
        });
        let share = wrong.count() as f64 / experiments as f64;
        // By 20 of 40 seeds .62 of α may be spent.
        let spent = Spending::Pocock.spent(0.2, 0.5);
        assert!(
            share <= spent + 3.0 * (spent * (1.0 - spent) / experiments as f64).sqrt(),
            "{share}"
        );
        assert!(share > 0.02, "the count can fail: {share}");
    }
}
