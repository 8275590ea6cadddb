//! One method over its seeds; two methods paired by seed; and which of several methods are separated from the best.

use std::collections::BTreeSet;

use super::input::{Better, BySeed, Claim, MetricColumn, RelativeTo};
use super::table::Mark;
use super::view::View;
use crate::error::Result;
use crate::stats::{self, Estimate, Paired, adjust_defined, holm, paired, probability_of_improvement};

/// The mean over seeds with its t interval; `None` without values. An interval is cut to the values that the metric can
/// take, which takes nothing from its coverage: a rate above 1 was never a candidate.
pub fn over_seeds(view: &View, metric: &MetricColumn, values: &BySeed) -> Result<Option<Estimate>> {
    if values.is_empty() {
        return Ok(None);
    }
    let values: Vec<f64> = values.values().copied().collect();
    Ok(Some(within_range(metric, stats::mean(&values, view.level())?)))
}

/// An estimate whose interval is cut to the values that the metric can take.
pub fn within_range(metric: &MetricColumn, mut estimate: Estimate) -> Estimate {
    if let (Some(interval), Some([least, most])) = (&mut estimate.interval, metric.range) {
        interval.low = interval.low.max(least.min(estimate.point));
        interval.high = interval.high.min(most.max(estimate.point));
    }
    estimate
}

/// The mean for new prompts too, over `seeds` and test items, of a signed sum of methods; `None` unless each has its items
/// under every seed.
pub fn over_seeds_and_items(
    view: &View,
    metric: &MetricColumn,
    size: &str,
    signed: &[(&str, f64)],
    seeds: &[i64],
) -> Result<Option<Estimate>> {
    let row = |seed: &i64| {
        let mut sum: Vec<f64> = Vec::new();
        for (method, sign) in signed {
            let values = view.items(method, size, &metric.id)?.get(seed)?;
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(*values).for_each(|(sum, value)| *sum += sign * value);
        }
        Some(sum)
    };
    match seeds.iter().map(row).collect::<Option<Vec<_>>>() {
        Some(mut rows) if !rows.is_empty() => {
            let items = seeds.iter().flat_map(|seed| {
                signed.iter().filter_map(move |(method, _)| view.items(method, size, &metric.id)?.get(seed).copied())
            });
            stats::without_rounding(&mut rows, items.flatten());
            stats::two_way(&rows, view.level()).map(Some)
        }
        _ => Ok(None),
    }
}

/// Seeds that all have.
fn shared(all: impl Iterator<Item = BySeed>) -> Vec<i64> {
    let seeds = all.map(|values| values.into_keys().collect::<BTreeSet<i64>>());
    seeds.reduce(|a, b| &a & &b).into_iter().flatten().collect()
}

/// `method − versus`, less another such difference where it is relative to one, over the seeds that all have.
#[derive(Clone, Debug)]
pub struct Contrast<'a> {
    pub metric: &'a MetricColumn,
    pub size: String,
    pub method: String,
    pub versus: String,
    pub relative_to: Option<RelativeTo>,
    /// `None` without a shared seed.
    pub paired: Option<Paired>,
    /// Probability that a run of `method` is better than one of `versus`, whichever way the metric improves; where the
    /// contrast is relative, that the first difference is better than the second.
    pub improvement: Option<f64>,
    /// The difference for new prompts too; `None` unless every pair of seeds has the values of all test items.
    pub new_prompts: Option<Estimate>,
    /// Pairs that were planned.
    pub planned: usize,
}

impl<'a> Contrast<'a> {
    pub fn new(view: &View, metric: &'a MetricColumn, size: &str, method: &str, versus: &str) -> Result<Self> {
        Self::relative(view, metric, size, (method, versus), None)
    }

    /// What `claim` compares.
    pub fn of_claim(view: &View, metric: &'a MetricColumn, size: &str, claim: &Claim) -> Result<Self> {
        Self::relative(view, metric, size, (&claim.method, &claim.versus), claim.relative_to.as_ref())
    }

    fn relative(
        view: &View,
        metric: &'a MetricColumn,
        size: &str,
        (method, versus): (&str, &str),
        relative_to: Option<&RelativeTo>,
    ) -> Result<Self> {
        let [size, method, versus] = [size, method, versus].map(str::to_owned);
        let relative_to = relative_to.cloned();
        let mut contrast = Self {
            metric,
            size,
            method,
            versus,
            relative_to,
            paired: None,
            improvement: None,
            new_prompts: None,
            planned: 0,
        };
        let planned = contrast.methods().into_iter().map(|method| view.planned(method, &contrast.size)).min();
        contrast.planned = planned.unwrap_or(0);
        contrast.paired = contrast.beyond(view, 0.0)?;
        contrast.improvement = contrast.paired.map(|paired| match metric.better {
            Better::Lower => 1.0 - paired.probability_of_improvement,
            Better::Higher | Better::Neither => paired.probability_of_improvement,
        });
        contrast.new_prompts = contrast.for_new_prompts(view)?;
        Ok(contrast)
    }

    /// The same difference of the values per test item, over seeds and items.
    fn for_new_prompts(&self, view: &View) -> Result<Option<Estimate>> {
        let signed = self.added().into_iter().map(|method| (method, 1.0));
        let signed: Vec<(&str, f64)> =
            signed.chain(self.subtracted().into_iter().map(|method| (method, -1.0))).collect();
        let seeds = shared(signed.iter().map(|(method, _)| view.metrics().last(method, &self.size, &self.metric.id)));
        over_seeds_and_items(view, self.metric, &self.size, &signed, &seeds)
    }

    /// The methods it is made from; of those that it adds the first, then those that it subtracts.
    fn methods(&self) -> Vec<&str> {
        [self.added(), self.subtracted()].concat()
    }

    fn added(&self) -> Vec<&str> {
        [&self.method].into_iter().chain(self.relative_to.as_ref().map(|it| &it.versus)).map(String::as_str).collect()
    }

    fn subtracted(&self) -> Vec<&str> {
        [&self.versus].into_iter().chain(self.relative_to.as_ref().map(|it| &it.method)).map(String::as_str).collect()
    }

    /// The comparison against a difference of `threshold` instead of 0: what a claim of "by more than" is tested by.
    pub fn beyond(&self, view: &View, threshold: f64) -> Result<Option<Paired>> {
        let of = |method: &str| view.metrics().last(method, &self.size, &self.metric.id);
        let [added, subtracted] =
            [self.added(), self.subtracted()].map(|ids| ids.into_iter().map(of).collect::<Vec<_>>());
        let seeds = shared(added.iter().chain(&subtracted).cloned());
        if seeds.is_empty() {
            return Ok(None);
        }
        let sum = |side: &[BySeed], seed: &i64| side.iter().map(|values| values[seed]).sum::<f64>();
        let a: Vec<f64> = seeds.iter().map(|seed| sum(&added, seed)).collect();
        let b: Vec<f64> = seeds.iter().map(|seed| sum(&subtracted, seed) + threshold).collect();
        let mut comparison = paired(&a, &b, view.level())?;
        // Sums of different methods have the right difference, but are nothing that could be better than the other.
        if let ([method, other_versus], [versus, other_method]) = (&added[..], &subtracted[..]) {
            let gain = |a: &BySeed, b: &BySeed| seeds.iter().map(|seed| a[seed] - b[seed]).collect::<Vec<f64>>();
            let (ours, theirs) = (gain(method, versus), gain(other_method, other_versus));
            let theirs: Vec<f64> = theirs.iter().map(|gain| gain + threshold).collect();
            comparison.probability_of_improvement = probability_of_improvement(&ours, &theirs);
        }
        Ok(Some(comparison))
    }

    /// The seeds that all its methods have, in the order in which the study runs them; one that it does not plan comes last.
    pub fn seeds(&self, view: &View) -> Vec<i64> {
        let of = |method| view.metrics().last(method, &self.size, &self.metric.id);
        let mut seeds = shared(self.methods().into_iter().map(of));
        view.in_order(&mut seeds);
        seeds
    }

    /// The values of both sides under its [`seeds`](Self::seeds).
    pub fn sides(&self, view: &View) -> [Vec<f64>; 2] {
        self.sides_under(view, &self.seeds(view))
    }

    /// The values of both sides under `seeds`, which all its methods have.
    pub fn sides_under(&self, view: &View, seeds: &[i64]) -> [Vec<f64>; 2] {
        let of = |method: &&str| view.metrics().last(method, &self.size, &self.metric.id);
        let [added, subtracted] = [self.added(), self.subtracted()].map(|ids| ids.iter().map(of).collect::<Vec<_>>());
        [added, subtracted].map(|side| seeds.iter().map(|seed| side.iter().map(|values| values[seed]).sum()).collect())
    }

    /// Raw two-sided p, where defined.
    pub fn p(&self) -> Option<f64> {
        self.paired.and_then(|paired| paired.p)
    }
}

/// Marks of a metric's column: for each size, those of its `methods` (ids), in their order.
///
/// The best is found in the data, so every pair of methods with values counts in the correction, at every size: the best
/// is separated from another method when the Holm-adjusted p of their paired test is below α. Separated from every
/// other, it is marked so; otherwise it and all it is not separated from are marked as tied.
pub fn marks(view: &View, metric: &MetricColumn, column: &[(&str, Vec<&str>)]) -> Result<Vec<Vec<Mark>>> {
    let mut marks: Vec<Vec<Mark>> = column.iter().map(|(_, methods)| vec![Mark::None; methods.len()]).collect();
    if metric.better == Better::Neither {
        return Ok(marks);
    }
    let mut pairs = Vec::new();
    for (group, (size, methods)) in column.iter().enumerate() {
        let measured = |method: &&str| !view.metrics().last(method, size, &metric.id).is_empty();
        let places: Vec<usize> = (0..methods.len()).filter(|place| measured(&methods[*place])).collect();
        for (rank, &a) in places.iter().enumerate() {
            for &b in &places[rank + 1..] {
                pairs.push((group, a, b, Contrast::new(view, metric, size, methods[a], methods[b])?.p()));
            }
        }
    }
    let raw: Vec<Option<f64>> = pairs.iter().map(|pair| pair.3).collect();
    let adjusted = adjust_defined(&raw, holm);
    for (group, (size, methods)) in column.iter().enumerate() {
        let Some(best) = best(view, metric, size, methods)? else { continue };
        let mut rivals = 0;
        let mut tied = Vec::new();
        for ((of, a, b, _), p) in pairs.iter().zip(&adjusted) {
            if *of == group && (*a == best || *b == best) {
                rivals += 1;
                if p.is_none_or(|p| p >= view.alpha()) {
                    tied.push(if *a == best { *b } else { *a });
                }
            }
        }
        if !tied.is_empty() {
            for place in tied.into_iter().chain([best]) {
                marks[group][place] = Mark::Tied;
            }
        } else if rivals > 0 {
            marks[group][best] = Mark::Separated;
        }
    }
    Ok(marks)
}

/// Place of the method with the best mean; of equal ones the first.
fn best(view: &View, metric: &MetricColumn, size: &str, methods: &[&str]) -> Result<Option<usize>> {
    let mut best: Option<(usize, f64)> = None;
    for (place, method) in methods.iter().enumerate() {
        let Some(mean) = over_seeds(view, metric, &view.metrics().last(method, size, &metric.id))? else { continue };
        let merit = if metric.better == Better::Lower { -mean.point } else { mean.point };
        if best.is_none_or(|(_, most)| merit > most) {
            best = Some((place, merit));
        }
    }
    Ok(best.map(|(place, _)| place))
}
