//! The figure of an ablation: a metric against the varied quantity, a panel per size, every seed a
//! dot. Over numbers each line is a mean with its band; over words, which have no order, means with
//! whiskers are side by side.

use super::axis::{AxisMap, Extent, Panel};
use super::legend::Legend;
use super::svg::{Anchor, Svg, TEXT, styled, width_of};
use super::{LEFT, WIDTH, draw_band, draw_mean, grid, heading, lowest, series_of, turn};
use crate::error::Result;
use crate::report::contrast::over_seeds;
use crate::report::format;
use crate::report::input::{Ablation, AxisScale, BySeed, MetricColumn};
use crate::report::view::View;
use crate::stats::Estimate;

const HEIGHT: f64 = 240.0;
/// The pixels between the dots of two lines at one x.
const DODGE: f64 = 5.0;
/// The share of a word's slot over which its lines are spread, and the most pixels between two of
/// them.
const SPREAD: f64 = 0.7;
const APART: f64 = 40.0;

/// The values of all seeds of one line at one point, with their mean.
struct Spot<'a> {
    line: usize,
    x: f64,
    method: &'a str,
    values: BySeed,
    mean: Option<Estimate>,
}

struct Drawing<'a> {
    view: &'a View<'a>,
    ablation: &'a Ablation,
    metric: &'a MetricColumn,
    /// The labels of the word axis, in order; x is their index.
    words: Vec<&'a str>,
}

/// The figure; `None` if no point has a value.
pub fn draw(view: &View, ablation: &Ablation, metric: &MetricColumn) -> Result<Option<String>> {
    let drawing = Drawing {
        view,
        ablation,
        metric,
        words: words(ablation),
    };
    let mut panels = Vec::new();
    for size in &view.sizes {
        let spots = drawing.spots(size)?;
        if spots.iter().any(|spot| spot.mean.is_some()) {
            panels.push((size.as_str(), spots, drawing.level(size)?));
        }
    }
    let spots = || panels.iter().flat_map(|(_, spots, _)| spots);
    let levels = || panels.iter().filter_map(|(_, _, level)| level.as_ref());
    let mut values: Vec<f64> = spots()
        .flat_map(|spot| spot.values.values().copied())
        .collect();
    values.extend(levels().map(|level| level.point));
    let intervals = spots()
        .filter_map(|spot| spot.mean.as_ref())
        .chain(levels())
        .filter_map(|mean| mean.interval);
    let ends: Vec<f64> = intervals
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    let (Some(x), Some(y)) = (drawing.x(), Extent::around(&values, &ends, metric.range)) else {
        return Ok(None);
    };

    let columns = panels
        .len()
        .min(if drawing.words.len() > 6 { 1 } else { 2 });
    // Words are horizontal where they fit and turned where they do not.
    let longest = drawing
        .words
        .iter()
        .map(|word| width_of(word))
        .fold(0.0, f64::max);
    let slot = (WIDTH - LEFT) / columns as f64 / drawing.words.len().max(1) as f64;
    let names: Vec<f64> = drawing.words.iter().map(|word| width_of(word)).collect();
    let degrees = if longest > slot - 8.0 {
        turn(slot, &names)
    } else {
        0.0
    };
    let foot = 46.0 + longest * degrees.to_radians().sin();
    let legend = drawing.legend();
    let frames = grid(
        panels.len(),
        columns,
        50.0 + legend.height(),
        HEIGHT,
        foot,
        x,
        y,
    );

    let title = format!("{}, by {}", heading(metric), ablation.axis);
    let mut svg = Svg::new(WIDTH, lowest(&frames, foot) + 4.0, &title, &drawing.how());
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &drawing.how());
    legend.draw(&mut svg, 50.0);
    for (index, (frame, (size, spots, level))) in frames.iter().zip(&panels).enumerate() {
        frame.frame(&mut svg, view.size_label(size), index % columns == 0);
        if let Some(level) = level {
            draw_level(&mut svg, frame, level);
        }
        drawing.name_x(&mut svg, frame, degrees);
        let below = (frame.left + frame.width / 2.0, frame.bottom() + foot - 10.0);
        svg.text("muted", below, Anchor::Middle, &ablation.axis);
        for line in 0..ablation.lines.len() {
            let spots: Vec<&Spot> = spots.iter().filter(|spot| spot.line == line).collect();
            drawing.line(&mut svg, frame, line, &spots, size);
        }
    }
    Ok(Some(svg.finish()))
}

/// The labels of all points in order of first occurrence; empty if points have an x.
fn words(ablation: &Ablation) -> Vec<&str> {
    let mut words: Vec<&str> = Vec::new();
    if ablation.scale == AxisScale::Words {
        for point in ablation.lines.iter().flat_map(|line| &line.points) {
            if !words.contains(&point.label.as_str()) {
                words.push(&point.label);
            }
        }
    }
    words
}

impl<'a> Drawing<'a> {
    fn over_words(&self) -> bool {
        self.ablation.scale == AxisScale::Words
    }

    /// The points of all lines at a size, by line and x.
    fn spots(&self, size: &str) -> Result<Vec<Spot<'a>>> {
        let mut spots = Vec::new();
        for (at, line) in self.view.lines_of(self.ablation, size) {
            for point in &line.points {
                let place = || {
                    self.words
                        .iter()
                        .position(|word| *word == point.label)
                        .map(|place| place as f64 + 0.5)
                };
                let Some(x) = (if self.over_words() { place() } else { point.x }) else {
                    continue;
                };
                let values = self
                    .view
                    .metrics()
                    .last(&point.method, size, &self.metric.id);
                let mean = over_seeds(self.view, self.metric, &values)?;
                spots.push(Spot {
                    line: at,
                    x,
                    method: &point.method,
                    values,
                    mean,
                });
            }
        }
        spots.sort_by(|a, b| {
            (a.line, a.x)
                .partial_cmp(&(b.line, b.x))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        Ok(spots)
    }

    /// The mean of the level that the lines are compared with.
    fn level(&self, size: &str) -> Result<Option<Estimate>> {
        let Some(method) = &self.ablation.against else {
            return Ok(None);
        };
        over_seeds(
            self.view,
            self.metric,
            &self.view.metrics().last(method, size, &self.metric.id),
        )
    }

    fn x(&self) -> Option<Extent> {
        if self.over_words() {
            return Some(Extent::linear(0.0, self.words.len() as f64))
                .filter(|_| !self.words.is_empty());
        }
        Extent::on(
            AxisMap::log_if(self.ablation.scale == AxisScale::Log),
            &self.places(),
            &[],
        )
    }

    /// All distinct x, ascending.
    fn places(&self) -> Vec<f64> {
        let points = self.ablation.lines.iter().flat_map(|line| &line.points);
        let mut places: Vec<f64> = points.filter_map(|point| point.x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        places
    }

    fn class(&self, line: usize) -> String {
        styled(
            series_of(self.view, &self.ablation.lines[line].method),
            line,
        )
    }

    fn legend(&self) -> Legend {
        let line = |(at, line): (usize, &crate::report::AblationLine)| {
            (format!("bold {}", self.class(at)), line.label.clone())
        };
        let level = self.ablation.against.iter();
        let level = level.map(|id| {
            (
                "reference".to_owned(),
                self.view.method_label(id).to_owned(),
            )
        });
        Legend::new(
            self.ablation
                .lines
                .iter()
                .enumerate()
                .map(line)
                .chain(level),
        )
    }

    fn how(&self) -> String {
        let mean = if self.over_words() {
            "Bar and whiskers"
        } else {
            "Line and band"
        };
        let level = format::percent(self.view.level());
        format!(
            "Dots: seeds, hollow where collapsed. {mean}: mean with its {level} % t interval over seeds."
        )
    }

    fn name_x(&self, svg: &mut Svg, frame: &Panel, degrees: f64) {
        frame.name_x(svg, &self.places());
        for (place, word) in self.words.iter().enumerate() {
            let at = (frame.at_x(place as f64 + 0.5), frame.bottom() + TEXT + 6.0);
            if degrees > 0.0 {
                svg.turned("", (at.0 + 6.0, at.1), Anchor::End, -degrees, word);
            } else {
                svg.text("", at, Anchor::Middle, word);
            }
        }
    }

    fn line(&self, svg: &mut Svg, frame: &Panel, line: usize, spots: &[&Spot], size: &str) {
        let class = self.class(line);
        let offset = self.offset(frame, line);
        for spot in spots {
            let collapsed = self.view.collapsed(spot.method, size);
            for (seed, value) in &spot.values {
                let kind = if collapsed.contains_key(seed) {
                    "hollow"
                } else {
                    "dot"
                };
                svg.circle(
                    &format!("{kind} {class}"),
                    (frame.at_x(spot.x) + offset, frame.at_y(*value)),
                    3.0,
                );
            }
        }
        let means: Vec<(f64, Estimate)> = spots
            .iter()
            .filter_map(|spot| Some((spot.x, spot.mean?)))
            .collect();
        if self.over_words() || means.len() == 1 {
            for (x, mean) in &means {
                draw_mean(svg, frame, &class, frame.at_x(*x) + offset + 9.0, mean);
            }
        } else {
            draw_band(svg, frame, &class, &means);
        }
    }

    /// The distance in pixels at which a line is drawn beside its x, so that no line hides another.
    fn offset(&self, frame: &Panel, line: usize) -> f64 {
        let lines = self.ablation.lines.len();
        let step = match self.over_words() {
            true => (frame.width / self.words.len() as f64 * SPREAD / lines as f64).min(APART),
            false => DODGE,
        };
        (line as f64 - (lines as f64 - 1.0) / 2.0) * step
    }
}

/// Draws the level as a dashed line over the band of its interval.
fn draw_level(svg: &mut Svg, frame: &Panel, level: &Estimate) {
    let (left, right) = (frame.left, frame.left + frame.width);
    if let Some(interval) = level.interval {
        let (low, high) = (
            frame.clipped_y(interval.low),
            frame.clipped_y(interval.high),
        );
        svg.polygon(
            "level",
            &[(left, high), (right, high), (right, low), (left, low)],
        );
    }
    let y = frame.at_y(level.point);
    svg.line("reference", (left, y), (right, y));
}
