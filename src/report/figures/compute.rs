//! The metric that methods reach against the cost of making them: a panel for each size and each
//! decoding of the primary metric, a point for each method at its last iteration, and the front of
//! methods that nothing cheaper matches.

use super::axis::{AxisMap, Extent, Panel};
use super::svg::{Anchor, Svg, TEXT, series, width_of};
use super::{LEFT, RIGHT, WIDTH, grid, heading, lowest, series_of};
use crate::error::Result;
use crate::report::compute::{Resource, Spending};
use crate::report::contrast::over_seeds;
use crate::report::digest::decodings;
use crate::report::format;
use crate::report::input::{Better, BySeed, MetricColumn};
use crate::report::view::View;
use crate::stats::Estimate;

const HEIGHT: f64 = 300.0;
const FOOT: f64 = 46.0;

/// A method at the end of its runs: the mean FLOPs of making it, and the metric over the same
/// seeds.
struct Spot<'v> {
    method: &'v str,
    spent: f64,
    mean: Estimate,
    /// Whether no cheaper method is as good in the mean.
    front: bool,
}

struct Drawn<'v> {
    metric: &'v MetricColumn,
    heading: String,
    spots: Vec<Spot<'v>>,
}

/// The figure; `None` if no method has both cost and metric.
pub fn draw(view: &View, spending: &Spending) -> Result<Option<String>> {
    // The primary metric, and its greedy decoding if that is measured.
    let all = decodings(view)?;
    let metrics: Vec<&MetricColumn> = all
        .iter()
        .copied()
        .filter(|metric| metric.id == view.layout().primary || metric.id.ends_with("_greedy"))
        .collect();
    let mut panels: Vec<Drawn> = Vec::new();
    for size in &view.sizes {
        for metric in &metrics {
            let spots = spots(view, spending, metric, size)?;
            let heading = match (metrics.len() > 1, view.sizes.len() > 1) {
                (true, true) => format!("{}, {}", metric.label, view.size_label(size)),
                (true, false) => metric.label.clone(),
                (false, _) => view.size_label(size).to_owned(),
            };
            if !spots.is_empty() {
                panels.push(Drawn {
                    metric,
                    heading,
                    spots,
                });
            }
        }
    }
    let spots = || panels.iter().flat_map(|panel| &panel.spots);
    let places: Vec<f64> = spots().map(|spot| spot.spent).collect();
    let values: Vec<f64> = spots().map(|spot| spot.mean.point).collect();
    let intervals = spots().filter_map(|spot| spot.mean.interval);
    let ends: Vec<f64> = intervals
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    let primary = view.metric(&view.layout().primary)?;
    let (Some(x), Some(y)) = (
        Extent::on(AxisMap::Log, &places, &[]),
        Extent::around(&values, &ends, primary.range),
    ) else {
        return Ok(None);
    };
    // Room for labels left and right of the outermost points.
    let room = 0.12 * (x.high - x.low).max(0.3);
    let x = Extent {
        low: x.low - room,
        high: x.high + room,
        ..x
    };
    let columns = panels.len().min(2);
    let frames = grid(panels.len(), columns, 50.0, HEIGHT, FOOT, x, y);
    let title = format!("{} against the FLOPs of making", heading(primary));
    let how = format!(
        "Means over seeds with {} % t intervals, last iterations. Filled, on the line: nothing as good in the mean is cheaper.",
        format::percent(view.level())
    );
    let mut svg = Svg::new(WIDTH, lowest(&frames, FOOT) + 4.0, &title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &how);
    for (index, (frame, panel)) in frames.iter().zip(&panels).enumerate() {
        frame.frame(&mut svg, &panel.heading, index % columns == 0);
        frame.number_x(&mut svg);
        frame.name_axis_x(&mut svg, "FLOPs");
        draw_panel(&mut svg, view, frame, panel);
    }
    Ok(Some(svg.finish()))
}

fn spots<'v>(
    view: &'v View,
    spending: &Spending,
    metric: &MetricColumn,
    size: &str,
) -> Result<Vec<Spot<'v>>> {
    let mut spots = Vec::new();
    for method in view.main_methods() {
        let tracks = spending.tracks(view, metric, &method.id, size, Resource::Flops);
        let Some(last) = view.metrics().last_iteration(&method.id, size) else {
            continue;
        };
        let at: Vec<_> = tracks
            .iter()
            .filter_map(|(seed, track)| {
                Some((*seed, track.iter().find(|step| step.iteration == last)?))
            })
            .collect();
        let values: BySeed = at.iter().map(|(seed, step)| (*seed, step.value)).collect();
        if let Some(mean) = over_seeds(view, metric, &values)? {
            let spent = at.iter().map(|(_, step)| step.spent).sum::<f64>() / at.len() as f64;
            spots.push(Spot {
                method: &method.id,
                spent,
                mean,
                front: false,
            });
        }
    }
    spots.sort_by(|a, b| {
        a.spent
            .total_cmp(&b.spent)
            .then(b.mean.point.total_cmp(&a.mean.point))
    });
    let merit = |spot: &Spot| {
        if metric.better == Better::Lower {
            -spot.mean.point
        } else {
            spot.mean.point
        }
    };
    let mut best = f64::NEG_INFINITY;
    for spot in &mut spots {
        spot.front = merit(spot) > best;
        best = best.max(merit(spot));
    }
    Ok(spots)
}

fn draw_panel(svg: &mut Svg, view: &View, frame: &Panel, panel: &Drawn) {
    let at = |spot: &Spot| (frame.at_x(spot.spent), frame.at_y(spot.mean.point));
    // The front: a step to the right at the height of the best so far, then to the next spot.
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for spot in panel.spots.iter().filter(|spot| spot.front) {
        let (x, y) = at(spot);
        steps.extend(steps.last().map(|(_, before)| (x, *before)));
        steps.push((x, y));
    }
    steps.extend(steps.last().map(|(_, y)| (frame.left + frame.width, *y)));
    if panel.metric.better != Better::Neither {
        svg.polyline("reference", &steps);
    }
    let mut taken: Vec<[f64; 4]> = panel
        .spots
        .iter()
        .map(|spot| around(at(spot), 7.0))
        .collect();
    for spot in &panel.spots {
        let class = series(series_of(view, spot.method));
        let (x, y) = at(spot);
        if let Some(interval) = spot.mean.interval {
            svg.line(
                &format!("seed {class}"),
                (x, frame.clipped_y(interval.low)),
                (x, frame.clipped_y(interval.high)),
            );
        }
        svg.circle(
            &format!("{} {class}", if spot.front { "point" } else { "empty" }),
            (x, y),
            5.0,
        );
    }
    for spot in &panel.spots {
        let emphasis = if spot.method == view.layout().under_study {
            "strong"
        } else {
            ""
        };
        label(
            svg,
            frame,
            emphasis,
            view.method_label(spot.method),
            at(spot),
            &mut taken,
        );
    }
}

fn around((x, y): (f64, f64), radius: f64) -> [f64; 4] {
    [x - radius, y - radius, x + radius, y + radius]
}

/// Draws a name at the nearest place beside its point where it touches no other, with a line to the
/// point if it is far.
fn label(
    svg: &mut Svg,
    frame: &Panel,
    class: &str,
    name: &str,
    (x, y): (f64, f64),
    taken: &mut Vec<[f64; 4]>,
) {
    let width = width_of(name);
    let heights = (0..16)
        .map(|step| (11.0 + (step / 2) as f64 * 8.0) * if step % 2 == 0 { -1.0 } else { 1.0 });
    let places = heights.flat_map(|shift| {
        [
            (x + 9.0, shift),
            (x - 9.0 - width, shift),
            (x - width / 2.0, shift),
        ]
    });
    let (least, most) = (
        LEFT.max(frame.left),
        (frame.left + frame.width).min(WIDTH - RIGHT) + 4.0,
    );
    let free = |(left, shift): &(f64, f64)| {
        let [x0, y0, x1, y1] = [
            *left,
            y + shift - TEXT * 0.6,
            left + width,
            y + shift + TEXT * 0.5,
        ];
        let inside = x0 >= least && x1 <= most && y0 >= frame.top && y1 <= frame.bottom();
        inside
            && taken
                .iter()
                .all(|[a0, b0, a1, b1]| x1 < *a0 || x0 > *a1 || y1 < *b0 || y0 > *b1)
    };
    let mut places = places;
    let Some((left, shift)) = places.find(free) else {
        return;
    };
    let middle = y + shift;
    if shift.abs() > 20.0 {
        let end = if left > x {
            left - 2.0
        } else if left + width < x {
            left + width + 2.0
        } else {
            left + width / 2.0
        };
        svg.line(
            "grid",
            (x, y + 6.0 * shift.signum()),
            (end, middle - TEXT * 0.5 * shift.signum()),
        );
    }
    svg.text(class, (left, middle + TEXT * 0.35), Anchor::Start, name);
    taken.push([left, middle - TEXT * 0.6, left + width, middle + TEXT * 0.5]);
}
