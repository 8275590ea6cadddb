//! The mean of a curve's seeds at each x.

use crate::error::Result;
use crate::report::curve::averages;
use crate::report::format;
use crate::report::input::Curve;
use crate::report::table::{Cell, Column, Kind, Measured, Table};
use crate::report::view::{View, file_stem};

/// `None` for a curve whose lines are not seeds to be averaged.
pub fn curve(view: &View, curve: &Curve) -> Result<Option<Table>> {
    if !curve.bands {
        return Ok(None);
    }
    let mut rows = Vec::new();
    for line in averages(view, curve)? {
        let seeds = curve.lines.iter().filter(|it| it.method == line.method && it.size == line.size).count();
        for (x, estimate) in line.points {
            rows.push(vec![
                Cell::text(view.size_label(line.size)),
                Cell::text(view.method_label(line.method)),
                Cell::number(Some(x), format::decimals_for(x).min(4)),
                Cell::Estimate(Measured::of(&estimate, seeds, format::decimals_for(estimate.point).min(4))),
            ]);
        }
    }
    let columns = vec![
        Column::text("size", "size"),
        Column::text("line", "line"),
        Column::new("x", &curve.x_label, Kind::Number),
        Column::new("y", &curve.y_label, Kind::Estimate),
    ];
    let id = format!("curve-{}", file_stem(&curve.id));
    Ok(Some(Table { id, title: curve.title.clone(), note: None, columns, rows }))
}
