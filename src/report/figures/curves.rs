//! Free curves of the input, for example gold reward against KL: a panel per size, a line per seed, a colour and a dash
//! per method.

use super::axis::Extent;
use super::svg::{Anchor, Svg, TEXT, series, width_of};
use super::{LEFT, WIDTH, grid, lowest, series_of};
use crate::report::input::{Curve, CurveLine};
use crate::report::view::View;

const HEIGHT: f64 = 240.0;
const FOOT: f64 = 46.0;
/// Length of a line sample in the legend.
const SAMPLE: f64 = 30.0;

/// `None` where no line has a point.
pub fn draw(view: &View, curve: &Curve) -> Option<String> {
    let mut lines: Vec<&CurveLine> = curve.lines.iter().collect();
    lines.sort_by_key(|line| (series_of(view, &line.method), &line.method, &line.size, line.seed));
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Extent::around(&points().map(|point| point[0]).collect::<Vec<_>>(), &[], None)?;
    let y = Extent::around(&points().map(|point| point[1]).collect::<Vec<_>>(), &[], None)?;
    let known = view.sizes.iter().map(String::as_str);
    let mut sizes: Vec<&str> = known.filter(|size| lines.iter().any(|line| line.size == *size)).collect();
    for line in &lines {
        if !sizes.contains(&line.size.as_str()) {
            sizes.push(&line.size);
        }
    }
    let mut methods: Vec<&str> = lines.iter().map(|line| line.method.as_str()).collect();
    methods.dedup();
    let entries: Vec<(&str, &str)> = methods.iter().map(|id| (*id, view.method_label(id))).collect();
    let rows = legend_rows(&entries);

    let columns = sizes.len().min(2);
    let top = 40.0 + 22.0 * rows.len() as f64;
    let frames = grid(sizes.len(), columns, top, HEIGHT, FOOT, x, y);
    let how = format!("{} against {}; a line per seed.", curve.y_label, curve.x_label);
    let mut svg = Svg::new(WIDTH, lowest(&frames, FOOT) + 4.0, &curve.title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &curve.title);
    for (row, entries) in rows.iter().enumerate() {
        for (left, method, label) in entries {
            let y = 48.0 + 22.0 * row as f64;
            let class = format!("bold {}", series(series_of(view, method)));
            svg.line(&class, (*left, y - 4.0), (left + SAMPLE, y - 4.0));
            svg.text("", (left + SAMPLE + 6.0, y), Anchor::Start, label);
        }
    }
    for (index, (frame, size)) in frames.iter().zip(&sizes).enumerate() {
        frame.frame(&mut svg, view.size_label(size), index % columns == 0);
        frame.number_x(&mut svg);
        let below = (frame.left + frame.width / 2.0, frame.bottom() + 2.0 * TEXT + 10.0);
        svg.text("muted", below, Anchor::Middle, &curve.x_label);
        if index % columns == 0 {
            let beside = (16.0, frame.top + frame.height / 2.0);
            svg.turned("muted", beside, Anchor::Middle, -90.0, &curve.y_label);
        }
        for line in lines.iter().filter(|line| line.size == **size) {
            let points: Vec<(f64, f64)> = line
                .points
                .iter()
                .filter(|point| point.iter().all(|value| value.is_finite()))
                .map(|point| (frame.at_x(point[0]), frame.at_y(point[1])))
                .collect();
            svg.polyline(&format!("bold thin {}", series(series_of(view, &line.method))), &points);
        }
    }
    Some(svg.finish())
}

/// Legend entries (left edge, method, label) broken into rows that fit the width.
fn legend_rows<'v>(entries: &[(&'v str, &'v str)]) -> Vec<Vec<(f64, &'v str, &'v str)>> {
    let mut rows = vec![Vec::new()];
    let mut left = LEFT;
    for (method, label) in entries {
        let width = SAMPLE + 6.0 + width_of(label) + 20.0;
        if left + width > WIDTH && left > LEFT {
            rows.push(Vec::new());
            left = LEFT;
        }
        if let Some(row) = rows.last_mut() {
            row.push((left, *method, *label));
        }
        left += width;
    }
    rows
}
