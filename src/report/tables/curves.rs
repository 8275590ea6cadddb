//! The mean of a curve's seeds at each x.

use crate::error::Result;
use crate::report::curve::averages;
use crate::report::format;
use crate::report::input::Curve;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::report::view::{View, file_stem};

/// The table of a curve; `None` if its lines are not seeds to be averaged.
pub fn curve(view: &View, curve: &Curve) -> Result<Option<Table>> {
    if !curve.bands {
        return Ok(None);
    }
    let mut rows = Vec::new();
    let averages = averages(view, curve)?;
    let points = averages.iter().flat_map(|line| &line.points);
    let largest = points.fold(0.0_f64, |largest, (_, estimate)| {
        largest.max(estimate.point.abs())
    });
    let decimals = format::decimals_for(largest).min(4);
    for line in averages {
        let seeds = curve
            .lines
            .iter()
            .filter(|it| it.method == line.method && it.size == line.size)
            .count();
        for (x, estimate) in line.points {
            rows.push(vec![
                Cell::text(view.size_label(line.size)),
                Cell::text(view.method_label(line.method)),
                Cell::number(Some(x), format::decimals_of(x)),
                Cell::Estimate(Measured::of(&estimate, seeds, decimals)),
            ]);
        }
    }
    let columns = vec![
        Column::text("size", "size"),
        Column::text("line", "line"),
        Column::new("x", &curve.x_label, ColumnKind::Number),
        Column::new("y", &curve.y_label, ColumnKind::Estimate),
    ];
    let id = format!("curve-{}", file_stem(&curve.id));
    Ok(Some(Table {
        id,
        title: curve.title.clone(),
        note: None,
        columns,
        rows,
    }))
}
