//! The primary metric against the FLOPs that making a method had taken: a panel per size, a colour per method, a mean
//! with its whiskers per iteration.

use super::axis::{Extent, Scale};
use super::legend::Legend;
use super::svg::{Anchor, Svg, series};
use super::{WIDTH, draw_whisker, grid, heading, lowest, series_of};
use crate::error::Result;
use crate::report::compute::{Resource, Spending};
use crate::report::contrast::over_seeds;
use crate::report::format;
use crate::report::input::BySeed;
use crate::report::view::View;
use crate::stats::Estimate;

const HEIGHT: f64 = 260.0;
const FOOT: f64 = 46.0;

/// A method at a size: per iteration the mean FLOPs up to its end and the metric over the same seeds.
struct Path<'v> {
    method: &'v str,
    steps: Vec<(f64, Estimate)>,
}

/// `None` where no method has both.
pub fn draw(view: &View, spending: &Spending) -> Result<Option<String>> {
    let metric = view.metric(&view.layout().primary)?;
    let mut panels: Vec<(&str, Vec<Path>)> = Vec::new();
    for size in &view.sizes {
        let mut paths = Vec::new();
        for method in view.main_methods() {
            let tracks = spending.tracks(view, metric, &method.id, size, Resource::Flops);
            let mut steps = Vec::new();
            for iteration in view.metrics().iterations(&method.id, size) {
                let at: Vec<_> = tracks
                    .iter()
                    .filter_map(|(seed, track)| Some((*seed, track.iter().find(|step| step.iteration == iteration)?)))
                    .collect();
                let values: BySeed = at.iter().map(|(seed, step)| (*seed, step.value)).collect();
                if let Some(mean) = over_seeds(view, metric, &values)? {
                    steps.push((at.iter().map(|(_, step)| step.spent).sum::<f64>() / at.len() as f64, mean));
                }
            }
            if !steps.is_empty() {
                paths.push(Path { method: &method.id, steps });
            }
        }
        if !paths.is_empty() {
            panels.push((size, paths));
        }
    }
    let steps = || panels.iter().flat_map(|(_, paths)| paths).flat_map(|path| &path.steps);
    let places: Vec<f64> = steps().map(|(spent, _)| *spent).collect();
    let values: Vec<f64> = steps().map(|(_, mean)| mean.point).collect();
    let intervals = steps().filter_map(|(_, mean)| mean.interval);
    let ends: Vec<f64> = intervals.flat_map(|interval| [interval.low, interval.high]).collect();
    let (Some(x), Some(y)) = (Extent::on(Scale::Log, &places, &[]), Extent::around(&values, &ends, metric.range))
    else {
        return Ok(None);
    };
    let drawn =
        view.main_methods().filter(|row| panels.iter().any(|(_, paths)| paths.iter().any(|it| it.method == row.id)));
    let legend =
        Legend::new(drawn.map(|row| (format!("bold {}", series(series_of(view, &row.id))), row.label.clone())));
    let columns = panels.len().min(2);
    let frames = grid(panels.len(), columns, 50.0 + legend.height(), HEIGHT, FOOT, x, y);
    let title = format!("{} against the FLOPs of making", heading(metric));
    let how = format!(
        "A point per iteration: mean over seeds with its {} % t interval; FLOPs are those of all stages up to it.",
        format::percent(view.level())
    );
    let mut svg = Svg::new(WIDTH, lowest(&frames, FOOT) + 4.0, &title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &how);
    legend.draw(&mut svg, 50.0);
    for (index, (frame, (size, paths))) in frames.iter().zip(&panels).enumerate() {
        frame.frame(&mut svg, view.size_label(size), index % columns == 0);
        frame.number_x(&mut svg);
        frame.name_axis_x(&mut svg, "FLOPs");
        for path in paths {
            let class = series(series_of(view, path.method));
            let line: Vec<(f64, f64)> =
                path.steps.iter().map(|(spent, mean)| (frame.at_x(*spent), frame.at_y(mean.point))).collect();
            svg.polyline(&format!("bold {class}"), &line);
            for ((spent, mean), at) in path.steps.iter().zip(line) {
                svg.circle(&format!("point {class}"), at, 3.5);
                draw_whisker(&mut svg, frame, &class, frame.at_x(*spent), mean);
            }
        }
    }
    Ok(Some(svg.finish()))
}
