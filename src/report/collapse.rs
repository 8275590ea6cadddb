//! Collapsed runs: how many each method has, and whether they are more than those of the baseline.

use super::exploratory::Test;
use super::format;
use super::input::{BySeed, Status};
use super::view::View;
use crate::error::Result;
use crate::stats;
use std::collections::BTreeMap;

/// The runs of a method at a size.
pub struct CollapsedCell {
    pub size: String,
    pub method: String,
    pub metric: String,
    /// Values of every run that has the metric.
    pub values: BySeed,
    /// Values of the runs that did not collapse.
    pub standing: BySeed,
    /// The p-value of McNemar's exact test against the baseline over the seeds that both have;
    /// `None` for the baseline, and where no seed distinguishes the two.
    pub p: Option<f64>,
    baseline: String,
}

impl CollapsedCell {
    pub fn collapsed(&self) -> usize {
        self.values.len() - self.standing.len()
    }

    /// The test against the baseline, if it has a p-value.
    pub fn test(&self) -> Option<Test> {
        Some(Test::new(
            &format!("collapse by {}", self.metric),
            &self.size,
            &self.method,
            &self.baseline,
            self.p?,
        ))
    }
}

/// Collapses by size, then by method; empty if the layout has no rule.
pub fn collapses(view: &View) -> Result<Vec<CollapsedCell>> {
    let Some(rule) = &view.layout().collapses else {
        return Ok(Vec::new());
    };
    let baseline = view.layout().baseline.as_str();
    let mut cells = Vec::new();
    for size in &view.sizes {
        let starts = view.metrics().last(baseline, size, &rule.metric);
        let of_baseline = view.collapsed(baseline, size);
        for method in view.main_methods().filter(|row| !row.heuristic) {
            let values = view.metrics().last(&method.id, size, &rule.metric);
            if values.is_empty() {
                continue;
            }
            let fallen = view.collapsed(&method.id, size);
            let both = || values.keys().filter(|seed| starts.contains_key(seed));
            let alone = |here: &BTreeMap<i64, String>, there: &BTreeMap<i64, String>| {
                both()
                    .filter(|seed| here.contains_key(seed) && !there.contains_key(seed))
                    .count() as u64
            };
            let (ours, theirs) = (alone(&fallen, &of_baseline), alone(&of_baseline, &fallen));
            let standing = values
                .iter()
                .filter(|(seed, _)| !fallen.contains_key(seed))
                .map(|(seed, it)| (*seed, *it));
            cells.push(CollapsedCell {
                size: size.clone(),
                method: method.id.clone(),
                metric: rule.metric.clone(),
                standing: standing.collect(),
                values,
                p: (method.id != baseline && ours + theirs > 0)
                    .then(|| stats::mcnemar_exact(ours, theirs)),
                baseline: baseline.to_owned(),
            });
        }
    }
    Ok(cells)
}

/// Seeds under which a method at a size collapsed, each with the reason: those that the input marks
/// as collapsed and those that meet the layout's rule.
pub fn runs(view: &View, method: &str, size: &str) -> Result<BTreeMap<i64, String>> {
    let cells = view
        .header()
        .cells
        .iter()
        .filter(|cell| cell.method == method && cell.size == size);
    let mut found: BTreeMap<i64, String> = cells
        .filter_map(|cell| match (&cell.status, i64::try_from(cell.seed)) {
            (Status::Collapsed { why }, Ok(seed)) => Some((seed, why.clone())),
            _ => None,
        })
        .collect();
    let Some(rule) = &view.layout().collapses else {
        return Ok(found);
    };
    let values = view.metrics().last(method, size, &rule.metric);
    if values.is_empty() {
        return Ok(found);
    }
    let starts = view
        .metrics()
        .last(&view.layout().baseline, size, &rule.metric);
    // A point of an ablation may itself vary where training starts, so it isn't compared with the
    // baseline's start.
    let held_to_start = !view.is_point(method) && !rule.own_start.iter().any(|own| own == method);
    let starts: Vec<Option<f64>> = values
        .keys()
        .map(|seed| starts.get(seed).copied().filter(|_| held_to_start))
        .collect();
    let all: Vec<f64> = values.values().copied().collect();
    let metric = view.metric(&rule.metric)?;
    for ((seed, value), fell) in values
        .iter()
        .zip(stats::collapsed(&all, &starts, rule.drop)?)
    {
        if fell {
            let why = format!(
                "{} ends at {}",
                metric.label,
                format::fixed(*value, metric.decimals)
            );
            found.entry(*seed).or_insert(why);
        }
    }
    Ok(found)
}
