//! The main figure for many methods: a row per method with its name beside it, each seed a dot, the
//! mean with its t interval under them; a panel per size.

use super::axis::{Extent, Panel};
use super::dots::Slot;
use super::svg::{Anchor, Svg, TEXT, fitted, series, width_of};
use super::{GAP, HEADING, RIGHT, WIDTH, heading, series_of};
use crate::report::format;
use crate::report::input::MetricColumn;
use crate::report::view::View;

const TOP: f64 = 54.0;
const ROW: f64 = 24.0;
const FOOT: f64 = 34.0;
/// The largest width that names may take.
const NAMES: f64 = 300.0;
/// The room right of a panel for the number of seeds of a row.
const COUNTS: f64 = 34.0;

/// The figure. `panels` holds the methods at each size, in their order; `values` is the extent of
/// all panels.
pub fn draw(view: &View, metric: &MetricColumn, panels: &[Vec<Slot>], values: Extent) -> String {
    let rows = panels.first().map_or(0, Vec::len);
    let columns = panels.len().min(2);
    let names = panels
        .iter()
        .flatten()
        .map(|slot| width_of(&slot.method.label))
        .fold(0.0, f64::max)
        .min(NAMES)
        + 20.0;
    let width = (WIDTH - names - RIGHT - GAP * (columns - 1) as f64) / columns as f64 - COUNTS;
    let height = rows as f64 * ROW;
    let frame = |index: usize| Panel {
        left: names + (index % columns) as f64 * (width + COUNTS + GAP),
        top: TOP + HEADING + (index / columns) as f64 * (height + FOOT + HEADING),
        width,
        height,
        x: values,
        y: Extent::linear(0.0, rows as f64),
    };
    let title = heading(metric);
    let how = format!(
        "Dots: seeds. Under them: mean with its {} % t interval over seeds. Right: seeds shown of seeds planned.",
        format::percent(view.level())
    );
    let lowest = (0..panels.len())
        .map(|index| frame(index).bottom())
        .fold(0.0, f64::max)
        + FOOT;
    let mut svg = Svg::new(WIDTH, lowest, &title, &how);
    svg.text("title", (12.0, 24.0), Anchor::Start, &title);
    svg.text("muted", (12.0, 44.0), Anchor::Start, &how);
    for (index, slots) in panels.iter().enumerate() {
        let frame = frame(index);
        svg.text(
            "strong",
            (frame.left + width / 2.0, frame.top - 8.0),
            Anchor::Middle,
            view.size_label(&view.sizes[index]),
        );
        for (tick, name) in values.named_ticks((width / 70.0) as usize) {
            let x = frame.at_x(tick);
            svg.line("grid", (x, frame.top), (x, frame.bottom()));
            frame.mark_x(&mut svg, tick, &name);
        }
        svg.line(
            "axis",
            (frame.left, frame.bottom()),
            (frame.left + width, frame.bottom()),
        );
        for (place, slot) in slots.iter().enumerate() {
            let middle = frame.at_y((rows - place) as f64 - 0.5);
            if index % columns == 0 {
                let emphasis = if slot.method.id == view.layout().under_study {
                    "strong"
                } else {
                    ""
                };
                let name = fitted(&slot.method.label, names - 20.0);
                svg.text(
                    emphasis,
                    (names - 8.0, middle + TEXT * 0.35),
                    Anchor::End,
                    &name,
                );
            }
            draw_row(
                &mut svg,
                &frame,
                &series(series_of(view, &slot.method.id)),
                middle,
                slot,
            );
        }
    }
    svg.finish()
}

fn draw_row(svg: &mut Svg, frame: &Panel, colour: &str, middle: f64, slot: &Slot) {
    for value in slot.values.values() {
        svg.circle(
            &format!("dot {colour}"),
            (frame.at_x(*value), middle - 4.0),
            3.5,
        );
    }
    let count = format!("{}/{}", slot.values.len(), slot.planned);
    let right = frame.left + frame.width;
    svg.text(
        "muted",
        (right + 6.0, middle + TEXT * 0.35),
        Anchor::Start,
        &count,
    );
    let Some(mean) = &slot.mean else {
        let middle = (frame.left + frame.width / 2.0, middle + TEXT * 0.35);
        return svg.text("muted", middle, Anchor::Middle, format::NOT_AVAILABLE);
    };
    let class = format!("mean {colour}");
    let (x, y) = (frame.at_x(mean.point), middle + 5.0);
    svg.line(&class, (x, y - 5.0), (x, y + 5.0));
    let Some(interval) = mean.interval else {
        return;
    };
    svg.line(
        &class,
        (frame.clipped_x(interval.low), y),
        (frame.clipped_x(interval.high), y),
    );
    for end in [interval.low, interval.high] {
        let x = frame.at_x(end);
        if x == frame.clipped_x(end) {
            svg.line(&class, (x, y - 3.0), (x, y + 3.0));
        }
    }
}
