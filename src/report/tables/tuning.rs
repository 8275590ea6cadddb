//! The settings that searches chose.

use crate::report::input::Tuning;
use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;

/// The tables of searched values, with a row for each method, size and seed; the points of
/// ablations have a table of their own. Empty if nothing was tuned.
pub fn tunings(view: &View) -> Vec<Table> {
    let of = |points: bool| {
        let mut rows: Vec<&Tuning> = view
            .input
            .tunings
            .iter()
            .filter(|it| view.is_point(&it.method) == points)
            .collect();
        rows.sort_by_key(|it| {
            let size = view.sizes.iter().position(|size| *size == it.size);
            let method = view.methods.iter().position(|row| row.id == it.method);
            (
                size.unwrap_or(usize::MAX),
                method.unwrap_or(usize::MAX),
                &it.method,
                it.seed,
            )
        });
        let (id, title) = match points {
            false => ("tuning", "Settings chosen by held-out demonstrations"),
            true => (
                "tuning-points",
                "Settings chosen by held-out demonstrations, points of the questions",
            ),
        };
        let rows: Vec<Vec<Cell>> = rows.into_iter().map(|it| row(view, it)).collect();
        (!rows.is_empty()).then(|| Table {
            id: id.into(),
            title: title.into(),
            note: None,
            columns: columns(),
            rows,
        })
    };
    [false, true].into_iter().filter_map(of).collect()
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("seed", "seed", ColumnKind::Integer),
        Column::text("section", "section"),
        Column::new("epochs", "epochs", ColumnKind::Integer),
        Column::new("learning_rate", "learning rate", ColumnKind::Number),
        Column::new("lambda", "λ", ColumnKind::Number),
        Column::new(
            "held_out_log_likelihood",
            "held-out log-likelihood",
            ColumnKind::Number,
        ),
        Column::text("edges", "at the end of"),
        Column::new("tried", "tried", ColumnKind::Integer),
        Column::new("failed", "failed", ColumnKind::Integer),
    ]
}

fn row(view: &View, tuning: &Tuning) -> Vec<Cell> {
    vec![
        Cell::text(view.size_label(&tuning.size)),
        Cell::text(view.method_label(&tuning.method)),
        Cell::Integer(i64::try_from(tuning.seed).ok()),
        Cell::text(&tuning.section),
        Cell::count(tuning.epochs),
        Cell::Scientific(Some(tuning.learning_rate)),
        Cell::number(tuning.lambda, 3),
        Cell::number(Some(tuning.held_out_log_likelihood), 3),
        Cell::text(if tuning.edges.is_empty() {
            "-".to_owned()
        } else {
            tuning.edges.join(", ")
        }),
        Cell::count(tuning.tried),
        Cell::count(tuning.failed),
    ]
}
