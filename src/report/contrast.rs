//! Two methods on one metric at one size, paired by seed; and which of several methods are separated from the best.

use super::input::{Better, MetricColumn};
use super::table::Mark;
use super::view::View;
use crate::error::Result;
use crate::stats::{Paired, adjust_defined, holm, paired, probability_of_improvement};

/// `method − versus`, over the seeds that both have.
#[derive(Clone, Debug)]
pub struct Contrast<'a> {
    pub metric: &'a MetricColumn,
    pub size: String,
    pub method: String,
    pub versus: String,
    /// `None` without a shared seed.
    pub paired: Option<Paired>,
    /// Probability that a run of `method` is better than one of `versus`, whichever way the metric improves.
    pub improvement: Option<f64>,
    /// Pairs that were planned.
    pub planned: usize,
}

impl<'a> Contrast<'a> {
    pub fn new(view: &View, metric: &'a MetricColumn, size: &str, method: &str, versus: &str) -> Result<Self> {
        let ours = view.metrics().last(method, size, &metric.id);
        let theirs = view.metrics().last(versus, size, &metric.id);
        let (a, b): (Vec<f64>, Vec<f64>) =
            ours.iter().filter_map(|(seed, a)| theirs.get(seed).map(|b| (*a, *b))).unzip();
        let paired = if a.is_empty() { None } else { Some(paired(&a, &b, view.level())?) };
        let improvement = paired.map(|_| match metric.better {
            Better::Lower => probability_of_improvement(&b, &a),
            Better::Higher | Better::Neither => probability_of_improvement(&a, &b),
        });
        let planned = view.planned(method, size).min(view.planned(versus, size));
        let [size, method, versus] = [size, method, versus].map(str::to_owned);
        Ok(Self { metric, size, method, versus, paired, improvement, planned })
    }

    /// Raw two-sided p, where defined.
    pub fn p(&self) -> Option<f64> {
        self.paired.and_then(|paired| paired.p)
    }
}

/// Marks of `methods` (ids) in a metric's column at a size, in their order.
///
/// The best is found in the data, so all pairs count in the correction: the best is separated from another method when
/// the Holm-adjusted p of their paired test, among all pairs of methods with values, is below α. Separated from every
/// other, it is marked so; otherwise it and all it is not separated from are marked as tied.
pub fn marks(view: &View, metric: &MetricColumn, size: &str, methods: &[&str]) -> Result<Vec<Mark>> {
    let mut marks = vec![Mark::None; methods.len()];
    let mut measured: Vec<(usize, f64)> = Vec::new();
    for (place, method) in methods.iter().enumerate() {
        let values: Vec<f64> = view.metrics().last(method, size, &metric.id).into_values().collect();
        if !values.is_empty() {
            let mean = crate::stats::mean(&values, view.level())?.point;
            measured.push((place, if metric.better == Better::Lower { -mean } else { mean }));
        }
    }
    if metric.better == Better::Neither || measured.len() < 2 {
        return Ok(marks);
    }
    // Of equal means the first in order is the best; the others are then tied with it.
    let best = measured.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| *place);
    let Some(best) = best else { return Ok(marks) };

    let mut pairs = Vec::new();
    let mut p = Vec::new();
    for (rank, (a, _)) in measured.iter().enumerate() {
        for (b, _) in &measured[rank + 1..] {
            pairs.push((*a, *b));
            p.push(Contrast::new(view, metric, size, methods[*a], methods[*b])?.p());
        }
    }
    let adjusted = adjust_defined(&p, holm);
    let mut tied = Vec::new();
    for ((a, b), p) in pairs.into_iter().zip(adjusted) {
        let other = if a == best { b } else { a };
        if (a == best || b == best) && p.is_none_or(|p| p >= view.alpha()) {
            tied.push(other);
        }
    }
    if tied.is_empty() {
        marks[best] = Mark::Separated;
    } else {
        for place in tied.into_iter().chain([best]) {
            marks[place] = Mark::Tied;
        }
    }
    Ok(marks)
}
