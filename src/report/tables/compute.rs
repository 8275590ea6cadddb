//! Costs of an iteration, and comparisons of methods at the same cost.

use super::differences::difference;
use super::{for_values, measured};
use crate::error::Result;
use crate::report::compute::{MatchedPair, Resource, Spending, Step};
use crate::report::contrast::Contrast;
use crate::report::dominance::Dominance;
use crate::report::exploratory::Exploratory;
use crate::report::format;
use crate::report::input::{Better, BySeed};
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table, arrow};
use crate::report::view::View;
use crate::stats::Paired;

/// The cost of one iteration of each method that iterates, and the ratio of the subject's cost to
/// it. Ratios are computed within seeds.
pub fn iteration_costs(view: &View, spending: &Spending) -> Result<Table> {
    let subject = view.layout().under_study.as_str();
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let seeds = spending.seeds(&method.id, size);
            let iterations = seeds
                .map(|seed| spending.iterations(&method.id, size, seed).len())
                .max()
                .unwrap_or(0);
            if iterations == 0 {
                continue;
            }
            let planned = view.planned(&method.id, size);
            let mut row = vec![
                Cell::text(view.size_label(size)),
                Cell::text(&method.label),
                Cell::count(iterations),
            ];
            for resource in Resource::ALL {
                let costs = spending.per_iteration(&method.id, size, resource);
                let cell = for_values(view, &costs, planned, 1)?;
                row.push(Cell::Estimate(Measured {
                    scientific: resource != Resource::Seconds,
                    ..cell
                }));
            }
            for resource in Resource::ALL {
                let ours = spending.per_iteration(subject, size, resource);
                let theirs = spending.per_iteration(&method.id, size, resource);
                let ratio = |(seed, ours): (&i64, &f64)| {
                    Some((*seed, ours / theirs.get(seed).filter(|it| **it > 0.0)?))
                };
                let ratios: BySeed = match method.id == subject {
                    true => BySeed::new(),
                    false => ours.iter().filter_map(ratio).collect(),
                };
                row.push(Cell::Estimate(for_values(view, &ratios, planned, 2)?));
            }
            rows.push(row);
        }
    }
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iterations", "iterations", ColumnKind::Integer),
    ];
    let label = view.method_label(subject);
    columns.extend(
        Resource::ALL
            .map(|resource| Column::new(resource.id(), resource.label(), ColumnKind::Estimate)),
    );
    columns.extend(Resource::ALL.map(|resource| {
        Column::new(
            format!("ratio_{}", resource.id()),
            format!("{} of {label} / this", resource.label()),
            ColumnKind::Estimate,
        )
    }));
    let title = "Making one iteration".to_owned();
    Ok(Table {
        id: "iteration-costs".to_owned(),
        title,
        note: view.layout().published_cost.clone(),
        columns,
        rows,
    })
}

/// The primary metric beside the whole cost of making a method so far, iteration by iteration.
pub fn spent(view: &View, spending: &Spending) -> Result<Table> {
    let metric = view.metric(&view.layout().primary)?;
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let tracks = Resource::ALL
                .map(|resource| spending.tracks(view, metric, &method.id, size, resource));
            let planned = view.planned(&method.id, size);
            for iteration in view.metrics().iterations(&method.id, size) {
                let at = |step: &&Step| step.iteration == iteration;
                let spent = tracks.each_ref().map(|tracks| -> BySeed {
                    let of = |(seed, track): (&i64, &Vec<Step>)| {
                        Some((*seed, track.iter().find(at)?.spent))
                    };
                    tracks.iter().filter_map(of).collect()
                });
                if spent.iter().all(BySeed::is_empty) {
                    continue;
                }
                let mut row = vec![
                    Cell::text(view.size_label(size)),
                    Cell::text(&method.label),
                    Cell::Integer(Some(iteration)),
                ];
                for (resource, spent) in Resource::ALL.iter().zip(&spent) {
                    let cell = for_values(view, spent, planned, 1)?;
                    row.push(Cell::Estimate(Measured {
                        scientific: *resource != Resource::Seconds,
                        ..cell
                    }));
                }
                let values = view.metrics().at(&method.id, size, &metric.id, iteration);
                row.push(Cell::Estimate(measured(view, metric, &values, planned)?));
                rows.push(row);
            }
        }
    }
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iteration", "iteration", ColumnKind::Integer),
    ];
    columns.extend(Resource::ALL.map(|resource| {
        Column::new(
            resource.id(),
            format!("{} in all", resource.label()),
            ColumnKind::Estimate,
        )
    }));
    columns.push(Column::new(
        &metric.id,
        format!("{}{}", metric.label, arrow(metric.better)),
        ColumnKind::Estimate,
    ));
    let title = format!("{} beside what had been spent", metric.label);
    Ok(Table {
        id: "spent".to_owned(),
        title,
        note: None,
        columns,
        rows,
    })
}

/// The subject minus each other method on the primary metric, with the dearer of the two stopped at
/// the total cost of the cheaper. All rows are exploratory.
pub fn matched_compute(
    view: &View,
    pairs: &[MatchedPair],
    exploratory: &Exploratory,
) -> Result<Table> {
    let metric = view.metric(&view.layout().primary)?;
    let row = |pair: &MatchedPair| -> Result<Vec<Cell>> {
        let dominance = Dominance::of(view, pair)?.map_or_else(String::new, |it| it.words(view));
        let difference = pair.difference;
        let cell = |it: Paired| Measured::of(&it.difference, pair.planned, metric.decimals);
        let better = difference.map(|paired| match metric.better {
            Better::Lower => 1.0 - paired.probability_of_improvement,
            Better::Higher | Better::Neither => paired.probability_of_improvement,
        });
        let found = pair.found.as_ref();
        let budget = found.map(|found| found.budget);
        Ok(vec![
            Cell::text(pair.resource.label()),
            Cell::text(view.size_label(&pair.size)),
            Cell::text(view.method_label(&pair.method)),
            Cell::text(view.method_label(&pair.versus)),
            if pair.resource == Resource::Seconds {
                Cell::number(budget, 1)
            } else {
                Cell::Scientific(budget)
            },
            Cell::Integer(found.map(|found| found.our_iteration)),
            Cell::Integer(found.map(|found| found.their_iteration)),
            Cell::Estimate(difference.map_or(Measured::nothing(pair.planned), cell)),
            Cell::Probability(difference.and_then(|paired| paired.p)),
            Cell::Probability(pair.test().and_then(|test| exploratory.q(&test))),
            Cell::number(better, 2),
            Cell::text(dominance),
        ])
    };
    let rows = pairs.iter().map(row).collect::<Result<_>>()?;
    let interval = format!(
        "{}: difference ({} % interval)",
        metric.label,
        format::percent(view.level())
    );
    let columns = vec![
        Column::text("resource", "same"),
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::text("versus", "versus"),
        Column::new("budget", "budget", ColumnKind::Number),
        Column::new("method_iteration", "its iteration", ColumnKind::Integer),
        Column::new("versus_iteration", "versus' iteration", ColumnKind::Integer),
        Column::new("difference", interval, ColumnKind::Estimate),
        Column::new("p", "p", ColumnKind::Number),
        Column::new("q", "q", ColumnKind::Number),
        Column::new("improvement", "P(better)", ColumnKind::Number),
        Column::text("dominance", "whole runs"),
    ];
    let title = format!(
        "{} minus each other method for the same cost",
        view.method_label(&view.layout().under_study)
    );
    Ok(Table {
        id: "matched-compute".to_owned(),
        title,
        note: None,
        columns,
        rows,
    })
}

/// The cheaper of the subject and each other method: how much cheaper its whole runs are, and
/// whether it is worse.
pub fn dominances(view: &View, pairs: &[MatchedPair]) -> Result<Table> {
    let metric = view.metric(&view.layout().primary)?;
    let mut rows = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.resource == Resource::Flops) {
        let Some(found) = Dominance::of(view, pair)? else {
            continue;
        };
        let dearer = if found.cheaper == pair.method {
            &pair.versus
        } else {
            &pair.method
        };
        let whole = Contrast::new(view, metric, &pair.size, &found.cheaper, dearer)?;
        rows.push(vec![
            Cell::text(view.size_label(&pair.size)),
            Cell::text(view.method_label(&found.cheaper)),
            Cell::text(view.method_label(dearer)),
            Cell::number(Some(found.ratio), 1),
            Cell::Estimate(difference(&whole)),
            Cell::text(found.found()),
        ]);
    }
    let columns = vec![
        Column::text("size", "size"),
        Column::text("cheaper", "cheaper"),
        Column::text("dearer", "dearer"),
        Column::new("ratio", "times cheaper (FLOPs)", ColumnKind::Number),
        Column::new(
            "difference",
            format!("{}: cheaper minus dearer", metric.label),
            ColumnKind::Estimate,
        ),
        Column::text("verdict", "is the cheaper one worse?"),
    ];
    let title = "Is the cheaper one worse?".to_owned();
    Ok(Table {
        id: "dominance".to_owned(),
        title,
        note: None,
        columns,
        rows,
    })
}
