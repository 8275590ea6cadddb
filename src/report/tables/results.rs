//! Main, reward and diagnostics tables: one row per size and method, one estimate per metric.

use super::{MetricColumns, heading, measured, ties_cell, ties_heading};
use crate::error::Result;
use crate::report::contrast::{marks, over_seeds_and_items, within_range};
use crate::report::input::{BySeed, MetricColumn, TableKind, TableSpec};
use crate::report::prose;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::report::view::{View, file_stem};

/// The table that `spec` describes, at every method's last iteration.
pub fn results(view: &View, spec: &TableSpec) -> Result<Table> {
    let metrics = MetricColumns::new(
        spec.metrics
            .iter()
            .map(|id| view.metric(id))
            .collect::<Result<Vec<_>>>()?,
    )
    .0;
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iteration", "iteration", ColumnKind::Integer),
    ];
    for (metric, ties) in &metrics {
        columns.push(heading(metric));
        if has_new_prompts(view, spec, &metric.id) {
            columns.push(Column::new(
                format!("{}_new_prompts", metric.id),
                "new prompts too",
                ColumnKind::Estimate,
            ));
        }
        columns.extend(ties.map(ties_heading));
    }
    let groups: Vec<(&str, Vec<&str>)> = view
        .sizes
        .iter()
        .map(|size| {
            (
                size.as_str(),
                view.rows_of(spec, size)
                    .into_iter()
                    .map(|row| row.id.as_str())
                    .collect(),
            )
        })
        .collect();
    let mut rows = Vec::new();
    for (size, methods) in &groups {
        for method in methods {
            rows.push(vec![
                Cell::text(view.size_label(size)),
                Cell::text(view.method_label(method)),
                Cell::Integer(view.metrics().last_iteration(method, size)),
            ]);
        }
    }
    for (metric, ties) in &metrics {
        let marks = marks(view, metric, &groups)?;
        let cells = groups
            .iter()
            .zip(&marks)
            .flat_map(|((size, methods), marks)| {
                methods
                    .iter()
                    .zip(marks)
                    .map(move |(method, mark)| (*size, *method, *mark))
            });
        for (row, (size, method, mark)) in rows.iter_mut().zip(cells) {
            let values = view.metrics().last(method, size, &metric.id);
            let cell = measured(view, metric, &values, view.planned(method, size))?;
            row.push(Cell::Estimate(Measured { mark, ..cell }));
            if has_new_prompts(view, spec, &metric.id) {
                row.push(Cell::Estimate(for_new_prompts(
                    view, metric, method, size, &values,
                )?));
            }
            row.extend(
                ties.map(|ties| ties_cell(metric, &view.metrics().last(method, size, ties))),
            );
        }
    }
    let title = spec.title.clone();
    let on_ties = metrics
        .iter()
        .any(|(metric, _)| metric.ties.is_some())
        .then(|| prose::TIES.to_owned());
    let note: Vec<String> = spec.note.clone().into_iter().chain(on_ties).collect();
    let note = (!note.is_empty()).then(|| note.join(" "));
    Ok(Table {
        id: file_stem(&spec.id),
        title,
        note,
        columns,
        rows,
    })
}

/// Whether a table shows the metric for new prompts too: the primary metric in tables of policies,
/// if its items are known.
fn has_new_prompts(view: &View, spec: &TableSpec, metric: &str) -> bool {
    let known = || view.input.items.iter().any(|items| items.metric == metric);
    spec.kind == TableKind::Policy && metric == view.layout().primary && known()
}

fn for_new_prompts(
    view: &View,
    metric: &MetricColumn,
    method: &str,
    size: &str,
    values: &BySeed,
) -> Result<Measured> {
    let seeds: Vec<i64> = values.keys().copied().collect();
    let planned = view.planned(method, size);
    let estimate = over_seeds_and_items(view, metric, size, &[(method, 1.0)], &seeds)?;
    let estimate = estimate.map(|estimate| within_range(metric, estimate));
    Ok(estimate.map_or(Measured::nothing(planned), |estimate| {
        Measured::of(&estimate, planned, metric.decimals)
    }))
}
