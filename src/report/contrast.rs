//! One method over its seeds; two methods paired by seed; and which of several methods are separated from the best.

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
    let mut estimate = stats::mean(&values, view.level())?;
    if let (Some(interval), Some([least, most])) = (&mut estimate.interval, metric.range) {
        interval.low = interval.low.max(least.min(estimate.point));
        interval.high = interval.high.min(most.max(estimate.point));
    }
    Ok(Some(estimate))
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
        let mut contrast =
            Self { metric, size, method, versus, relative_to, paired: None, improvement: None, planned: 0 };
        let planned = contrast.methods().into_iter().map(|method| view.planned(method, &contrast.size)).min();
        contrast.planned = planned.unwrap_or(0);
        contrast.paired = contrast.beyond(view, 0.0)?;
        contrast.improvement = contrast.paired.map(|paired| match metric.better {
            Better::Lower => 1.0 - paired.probability_of_improvement,
            Better::Higher | Better::Neither => paired.probability_of_improvement,
        });
        Ok(contrast)
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
        let (added, subtracted): (Vec<BySeed>, Vec<BySeed>) =
            (self.added().into_iter().map(of).collect(), self.subtracted().into_iter().map(of).collect());
        let mut sides: (Vec<f64>, Vec<f64>) = Default::default();
        let mut gains: (Vec<f64>, Vec<f64>) = Default::default();
        for seed in added[0].keys() {
            let value = |of: &BySeed| of.get(seed).copied();
            let (Some(added), Some(subtracted)) = (
                added.iter().map(value).collect::<Option<Vec<f64>>>(),
                subtracted.iter().map(value).collect::<Option<Vec<f64>>>(),
            ) else {
                continue;
            };
            sides.0.push(added.iter().sum());
            sides.1.push(subtracted.iter().sum::<f64>() + threshold);
            if let ([_, versus], [_, method]) = (&added[..], &subtracted[..]) {
                gains.0.push(added[0] - subtracted[0]);
                gains.1.push(method - versus + threshold);
            }
        }
        if sides.0.is_empty() {
            return Ok(None);
        }
        let mut comparison = paired(&sides.0, &sides.1, view.level())?;
        if self.relative_to.is_some() {
            comparison.probability_of_improvement = probability_of_improvement(&gains.0, &gains.1);
        }
        Ok(Some(comparison))
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
/// other, it is marked so; otherwise it and all it is not separated from are marked as tied. This family contains those
/// of the tables of differences on the same metric, so what is bold here is separated there.
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
