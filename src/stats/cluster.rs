//! Errors of means whose items are not independent, or that pool several groups.

use super::check;
use super::estimate::{Estimate, Interval, IntervalMethod, agree, average, deviation, largest};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The standard error of the item-weighted mean over groups (such as the subtasks of a benchmark),
/// from each group's `(standard error, items)`: √(Σ (nᵢ−1) nᵢ seᵢ² / (N−k) / N), the pooled
/// variance of items over N. `None` if there are no more items than groups.
///
/// # Errors
/// A standard error that is negative or not finite, or a group without items.
pub fn group_standard_error(groups: &[(f64, usize)]) -> Result<Option<f64>> {
    if let Some(at) = groups
        .iter()
        .position(|(se, n)| !(*se >= 0.0 && se.is_finite()) || *n == 0)
    {
        let (se, n) = groups[at];
        return Err(Error::data(format!(
            "group {}: standard error {se} over {n} items",
            at + 1
        ))
        .hint("leave out groups whose standard error is undefined"));
    }
    let items: usize = groups.iter().map(|(_, n)| n).sum();
    if items <= groups.len() {
        return Ok(None);
    }
    let squares: f64 = groups
        .iter()
        .map(|(se, n)| (*n as f64 - 1.0) * *n as f64 * se * se)
        .sum();
    Ok(Some(
        (squares / (items - groups.len()) as f64 / items as f64).sqrt(),
    ))
}

/// The mean of items that come in clusters (several pairs about one post): the cluster-robust
/// standard error √(Σ_c (Σ_{i∈c} (sᵢ − mean))²)/n · √(G/(G−1)) with G−1 degrees of freedom for G
/// clusters (Liang and Zeger 1986; Cameron and Miller 2015). The estimate's `n` is G, since
/// clusters are the unit of replication. Below two clusters the error is undefined, and the
/// interval also where clusters do not differ.
///
/// # Errors
/// Unequal lengths, no values, values that are not finite, or a `level` outside (0, 1).
pub fn clustered<K: Ord>(values: &[f64], clusters: &[K], level: f64) -> Result<Estimate> {
    check::values("clustered mean", values)?;
    check::open_unit("the confidence level", level)?;
    if values.len() != clusters.len() {
        return Err(Error::data(format!(
            "{} values with {} cluster names",
            values.len(),
            clusters.len()
        ))
        .hint("name the cluster of every value"));
    }
    let point = average(values);
    // The sum of each cluster's residuals, and their number.
    let mut residuals: BTreeMap<&K, (f64, usize)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let (sum, items) = residuals.entry(cluster).or_default();
        (*sum, *items) = (*sum + (value - point), *items + 1);
    }
    let count = residuals.len() as f64;
    let rounding = 4.0 * f64::EPSILON * largest(values);
    let beyond_rounding = residuals
        .values()
        .filter(|(sum, items)| sum.abs() > rounding * *items as f64);
    let squares: f64 = beyond_rounding.map(|(sum, _)| sum * sum).sum();
    let se = (residuals.len() > 1)
        .then(|| squares.sqrt() / values.len() as f64 * (count / (count - 1.0)).sqrt());
    let interval = se
        .and_then(|se| Interval::student(point, se, count - 1.0, level, IntervalMethod::Clustered));
    Ok(Estimate {
        point,
        se,
        interval,
        n: residuals.len(),
    })
}

/// The mean over `rows[seed][prompt]` as an estimate for new seeds **and** new prompts, both random
/// and crossed.
///
/// With the mean squares A of seeds, B of prompts and E of their interaction, the variance of the
/// mean over S seeds and P prompts is estimated by (A + B − E)/(S·P) with Satterthwaite's degrees
/// of freedom (Satterthwaite 1946; Searle, Casella and McCulloch 1992). The estimate is never below
/// A/(S·P) or B/(S·P), the errors with prompts or seeds fixed; the bound applies only if a variance
/// component is estimated below 0. For a paired comparison give the differences. The estimate's `n`
/// is S; with one seed or one prompt the error is undefined, and without any spread the interval
/// is.
///
/// # Errors
/// Rows of unequal length, no values, values that are not finite, or a `level` outside (0, 1).
pub fn two_way(rows: &[Vec<f64>], level: f64) -> Result<Estimate> {
    Ok(two_way_with_freedom(rows, level)?.0)
}

/// The estimate of [`two_way`] and its degrees of freedom, if its error is defined.
pub(super) fn two_way_with_freedom(
    rows: &[Vec<f64>],
    level: f64,
) -> Result<(Estimate, Option<f64>)> {
    check::open_unit("the confidence level", level)?;
    let scores = super::Scores::new(rows)?;
    let (seeds, prompts) = (scores.runs(), scores.tasks());
    if seeds > 1 && prompts > 1 && agree(scores.values(), largest(scores.values())) {
        let same = Estimate {
            point: scores.values()[0],
            se: Some(0.0),
            interval: None,
            n: seeds,
        };
        return Ok((same, None));
    }
    let point = average(scores.values());
    let per_seed: Vec<f64> = rows.iter().map(|row| average(row)).collect();
    let per_prompt: Vec<f64> = (0..prompts)
        .map(|prompt| average(&scores.task(prompt)))
        .collect();
    let (Some(sd_seed), Some(sd_prompt)) = (deviation(&per_seed), deviation(&per_prompt)) else {
        let without_error = Estimate {
            point,
            se: None,
            interval: None,
            n: seeds,
        };
        return Ok((without_error, None));
    };
    let (s, p) = (seeds as f64, prompts as f64);
    let interaction: f64 = rows
        .iter()
        .zip(&per_seed)
        .flat_map(|(row, seed)| {
            row.iter()
                .zip(&per_prompt)
                .map(move |(y, prompt)| (y - seed - prompt + point).powi(2))
        })
        .sum();
    let both_freedom = (s - 1.0) * (p - 1.0);
    let seed_square = p * sd_seed * sd_seed;
    let prompt_square = s * sd_prompt * sd_prompt;
    let both_square = interaction / both_freedom;
    let sum = seed_square + prompt_square - both_square;
    let (square, freedom) = if sum >= seed_square.max(prompt_square) {
        let spread = seed_square.powi(2) / (s - 1.0)
            + prompt_square.powi(2) / (p - 1.0)
            + both_square.powi(2) / both_freedom;
        // Without any spread there is no interval, whatever the degrees of freedom.
        (
            sum,
            if spread > 0.0 {
                (sum * sum / spread).max(1.0)
            } else {
                s - 1.0
            },
        )
    } else if seed_square >= prompt_square {
        (seed_square, s - 1.0)
    } else {
        (prompt_square, p - 1.0)
    };
    let se = (square / (s * p)).sqrt();
    let interval = Interval::student(point, se, freedom, level, IntervalMethod::TwoWay);
    let estimate = Estimate {
        point,
        se: Some(se),
        interval,
        n: seeds,
    };
    Ok((estimate, Some(freedom)))
}
