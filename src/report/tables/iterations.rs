//! The course of iterative methods: every iteration of each method that has more than one.

use super::MetricColumns;
use crate::error::Result;
use crate::report::input::TableKind;
use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;

/// Policy and reward metrics by size, method and iteration; without rows if no method iterates.
pub fn iterations(view: &View) -> Result<Table> {
    let metrics =
        MetricColumns::new(view.metrics_of(&[TableKind::Policy, TableKind::Reward], false)?);
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iteration", "iteration", ColumnKind::Integer),
    ];
    columns.extend(metrics.headings());
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let iterations = view.metrics().iterations(&method.id, size);
            if iterations.len() < 2 {
                continue;
            }
            for iteration in iterations {
                let mut row = vec![
                    Cell::text(view.size_label(size)),
                    Cell::text(&method.label),
                    Cell::Integer(Some(iteration)),
                ];
                let values = |metric: &str| view.metrics().at(&method.id, size, metric, iteration);
                row.extend(metrics.cells(view, view.planned(&method.id, size), values)?);
                rows.push(row);
            }
        }
    }
    Ok(Table {
        id: "iterations".to_owned(),
        title: "Iterations".to_owned(),
        note: None,
        columns,
        rows,
    })
}
