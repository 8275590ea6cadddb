//! Assembly: from the checked input to neutral tables. One file per kind of table.

mod cells;
mod claims;
mod costs;
mod differences;
mod iterations;
mod results;

pub use cells::cells;
pub use claims::claims;
pub use costs::costs;
pub use differences::{Question, differences};
pub use iterations::iterations;
pub use results::results;

use super::input::BySeed;
use super::table::Measured;
use crate::error::Result;
use crate::stats;

/// The mean over seeds with its t interval, as a cell.
fn over_seeds(values: &BySeed, planned: usize, decimals: usize, level: f64) -> Result<Measured> {
    if values.is_empty() {
        return Ok(Measured::nothing(planned));
    }
    let values: Vec<f64> = values.values().copied().collect();
    Ok(Measured::of(&stats::mean(&values, level)?, planned, decimals))
}
