//! Figures as svg. One file per kind of figure; [`svg`] writes shapes, [`axis`] maps data to pixels.

mod axis;
mod curves;
mod dots;
mod iterations;
mod svg;

use super::input::{MetricColumn, TableKind};
use super::view::{View, file_stem};
use crate::error::Result;
use axis::{Extent, Panel};

/// A finished figure.
pub struct Figure {
    /// File name without ending.
    pub id: String,
    pub title: String,
    pub svg: String,
}

/// All figures of a report, by their role in it.
pub struct Figures {
    /// Every policy and reward metric with all its seeds; the primary metric's comes first.
    pub dots: Vec<Figure>,
    /// Every policy and reward metric against iteration, where a method iterates; the primary metric's comes first.
    pub iterations: Vec<Figure>,
    /// The input's own curves.
    pub curves: Vec<Figure>,
}

impl Figures {
    pub fn draw(view: &View) -> Result<Self> {
        let mut metrics = view.metrics_of(&[TableKind::Policy, TableKind::Reward], false)?;
        metrics.sort_by_key(|metric| metric.id != view.layout().primary);
        let (mut dots, mut iterations) = (Vec::new(), Vec::new());
        for metric in metrics {
            if let Some(svg) = dots::draw(view, metric)? {
                let title = format!("{}: every seed, mean and interval", metric.label);
                dots.push(Figure { id: file_stem(&metric.id), title, svg });
            }
            if let Some(svg) = iterations::draw(view, metric)? {
                let id = format!("{}-by-iteration", file_stem(&metric.id));
                iterations.push(Figure { id, title: format!("{} against iteration", metric.label), svg });
            }
        }
        let curves = view.input.curves.iter().filter_map(|curve| {
            let id = format!("curve-{}", file_stem(&curve.id));
            Some(Figure { id, title: curve.title.clone(), svg: curves::draw(view, curve)? })
        });
        let curves = curves.collect();
        Ok(Self { dots, iterations, curves })
    }

    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        self.dots.iter().chain(&self.iterations).chain(&self.curves)
    }
}

/// Width of every figure: that of a page on GitHub.
const WIDTH: f64 = 880.0;
/// Room for the numbers left of the first panel, and to the right of the last.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
/// Room between two panels.
const GAP: f64 = 20.0;

/// `count` panels side by side in `columns` columns, row by row, all with the same extents. Each row takes `height` for
/// the panel and `foot` below it for labels; `top` is left above the first, and room for a heading above each.
fn grid(count: usize, columns: usize, top: f64, height: f64, foot: f64, x: Extent, y: Extent) -> Vec<Panel> {
    let width = (WIDTH - LEFT - RIGHT - GAP * (columns - 1) as f64) / columns as f64;
    (0..count)
        .map(|index| {
            let (row, column) = ((index / columns) as f64, (index % columns) as f64);
            let left = LEFT + column * (width + GAP);
            let top = top + HEADING + row * (height + foot + HEADING);
            Panel { left, top, width, height, x, y }
        })
        .collect()
}

/// Room for a panel's heading.
const HEADING: f64 = 26.0;

/// Lowest point of a grid, foot included.
fn lowest(panels: &[Panel], foot: f64) -> f64 {
    panels.iter().map(|panel| panel.bottom() + foot).fold(0.0, f64::max)
}

/// Place of a method among all, which fixes its colour and dash in every figure.
fn series_of(view: &View, method: &str) -> usize {
    view.methods.iter().position(|row| row.id == method).unwrap_or(view.methods.len())
}

/// A figure's heading: the metric and which way it improves.
fn heading(metric: &MetricColumn) -> String {
    use super::input::Better;
    let better = match metric.better {
        Better::Higher => " (higher is better)",
        Better::Lower => " (lower is better)",
        Better::Neither => "",
    };
    format!("{}{better}", metric.label)
}
