//! The outcome of every planned cell.

use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;

/// Counts per method and size, with the reason of each cell that did not simply finish.
pub fn cells(view: &View) -> Table {
    let count = |id: &str| Column::new(id, id, ColumnKind::Integer);
    let mut rows = Vec::new();
    for size in &view.sizes {
        for method in &view.methods {
            let counts = view.counts(&method.id, size);
            if counts.planned == 0 {
                continue;
            }
            rows.push(vec![
                Cell::text(view.size_label(size)),
                Cell::text(&method.label),
                Cell::count(counts.planned),
                Cell::count(counts.finished),
                Cell::count(counts.failed),
                Cell::count(counts.collapsed),
                Cell::count(counts.missing),
                Cell::text(view.mishaps(&method.id, size).join("; ")),
            ]);
        }
    }
    Table {
        id: "cells".to_owned(),
        title: "Cells".to_owned(),
        note: None,
        columns: vec![
            Column::text("size", "size"),
            Column::text("method", "method"),
            count("planned"),
            count("finished"),
            count("failed"),
            count("collapsed"),
            count("missing"),
            Column::text("why", "why"),
        ],
        rows,
    }
}
