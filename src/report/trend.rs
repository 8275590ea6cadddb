//! The effect of varying one thing on a metric: where it is best, whether the ends differ, and
//! where a level is met.

use super::contrast::{Contrast, over_seeds};
use super::crossing::crossing;
use super::format;
use super::input::{Ablation, AblationLine, AblationPoint, AxisScale, Better, MetricColumn};
use super::sentence::difference;
use super::view::View;
use crate::error::Result;

/// A line of an ablation at a size, on its first metric.
pub struct Trend {
    pub size: String,
    /// The method that is varied.
    pub method: String,
    /// A sentence on the line's course.
    pub sentence: String,
    /// The difference between the line's ends, or between its highest and lowest point if points
    /// have no order.
    pub number: Option<String>,
}

/// The trends of all lines at each size, if at least two points have values.
pub fn trends(view: &View, ablation: &Ablation) -> Result<Vec<Trend>> {
    let Some(metric) = ablation.metrics.first() else {
        return Ok(Vec::new());
    };
    let metric = view.metric(metric)?;
    let mut found = Vec::new();
    for size in &view.sizes {
        for (_, line) in view.lines_of(ablation, size) {
            let mut points = Vec::new();
            for point in &line.points {
                let mean = over_seeds(
                    view,
                    metric,
                    &view.metrics().last(&point.method, size, &metric.id),
                )?;
                points.extend(mean.map(|mean| (point, mean.point)));
            }
            if points.len() >= 2 {
                found.push(trend(view, ablation, line, metric, size, points)?);
            }
        }
    }
    Ok(found)
}

fn trend(
    view: &View,
    ablation: &Ablation,
    line: &AblationLine,
    metric: &MetricColumn,
    size: &str,
    mut points: Vec<(&AblationPoint, f64)>,
) -> Result<Trend> {
    let ordered = ablation.scale != AxisScale::Words;
    if ordered {
        points.sort_by(|(a, _), (b, _)| a.x.partial_cmp(&b.x).unwrap_or(std::cmp::Ordering::Equal));
    }
    let shown = |(point, value): &(&AblationPoint, f64)| {
        format!(
            "{} ({})",
            point.label,
            format::fixed(*value, metric.decimals)
        )
    };
    let lowest = points
        .iter()
        .copied()
        .reduce(|a, b| if b.1 < a.1 { b } else { a });
    let highest = points
        .iter()
        .copied()
        .reduce(|a, b| if b.1 > a.1 { b } else { a });
    let (Some(lowest), Some(highest), Some(first), Some(last)) =
        (lowest, highest, points.first(), points.last())
    else {
        return Ok(Trend {
            size: size.to_owned(),
            method: line.method.clone(),
            sentence: String::new(),
            number: None,
        });
    };
    let (from, to) = if ordered {
        (first.0, last.0)
    } else {
        (lowest.0, highest.0)
    };
    let ends = Contrast::new(view, metric, size, &to.method, &from.method)?
        .paired
        .map(|it| it.difference);
    let interval = ends
        .and_then(|ends| ends.interval)
        .map(|interval| (interval.low, interval.high));
    let number = ends.map(|ends| difference(ends.point, interval, metric.decimals));
    let told = number
        .clone()
        .unwrap_or_else(|| "no seed has both".to_owned());
    let mut sentence = if ordered {
        let moves = match interval {
            Some((low, _)) if low > 0.0 => "it rises",
            Some((_, high)) if high < 0.0 => "it falls",
            Some(_) => "it does not clearly move",
            None => "no interval says whether it moves",
        };
        let best = match metric.better {
            Better::Higher => format!("best at {}, ", shown(&highest)),
            Better::Lower => format!("best at {}, ", shown(&lowest)),
            Better::Neither => format!("highest at {}, ", shown(&highest)),
        };
        format!(
            "{}: {best}and from {} to {} {moves} ({told})",
            line.label, from.label, to.label
        )
    } else {
        let clear = if interval.is_some_and(|(low, _)| low > 0.0) {
            ""
        } else {
            ", not clearly apart"
        };
        format!(
            "{}: highest with {}, lowest with {}{clear} ({told}, picked after looking)",
            line.label,
            shown(&highest),
            shown(&lowest)
        )
    };
    sentence += &meets(view, ablation, line, metric, size)?;
    Ok(Trend {
        size: size.to_owned(),
        method: line.method.clone(),
        sentence,
        number,
    })
}

/// The place where the line meets the level; empty if the ablation has no level or the line
/// contains it.
fn meets(
    view: &View,
    ablation: &Ablation,
    line: &AblationLine,
    metric: &MetricColumn,
    size: &str,
) -> Result<String> {
    let Some(against) = &ablation.against else {
        return Ok(String::new());
    };
    if line.points.iter().any(|point| point.method == *against) {
        return Ok(String::new());
    }
    let Some(met) = crossing(view, line, ablation.scale, against, metric, size)? else {
        return Ok(String::new());
    };
    let label = view.method_label(against);
    Ok(match met.x {
        Some(x) => {
            let interval = x.interval.map(|interval| (interval.low, interval.high));
            let decimals = format::decimals_for(x.point);
            format!(
                "; meets {label} at {}",
                format::estimate(Some(x.point), interval, |it| format::fixed(it, decimals))
            )
        }
        None => format!(
            "; meets {label} inside the range under {} of {}",
            met.inside,
            format::count(met.inside + met.before + met.beyond, "seed")
        ),
    })
}
