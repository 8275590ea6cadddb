//! Summaries of one method over its seeds, paired comparisons of two methods, and marks of the
//! methods that are separated from the best.

use std::collections::BTreeSet;

use super::input::{Better, BySeed, Claim, MetricColumn, RelativeTo};
use super::table::Mark;
use super::view::View;
use crate::error::Result;
use crate::stats::{
    self, Estimate, Paired, adjust_defined, holm, paired, probability_of_improvement,
};

/// The mean over seeds with its t interval; `None` without values. The interval is cut to the range
/// of the metric, which doesn't reduce its coverage: a rate above 1 was never possible.
pub fn over_seeds(view: &View, metric: &MetricColumn, values: &BySeed) -> Result<Option<Estimate>> {
    if values.is_empty() {
        return Ok(None);
    }
    let values: Vec<f64> = values.values().copied().collect();
    Ok(Some(within_range(
        metric,
        stats::mean(&values, view.level())?,
    )))
}

/// The estimate with its interval cut to the range of the metric.
pub fn within_range(metric: &MetricColumn, mut estimate: Estimate) -> Estimate {
    if let (Some(interval), Some([least, most])) = (&mut estimate.interval, metric.range) {
        interval.low = interval.low.max(least.min(estimate.point));
        interval.high = interval.high.min(most.max(estimate.point));
    }
    estimate
}

/// The mean of a signed sum of methods over `seeds` and test items, with an interval that holds for
/// new prompts too; `None` unless each method has its items under every seed.
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
            sum.iter_mut()
                .zip(*values)
                .for_each(|(sum, value)| *sum += sign * value);
        }
        Some(sum)
    };
    match seeds.iter().map(row).collect::<Option<Vec<_>>>() {
        Some(mut rows) if !rows.is_empty() => {
            let items = seeds.iter().flat_map(|seed| {
                signed.iter().filter_map(move |(method, _)| {
                    view.items(method, size, &metric.id)?.get(seed).copied()
                })
            });
            stats::without_rounding(&mut rows, items.flatten());
            stats::two_way(&rows, view.level()).map(Some)
        }
        _ => Ok(None),
    }
}

/// The seeds that all of them have.
fn shared(all: impl Iterator<Item = BySeed>) -> Vec<i64> {
    let seeds = all.map(|values| values.into_keys().collect::<BTreeSet<i64>>());
    seeds.reduce(|a, b| &a & &b).into_iter().flatten().collect()
}

/// The difference `method − versus` over the seeds that both have; if relative to another such
/// difference, minus that one.
#[derive(Clone, Debug)]
pub struct Contrast<'a> {
    pub metric: &'a MetricColumn,
    pub size: String,
    pub method: String,
    pub versus: String,
    pub relative_to: Option<RelativeTo>,
    /// The paired comparison; `None` without a shared seed.
    pub paired: Option<Paired>,
    /// The probability that a run of `method` is better than one of `versus`, in the direction in
    /// which the metric improves; for a relative contrast, that the first difference is better than
    /// the second.
    pub improvement: Option<f64>,
    /// The difference with an interval that holds for new prompts too; `None` unless every pair of
    /// seeds has the values of all test items.
    pub new_prompts: Option<Estimate>,
    /// The number of planned pairs.
    pub planned: usize,
}

impl<'a> Contrast<'a> {
    pub fn new(
        view: &View,
        metric: &'a MetricColumn,
        size: &str,
        method: &str,
        versus: &str,
    ) -> Result<Self> {
        Self::relative(view, metric, size, (method, versus), None)
    }

    /// The contrast that `claim` compares.
    pub fn of_claim(
        view: &View,
        metric: &'a MetricColumn,
        size: &str,
        claim: &Claim,
    ) -> Result<Self> {
        Self::relative(
            view,
            metric,
            size,
            (&claim.method, &claim.versus),
            claim.relative_to.as_ref(),
        )
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
        let planned = contrast
            .methods()
            .into_iter()
            .map(|method| view.planned(method, &contrast.size))
            .min();
        contrast.planned = planned.unwrap_or(0);
        contrast.paired = contrast.beyond(view, 0.0)?;
        contrast.improvement = contrast.paired.map(|paired| match metric.better {
            Better::Lower => 1.0 - paired.probability_of_improvement,
            Better::Higher | Better::Neither => paired.probability_of_improvement,
        });
        contrast.new_prompts = contrast.for_new_prompts(view)?;
        Ok(contrast)
    }

    /// The same difference computed from the values per test item, over seeds and items.
    fn for_new_prompts(&self, view: &View) -> Result<Option<Estimate>> {
        let signed = self.added().into_iter().map(|method| (method, 1.0));
        let signed: Vec<(&str, f64)> = signed
            .chain(self.subtracted().into_iter().map(|method| (method, -1.0)))
            .collect();
        let seeds = shared(
            signed
                .iter()
                .map(|(method, _)| view.metrics().last(method, &self.size, &self.metric.id)),
        );
        over_seeds_and_items(view, self.metric, &self.size, &signed, &seeds)
    }

    /// The methods of the contrast: those that are added, then those that are subtracted.
    fn methods(&self) -> Vec<&str> {
        [self.added(), self.subtracted()].concat()
    }

    fn added(&self) -> Vec<&str> {
        [&self.method]
            .into_iter()
            .chain(self.relative_to.as_ref().map(|it| &it.versus))
            .map(String::as_str)
            .collect()
    }

    fn subtracted(&self) -> Vec<&str> {
        [&self.versus]
            .into_iter()
            .chain(self.relative_to.as_ref().map(|it| &it.method))
            .map(String::as_str)
            .collect()
    }

    /// The paired comparison with a difference of `threshold` instead of 0, which tests claims of
    /// "by more than".
    pub fn beyond(&self, view: &View, threshold: f64) -> Result<Option<Paired>> {
        let of = |method: &str| view.metrics().last(method, &self.size, &self.metric.id);
        let [added, subtracted] = [self.added(), self.subtracted()]
            .map(|ids| ids.into_iter().map(of).collect::<Vec<_>>());
        let seeds = shared(added.iter().chain(&subtracted).cloned());
        if seeds.is_empty() {
            return Ok(None);
        }
        let sum = |side: &[BySeed], seed: &i64| side.iter().map(|values| values[seed]).sum::<f64>();
        let a: Vec<f64> = seeds.iter().map(|seed| sum(&added, seed)).collect();
        let b: Vec<f64> = seeds
            .iter()
            .map(|seed| sum(&subtracted, seed) + threshold)
            .collect();
        let mut comparison = paired(&a, &b, view.level())?;
        // Sums of different methods have the right difference, but one sum can't be "better" than
        // the other; compare the two gains.
        if let ([method, other_versus], [versus, other_method]) = (&added[..], &subtracted[..]) {
            let gain = |a: &BySeed, b: &BySeed| {
                seeds
                    .iter()
                    .map(|seed| a[seed] - b[seed])
                    .collect::<Vec<f64>>()
            };
            let (ours, theirs) = (gain(method, versus), gain(other_method, other_versus));
            let theirs: Vec<f64> = theirs.iter().map(|gain| gain + threshold).collect();
            comparison.probability_of_improvement = probability_of_improvement(&ours, &theirs);
        }
        Ok(Some(comparison))
    }

    /// The seeds that all methods of the contrast have, in the study's order; unplanned seeds come
    /// last.
    pub fn seeds(&self, view: &View) -> Vec<i64> {
        let of = |method| view.metrics().last(method, &self.size, &self.metric.id);
        let mut seeds = shared(self.methods().into_iter().map(of));
        view.in_order(&mut seeds);
        seeds
    }

    /// The values of both sides under the contrast's [`seeds`](Self::seeds).
    pub fn sides(&self, view: &View) -> [Vec<f64>; 2] {
        self.sides_under(view, &self.seeds(view))
    }

    /// The values of both sides under `seeds`, which all its methods have.
    pub fn sides_under(&self, view: &View, seeds: &[i64]) -> [Vec<f64>; 2] {
        let of = |method: &&str| view.metrics().last(method, &self.size, &self.metric.id);
        let [added, subtracted] =
            [self.added(), self.subtracted()].map(|ids| ids.iter().map(of).collect::<Vec<_>>());
        [added, subtracted].map(|side| {
            seeds
                .iter()
                .map(|seed| side.iter().map(|values| values[seed]).sum())
                .collect()
        })
    }

    /// The unadjusted two-sided p-value, where it is defined.
    pub fn p(&self) -> Option<f64> {
        self.paired.and_then(|paired| paired.p)
    }
}

/// The marks of a metric's column: for each size, those of its `methods` (ids), in their order.
///
/// The best method is chosen from the data, so the correction counts every pair of methods with
/// values, at every size. The best is separated from another method if the Holm-adjusted p of their
/// paired test is below α. If it is separated from every other, it alone is marked; otherwise it
/// and all methods that it is not separated from are marked as tied.
pub fn marks(
    view: &View,
    metric: &MetricColumn,
    column: &[(&str, Vec<&str>)],
) -> Result<Vec<Vec<Mark>>> {
    let mut marks: Vec<Vec<Mark>> = column
        .iter()
        .map(|(_, methods)| vec![Mark::None; methods.len()])
        .collect();
    if metric.better == Better::Neither {
        return Ok(marks);
    }
    let mut pairs = Vec::new();
    for (group, (size, methods)) in column.iter().enumerate() {
        let measured = |method: &&str| !view.metrics().last(method, size, &metric.id).is_empty();
        let places: Vec<usize> = (0..methods.len())
            .filter(|place| measured(&methods[*place]))
            .collect();
        for (rank, &a) in places.iter().enumerate() {
            for &b in &places[rank + 1..] {
                pairs.push((
                    group,
                    a,
                    b,
                    Contrast::new(view, metric, size, methods[a], methods[b])?.p(),
                ));
            }
        }
    }
    let raw: Vec<Option<f64>> = pairs.iter().map(|pair| pair.3).collect();
    let adjusted = adjust_defined(&raw, holm);
    for (group, (size, methods)) in column.iter().enumerate() {
        let Some(best) = best(view, metric, size, methods)? else {
            continue;
        };
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

/// The index of the method with the best mean; the first of equal ones.
fn best(view: &View, metric: &MetricColumn, size: &str, methods: &[&str]) -> Result<Option<usize>> {
    let mut best: Option<(usize, f64)> = None;
    for (place, method) in methods.iter().enumerate() {
        let Some(mean) = over_seeds(view, metric, &view.metrics().last(method, size, &metric.id))?
        else {
            continue;
        };
        let merit = if metric.better == Better::Lower {
            -mean.point
        } else {
            mean.point
        };
        if best.is_none_or(|(_, most)| merit > most) {
            best = Some((place, merit));
        }
    }
    Ok(best.map(|(place, _)| place))
}
