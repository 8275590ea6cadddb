//! The main figure: methods side by side, each seed a dot, the mean with its t interval beside
//! them; a panel per size.

use super::axis::{Extent, Panel};
use super::svg::{Anchor, Svg, TEXT, series, width_of};
use super::{LEFT, WIDTH, draw_mean, grid, heading, lowest, rows, series_of, turn};
use crate::error::Result;
use crate::report::contrast::over_seeds;
use crate::report::format;
use crate::report::input::{BySeed, MethodRow, MetricColumn, TableKind};
use crate::report::view::View;
use crate::stats::Estimate;

const TOP: f64 = 54.0;
const HEIGHT: f64 = 250.0;
/// The share of a method's slot over which its seeds are spread, and the distance of the mean to
/// the right of the middle.
const SPREAD: f64 = 0.36;
const MEAN_AT: f64 = 0.28;

/// The most methods that are drawn side by side; more are drawn as rows, where their names have
/// room.
const SIDE_BY_SIDE: usize = 10;

/// A method at a size.
pub struct Slot<'v> {
    pub method: &'v MethodRow,
    pub values: BySeed,
    pub mean: Option<Estimate>,
    pub planned: usize,
}

/// The figure; `None` if no method has a value.
pub fn draw(view: &View, metric: &MetricColumn) -> Result<Option<String>> {
    let methods = shown(view, metric);
    let panels = view
        .sizes
        .iter()
        .map(|size| slots(view, metric, &methods, size))
        .collect::<Result<Vec<_>>>()?;
    let values: Vec<f64> = panels
        .iter()
        .flatten()
        .flat_map(|slot| slot.values.values().copied())
        .collect();
    let intervals = panels
        .iter()
        .flatten()
        .filter_map(|slot| slot.mean.as_ref()?.interval);
    let ends: Vec<f64> = intervals
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    let Some(y) = Extent::around(&values, &ends, metric.range) else {
        return Ok(None);
    };
    if methods.len() > SIDE_BY_SIDE {
        return Ok(Some(rows::draw(view, metric, &panels, y)));
    }

    let columns = panels.len().min(if methods.len() > 6 { 1 } else { 2 });
    let x = Extent::linear(0.0, methods.len() as f64);
    // Labels are horizontal where they fit and turned where they do not.
    let longest = methods
        .iter()
        .map(|row| width_of(&row.label))
        .fold(0.0, f64::max);
    let slot_width = (WIDTH - LEFT) / columns as f64 / methods.len() as f64 - 8.0;
    let names: Vec<f64> = methods.iter().map(|row| width_of(&row.label)).collect();
    let degrees = if longest > slot_width {
        turn(slot_width + 8.0, &names)
    } else {
        0.0
    };
    let foot = 46.0 + longest * degrees.to_radians().sin();
    let frames = grid(panels.len(), columns, TOP, HEIGHT, foot, x, y);

    let title = heading(metric);
    let how = format!(
        "Dots: seeds. Bar and whiskers: mean with its {} % t interval over seeds. Under each method: seeds shown of seeds \
         planned.",
        format::percent(view.level())
    );
    let mut svg = Svg::new(WIDTH, lowest(&frames, foot) + 8.0, &title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &how);
    for (index, (frame, slots)) in frames.iter().zip(&panels).enumerate() {
        frame.frame(
            &mut svg,
            view.size_label(&view.sizes[index]),
            index % columns == 0,
        );
        for (place, slot) in slots.iter().enumerate() {
            draw_slot(&mut svg, view, frame, place, slot, degrees);
        }
    }
    Ok(Some(svg.finish()))
}

/// The methods that have the metric at some size or are expected to.
fn shown<'v>(view: &'v View, metric: &MetricColumn) -> Vec<&'v MethodRow> {
    let reward = |table: &&crate::report::input::TableSpec| table.kind == TableKind::Reward;
    let in_reward_table = view
        .layout()
        .tables
        .iter()
        .filter(reward)
        .any(|table| table.metrics.contains(&metric.id));
    let belongs = |row: &&MethodRow| {
        view.sizes
            .iter()
            .any(|size| view.belongs(&row.id, size, &[&metric.id]))
    };
    view.main_methods()
        .filter(|row| !row.heuristic || in_reward_table)
        .filter(belongs)
        .collect()
}

fn slots<'v>(
    view: &View,
    metric: &MetricColumn,
    methods: &[&'v MethodRow],
    size: &str,
) -> Result<Vec<Slot<'v>>> {
    let slot = |method: &&'v MethodRow| {
        let values = view.metrics().last(&method.id, size, &metric.id);
        let mean = over_seeds(view, metric, &values)?;
        Ok(Slot {
            method,
            values,
            mean,
            planned: view.planned(&method.id, size),
        })
    };
    methods.iter().map(slot).collect()
}

fn draw_slot(svg: &mut Svg, view: &View, frame: &Panel, place: usize, slot: &Slot, degrees: f64) {
    let colour = series(series_of(view, &slot.method.id));
    let middle = place as f64 + 0.5;
    let x = frame.at_x(middle);
    let n = slot.values.len();
    for (rank, value) in slot.values.values().enumerate() {
        let offset = if n > 1 {
            (rank as f64 / (n - 1) as f64 - 0.5) * SPREAD
        } else {
            0.0
        };
        svg.circle(
            &format!("dot {colour}"),
            (frame.at_x(middle - 0.1 + offset), frame.at_y(*value)),
            4.0,
        );
    }
    match &slot.mean {
        Some(mean) => draw_mean(svg, frame, &colour, frame.at_x(middle + MEAN_AT), mean),
        None => svg.text(
            "muted",
            (x, frame.top + frame.height / 2.0),
            Anchor::Middle,
            format::NOT_AVAILABLE,
        ),
    }
    let foot = frame.bottom();
    let count = format!("{n}/{}", slot.planned);
    svg.text("muted", (x, foot + TEXT + 4.0), Anchor::Middle, &count);
    let emphasis = if slot.method.id == view.layout().under_study {
        "strong"
    } else {
        ""
    };
    if degrees > 0.0 {
        svg.turned(
            emphasis,
            (x + 6.0, foot + TEXT + 20.0),
            Anchor::End,
            -degrees,
            &slot.method.label,
        );
    } else {
        svg.text(
            emphasis,
            (x, foot + TEXT + 21.0),
            Anchor::Middle,
            &slot.method.label,
        );
    }
}
