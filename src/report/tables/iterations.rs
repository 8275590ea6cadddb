//! How iterative methods move: every iteration of each method that has more than one.

use super::measured;
use crate::error::Result;
use crate::report::input::TableKind;
use crate::report::table::{Cell, Column, Kind, Table, arrow};
use crate::report::view::View;

/// Policy and reward metrics by size, method and iteration; without rows where no method iterates.
pub fn iterations(view: &View) -> Result<Table> {
    let metrics = view.metrics_of(&[TableKind::Policy, TableKind::Reward], false)?;
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("iteration", "iteration", Kind::Integer),
    ];
    columns.extend(
        metrics
            .iter()
            .map(|metric| Column::new(&metric.id, format!("{}{}", metric.label, arrow(metric.better)), Kind::Estimate)),
    );
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods() {
            let iterations = view.metrics().iterations(&method.id, size);
            if iterations.len() < 2 {
                continue;
            }
            for iteration in iterations {
                let mut row =
                    vec![Cell::text(view.size_label(size)), Cell::text(&method.label), Cell::Integer(Some(iteration))];
                for metric in &metrics {
                    let values = view.metrics().at(&method.id, size, &metric.id, iteration);
                    let planned = view.planned(&method.id, size);
                    row.push(Cell::Estimate(measured(view, metric, &values, planned)?));
                }
                rows.push(row);
            }
        }
    }
    Ok(Table { id: "iterations".to_owned(), title: "Iterations".to_owned(), note: None, columns, rows })
}
