//! Assembly: from the checked input to neutral tables. One file per kind of table.

mod ablations;
mod cells;
mod claims;
mod compute;
mod costs;
mod curves;
mod differences;
mod iterations;
mod results;

pub use ablations::{crossings, points};
pub use cells::cells;
pub use claims::claims;
pub use compute::{iteration_costs, matched_compute, spent};
pub use costs::costs;
pub use curves::curve;
pub use differences::{Question, differences};
pub use iterations::iterations;
pub use results::results;

use super::contrast::over_seeds;
use super::input::{BySeed, MetricColumn};
use super::table::Measured;
use super::view::View;
use crate::error::Result;
use crate::stats;

/// The mean over seeds with its t interval, as a cell.
fn measured(view: &View, metric: &MetricColumn, values: &BySeed, planned: usize) -> Result<Measured> {
    let estimate = over_seeds(view, metric, values)?;
    Ok(estimate.map_or(Measured::nothing(planned), |estimate| Measured::of(&estimate, planned, metric.decimals)))
}

/// The mean over seeds of what is no metric of the layout, with its t interval, as a cell.
fn for_values(view: &View, values: &BySeed, planned: usize, decimals: usize) -> Result<Measured> {
    if values.is_empty() {
        return Ok(Measured::nothing(planned));
    }
    let values: Vec<f64> = values.values().copied().collect();
    Ok(Measured::of(&stats::mean(&values, view.level())?, planned, decimals))
}
