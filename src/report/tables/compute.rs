//! What an iteration costs, and what methods are worth for the same cost.

use super::{for_values, measured};
use crate::error::Result;
use crate::report::compute::{Matched, Resource, Spending, Step, matched};
use crate::report::format;
use crate::report::input::{Better, BySeed};
use crate::report::table::{Cell, Column, Kind, Measured, Table, arrow};
use crate::report::view::View;
use crate::stats::{Paired, adjust_defined, benjamini_hochberg, paired};

/// Making one iteration of each method that iterates, and the subject's cost over it. Ratios are taken within seeds.
pub fn iteration_costs(view: &View, spending: &Spending) -> Result<Table> {
    let subject = view.layout().subject.as_str();
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let seeds = spending.seeds(&method.id, size);
            let iterations = seeds.map(|seed| spending.iterations(&method.id, size, seed).len()).max().unwrap_or(0);
            if iterations == 0 {
                continue;
            }
            let planned = view.planned(&method.id, size);
            let mut row = vec![Cell::text(view.size_label(size)), Cell::text(&method.label), Cell::count(iterations)];
            for resource in Resource::ALL {
                let costs = spending.per_iteration(&method.id, size, resource);
                let cell = for_values(view, &costs, planned, 1)?;
                row.push(Cell::Estimate(Measured { scientific: resource != Resource::Seconds, ..cell }));
            }
            for resource in Resource::ALL {
                let ours = spending.per_iteration(subject, size, resource);
                let theirs = spending.per_iteration(&method.id, size, resource);
                let ratio =
                    |(seed, ours): (&i64, &f64)| Some((*seed, ours / theirs.get(seed).filter(|it| **it > 0.0)?));
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
        Column::new("iterations", "iterations", Kind::Integer),
    ];
    let label = view.method_label(subject);
    columns.extend(Resource::ALL.map(|resource| Column::new(resource.id(), resource.label(), Kind::Estimate)));
    columns.extend(Resource::ALL.map(|resource| {
        Column::new(
            format!("ratio_{}", resource.id()),
            format!("{} of {label} / this", resource.label()),
            Kind::Estimate,
        )
    }));
    let title = "Making one iteration".to_owned();
    Ok(Table { id: "iteration-costs".to_owned(), title, note: None, columns, rows })
}

/// The primary metric beside all that making a method had cost, iteration by iteration.
pub fn spent(view: &View, spending: &Spending) -> Result<Table> {
    let metric = view.metric(&view.layout().primary)?;
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let tracks = Resource::ALL.map(|resource| spending.tracks(view, metric, &method.id, size, resource));
            let planned = view.planned(&method.id, size);
            for iteration in view.metrics().iterations(&method.id, size) {
                let at = |step: &&Step| step.iteration == iteration;
                let spent = tracks.each_ref().map(|tracks| -> BySeed {
                    let of = |(seed, track): (&i64, &Vec<Step>)| Some((*seed, track.iter().find(at)?.spent));
                    tracks.iter().filter_map(of).collect()
                });
                if spent.iter().all(BySeed::is_empty) {
                    continue;
                }
                let mut row =
                    vec![Cell::text(view.size_label(size)), Cell::text(&method.label), Cell::Integer(Some(iteration))];
                for (resource, spent) in Resource::ALL.iter().zip(&spent) {
                    let cell = for_values(view, spent, planned, 1)?;
                    row.push(Cell::Estimate(Measured { scientific: *resource != Resource::Seconds, ..cell }));
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
        Column::new("iteration", "iteration", Kind::Integer),
    ];
    columns.extend(
        Resource::ALL
            .map(|resource| Column::new(resource.id(), format!("{} in all", resource.label()), Kind::Estimate)),
    );
    columns.push(Column::new(&metric.id, format!("{}{}", metric.label, arrow(metric.better)), Kind::Estimate));
    let title = format!("{} beside what had been spent", metric.label);
    Ok(Table { id: "spent".to_owned(), title, note: None, columns, rows })
}

/// The subject minus each other method on the primary metric, the dearer of the two stopped at what the cheaper cost in
/// all. Exploratory: all rows together are under Benjamini and Hochberg's correction.
pub fn matched_compute(view: &View, spending: &Spending) -> Result<Table> {
    let metric = view.metric(&view.layout().primary)?;
    let subject = view.layout().subject.as_str();
    let mut rows = Vec::new();
    let mut raw = Vec::new();
    for resource in Resource::ALL {
        for size in &view.sizes {
            let ours = spending.tracks(view, metric, subject, size, resource);
            for method in view.main_methods().filter(|row| row.id != subject) {
                let theirs = spending.tracks(view, metric, &method.id, size, resource);
                if ours.is_empty() || theirs.is_empty() {
                    continue;
                }
                let found = matched(&ours, &theirs);
                let planned = view.planned(subject, size).min(view.planned(&method.id, size));
                let difference = compare(view, found.as_ref())?;
                let better = difference.map(|paired| match metric.better {
                    Better::Lower => 1.0 - paired.probability_of_improvement,
                    Better::Higher | Better::Neither => paired.probability_of_improvement,
                });
                let cell = |it: Paired| Measured::of(&it.difference, planned, metric.decimals);
                let budget = found.as_ref().map(|found| found.budget);
                raw.push(difference.and_then(|paired| paired.p));
                rows.push(vec![
                    Cell::text(resource.label()),
                    Cell::text(view.size_label(size)),
                    Cell::text(view.method_label(subject)),
                    Cell::text(&method.label),
                    if resource == Resource::Seconds { Cell::number(budget, 1) } else { Cell::Scientific(budget) },
                    Cell::Integer(found.as_ref().map(|found| found.our_iteration)),
                    Cell::Integer(found.as_ref().map(|found| found.their_iteration)),
                    Cell::Estimate(difference.map_or(Measured::nothing(planned), cell)),
                    Cell::Probability(difference.and_then(|paired| paired.p)),
                    Cell::number(better, 2),
                ]);
            }
        }
    }
    for (row, adjusted) in rows.iter_mut().zip(adjust_defined(&raw, benjamini_hochberg)) {
        row.insert(9, Cell::Probability(adjusted));
    }
    let interval = format!("{}: difference ({} % interval)", metric.label, format::percent(view.level()));
    let columns = vec![
        Column::text("resource", "same"),
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::text("versus", "versus"),
        Column::new("budget", "budget", Kind::Number),
        Column::new("method_iteration", "its iteration", Kind::Integer),
        Column::new("versus_iteration", "versus' iteration", Kind::Integer),
        Column::new("difference", interval, Kind::Estimate),
        Column::new("p", "p", Kind::Number),
        Column::new("p_adjusted", "BH p", Kind::Number),
        Column::new("improvement", "P(better)", Kind::Number),
    ];
    let title = format!("{} minus each other method for the same cost", view.method_label(subject));
    Ok(Table { id: "matched-compute".to_owned(), title, note: None, columns, rows })
}

fn compare(view: &View, found: Option<&Matched>) -> Result<Option<Paired>> {
    match found {
        Some(found) if !found.ours.is_empty() => paired(&found.ours, &found.theirs, view.level()).map(Some),
        _ => Ok(None),
    }
}
