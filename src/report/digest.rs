//! The abstract of a page: a few sentences on the findings, their certainty, and missing runs.

use super::Content;
use super::claims::{Judged, JudgedComparison, Standing};
use super::compute::Spending;
use super::contrast::{marks, over_seeds};
use super::format;
use super::input::{Better, MetricColumn, Role};
use super::sentence::{answer, capitalised, effect, later_effect, listed, part_label, sides};
use super::table::Mark;
use super::view::View;
use crate::error::Result;

/// The most claims that the abstract describes: the first `FIRST` whatever their outcome, and those
/// that have an answer. The others are in the table below it.
const CLAIMS: usize = 6;
const FIRST: usize = 2;
/// The most answers not upheld by later seeds that the abstract describes.
const TOLD: usize = 1;

/// The sentences of the abstract, in order.
pub fn digest(view: &View, content: &Content) -> Result<Vec<String>> {
    let mut lines = vec![counts(view, content)];
    let claims = &content.comparisons.claims;
    let primary: Vec<_> = claims
        .iter()
        .filter(|it| it.claim.role == Role::Primary)
        .collect();
    let answered =
        |(place, judged): &(usize, &&Judged)| *place < FIRST || judged.standing() != Standing::Open;
    let told: Vec<_> = primary
        .iter()
        .enumerate()
        .filter(answered)
        .map(|(_, judged)| judged)
        .take(CLAIMS)
        .collect();
    for judged in &told {
        let n = judged
            .parts
            .iter()
            .filter_map(|part| Some(effect(part)?.1))
            .max();
        let n = n.map_or_else(String::new, |n| format!(", {}", format::count(n, "seed")));
        lines.push(format!(
            "**{}**{n}: {}.",
            capitalised(&judged.overall(view)),
            answer(view, judged, true)
        ));
    }
    if primary.len() > told.len() {
        lines.push(format!(
            "Not told here, but in the table below: {} more.",
            format::count(primary.len() - told.len(), "claim")
        ));
    }
    lines.extend(not_upheld(view, &primary));
    lines.extend(best(view)?);
    lines.extend(collapses(view, content));
    lines.push(not_run(view, content));
    Ok(lines)
}

/// A sentence on the answers that later seeds did not uphold.
fn not_upheld(view: &View, primary: &[&Judged]) -> Option<String> {
    let parts = || {
        primary
            .iter()
            .flat_map(|it| it.parts.iter().map(move |part| (it, part)))
    };
    let tell = |(judged, part): (&&Judged, &JudgedComparison)| {
        let [ours, theirs] = sides(view, judged.claim);
        Some(format!(
            "{ours} − {theirs} by {} {}",
            part_label(view, judged, part),
            later_effect(part)?
        ))
    };
    let mut told: Vec<String> = parts().filter_map(tell).collect();
    let all = told.len();
    if all > TOLD {
        told.truncate(TOLD);
        told.push(format!("{} more in the table", all - TOLD));
    }
    (all > 0).then(|| {
        format!(
            "**Not upheld by later seeds**: {}. The first look that decides gives the answer, as was registered; these intervals of the \
             last one rest on more runs and leave it open or turn it round.",
            listed(&told)
        )
    })
}

fn counts(view: &View, content: &Content) -> String {
    let primary: Vec<_> = content
        .comparisons
        .claims
        .iter()
        .filter(|it| it.claim.role == Role::Primary)
        .collect();
    if primary.is_empty() {
        return "No claim was declared as primary, so nothing on this page is confirmatory."
            .to_owned();
    }
    let claims = |standing| {
        primary
            .iter()
            .filter(|it| it.standing() == standing)
            .count()
    };
    let parts = || primary.iter().flat_map(|it| &it.parts);
    let comparisons = |standing| parts().filter(|part| part.standing() == standing).count();
    let tell = |count: &dyn Fn(Standing) -> usize| {
        let each = Standing::ALL.into_iter().map(|it| (count(it), it.words()));
        let each: Vec<String> = each
            .filter(|(n, words)| *n > 0 || *words != Standing::Mixed.words())
            .map(|(n, it)| format!("{n} {it}"))
            .collect();
        listed(&each)
    };
    let seeds: Vec<usize> = parts().filter_map(|part| Some(part.finding()?.n)).collect();
    let seeds = match (seeds.iter().min(), seeds.iter().max()) {
        (Some(least), Some(most)) if least == most => {
            format!("at {}", format::count(*most, "seed"))
        }
        (Some(least), Some(most)) => format!("at {least} to {most} seeds"),
        _ => "without a look so far".to_owned(),
    };
    format!(
        "Of {}: {}; of {}: {}; {seeds}, of up to {} that are planned.",
        format::count(primary.len(), "primary claim"),
        tell(&claims),
        match parts().count() {
            1 => "the 1 comparison behind them".to_owned(),
            n => format!("the {n} comparisons behind them"),
        },
        tell(&comparisons),
        view.design().most()
    )
}

/// Sentences on the best policy by the primary metric and by each other decoding of it.
fn best(view: &View) -> Result<Vec<String>> {
    let spending = Spending::new(view);
    let mut lines = Vec::new();
    for size in &view.sizes {
        // If costs are known, methods that were not made here (a demonstrator, a base model) don't
        // compete.
        let made = |id: &str| spending.seeds(id, size).next().is_some();
        let any = view.main_methods().any(|row| made(&row.id));
        let mut said = Vec::new();
        for metric in decodings(view)? {
            let rows = view
                .main_methods()
                .filter(|row| !row.heuristic && (!any || made(&row.id)));
            let has = |id: &str| !view.metrics().last(id, size, &metric.id).is_empty();
            let methods: Vec<&str> = rows
                .map(|row| row.id.as_str())
                .filter(|id| has(id))
                .collect();
            said.extend(best_by(view, metric, size, methods)?);
        }
        if !said.is_empty() {
            let size = if view.sizes.len() > 1 {
                format!(" ({})", view.size_label(size))
            } else {
                String::new()
            };
            lines.push(format!("Best policy{size}: {}.", said.join("; ")));
        }
    }
    Ok(lines)
}

fn best_by(
    view: &View,
    metric: &MetricColumn,
    size: &str,
    methods: Vec<&str>,
) -> Result<Option<String>> {
    let mut best: Option<(f64, &str, crate::stats::Estimate)> = None;
    for method in &methods {
        let Some(mean) = over_seeds(view, metric, &view.metrics().last(method, size, &metric.id))?
        else {
            continue;
        };
        let merit = if metric.better == Better::Lower {
            -mean.point
        } else {
            mean.point
        };
        if best.as_ref().is_none_or(|(most, ..)| merit > *most) {
            best = Some((merit, *method, mean));
        }
    }
    let Some((_, method, mean)) = best else {
        return Ok(None);
    };
    let groups = [(size, methods)];
    let marks = marks(view, metric, &groups)?;
    let tied = marks
        .iter()
        .flatten()
        .filter(|mark| **mark == Mark::Tied)
        .count();
    let surely = match marks.iter().flatten().any(|mark| *mark == Mark::Separated) {
        true => ", separated from all others".to_owned(),
        false if tied > 1 => format!(", not separated from {}", format::count(tied - 1, "other")),
        false => String::new(),
    };
    let interval = mean.interval.map(|interval| (interval.low, interval.high));
    let number = format::estimate(Some(mean.point), interval, |value| {
        format::fixed(value, metric.decimals)
    });
    Ok(Some(format!(
        "{} by {} ({number}{surely})",
        view.method_label(method),
        metric.label
    )))
}

/// The primary metric and the metrics that measure the same after another decoding.
pub fn decodings<'a>(view: &View<'a>) -> Result<Vec<&'a MetricColumn>> {
    let primary = view.layout().primary.as_str();
    let same = |id: &str| {
        id == primary
            || id
                .strip_prefix(primary)
                .is_some_and(|rest| rest.starts_with('_'))
    };
    let shown = view.layout().tables.iter().flat_map(|table| &table.metrics);
    let mut ids: Vec<&str> = shown.map(String::as_str).filter(|id| same(id)).collect();
    ids.sort_by_key(|id| *id != primary);
    ids.dedup();
    ids.into_iter().map(|id| view.metric(id)).collect()
}

fn collapses(view: &View, content: &Content) -> Option<String> {
    let cells = &content.comparisons.collapses;
    let rule = view.layout().collapses.as_ref()?;
    let runs: usize = cells.iter().map(|cell| cell.values.len()).sum();
    let fallen: Vec<String> = cells
        .iter()
        .filter(|cell| cell.collapsed() > 0)
        .map(|cell| {
            format!(
                "{} {} of {}",
                view.method_label(&cell.method),
                cell.collapsed(),
                cell.values.len()
            )
        })
        .collect();
    let drop = format::compact(rule.drop);
    let total: usize = cells.iter().map(|cell| cell.collapsed()).sum();
    Some(match fallen.is_empty() {
        true => format!("No run of {runs} collapsed (by more than {drop})."),
        false => format!(
            "{total} of {runs} runs collapsed (by more than {drop}): {}.",
            listed(&fallen)
        ),
    })
}

fn not_run(view: &View, content: &Content) -> String {
    let counts = view.total();
    let mut missing = Vec::new();
    if counts.missing > 0 {
        missing.push(format!(
            "{} of {} planned runs",
            counts.missing, counts.planned
        ));
    }
    if counts.failed > 0 {
        missing.push(format!(
            "{} that failed",
            format::count(counts.failed, "run")
        ));
    }
    let primary = content
        .comparisons
        .claims
        .iter()
        .filter(|it| it.claim.role == Role::Primary);
    let reached = primary
        .flat_map(|it| &it.parts)
        .filter_map(|part| Some(part.finding()?.n))
        .max()
        .unwrap_or(0);
    let looks: Vec<String> = view
        .design()
        .looks
        .iter()
        .filter(|look| **look > reached)
        .map(usize::to_string)
        .collect();
    let any = content
        .comparisons
        .claims
        .iter()
        .any(|it| it.claim.role == Role::Primary);
    if any && !looks.is_empty() {
        let noun = if looks.len() == 1 {
            "the look"
        } else {
            "the looks"
        };
        missing.push(format!("{noun} at {} seeds", listed(&looks)));
    }
    match missing.is_empty() {
        true => "Everything that was planned has been run.".to_owned(),
        false => format!("Not there: {}.", listed(&missing)),
    }
}
