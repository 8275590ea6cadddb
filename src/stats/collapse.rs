//! Collapsed runs: their identification, and the estimate of their probability.

use super::aggregate::median;
use super::check;
use super::estimate::{Estimate, Interval, IntervalMethod};
use crate::error::{Error, Result};
use statrs::distribution::{Beta, ContinuousCDF};

/// The runs of a cell that collapsed: those that end more than `drop` below the median of the cell,
/// or more than `drop` below where they started. A run with an unknown start is compared with the
/// median alone.
///
/// # Errors
/// No values, values that are not finite, another number of starts, or a `drop` that is not
/// positive.
pub fn collapsed(values: &[f64], starts: &[Option<f64>], drop: f64) -> Result<Vec<bool>> {
    check::values("collapses", values)?;
    if values.len() != starts.len() || !(drop > 0.0 && drop.is_finite()) {
        return Err(Error::data(format!(
            "collapses of {} runs with {} starts and a drop of {drop}",
            values.len(),
            starts.len()
        ))
        .hint("give each run its start, known or not, and a drop above 0"));
    }
    let centre = median(values).unwrap_or(f64::NEG_INFINITY);
    let fell = |value: f64, from: f64| from - value > drop;
    Ok(values
        .iter()
        .zip(starts)
        .map(|(value, start)| {
            fell(*value, centre) || start.is_some_and(|start| fell(*value, start))
        })
        .collect())
}

/// A probability from `successes` in `n` trials with its exact interval (Clopper & Pearson 1934),
/// whose coverage is at least `level` whatever the probability. The standard error is `None`, since
/// an exact interval does not use one.
///
/// # Errors
/// No trials, more successes than trials, or a `level` outside (0, 1).
pub fn clopper_pearson(successes: usize, n: usize, level: f64) -> Result<Estimate> {
    check::open_unit("the confidence level", level)?;
    if n == 0 || successes > n {
        return Err(Error::data(format!("{successes} successes in {n} trials"))
            .hint("count between 0 and the number of trials, of which there is one at least"));
    }
    let (k, left) = (successes as f64, (n - successes) as f64);
    let tail = (1.0 - level) / 2.0;
    // Both shapes are 1 or more in all calls.
    let quantile =
        |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |beta| beta.inverse_cdf(p));
    let low = if successes == 0 {
        0.0
    } else {
        quantile(k, left + 1.0, tail)
    };
    let high = if successes == n {
        1.0
    } else {
        quantile(k + 1.0, left, 1.0 - tail)
    };
    let interval = Interval {
        low,
        high,
        level,
        method: IntervalMethod::ClopperPearson,
    };
    Ok(Estimate {
        point: k / n as f64,
        se: None,
        interval: Some(interval),
        n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_collapse_against_their_cell_or_their_start() {
        let cell = [0.83, 0.83, 0.827, 0.729, 0.807];
        assert_eq!(
            collapsed(&cell, &[None; 5], 0.05).unwrap(),
            [false, false, false, true, false]
        );
        // A cell that collapsed as a whole has a low median, but each run fell from its start.
        let starts = [Some(0.66), Some(0.55), None];
        assert_eq!(
            collapsed(&[0.57, 0.58, 0.56], &starts, 0.05).unwrap(),
            [true, false, false]
        );
        // A fall of exactly `drop` does not count.
        assert_eq!(
            collapsed(&[1.0, 1.0, 0.5], &[None; 3], 0.5).unwrap(),
            [false; 3]
        );
        assert!(collapsed(&[], &[], 0.05).is_err() && collapsed(&[1.0], &[], 0.05).is_err());
        assert!(collapsed(&[1.0], &[None], 0.0).is_err());
    }

    /// Expected values are those of `scipy.stats.binomtest(k, n).proportion_ci(0.95,
    /// method="exact")`.
    #[test]
    fn exact_intervals_are_the_published_ones() {
        for (k, n, low, high) in [
            (0, 5, 0.0, 0.521_823_750_104_981_6),
            (1, 5, 0.005_050_763_379_468_076, 0.716_417_936_117_808_9),
            (5, 5, 0.478_176_249_895_018_4, 1.0),
            (36, 225, 0.114_638_2, 0.214_541_3),
        ] {
            let interval = clopper_pearson(k, n, 0.95).unwrap().interval.unwrap();
            let near = |found: f64, expected: f64| (found - expected).abs() < 1e-4;
            assert!(
                near(interval.low, low) && near(interval.high, high),
                "{k} of {n}: {interval:?}"
            );
        }
        assert!(clopper_pearson(0, 0, 0.95).is_err() && clopper_pearson(2, 1, 0.95).is_err());
        assert!(clopper_pearson(1, 2, 1.0).is_err());
    }

    #[test]
    fn exact_intervals_cover_at_every_probability() {
        for n in [5, 10, 40] {
            let intervals: Vec<Interval> = (0..=n)
                .map(|k| clopper_pearson(k, n, 0.95).unwrap().interval.unwrap())
                .collect();
            for step in 1..100 {
                let p = f64::from(step) / 100.0;
                let chance = |k: usize| {
                    let ways = statrs::function::factorial::binomial(n as u64, k as u64);
                    ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
                };
                let covered: f64 = (0..=n)
                    .filter(|k| intervals[*k].contains(p))
                    .map(chance)
                    .sum();
                assert!(covered >= 0.95 - 1e-9, "{covered} at {p} of {n}");
            }
        }
    }
}
