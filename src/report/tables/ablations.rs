//! Tables of an ablation: its points, and the crossings of its lines with the level they are
//! compared with.

use super::MetricColumns;
use crate::error::Result;
use crate::report::crossing::{Way, crossing, level};
use crate::report::format;
use crate::report::input::{Ablation, Better};
use crate::report::metrics::BySeed;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::report::view::{View, file_stem};

/// Every point of every line at every size: its seeds, each metric over them, and the spread of the
/// first metric. The level that the lines are compared with comes last.
pub fn points(view: &View, ablation: &Ablation) -> Result<Table> {
    let metrics = MetricColumns::new(
        ablation
            .metrics
            .iter()
            .map(|id| view.metric(id))
            .collect::<Result<Vec<_>>>()?,
    );
    let count = |id: &str| Column::new(id, id, ColumnKind::Integer);
    let mut columns = vec![
        Column::text("size", "size"),
        Column::text("line", "line"),
        Column::text("point", &ablation.axis),
        Column::new("x", "x", ColumnKind::Number),
    ];
    columns.extend(metrics.headings());
    let first = ablation
        .metrics
        .first()
        .map(|id| view.metric(id))
        .transpose()?;
    columns.extend(first.map(|metric| {
        Column::new(
            format!("{}_sd", metric.id),
            "SD over seeds",
            ColumnKind::Number,
        )
    }));
    columns.extend([count("planned"), count("ended"), count("collapsed")]);
    let mut rows = Vec::new();
    for size in &view.sizes {
        let lines = view.lines_of(ablation, size);
        let points = lines.iter().flat_map(|(_, line)| {
            line.points.iter().map(move |point| {
                (
                    line.label.as_str(),
                    point.label.as_str(),
                    point.x,
                    point.method.as_str(),
                )
            })
        });
        let level = ablation.against.iter().filter(|_| !lines.is_empty());
        let level = level.map(|id| (view.method_label(id), "", None, id.as_str()));
        for (line, label, x, method) in points.chain(level) {
            let counts = view.counts(method, size);
            let mut row = vec![
                Cell::text(view.size_label(size)),
                Cell::text(line),
                Cell::text(label),
                Cell::number(x, x.map_or(0, format::decimals_of)),
            ];
            let values = |metric: &str| view.metrics().last(method, size, metric);
            row.extend(metrics.cells(view, view.planned(method, size), values)?);
            row.extend(
                first.map(|metric| Cell::number(deviation(&values(&metric.id)), metric.decimals)),
            );
            row.extend([counts.planned, counts.ended(), counts.collapsed].map(Cell::count));
            rows.push(row);
        }
    }
    let id = format!("ablation-{}", file_stem(&ablation.id));
    Ok(Table {
        id,
        title: ablation.title.clone(),
        note: None,
        columns,
        rows,
    })
}

/// The standard deviation over seeds, with divisor n − 1; `None` for fewer than two values.
fn deviation(values: &BySeed) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.values().sum::<f64>() / n;
    let squares: f64 = values.values().map(|value| (value - mean).powi(2)).sum();
    (values.len() >= 2).then(|| (squares / (n - 1.0)).sqrt())
}

/// The x at which each line meets the level, per size and metric, or the reason why it doesn't.
/// `None` if the ablation has no level or no line can meet it.
pub fn crossings(view: &View, ablation: &Ablation) -> Result<Option<Table>> {
    let Some(against) = &ablation.against else {
        return Ok(None);
    };
    let mut rows = Vec::new();
    for size in &view.sizes {
        for id in &ablation.metrics {
            let metric = view.metric(id)?;
            let Some(height) = level(view, metric, against, size)? else {
                continue;
            };
            for (_, line) in view.lines_of(ablation, size) {
                // A line that has the level as one of its points meets it there.
                if line.points.iter().any(|point| point.method == *against) {
                    continue;
                }
                let Some(met) = crossing(view, line, ablation.scale, against, metric, size)? else {
                    continue;
                };
                let planned = met.inside + met.before + met.beyond + met.unknown;
                let x = met.x.map_or(Measured::nothing(planned), |x| {
                    Measured::of(&x, planned, format::decimals_for(x.point))
                });
                rows.push(vec![
                    Cell::text(view.size_label(size)),
                    Cell::text(&metric.label),
                    Cell::text(&line.label),
                    Cell::text(words(met.way, metric.better)),
                    Cell::Estimate(Measured::of(
                        &height,
                        view.planned(against, size),
                        metric.decimals,
                    )),
                    Cell::Estimate(x),
                    Cell::count(met.inside),
                    Cell::count(met.before),
                    Cell::count(met.beyond),
                    Cell::count(met.unknown),
                ]);
            }
        }
    }
    let label = view.method_label(against);
    let count = |id: &str, label: &str| Column::new(id, label, ColumnKind::Integer);
    let columns = vec![
        Column::text("size", "size"),
        Column::text("metric", "metric"),
        Column::text("line", "line"),
        Column::text("way", "way"),
        Column::new("level", label, ColumnKind::Estimate),
        Column::new("x", "where they meet", ColumnKind::Estimate),
        count("inside", "seeds inside"),
        count("before", "before"),
        count("beyond", "beyond"),
        count("unknown", "no data"),
    ];
    let id = format!("crossing-{}", file_stem(&ablation.id));
    let title = format!("Where each line meets {label}");
    Ok((!rows.is_empty()).then_some(Table {
        id,
        title,
        note: None,
        columns,
        rows,
    }))
}

fn words(way: Way, better: Better) -> &'static str {
    match (way, better) {
        (Way::Reaches, Better::Lower) => "falls to it",
        (Way::Reaches, _) => "rises to it",
        (Way::FallsTo, Better::Lower) => "rises to it",
        (Way::FallsTo, _) => "falls to it",
    }
}
