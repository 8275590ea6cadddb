//! Free curves of the input, for example gold reward against KL: a panel per size, a line per seed,
//! a colour and a dash per method; with bands, the mean over seeds with its t interval.

use super::axis::{AxisMap, Extent};
use super::legend::Legend;
use super::svg::{Anchor, Svg, series};
use super::{WIDTH, draw_band, grid, lowest, series_of};
use crate::error::Result;
use crate::report::curve::{Averaged, averages};
use crate::report::format;
use crate::report::input::{Curve, CurveLine};
use crate::report::view::View;

const HEIGHT: f64 = 240.0;
const FOOT: f64 = 46.0;

/// The figure; `None` if no line has a point.
pub fn draw(view: &View, curve: &Curve) -> Result<Option<String>> {
    let (x_scale, y_scale) = (AxisMap::log_if(curve.log_x), AxisMap::log_if(curve.log_y));
    let shown = |point: &&[f64; 2]| {
        x_scale.place(point[0]).is_finite() && y_scale.place(point[1]).is_finite()
    };
    let mut lines: Vec<&CurveLine> = curve.lines.iter().collect();
    lines.sort_by_key(|line| {
        (
            series_of(view, &line.method),
            &line.method,
            &line.size,
            line.seed,
        )
    });
    let points = || {
        lines
            .iter()
            .flat_map(|line| line.points.iter().filter(shown))
    };
    let averages = if curve.bands {
        averages(view, curve)?
    } else {
        Vec::new()
    };
    let intervals = averages
        .iter()
        .flat_map(|line| &line.points)
        .filter_map(|(_, estimate)| estimate.interval);
    let ends: Vec<f64> = intervals
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    let Some(x) = Extent::on(
        x_scale,
        &points().map(|point| point[0]).collect::<Vec<_>>(),
        &[],
    ) else {
        return Ok(None);
    };
    let Some(y) = Extent::on(
        y_scale,
        &points().map(|point| point[1]).collect::<Vec<_>>(),
        &ends,
    ) else {
        return Ok(None);
    };
    let known = view.sizes.iter().map(String::as_str);
    let mut sizes: Vec<&str> = known
        .filter(|size| lines.iter().any(|line| line.size == *size))
        .collect();
    for line in &lines {
        if !sizes.contains(&line.size.as_str()) {
            sizes.push(&line.size);
        }
    }
    let mut methods: Vec<&str> = lines.iter().map(|line| line.method.as_str()).collect();
    methods.dedup();
    let colours = colours(view, &methods);
    let colour = |method: &str| {
        methods
            .iter()
            .position(|known| *known == method)
            .map_or_else(String::new, |place| series(colours[place]))
    };
    let entries = methods.iter().map(|id| {
        (
            format!("bold {}", colour(id)),
            view.method_label(id).to_owned(),
        )
    });
    let legend = Legend::new(entries);

    let columns = sizes.len().min(2);
    let frames = grid(
        sizes.len(),
        columns,
        40.0 + legend.height(),
        HEIGHT,
        FOOT,
        x,
        y,
    );
    let lines_are = match curve.bands {
        true => format!(
            "thin lines: seeds; thick line and band: mean with its {} % t interval",
            format::percent(view.level())
        ),
        false => "a line per seed".to_owned(),
    };
    let how = format!("{} against {}; {lines_are}.", curve.y_label, curve.x_label);
    let mut svg = Svg::new(WIDTH, lowest(&frames, FOOT) + 4.0, &curve.title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &curve.title);
    legend.draw(&mut svg, 32.0);
    for (index, (frame, size)) in frames.iter().zip(&sizes).enumerate() {
        frame.frame(&mut svg, view.size_label(size), index % columns == 0);
        frame.number_x(&mut svg);
        frame.name_axis_x(&mut svg, &curve.x_label);
        if index % columns == 0 {
            let beside = (16.0, frame.top + frame.height / 2.0);
            svg.turned("muted", beside, Anchor::Middle, -90.0, &curve.y_label);
        }
        let weight = if curve.bands { "seed" } else { "bold thin" };
        for line in lines.iter().filter(|line| line.size == **size) {
            let points = line.points.iter().filter(shown);
            let points: Vec<(f64, f64)> = points
                .map(|point| (frame.at_x(point[0]), frame.at_y(point[1])))
                .collect();
            svg.polyline(&format!("{weight} {}", colour(&line.method)), &points);
        }
        for Averaged { method, points, .. } in averages.iter().filter(|line| line.size == *size) {
            draw_band(&mut svg, frame, &colour(method), points);
        }
    }
    Ok(Some(svg.finish()))
}

/// The series of each of `methods`: a method's own, or a free one for any other name.
fn colours(view: &View, methods: &[&str]) -> Vec<usize> {
    let own = |id: &str| view.methods.iter().position(|row| row.id == id);
    let taken: Vec<usize> = methods.iter().filter_map(|id| own(id)).collect();
    let mut free = (0..).filter(|place| !taken.contains(place));
    methods
        .iter()
        .map(|id| own(id).or_else(|| free.next()).unwrap_or(0))
        .collect()
}
