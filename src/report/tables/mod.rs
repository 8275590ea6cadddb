//! Tables assembled from the checked input, one file per kind of table.

mod ablations;
mod calibration;
mod cells;
mod claims;
mod collapses;
mod compute;
mod costs;
mod curves;
mod differences;
mod iterations;
mod published;
mod results;
mod robust;
mod tuning;

pub use ablations::{crossings, points};
pub use calibration::calibration;
pub use cells::cells;
pub use claims::claims;
pub use collapses::collapses;
pub use compute::{dominances, iteration_costs, matched_compute, spent};
pub use costs::costs;
pub use curves::curve;
pub use differences::{Question, contrasts, differences};
pub use iterations::iterations;
pub use published::published;
pub use results::results;
pub use robust::robust;
pub use tuning::tunings;

use super::contrast::over_seeds;
use super::input::{BySeed, MetricColumn};
use super::table::{Cell, Column, ColumnKind, Measured, arrow};
use super::view::View;
use crate::error::Result;
use crate::stats;

/// Columns of metrics, each with its share of ties, if it has one that isn't already a column.
struct MetricColumns<'a>(Vec<(&'a MetricColumn, Option<&'a str>)>);

impl<'a> MetricColumns<'a> {
    fn new(metrics: Vec<&'a MetricColumn>) -> Self {
        let mut shown: Vec<&str> = metrics.iter().map(|metric| metric.id.as_str()).collect();
        let with_ties = |metric: &'a MetricColumn| {
            let ties = metric.ties.as_deref().filter(|ties| !shown.contains(ties));
            shown.extend(ties);
            (metric, ties)
        };
        Self(metrics.into_iter().map(with_ties).collect())
    }

    /// The headings.
    fn headings(&self) -> Vec<Column> {
        let mut headings = Vec::new();
        for (metric, ties) in &self.0 {
            headings.push(heading(metric));
            headings.extend(ties.map(ties_heading));
        }
        headings
    }

    /// The cells of one row; `values` gives those of a metric, over seeds.
    fn cells(
        &self,
        view: &View,
        planned: usize,
        values: impl Fn(&str) -> BySeed,
    ) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for (metric, ties) in &self.0 {
            cells.push(Cell::Estimate(measured(
                view,
                metric,
                &values(&metric.id),
                planned,
            )?));
            cells.extend(ties.map(|ties| ties_cell(metric, &values(ties))));
        }
        Ok(cells)
    }
}

fn heading(metric: &MetricColumn) -> Column {
    Column::new(
        &metric.id,
        format!("{}{}", metric.label, arrow(metric.better)),
        ColumnKind::Estimate,
    )
}

fn ties_heading(id: &str) -> Column {
    Column::new(id, "ties", ColumnKind::Number)
}

/// The mean share of ties over seeds.
fn ties_cell(metric: &MetricColumn, values: &BySeed) -> Cell {
    let mean = (!values.is_empty()).then(|| values.values().sum::<f64>() / values.len() as f64);
    Cell::number(mean, metric.decimals)
}

/// The mean over seeds with its t interval, as a cell.
fn measured(
    view: &View,
    metric: &MetricColumn,
    values: &BySeed,
    planned: usize,
) -> Result<Measured> {
    let estimate = over_seeds(view, metric, values)?;
    Ok(estimate.map_or(Measured::nothing(planned), |estimate| {
        Measured::of(&estimate, planned, metric.decimals)
    }))
}

/// The mean over seeds of values that belong to no metric of the layout, with its t interval, as a
/// cell.
fn for_values(view: &View, values: &BySeed, planned: usize, decimals: usize) -> Result<Measured> {
    if values.is_empty() {
        return Ok(Measured::nothing(planned));
    }
    let values: Vec<f64> = values.values().copied().collect();
    Ok(Measured::of(
        &stats::mean(&values, view.level())?,
        planned,
        decimals,
    ))
}
