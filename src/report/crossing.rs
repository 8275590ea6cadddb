//! Crossings of a varied line and a level: for each seed, the x at which its curve first reaches
//! the value of another method under the same seed.

use super::contrast::over_seeds;
use super::input::{AblationLine, AxisScale, Better, BySeed, MetricColumn};
use super::view::View;
use crate::error::Result;
use crate::stats::{self, Estimate, Interval};

/// The way in which a line meets the level along its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The line gets better along the axis.
    Reaches,
    /// The line gets worse along the axis, or doesn't change.
    FallsTo,
}

/// The crossing of a line and a level, over the seeds that have the level and every point.
#[derive(Clone, Debug)]
pub struct Crossing {
    pub way: Way,
    /// The x of the crossing over seeds, on the axis' own scale: on a logarithmic axis the mean and
    /// interval are those of log x, shown as x, and there is no standard error. `None` unless every
    /// seed crosses inside the range.
    pub x: Option<Estimate>,
    /// The numbers of seeds that cross between the first and last x (`inside`), that are past the
    /// level at the first x (`before`), and that never reach it (`beyond`).
    pub inside: usize,
    pub before: usize,
    pub beyond: usize,
    /// The number of seeds that lack a point or the level.
    pub unknown: usize,
}

/// The place at which one seed's curve first reaches its level.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CrossingPoint {
    Before,
    At(f64),
    Beyond,
}

/// The crossing of `line` with the values of `against`. `None` if the metric has no better
/// direction, if points have no x, or if no seed has all points and the level.
pub fn crossing(
    view: &View,
    line: &AblationLine,
    scale: AxisScale,
    against: &str,
    metric: &MetricColumn,
    size: &str,
) -> Result<Option<Crossing>> {
    let sign = match metric.better {
        Better::Higher => 1.0,
        Better::Lower => -1.0,
        Better::Neither => return Ok(None),
    };
    if scale == AxisScale::Words {
        return Ok(None);
    }
    let scaled = |x: f64| if scale == AxisScale::Log { x.ln() } else { x };
    let mut points: Vec<(f64, BySeed)> = line
        .points
        .iter()
        .filter_map(|point| {
            Some((
                scaled(point.x?),
                view.metrics().last(&point.method, size, &metric.id),
            ))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let level = view.metrics().last(against, size, &metric.id);
    // The distance from the level, above 0 where the curve is better than it.
    let curve = |seed: &i64| -> Option<Vec<(f64, f64)>> {
        let level = level.get(seed)?;
        points
            .iter()
            .map(|(x, values)| Some((*x, sign * (values.get(seed)? - level))))
            .collect()
    };
    let curves: Vec<Vec<(f64, f64)>> = level
        .keys()
        .filter_map(curve)
        .filter(|curve| !curve.is_empty())
        .collect();
    if curves.is_empty() {
        return Ok(None);
    }
    let gained: f64 = curves
        .iter()
        .map(|curve| curve[curve.len() - 1].1 - curve[0].1)
        .sum();
    let way = if gained > 0.0 {
        Way::Reaches
    } else {
        Way::FallsTo
    };
    let places: Vec<CrossingPoint> = curves.iter().map(|curve| first(curve, way)).collect();
    let inside: Vec<f64> = places
        .iter()
        .filter_map(|place| {
            if let CrossingPoint::At(x) = place {
                Some(*x)
            } else {
                None
            }
        })
        .collect();
    let count = |wanted| places.iter().filter(|place| **place == wanted).count();
    let x = match inside.len() == places.len() {
        true => Some(shown(stats::mean(&inside, view.level())?, scale)),
        false => None,
    };
    let planned = line
        .points
        .iter()
        .map(|point| view.planned(&point.method, size))
        .max()
        .unwrap_or(0);
    Ok(Some(Crossing {
        way,
        x,
        inside: inside.len(),
        before: count(CrossingPoint::Before),
        beyond: count(CrossingPoint::Beyond),
        unknown: planned.max(places.len()) - places.len(),
    }))
}

/// The estimate of the level itself.
pub fn level(
    view: &View,
    metric: &MetricColumn,
    against: &str,
    size: &str,
) -> Result<Option<Estimate>> {
    over_seeds(
        view,
        metric,
        &view.metrics().last(against, size, &metric.id),
    )
}

/// The place at which a piecewise linear curve of (x, distance from the level), in ascending x,
/// first reaches 0.
fn first(curve: &[(f64, f64)], way: Way) -> CrossingPoint {
    let past = |distance: f64| {
        if way == Way::Reaches {
            distance
        } else {
            -distance
        }
    };
    match past(curve[0].1) {
        start if start > 0.0 => return CrossingPoint::Before,
        0.0 => return CrossingPoint::At(curve[0].0),
        _ => {}
    }
    for pair in curve.windows(2) {
        let ((x, from), (next, to)) = (pair[0], pair[1]);
        if past(to) >= 0.0 {
            return CrossingPoint::At(x + (next - x) * from / (from - to));
        }
    }
    CrossingPoint::Beyond
}

fn shown(estimate: Estimate, scale: AxisScale) -> Estimate {
    if scale != AxisScale::Log {
        return estimate;
    }
    let back = |interval: Interval| Interval {
        low: interval.low.exp(),
        high: interval.high.exp(),
        ..interval
    };
    Estimate {
        point: estimate.point.exp(),
        se: None,
        interval: estimate.interval.map(back),
        n: estimate.n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_meets_its_level_between_the_points_around_it() {
        let rising = [(1.0, -2.0), (2.0, -1.0), (4.0, 1.0), (5.0, -3.0)];
        assert_eq!(first(&rising, Way::Reaches), CrossingPoint::At(3.0));
        assert_eq!(first(&rising, Way::FallsTo), CrossingPoint::Before);
        assert_eq!(first(&rising[..2], Way::Reaches), CrossingPoint::Beyond);
        assert_eq!(
            first(&[(1.0, 3.0), (3.0, -1.0)], Way::FallsTo),
            CrossingPoint::At(2.5)
        );
        assert_eq!(first(&[(7.0, 0.0)], Way::Reaches), CrossingPoint::At(7.0));
    }

    #[test]
    fn logarithms_are_shown_as_what_they_are_logarithms_of() {
        let logs = stats::mean(&[10_f64.ln(), 1000_f64.ln()], 0.95).unwrap();
        let back = shown(logs, AxisScale::Log);
        assert!((back.point - 100.0).abs() < 1e-9 && back.se.is_none());
        assert!(back.interval.unwrap().low > 0.0);
    }
}
