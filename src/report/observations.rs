//! Observations that a reader would otherwise have to find in the tables. They are found by looking
//! at all numbers, so none is a test.

use super::claims::Judged;
use super::contrast::{Contrast, over_seeds};
use super::digest::decodings;
use super::format;
use super::input::{Better, Direction, MetricColumn, TableKind};
use super::sentence::{difference, listed, sides};
use super::view::View;
use crate::error::Result;
use crate::stats::{self, Estimate, Paired};

/// The accuracy of a ranking by chance.
const CHANCE: f64 = 0.5;
/// The part of the surrogate's value on the demonstrations that a reward was trained on that is
/// lost on fresh ones.
const GAP: &str = "surrogate_gap";
/// The curve of the deviation of Lemma 4.1 and its line for a fixed reward.
const DEVIATION: [&str; 2] = ["likelihood-deviation", "observed"];

/// All observations, by kind.
pub fn observations(view: &View, claims: &[Judged]) -> Result<Vec<String>> {
    let mut found = below_chance(view)?;
    found.extend(against_claims(view, claims));
    found.extend(collapsed(view));
    found.extend(past_their_peak(view)?);
    found.extend(over_iterations(view)?);
    found.extend(by_decoding(view)?);
    found.extend(fixed_reward(view)?);
    Ok(found)
}

/// The estimate with its interval: `0.353 [0.303, 0.403]`.
fn level(metric: &MetricColumn, estimate: &Estimate) -> String {
    let interval = estimate
        .interval
        .map(|interval| (interval.low, interval.high));
    format::estimate(Some(estimate.point), interval, |value| {
        format::fixed(value, metric.decimals)
    })
}

fn moved(metric: &MetricColumn, paired: &Paired) -> String {
    let interval = paired
        .difference
        .interval
        .map(|interval| (interval.low, interval.high));
    difference(paired.difference.point, interval, metric.decimals)
}

/// The name of a method, with the size if there are several.
fn named(view: &View, method: &str, size: &str) -> String {
    match view.sizes.len() {
        0 | 1 => view.method_label(method).to_owned(),
        _ => format!("{} ({})", view.method_label(method), view.size_label(size)),
    }
}

/// The shares of pairs in the tables of rewards.
fn accuracies<'a>(view: &View<'a>) -> Result<Vec<&'a MetricColumn>> {
    let shown = view.metrics_of(&[TableKind::Reward], true)?;
    Ok(shown
        .into_iter()
        .filter(|metric| metric.better == Better::Higher && metric.range == Some([0.0, 1.0]))
        .collect())
}

/// Sentences on accuracies whose interval lies below chance, including those of points.
fn below_chance(view: &View) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for metric in accuracies(view)? {
        let mut below = Vec::new();
        for size in &view.sizes {
            for method in &view.methods {
                let values = view.metrics().last(&method.id, size, &metric.id);
                let Some(mean) = over_seeds(view, metric, &values)? else {
                    continue;
                };
                if mean.interval.is_some_and(|interval| interval.high < CHANCE) {
                    below.push(format!(
                        "{} {}",
                        named(view, &method.id, size),
                        level(metric, &mean)
                    ));
                }
            }
        }
        if !below.is_empty() {
            found.push(format!(
                "**Below chance**, {}: {}.",
                metric.label,
                listed(&below)
            ));
        }
    }
    Ok(found)
}

/// Sentences on comparisons whose ordinary interval lies on the other side than their claim states.
fn against_claims(view: &View, claims: &[Judged]) -> Vec<String> {
    let mut found = Vec::new();
    for judged in claims {
        let claim = judged.claim;
        let margin = claim.margin.unwrap_or(0.0);
        let against = judged.parts.iter().filter_map(|part| {
            let paired = part.contrast.paired?;
            let interval = paired.difference.interval?;
            let (low, high) = (
                interval.low - claim.threshold,
                interval.high - claim.threshold,
            );
            let moves = match claim.direction {
                Direction::Greater => high < 0.0,
                Direction::Less => low > 0.0,
                Direction::Equivalent => low > margin || high < -margin,
                Direction::NotWorse => high < -margin,
            };
            let size = if view.sizes.len() > 1 {
                format!(" ({})", view.size_label(&part.contrast.size))
            } else {
                String::new()
            };
            moves.then(|| {
                format!(
                    "{}{size} {}",
                    part.contrast.metric.label,
                    moved(part.contrast.metric, &paired)
                )
            })
        });
        let against: Vec<String> = against.collect();
        if !against.is_empty() {
            let [a, b] = sides(view, claim);
            found.push(format!(
                "**Against the claim** `{}`, {a} minus {b}: {}.",
                claim.id,
                listed(&against)
            ));
        }
    }
    found
}

/// Sentences on runs that collapsed, with the reason.
fn collapsed(view: &View) -> Vec<String> {
    let mut found = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let runs = view.collapsed(&method.id, size);
            if !runs.is_empty() {
                let runs: Vec<String> = runs
                    .iter()
                    .map(|(seed, why)| format!("seed {seed}: {why}"))
                    .collect();
                found.push(format!(
                    "**Collapsed**, {}: {}.",
                    named(view, &method.id, size),
                    runs.join("; ")
                ));
            }
        }
    }
    found
}

/// The values of a method's metric by iteration, for iterations that have any.
fn steps(
    view: &View,
    metric: &MetricColumn,
    method: &str,
    size: &str,
) -> Vec<(i64, super::input::BySeed)> {
    let all = view.metrics().iterations(method, size).into_iter();
    let at = |iteration| {
        (
            iteration,
            view.metrics().at(method, size, &metric.id, iteration),
        )
    };
    all.map(at)
        .filter(|(_, values)| !values.is_empty())
        .collect()
}

/// The later values minus the earlier, paired by seed; `None` without a shared seed.
fn change(
    view: &View,
    later: &super::input::BySeed,
    earlier: &super::input::BySeed,
) -> Result<Option<Paired>> {
    let shared: Vec<i64> = later
        .keys()
        .filter(|seed| earlier.contains_key(seed))
        .copied()
        .collect();
    if shared.is_empty() {
        return Ok(None);
    }
    let of = |values: &super::input::BySeed| {
        shared.iter().map(|seed| values[seed]).collect::<Vec<f64>>()
    };
    stats::paired(&of(later), &of(earlier), view.level()).map(Some)
}

/// Sentences on methods whose best iteration is not their last and whose loss since then has an
/// interval without 0.
fn past_their_peak(view: &View) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for metric in view.metrics_of(&[TableKind::Policy, TableKind::Reward], true)? {
        let better = |a: f64, b: f64| {
            if metric.better == Better::Lower {
                a < b
            } else {
                a > b
            }
        };
        for size in &view.sizes {
            for method in view.main_methods() {
                let steps = steps(view, metric, &method.id, size);
                let mut peak: Option<(usize, Estimate)> = None;
                for (place, (_, values)) in steps.iter().enumerate() {
                    let Some(mean) = over_seeds(view, metric, values)? else {
                        continue;
                    };
                    if peak
                        .as_ref()
                        .is_none_or(|(_, best)| better(mean.point, best.point))
                    {
                        peak = Some((place, mean));
                    }
                }
                let (Some((place, best)), Some((last, end))) = (peak, steps.last()) else {
                    continue;
                };
                // A fall from the first iteration on is reported by `over_iterations`.
                if place == 0 || place + 1 == steps.len() {
                    continue;
                }
                let Some(lost) = change(view, end, &steps[place].1)? else {
                    continue;
                };
                let clear = lost
                    .difference
                    .interval
                    .is_some_and(|it| it.low > 0.0 || it.high < 0.0);
                if clear {
                    found.push(format!(
                        "**Past its peak**, {}: {} is best at iteration {} ({}) and moves by {} until iteration {last}.",
                        named(view, &method.id, size),
                        metric.label,
                        steps[place].0,
                        level(metric, &best),
                        moved(metric, &lost)
                    ));
                }
            }
        }
    }
    Ok(found)
}

/// Sentences on accuracies, including those of synthetic pairs, that rise or fall from the first
/// iteration to the last.
fn over_iterations(view: &View) -> Result<Vec<String>> {
    let mut metrics = accuracies(view)?;
    let others = view.metrics_of(&[TableKind::Policy, TableKind::Diagnostics], true)?;
    metrics.extend(others.into_iter().filter(|metric| metric.ties.is_some()));
    let mut found = Vec::new();
    for metric in metrics {
        let (mut rises, mut falls, mut stays) = (Vec::new(), Vec::new(), Vec::new());
        for size in &view.sizes {
            for method in view.main_methods() {
                let steps = steps(view, metric, &method.id, size);
                let [(_, first), .., (_, last)] = &steps[..] else {
                    continue;
                };
                let Some(change) = change(view, last, first)? else {
                    continue;
                };
                let Some(interval) = change.difference.interval else {
                    continue;
                };
                let told = format!(
                    "{} {}",
                    named(view, &method.id, size),
                    moved(metric, &change)
                );
                match (interval.low > 0.0, interval.high < 0.0) {
                    (true, _) => rises.push(told),
                    (_, true) => falls.push(told),
                    _ => stays.push(told),
                }
            }
        }
        let told = [
            ("falls", falls),
            ("rises", rises),
            ("does not clearly move", stays),
        ];
        let told = told.into_iter().filter(|(_, who)| !who.is_empty());
        let told: Vec<String> = told
            .map(|(what, who)| format!("{what} with {}", listed(&who)))
            .collect();
        if !told.is_empty() {
            found.push(format!(
                "**Over iterations**, {} {}.",
                metric.label,
                told.join("; it ")
            ));
        }
    }
    Ok(found)
}

/// Sentences on methods that are separated from the baseline under one decoding but not, or in the
/// other direction, under another.
fn by_decoding(view: &View) -> Result<Vec<String>> {
    let metrics = decodings(view)?;
    let baseline = view.layout().baseline.as_str();
    let mut found = Vec::new();
    for size in &view.sizes {
        for method in view
            .main_methods()
            .filter(|row| row.id != baseline && !row.heuristic)
        {
            let mut signs = Vec::new();
            for metric in &metrics {
                let Some(paired) = Contrast::new(view, metric, size, &method.id, baseline)?.paired
                else {
                    continue;
                };
                let Some(interval) = paired.difference.interval else {
                    continue;
                };
                let sign = i8::from(interval.low > 0.0) - i8::from(interval.high < 0.0);
                signs.push((sign, format!("{} {}", metric.label, moved(metric, &paired))));
            }
            if signs.windows(2).any(|pair| pair[0].0 != pair[1].0) {
                let told: Vec<String> = signs.into_iter().map(|(_, told)| told).collect();
                found.push(format!(
                    "**Depends on the decoding**, {} minus {}: {}.",
                    named(view, &method.id, size),
                    view.method_label(baseline),
                    listed(&told)
                ));
            }
        }
    }
    Ok(found)
}

/// Sentences that compare the loss of a learned reward on fresh demonstrations with the deviation
/// of a fixed one, which Lemma 4.1 is about.
fn fixed_reward(view: &View) -> Result<Vec<String>> {
    let (Ok(metric), Some(curve)) = (
        view.metric(GAP),
        view.input
            .curves
            .iter()
            .find(|curve| curve.id == DEVIATION[0]),
    ) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for size in &view.sizes {
        let subject = view.layout().under_study.as_str();
        let Some(gap) = over_seeds(view, metric, &view.metrics().last(subject, size, GAP))? else {
            continue;
        };
        // The values at the largest number of demonstrations that was drawn, over seeds.
        let lines = curve
            .lines
            .iter()
            .filter(|line| line.method == DEVIATION[1] && line.size == *size);
        let ends: Vec<[f64; 2]> = lines
            .filter_map(|line| {
                line.points
                    .iter()
                    .copied()
                    .max_by(|a, b| a[0].total_cmp(&b[0]))
            })
            .collect();
        let Some(n) = ends.iter().map(|end| end[0]).reduce(f64::max) else {
            continue;
        };
        let at: Vec<f64> = ends
            .iter()
            .filter(|end| end[0] == n)
            .map(|end| end[1])
            .collect();
        let fixed = stats::mean(&at, view.level())?;
        let exceeds = match gap.interval {
            Some(interval) if interval.low > fixed.point => "exceeds",
            Some(interval) if interval.high < fixed.point => "stays below",
            _ => "is not clearly different from",
        };
        found.push(format!(
            "**Lemma 4.1**, {}: {} {} {exceeds} {}, the deviation of a fixed reward at {} demonstrations.",
            named(view, subject, size),
            metric.label,
            level(metric, &gap),
            format::fixed(fixed.point, metric.decimals),
            format::compact(n)
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::input::{Metric, Metrics, ReportInput};
    use super::*;

    /// An input of two methods and a point, two iterations and four seeds; `value` takes method,
    /// iteration, metric and seed.
    fn input(value: fn(&str, i64, &str, i64) -> f64) -> ReportInput {
        let text = r#"{
            "header": {"experiment": "e", "title": "t", "question": "q", "profile": "p", "scale": "s", "revision": null,
                "device": "d", "seeds_planned": [1, 2, 3, 4], "cells": [
                {"method": "learned", "size": "s", "seed": 2, "status": {"collapsed": {"why": "it stopped early"}}}]},
            "metrics": [], "design": {"alpha": 0.05, "looks": [4], "spending": "pocock", "comparisons": 1},
            "claims": [{"id": "wins", "text": "Learned wins.", "source": "us", "metrics": ["gold"], "method": "learned",
                "versus": "copied", "size": null, "direction": "greater", "role": "exploratory", "margin": null}],
            "layout": {"baseline": "copied", "under_study": "learned", "primary": "gold",
                "methods": [{"id": "copied", "label": "Copied"}, {"id": "learned", "label": "Learned"},
                    {"id": "odd", "label": "Odd", "point": true}],
                "metrics": [
                    {"id": "gold", "label": "Gold", "better": "higher", "decimals": 2},
                    {"id": "gold_greedy", "label": "Gold, greedy", "better": "higher", "decimals": 2},
                    {"id": "accuracy", "label": "Accuracy", "better": "higher", "decimals": 2, "range": [0.0, 1.0]}],
                "tables": [{"id": "p", "title": "P", "metrics": ["gold", "gold_greedy"], "kind": "policy"},
                    {"id": "r", "title": "R", "metrics": ["accuracy"], "kind": "reward"}]}
        }"#;
        let mut input: ReportInput = serde_json::from_str(text).unwrap();
        let mut rows = Vec::new();
        for method in ["copied", "learned", "odd"] {
            for iteration in 1..=3 {
                for metric in ["gold", "gold_greedy", "accuracy"] {
                    for seed in 1..=4 {
                        rows.push(Metric {
                            method: method.to_owned(),
                            size: "s".to_owned(),
                            seed,
                            iteration,
                            metric: metric.to_owned(),
                            value: Some(value(method, iteration, metric, seed)),
                        });
                    }
                }
            }
        }
        input.metrics = Metrics::from_rows(rows).unwrap();
        input
    }

    fn observed(input: &ReportInput) -> Vec<String> {
        let view = View::new(input).unwrap();
        let claims = super::super::claims::judge(&view).unwrap();
        observations(&view, &claims).unwrap()
    }

    #[test]
    fn what_is_out_of_line_is_said_once_and_nothing_else() {
        let all = observed(&input(|method, iteration, metric, seed| {
            let noise = 0.01 * (seed % 2) as f64;
            match (method, metric) {
                ("odd", "accuracy") => 0.302 + noise,
                (_, "accuracy") => 0.9 - 0.1 * iteration as f64 + noise * iteration as f64,
                ("learned", "gold") => {
                    [0.5, 0.7, 0.4][iteration as usize - 1] + noise * iteration as f64
                }
                ("learned", _) => 0.8 + noise,
                _ => 0.6 + 2.0 * noise,
            }
        }));
        let count = |start: &str| all.iter().filter(|line| line.starts_with(start)).count();
        let has = |text: &str| all.iter().any(|line| line.contains(text));
        assert!(
            has("**Below chance**, Accuracy: Odd 0.31 [0.30, 0.32]."),
            "{all:#?}"
        );
        assert!(
            has("**Against the claim** `wins`, Learned minus Copied: Gold -0.19"),
            "{all:#?}"
        );
        assert!(
            has("**Collapsed**, Learned: seed 2: it stopped early."),
            "{all:#?}"
        );
        assert!(
            has("**Past its peak**, Learned: Gold is best at iteration 2 (0.71"),
            "{all:#?}"
        );
        assert!(
            has("**Over iterations**, Accuracy falls with Copied"),
            "{all:#?}"
        );
        assert!(
            has("**Depends on the decoding**, Learned minus Copied: Gold -0.19"),
            "{all:#?}"
        );
        let counts = [
            "**Below",
            "**Against",
            "**Collapsed",
            "**Past",
            "**Over",
            "**Depends",
            "**Lemma",
        ]
        .map(count);
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 0], "{all:#?}");
    }

    #[test]
    fn nothing_is_said_of_what_stays_in_line() {
        let mut input = input(|method, _, _, seed| {
            0.6 + 0.01 * (seed % 2) as f64
                + if method == "learned" {
                    0.1 * (1.0 + 0.1 * (seed % 3) as f64)
                } else {
                    0.0
                }
        });
        input.header.cells.clear();
        let all = observed(&input);
        assert!(
            all.iter()
                .all(|line| line.contains("does not clearly move") || !line.starts_with("**Over")),
            "{all:#?}"
        );
        assert!(
            !all.iter().any(|line| !line.starts_with("**Over")),
            "{all:#?}"
        );
    }
}
