//! Main, reward and diagnostics tables: one row per size and method, one estimate per metric.

use super::measured;
use crate::error::Result;
use crate::report::contrast::marks;
use crate::report::input::TableSpec;
use crate::report::table::{Cell, Column, Kind, Measured, Table, arrow};
use crate::report::view::{View, file_stem};

/// The table that `spec` describes, at every method's last iteration.
pub fn results(view: &View, spec: &TableSpec) -> Result<Table> {
    let metrics = spec.metrics.iter().map(|id| view.metric(id)).collect::<Result<Vec<_>>>()?;
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iteration", "iteration", Kind::Integer),
    ];
    for metric in &metrics {
        columns.push(Column::new(&metric.id, format!("{}{}", metric.label, arrow(metric.better)), Kind::Estimate));
    }
    let groups: Vec<(&str, Vec<&str>)> = view
        .sizes
        .iter()
        .map(|size| (size.as_str(), view.rows_of(spec, size).into_iter().map(|row| row.id.as_str()).collect()))
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
    for metric in &metrics {
        let marks = marks(view, metric, &groups)?;
        let cells = groups.iter().zip(&marks).flat_map(|((size, methods), marks)| {
            methods.iter().zip(marks).map(move |(method, mark)| (*size, *method, *mark))
        });
        for (row, (size, method, mark)) in rows.iter_mut().zip(cells) {
            let values = view.metrics().last(method, size, &metric.id);
            let cell = measured(view, metric, &values, view.planned(method, size))?;
            row.push(Cell::Estimate(Measured { mark, ..cell }));
        }
    }
    let title = spec.title.clone();
    Ok(Table { id: file_stem(&spec.id), title, note: spec.note.clone(), columns, rows })
}
