//! Figures as svg. One file per kind of figure; [`svg`] writes shapes, [`axis`] maps data to
//! pixels.

mod ablations;
mod axis;
mod compute;
mod curves;
mod dots;
mod forest;
mod iterations;
mod legend;
mod rows;
mod svg;

use super::claims::Judged;
use super::compute::Spending;
use super::input::{Ablation, Curve, MetricColumn, TableKind};
use super::view::{View, file_stem};
use crate::error::Result;
use crate::stats::Estimate;
use axis::{Extent, Panel};
use svg::Svg;

/// A finished figure.
pub struct Figure {
    /// The file name without its extension.
    pub id: String,
    pub title: String,
    pub svg: String,
}

/// All figures of a report, by their role in it.
pub struct Figures {
    /// Figures of every policy and reward metric with all its seeds; the primary metric's comes
    /// first.
    pub dots: Vec<Figure>,
    /// Figures of every policy and reward metric against iteration, if a method iterates; the
    /// primary metric's comes first.
    pub iterations: Vec<Figure>,
    /// The metric that methods reach against their cost; `None` if costs are not known.
    pub compute: Option<Figure>,
    /// All primary comparisons, as one figure for a page and one for a narrow page; empty without
    /// any.
    pub forest: Vec<Figure>,
}

/// The figure of a curve of the input; `None` if no line has a point.
pub fn curve(view: &View, curve: &Curve) -> Result<Option<Figure>> {
    let drawn = curves::draw(view, curve)?;
    Ok(drawn.map(|svg| Figure {
        id: format!("curve-{}", file_stem(&curve.id)),
        title: curve.title.clone(),
        svg,
    }))
}

/// The figures of an ablation, one for each of its metrics that has values.
pub fn ablation(view: &View, ablation: &Ablation) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for id in &ablation.metrics {
        let metric = view.metric(id)?;
        if let Some(svg) = ablations::draw(view, ablation, metric)? {
            let id = format!("ablation-{}-{}", file_stem(&ablation.id), file_stem(id));
            figures.push(Figure {
                id,
                title: format!("{} by {}", metric.label, ablation.axis),
                svg,
            });
        }
    }
    Ok(figures)
}

impl Figures {
    pub fn draw(view: &View, spending: &Spending, claims: &[Judged]) -> Result<Self> {
        let mut metrics = view.metrics_of(&[TableKind::Policy, TableKind::Reward], false)?;
        metrics.sort_by_key(|metric| metric.id != view.layout().primary);
        let (mut dots, mut iterations) = (Vec::new(), Vec::new());
        for metric in metrics {
            if let Some(svg) = dots::draw(view, metric)? {
                let title = format!("{}: every seed, mean and interval", metric.label);
                dots.push(Figure {
                    id: file_stem(&metric.id),
                    title,
                    svg,
                });
            }
            if let Some(svg) = iterations::draw(view, metric)? {
                let id = format!("{}-by-iteration", file_stem(&metric.id));
                iterations.push(Figure {
                    id,
                    title: format!("{} against iteration", metric.label),
                    svg,
                });
            }
        }
        let primary = view.metric(&view.layout().primary)?;
        let compute = compute::draw(view, spending)?.map(|svg| Figure {
            id: format!("{}-by-compute", file_stem(&primary.id)),
            title: format!("{} against the FLOPs of making", primary.label),
            svg,
        });
        let forest = forest::draw(view, claims)
            .into_iter()
            .flatten()
            .zip(["forest", "forest-narrow"]);
        let forest = forest
            .map(|(svg, id)| Figure {
                id: id.into(),
                title: "Primary comparisons".into(),
                svg,
            })
            .collect();
        Ok(Self {
            dots,
            iterations,
            compute,
            forest,
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        self.forest
            .iter()
            .chain(&self.dots)
            .chain(&self.iterations)
            .chain(&self.compute)
    }
}

/// The width of every figure, which is that of a page on GitHub.
const WIDTH: f64 = 880.0;
/// The room for the numbers left of the first panel, and the room right of the last.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
/// The room between two panels.
const GAP: f64 = 20.0;

/// A grid of `count` panels in `columns` columns, row by row, all with the same extents. Each row
/// takes `height` for the panel and `foot` below it for labels; `top` is left above the first row,
/// and there is room for a heading above each.
fn grid(
    count: usize,
    columns: usize,
    top: f64,
    height: f64,
    foot: f64,
    x: Extent,
    y: Extent,
) -> Vec<Panel> {
    let width = (WIDTH - LEFT - RIGHT - GAP * (columns - 1) as f64) / columns as f64;
    (0..count)
        .map(|index| {
            let (row, column) = ((index / columns) as f64, (index % columns) as f64);
            let left = LEFT + column * (width + GAP);
            let top = top + HEADING + row * (height + foot + HEADING);
            Panel {
                left,
                top,
                width,
                height,
                x,
                y,
            }
        })
        .collect()
}

/// The room for a panel's heading.
const HEADING: f64 = 26.0;

/// The degrees by which `names` under slots of width `slot` are turned: as few as possible without
/// a name leaving the figure on the left.
fn turn(slot: f64, names: &[f64]) -> f64 {
    let room = |place: usize| LEFT + (place as f64 + 0.5) * slot - 8.0;
    let needed = names
        .iter()
        .enumerate()
        .map(|(place, width)| (room(place) / width).min(1.0).acos().to_degrees());
    needed.fold(28.0, f64::max).min(80.0)
}

/// The lowest point of a grid, foot included.
fn lowest(panels: &[Panel], foot: f64) -> f64 {
    panels
        .iter()
        .map(|panel| panel.bottom() + foot)
        .fold(0.0, f64::max)
}

/// The index of a method among all, which fixes its colour and dash in every figure.
fn series_of(view: &View, method: &str) -> usize {
    view.methods
        .iter()
        .position(|row| row.id == method)
        .unwrap_or(view.methods.len())
}

/// Draws a mean line through its points over the band of their intervals, both cut at the panel's
/// edge.
fn draw_band(svg: &mut Svg, frame: &Panel, class: &str, points: &[(f64, Estimate)]) {
    let shown = || {
        points
            .iter()
            .filter(|(x, at)| frame.at_x(*x).is_finite() && frame.at_y(at.point).is_finite())
    };
    // A gap in the intervals is a gap in the band.
    for run in shown()
        .collect::<Vec<_>>()
        .chunk_by(|a, b| a.1.interval.is_some() == b.1.interval.is_some())
    {
        let ends =
            |(x, at): &&(f64, Estimate)| at.interval.map(|interval| (frame.at_x(*x), interval));
        let edge: Vec<_> = run.iter().filter_map(ends).collect();
        if edge.len() > 1 {
            let high = edge
                .iter()
                .map(|(x, interval)| (*x, frame.clipped_y(interval.high)));
            let low = edge
                .iter()
                .rev()
                .map(|(x, interval)| (*x, frame.clipped_y(interval.low)));
            svg.polygon(
                &format!("band {class}"),
                &high.chain(low).collect::<Vec<_>>(),
            );
        }
    }
    let line: Vec<(f64, f64)> = shown()
        .map(|(x, at)| (frame.at_x(*x), frame.at_y(at.point)))
        .collect();
    svg.polyline(&format!("bold {class}"), &line);
}

/// Draws a short bar at the mean and a whisker over its interval, cut at the panel's edge and
/// capped only where it ends; `at` is in pixels.
fn draw_mean(svg: &mut Svg, frame: &Panel, colour: &str, at: f64, mean: &Estimate) {
    let class = format!("mean {colour}");
    let y = frame.at_y(mean.point);
    svg.line(&class, (at - 8.0, y), (at + 8.0, y));
    draw_whisker(svg, frame, colour, at, mean);
}

fn draw_whisker(svg: &mut Svg, frame: &Panel, colour: &str, at: f64, mean: &Estimate) {
    let class = format!("mean {colour}");
    let Some(interval) = mean.interval else {
        return;
    };
    svg.line(
        &class,
        (at, frame.clipped_y(interval.low)),
        (at, frame.clipped_y(interval.high)),
    );
    for end in [interval.low, interval.high] {
        let y = frame.at_y(end);
        if y == frame.clipped_y(end) {
            svg.line(&class, (at - 4.0, y), (at + 4.0, y));
        }
    }
}

/// The heading of a figure: the metric and the direction in which it improves.
fn heading(metric: &MetricColumn) -> String {
    use super::input::Better;
    let better = match metric.better {
        Better::Higher => " (higher is better)",
        Better::Lower => " (lower is better)",
        Better::Neither => "",
    };
    format!("{}{better}", metric.label)
}
