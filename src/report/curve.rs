//! Averages of a curve's seeds: the mean over them at equal x.

use super::input::{Curve, CurveLine};
use super::view::View;
use crate::error::Result;
use crate::stats::{self, Estimate};

/// The mean curve over the seeds of one method at one size.
pub struct Averaged<'a> {
    pub method: &'a str,
    pub size: &'a str,
    /// Points in ascending x, each with the estimate over the seeds that have a value there.
    pub points: Vec<(f64, Estimate)>,
}

/// The averaged lines of `curve`, one per method and size, sizes and methods in their order.
pub fn averages<'a>(view: &View, curve: &'a Curve) -> Result<Vec<Averaged<'a>>> {
    let order = |line: &&'a CurveLine| {
        let size = view
            .sizes
            .iter()
            .position(|size| *size == line.size)
            .unwrap_or(usize::MAX);
        let method = view
            .methods
            .iter()
            .position(|row| row.id == line.method)
            .unwrap_or(usize::MAX);
        (
            size,
            line.size.as_str(),
            method,
            line.method.as_str(),
            line.seed,
        )
    };
    let mut lines: Vec<&CurveLine> = curve.lines.iter().collect();
    lines.sort_by_key(order);
    lines
        .chunk_by(|a, b| (&a.size, &a.method) == (&b.size, &b.method))
        .map(|seeds| average(view, seeds))
        .collect()
}

fn average<'a>(view: &View, seeds: &[&'a CurveLine]) -> Result<Averaged<'a>> {
    let mut values: Vec<[f64; 2]> = seeds
        .iter()
        .flat_map(|line| line.points.iter().copied())
        .collect();
    values.retain(|point| point.iter().all(|value| value.is_finite()));
    // The sort is stable, so that values at one x stay in the order of seeds and add up to the same
    // last digit.
    values.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let points = values.chunk_by(|a, b| a[0] == b[0]).map(|at| {
        let values: Vec<f64> = at.iter().map(|point| point[1]).collect();
        Ok((at[0][0], stats::mean(&values, view.level())?))
    });
    Ok(Averaged {
        method: &seeds[0].method,
        size: &seeds[0].size,
        points: points.collect::<Result<_>>()?,
    })
}
