//! Main, reward and diagnostics tables: one row per size and method, one estimate per metric.

use super::over_seeds;
use crate::error::Result;
use crate::report::contrast::marks;
use crate::report::input::TableSpec;
use crate::report::table::{Cell, Column, Kind, Table, arrow};
use crate::report::view::View;

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
    let mut rows = Vec::new();
    for size in &view.sizes {
        let methods = view.rows_of(spec, size);
        let first_row = rows.len();
        for method in &methods {
            rows.push(vec![
                Cell::text(view.size_label(size)),
                Cell::text(&method.label),
                Cell::Integer(view.metrics().last_iteration(&method.id, size)),
            ]);
        }
        let ids: Vec<&str> = methods.iter().map(|method| method.id.as_str()).collect();
        for metric in &metrics {
            let marks = marks(view, metric, size, &ids)?;
            for (place, id) in ids.iter().enumerate() {
                let values = view.metrics().last(id, size, &metric.id);
                let mut cell = over_seeds(&values, view.planned(id, size), metric.decimals, view.level())?;
                cell.mark = marks[place];
                rows[first_row + place].push(Cell::Estimate(cell));
            }
        }
    }
    let title = spec.title.clone();
    Ok(Table { id: crate::report::view::file_stem(&spec.id), title, note: spec.note.clone(), columns, rows })
}
