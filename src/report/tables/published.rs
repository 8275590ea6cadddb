//! Published numbers beside those measured here.

use super::measured;
use crate::error::Result;
use crate::report::input::Published;
use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;

/// One row per published number of a method and a metric that the study has, with the estimate at
/// each size.
pub fn published(view: &View) -> Result<Table> {
    let mut columns = vec![
        Column::text("method", "method"),
        Column::text("metric", "metric"),
        Column::new("published", "published", ColumnKind::Number),
        Column::text("of", "of"),
    ];
    for size in &view.sizes {
        columns.push(Column::new(
            size.as_str(),
            view.size_label(size),
            ColumnKind::Estimate,
        ));
    }
    columns.push(Column::text("source", "source"));
    let mut rows = Vec::new();
    let layout = view.layout();
    let known = |number: &&Published| {
        layout.methods.iter().any(|it| it.id == number.method)
            && layout.metrics.iter().any(|it| it.id == number.metric)
    };
    for number in layout.published.iter().filter(known) {
        let metric = view.metric(&number.metric)?;
        let mut row = vec![
            Cell::text(view.method_label(&number.method)),
            Cell::text(&metric.label),
            Cell::number(Some(number.value), number.decimals),
            Cell::text(&number.of),
        ];
        for size in &view.sizes {
            let values = view.metrics().last(&number.method, size, &number.metric);
            let planned = view.planned(&number.method, size);
            row.push(Cell::Estimate(measured(view, metric, &values, planned)?));
        }
        row.push(Cell::text(&number.source));
        rows.push(row);
    }
    Ok(Table {
        id: "published".into(),
        title: "Published numbers".into(),
        note: Some(
            "Of other models, data and judges: they say what was reported, and no number here can be held against them."
                .into(),
        ),
        columns,
        rows,
    })
}
