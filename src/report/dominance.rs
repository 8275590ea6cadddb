//! Dominance at the end of whole runs: whether the cheaper of two methods is also not worse.

use super::compute::{MatchedPair, mean_total};
use super::contrast::Contrast;
use super::format;
use super::input::{Better, Claim, Direction, MetricColumn, Role};
use super::view::{View, methods_of};
use crate::error::Result;
use crate::stats::{self, Design, Hypothesis, Verdict};

/// The dominance of the cheaper method of a pair over the other, from whole runs.
pub struct Dominance {
    /// The id of the cheaper method.
    pub cheaper: String,
    /// The cost of the other method divided by that of the cheaper one, from means over shared
    /// seeds.
    pub ratio: f64,
    /// The margin below which differences don't matter; `None` if no claim declares one for the
    /// metric.
    pub margin: Option<f64>,
    /// The verdict on whether the cheaper method is not worse by the margin; `None` without margin
    /// or spread.
    pub verdict: Option<Verdict>,
    /// Whether a primary claim names the pair, so that the verdict keeps the error rate of the
    /// primary family.
    pub primary: bool,
}

impl Dominance {
    /// The dominance of a pair; `None` if the costs of whole runs are unknown under all seeds that
    /// both have, or if the metric has no better direction.
    pub fn of(view: &View, pair: &MatchedPair) -> Result<Option<Self>> {
        let metric = view.metric(&pair.metric)?;
        let costs = mean_total(&pair.ours).zip(mean_total(&pair.theirs));
        let Some((ours, theirs)) = costs.filter(|(ours, theirs)| *ours > 0.0 && *theirs > 0.0)
        else {
            return Ok(None);
        };
        if metric.better == Better::Neither {
            return Ok(None);
        }
        let (cheap, dear, ratio) = match ours <= theirs {
            true => (&pair.method, &pair.versus, theirs / ours),
            false => (&pair.versus, &pair.method, ours / theirs),
        };
        let (margin, primary) = margin(view, metric, cheap, dear);
        let verdict = match margin {
            Some(margin) => not_worse(view, metric, &pair.size, (cheap, dear), margin, primary)?,
            None => None,
        };
        Ok(Some(Self {
            cheaper: cheap.clone(),
            ratio,
            margin,
            verdict,
            primary,
        }))
    }

    pub fn words(&self, view: &View) -> String {
        let cheaper = format!(
            "{} is {} × cheaper",
            view.method_label(&self.cheaper),
            format::fixed(self.ratio, 1)
        );
        let and = match self.verdict {
            Some(Verdict::Supported | Verdict::Equivalent | Verdict::Contradicted)
                if self.margin.is_some() =>
            {
                " and "
            }
            _ => "; ",
        };
        cheaper + and + &self.found()
    }

    /// The finding about the cheaper method, without its name.
    pub fn found(&self) -> String {
        let margin = self.margin.map(format::compact).unwrap_or_default();
        let found = match self.verdict {
            _ if self.margin.is_none() => "no claim declares a margin".to_owned(),
            None => "there is no spread to judge by".to_owned(),
            Some(Verdict::Supported | Verdict::Equivalent) => format!("not worse by {margin}"),
            Some(Verdict::Contradicted) => format!("worse by more than {margin}"),
            Some(Verdict::NotByMargin | Verdict::Inconclusive) => {
                format!("whether it is worse by {margin} is open")
            }
        };
        let level = if self.primary { " (primary)" } else { "" };
        found + level
    }
}

/// The margin of a claim about the two methods on the metric, or else the largest of a primary
/// claim on it; and whether a primary claim names the two.
fn margin(view: &View, metric: &MetricColumn, one: &str, other: &str) -> (Option<f64>, bool) {
    let on_metric = || {
        view.input
            .claims
            .iter()
            .filter(|claim| claim.metrics.contains(&metric.id))
    };
    let about_both = |claim: &&Claim| {
        claim.relative_to.is_none()
            && methods_of(claim).all(|method| method == one || method == other)
    };
    let primary = |claim: &&Claim| claim.role == Role::Primary;
    let named = on_metric().filter(about_both).any(|claim| primary(&claim));
    let own = on_metric()
        .filter(about_both)
        .find_map(|claim| claim.margin);
    let largest = on_metric()
        .filter(primary)
        .filter_map(|claim| claim.margin)
        .reduce(f64::max);
    (own.or(largest), named)
}

/// The verdict on whether the first method is not worse by the margin at the end of its runs.
fn not_worse(
    view: &View,
    metric: &MetricColumn,
    size: &str,
    (one, other): (&str, &str),
    margin: f64,
    primary: bool,
) -> Result<Option<Verdict>> {
    // Where less is better, the two sides are exchanged: the surplus of the dearer method is
    // compared.
    let (more, less) = if metric.better == Better::Lower {
        (other, one)
    } else {
        (one, other)
    };
    let [a, b] = Contrast::new(view, metric, size, more, less)?.sides(view);
    let hypothesis = Hypothesis {
        direction: Direction::NotWorse,
        threshold: 0.0,
        margin: Some(margin),
    };
    let comparisons = if primary {
        view.design().comparisons
    } else {
        1
    };
    let design = Design {
        comparisons,
        ..view.design().clone()
    };
    Ok(stats::assess(&a, &b, &hypothesis, &design)?.and_then(|finding| finding.verdict))
}
