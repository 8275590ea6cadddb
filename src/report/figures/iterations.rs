//! A metric against iteration: a row of panels per size, a panel per iterating method, a thin line
//! per seed, the mean with whiskers over them, and the baseline's mean as a dashed line.

use super::axis::{Extent, Panel};
use super::svg::{Anchor, Svg, TEXT, fitted, series, width_of};
use super::{GAP, LEFT, WIDTH, draw_whisker, grid, heading, lowest, series_of};
use crate::error::Result;
use crate::report::contrast::over_seeds;
use crate::report::format;
use crate::report::input::{BySeed, MetricColumn};
use crate::report::view::View;
use crate::stats::Estimate;

const TOP: f64 = 54.0;
const HEIGHT: f64 = 190.0;
const FOOT: f64 = 44.0;

/// One method at one size.
struct Track<'v> {
    method: &'v str,
    size: &'v str,
    steps: Vec<(i64, BySeed, Option<Estimate>)>,
}

/// The figure; `None` if no method has the metric at more than one iteration.
pub fn draw(view: &View, metric: &MetricColumn) -> Result<Option<String>> {
    let methods: Vec<&str> = view
        .main_methods()
        .map(|row| row.id.as_str())
        .filter(|id| {
            view.sizes
                .iter()
                .any(|size| steps_with(view, metric, id, size).len() > 1)
        })
        .collect();
    if methods.is_empty() {
        return Ok(None);
    }
    let mut tracks = Vec::new();
    for size in &view.sizes {
        for method in &methods {
            tracks.push(track(view, metric, method, size)?);
        }
    }
    let baselines: Vec<Option<f64>> = view
        .sizes
        .iter()
        .map(|size| baseline(view, metric, size))
        .collect::<Result<_>>()?;
    let steps = || tracks.iter().flat_map(|track| &track.steps);
    let mut values: Vec<f64> = steps()
        .flat_map(|(_, values, _)| values.values().copied())
        .collect();
    values.extend(baselines.iter().flatten());
    let intervals = steps().filter_map(|(_, _, mean)| mean.as_ref()?.interval);
    let ends: Vec<f64> = intervals
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    let Some(y) = Extent::around(&values, &ends, metric.range) else {
        return Ok(None);
    };
    let all: Vec<i64> = steps().map(|(iteration, ..)| *iteration).collect();
    let (first, last) = (
        all.iter().min().copied().unwrap_or(0),
        all.iter().max().copied().unwrap_or(1),
    );
    let x = Extent::linear(first as f64 - 0.35, last as f64 + 0.35);
    let name = |method: &str, size: &str| format!("{method}, {}", view.size_label(size));
    let panel_heading = |track: &Track| name(view.method_label(track.method), track.size);
    let widest = tracks
        .iter()
        .map(|track| width_of(&panel_heading(track)))
        .fold(1.0, f64::max);
    let columns = ((WIDTH - LEFT) / (widest + GAP))
        .clamp(3.0, 4.0)
        .min(methods.len() as f64) as usize;
    let frames = grid(tracks.len(), columns, TOP, HEIGHT, FOOT, x, y);

    // The stride at which the numbers under a panel fit.
    let stride = frames.first().map_or(1, |frame| {
        ((last - first + 1) as f64 * 24.0 / frame.width).ceil() as usize
    });

    let title = format!("{} against iteration", heading(metric));
    let how = format!(
        "Thin lines: seeds. Thick line and whiskers: mean with its {} % t interval. Dashed: mean of {}.",
        format::percent(view.level()),
        view.method_label(&view.layout().baseline)
    );
    let mut svg = Svg::new(WIDTH, lowest(&frames, FOOT) + 4.0, &title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &how);
    for (index, (frame, track)) in frames.iter().zip(&tracks).enumerate() {
        // A heading that does not fit is shortened in the method's name, so that the size stays.
        let room = frame.width - width_of(&name("", track.size));
        let method = fitted(view.method_label(track.method), room);
        frame.frame(&mut svg, &name(&method, track.size), index % columns == 0);
        for iteration in (first..=last).step_by(stride) {
            frame.mark_x(&mut svg, iteration as f64, &iteration.to_string());
        }
        svg.text(
            "muted",
            (
                frame.left + frame.width / 2.0,
                frame.bottom() + 2.0 * TEXT + 8.0,
            ),
            Anchor::Middle,
            "iteration",
        );
        if let Some(level) = baselines[index / methods.len()] {
            let y = frame.at_y(level);
            svg.line("reference", (frame.left, y), (frame.left + frame.width, y));
        }
        draw_track(
            &mut svg,
            frame,
            &series(series_of(view, track.method)),
            track,
        );
    }
    Ok(Some(svg.finish()))
}

fn steps_with(view: &View, metric: &MetricColumn, method: &str, size: &str) -> Vec<i64> {
    let iterations = view.metrics().iterations(method, size).into_iter();
    iterations
        .filter(|iteration| {
            !view
                .metrics()
                .at(method, size, &metric.id, *iteration)
                .is_empty()
        })
        .collect()
}

fn track<'v>(
    view: &View,
    metric: &MetricColumn,
    method: &'v str,
    size: &'v str,
) -> Result<Track<'v>> {
    let step = |iteration| {
        let values = view.metrics().at(method, size, &metric.id, iteration);
        let mean = over_seeds(view, metric, &values)?;
        Ok((iteration, values, mean))
    };
    let steps = steps_with(view, metric, method, size)
        .into_iter()
        .map(step)
        .collect::<Result<_>>()?;
    Ok(Track {
        method,
        size,
        steps,
    })
}

fn baseline(view: &View, metric: &MetricColumn, size: &str) -> Result<Option<f64>> {
    let values = view
        .metrics()
        .last(&view.layout().baseline, size, &metric.id);
    Ok(over_seeds(view, metric, &values)?.map(|mean| mean.point))
}

fn draw_track(svg: &mut Svg, frame: &Panel, colour: &str, track: &Track) {
    let mut seeds: Vec<i64> = track
        .steps
        .iter()
        .flat_map(|(_, values, _)| values.keys().copied())
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    for seed in seeds {
        let at = |(iteration, values, _): &(i64, BySeed, Option<Estimate>)| {
            values
                .get(&seed)
                .map(|value| (frame.at_x(*iteration as f64), frame.at_y(*value)))
        };
        let points: Vec<(f64, f64)> = track.steps.iter().filter_map(at).collect();
        svg.polyline(&format!("seed {colour}"), &points);
        // A line of one point would not be visible.
        if let [point] = points[..] {
            svg.circle(&format!("dot {colour}"), point, 2.5);
        }
    }
    let means = || {
        track
            .steps
            .iter()
            .filter_map(|(iteration, _, mean)| Some((*iteration as f64, mean.as_ref()?)))
    };
    let line: Vec<(f64, f64)> = means()
        .map(|(x, mean)| (frame.at_x(x), frame.at_y(mean.point)))
        .collect();
    svg.polyline(&format!("mean {colour}"), &line);
    for (x, mean) in means() {
        let x = frame.at_x(x);
        svg.circle(&format!("point {colour}"), (x, frame.at_y(mean.point)), 3.5);
        draw_whisker(svg, frame, colour, x, mean);
    }
}
