//! All primary comparisons in one figure: the simultaneous interval of each, the differences that
//! do not matter, and the verdict by colour, shape and word. Each unit has a panel, in which
//! comparisons are grouped under their claim.

use super::axis::{Extent, Panel};
use super::svg::{Anchor, Svg, TEXT, wrapped};
use crate::report::claims::{Judged, JudgedComparison, Reply, Standing, name};
use crate::report::format;
use crate::report::input::{MetricColumn, Role};
use crate::report::sentence::signs;
use crate::report::view::View;

const LINE: f64 = 17.0;
const ROW: f64 = 22.0;
const EDGE: f64 = 12.0;

/// The width of a drawing and the places of its columns.
struct ForestColumns {
    width: f64,
    /// The left and right end of the axis.
    axis: [f64; 2],
    /// Whether names and verdicts are above the interval instead of beside it.
    stacked: bool,
}

const WIDE: ForestColumns = ForestColumns {
    width: super::WIDTH,
    axis: [230.0, 600.0],
    stacked: false,
};
/// The layout for a telephone.
const NARROW: ForestColumns = ForestColumns {
    width: 390.0,
    axis: [EDGE, 390.0 - EDGE],
    stacked: true,
};

/// A comparison with its claim.
struct Row<'j> {
    judged: &'j Judged<'j>,
    part: &'j JudgedComparison<'j>,
}

/// The figure for a page and for a narrow one; `None` without a primary comparison.
pub fn draw(view: &View, claims: &[Judged]) -> Option<[String; 2]> {
    let primary = claims.iter().filter(|it| it.claim.role == Role::Primary);
    let rows: Vec<Row> = primary
        .flat_map(|judged| judged.parts.iter().map(move |part| Row { judged, part }))
        .collect();
    let mut panels: Vec<(Vec<&MetricColumn>, Vec<&Row>)> = Vec::new();
    for row in &rows {
        let metric = row.part.contrast.metric;
        match panels
            .iter_mut()
            .find(|(metrics, _)| metrics.iter().any(|known| same_unit(&known.id, &metric.id)))
        {
            Some((metrics, rows)) => {
                metrics.push(metric);
                rows.push(row);
            }
            None => panels.push((vec![metric], vec![row])),
        }
    }
    (!rows.is_empty()).then(|| [WIDE, NARROW].map(|place| draw_at(view, &panels, &place)))
}

/// Whether two metrics are one quantity: one id begins with the other, or both begin or both end
/// alike, as in `demonstration_accuracy`.
fn same_unit(a: &str, b: &str) -> bool {
    let begins = |short: &str, long: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.starts_with('_'))
    };
    let end = |id: &str| id.rsplit_once('_').map(|(_, end)| end.to_owned());
    a == b
        || begins(a, b)
        || begins(b, a)
        || (end(a).is_some() && end(a) == end(b))
        || matches!((a.split_once('_'), b.split_once('_')), (Some((a, _)), Some((b, _))) if a == b)
}

fn draw_at(
    view: &View,
    panels: &[(Vec<&MetricColumn>, Vec<&Row>)],
    place: &ForestColumns,
) -> String {
    let level = format::percent(1.0 - view.design().alpha_each());
    let title = "Primary comparisons";
    let how = format!(
        "Point and line: difference with its interval ({level} % over all looks), so that all cover together with at least {} % \
         probability. Grey band: differences that do not matter. An arrow: the interval goes on.",
        format::percent(1.0 - view.design().alpha)
    );
    let how_lines = wrapped(&how, place.width - 2.0 * EDGE);
    let top = 32.0 + LINE * how_lines.len() as f64 + 8.0;
    // Drawn twice: the first drawing only finds the height.
    let mut scratch = Svg::new(place.width, 0.0, title, &how);
    let bottom = panels.iter().fold(top, |y, panel| {
        draw_panel(&mut scratch, view, panel, place, y)
    });
    let mut svg = Svg::new(place.width, bottom + 4.0, title, &how);
    svg.text("title", (EDGE, 24.0), Anchor::Start, title);
    for (at, line) in how_lines.iter().enumerate() {
        svg.text(
            "muted",
            (EDGE, 46.0 + LINE * at as f64),
            Anchor::Start,
            line,
        );
    }
    panels
        .iter()
        .fold(top, |y, panel| draw_panel(&mut svg, view, panel, place, y));
    svg.finish()
}

/// Draws a panel below `top` and returns its lowest point.
fn draw_panel(
    svg: &mut Svg,
    view: &View,
    (metrics, rows): &(Vec<&MetricColumn>, Vec<&Row>),
    place: &ForestColumns,
    top: f64,
) -> f64 {
    let Some(x) = extent(rows) else { return top };
    let [left, right] = place.axis;
    let frame = Panel {
        left,
        top,
        width: right - left,
        height: 0.0,
        x,
        y: Extent::linear(0.0, 1.0),
    };
    let mut y = top + LINE;
    svg.text(
        "strong",
        (EDGE, y),
        Anchor::Start,
        &format!("Difference in {}", unit(metrics)),
    );
    if !place.stacked {
        svg.text("muted", (place.width - EDGE, y), Anchor::End, "pairs, look");
    }
    y += 8.0;
    let grid_from = y;
    // The first pass over the rows only finds how far the grid reaches; the second draws them over
    // the grid.
    let grid_to = draw_rows(
        &mut Svg::new(0.0, 0.0, "", ""),
        view,
        rows,
        place,
        &frame,
        y,
    );
    for (tick, label) in x.named_ticks((frame.width / 70.0) as usize) {
        let at = frame.at_x(tick);
        svg.line("grid", (at, grid_from), (at, grid_to));
        svg.text("muted", (at, grid_to + TEXT + 4.0), Anchor::Middle, &label);
    }
    if x.low < 0.0 && x.high > 0.0 {
        svg.line(
            "axis",
            (frame.at_x(0.0), grid_from),
            (frame.at_x(0.0), grid_to),
        );
    }
    draw_rows(svg, view, rows, place, &frame, y);
    grid_to + TEXT + 22.0
}

/// The extent of the differences and margins, and of the intervals unless they are far wider.
fn extent(rows: &[&Row]) -> Option<Extent> {
    let findings = || rows.iter().filter_map(|row| row.part.finding());
    let mut points: Vec<f64> = findings().map(|finding| finding.estimate).collect();
    points.push(0.0);
    let margins = rows
        .iter()
        .filter_map(|row| Some((row.judged.claim.threshold, row.judged.claim.margin?)));
    let margins: Vec<f64> = margins
        .flat_map(|(at, margin)| [at - margin, at + margin])
        .collect();
    points.extend(margins);
    let ends: Vec<f64> = findings()
        .filter_map(|finding| finding.interval)
        .flat_map(|interval| [interval.low, interval.high])
        .collect();
    Extent::around(&points, &ends, None)
}

fn draw_rows(
    svg: &mut Svg,
    view: &View,
    rows: &[&Row],
    place: &ForestColumns,
    frame: &Panel,
    top: f64,
) -> f64 {
    let mut y = top;
    let mut claim = None;
    let sizes = view.sizes.len();
    for row in rows {
        let of = row.judged.claim;
        if claim != Some(&of.id) {
            claim = Some(&of.id);
            y += 6.0;
            for line in wrapped(
                &signs(view, of),
                place.width - 2.0 * EDGE - if place.stacked { 0.0 } else { 110.0 },
            ) {
                y += LINE;
                svg.text("", (EDGE, y), Anchor::Start, &line);
            }
            y += 3.0;
        }
        let metric = &row.part.contrast.metric.label;
        let label = if sizes > 1 {
            format!("{metric}, {}", view.size_label(&row.part.contrast.size))
        } else {
            metric.clone()
        };
        let (words, standing) = verdict(row);
        let count = row
            .part
            .finding()
            .map_or_else(String::new, |it| format!("{}, {}", it.n, it.look));
        let class = format!("verdict {}", class(standing));
        if place.stacked {
            for line in wrapped(
                &format!(
                    "{label}: {words}{}",
                    if count.is_empty() {
                        String::new()
                    } else {
                        format!(" (pairs, look: {count})")
                    }
                ),
                place.width - 2.0 * EDGE,
            ) {
                y += LINE;
                svg.text(&class, (EDGE, y), Anchor::Start, &line);
            }
            y += 12.0;
            draw_interval(svg, frame, row, standing, y);
            y += 8.0;
            continue;
        }
        let room = place.width - EDGE - 50.0 - (frame.left + frame.width + 14.0);
        let (labels, verdicts) = (
            wrapped(&label, frame.left - EDGE - 30.0),
            wrapped(&words, room),
        );
        let lines = labels.len().max(verdicts.len());
        let height = ROW + LINE * (lines as f64 - 1.0);
        let middle = y + height / 2.0;
        let mut column = |class: &str, x: f64, anchor: Anchor, lines: &[String]| {
            let first = middle + TEXT * 0.35 - LINE * (lines.len() as f64 - 1.0) / 2.0;
            for (at, line) in lines.iter().enumerate() {
                svg.text(class, (x, first + LINE * at as f64), anchor, line);
            }
        };
        column("muted", EDGE + 14.0, Anchor::Start, &labels);
        column(
            &class,
            frame.left + frame.width + 14.0,
            Anchor::Start,
            &verdicts,
        );
        column("muted", place.width - EDGE, Anchor::End, &[count]);
        draw_interval(svg, frame, row, standing, middle);
        y += height;
    }
    y + 6.0
}

fn draw_interval(svg: &mut Svg, frame: &Panel, row: &Row, standing: Standing, y: f64) {
    let claim = row.judged.claim;
    if let Some(margin) = claim.margin {
        let [low, high] =
            [claim.threshold - margin, claim.threshold + margin].map(|end| frame.clipped_x(end));
        svg.polygon(
            "level",
            &[
                (low, y - 10.0),
                (high, y - 10.0),
                (high, y + 10.0),
                (low, y + 10.0),
            ],
        );
    }
    let Some(finding) = row.part.finding() else {
        return;
    };
    let class = class(standing);
    if let Some(interval) = finding.interval {
        let [low, high] = [interval.low, interval.high].map(|end| frame.clipped_x(end));
        svg.line(&format!("mean {class}"), (low, y), (high, y));
        for (end, at, towards) in [(interval.low, low, 1.0), (interval.high, high, -1.0)] {
            if frame.at_x(end) == at {
                svg.line(&format!("mean {class}"), (at, y - 4.0), (at, y + 4.0));
            } else {
                svg.polygon(
                    class,
                    &[
                        (at, y),
                        (at + 7.0 * towards, y - 4.5),
                        (at + 7.0 * towards, y + 4.5),
                    ],
                );
            }
        }
    }
    let x = frame.at_x(finding.estimate);
    match standing {
        Standing::Supported => svg.circle(class, (x, y), 5.0),
        Standing::Contradicted => svg.polygon(
            class,
            &[(x, y - 6.0), (x + 6.0, y), (x, y + 6.0), (x - 6.0, y)],
        ),
        Standing::TooSmall => svg.polygon(
            class,
            &[
                (x - 5.0, y - 5.0),
                (x + 5.0, y - 5.0),
                (x + 5.0, y + 5.0),
                (x - 5.0, y + 5.0),
            ],
        ),
        Standing::Mixed | Standing::Open => svg.circle(&format!("empty {class}"), (x, y), 4.5),
    }
}

fn verdict(row: &Row) -> (String, Standing) {
    let standing = row.part.standing();
    let words = match &row.part.reply {
        Reply::NoData => "no data",
        Reply::NotRegistered => "no look yet",
        Reply::Exploratory(_) => "exploratory",
        Reply::Primary(finding) => finding.verdict.map_or("no verdict", |verdict| {
            name(verdict, row.judged.claim.direction)
        }),
    };
    let words = match row.part.not_upheld() {
        Some(later) => format!("{words}; not upheld at {}", later.n),
        None => words.to_owned(),
    };
    (words, standing)
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Supported => "s0",
        Standing::Contradicted => "s1",
        Standing::TooSmall => "s2",
        Standing::Mixed | Standing::Open => "open",
    }
}

/// The common beginning of the labels of metrics, or the label itself if there is only one.
fn unit(metrics: &[&MetricColumn]) -> String {
    let common = metrics
        .iter()
        .map(|metric| metric.label.as_str())
        .reduce(|a, b| {
            let same = a
                .char_indices()
                .zip(b.chars())
                .find(|((_, a), b)| a != b)
                .map_or(a.len().min(b.len()), |((at, _), _)| at);
            &a[..same]
        });
    let common = common.unwrap_or_default();
    match metrics.iter().any(|metric| metric.label == common) {
        true => common.to_owned(),
        false => {
            let word = common.trim_end_matches([' ', ',', '(']);
            if word.is_empty() {
                metrics[0].label.clone()
            } else {
                word.to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodings_and_accuracies_share_a_panel_and_others_do_not() {
        assert!(same_unit("gold", "gold_greedy") && same_unit("gold_tuned", "gold_greedy"));
        assert!(same_unit("demonstration_accuracy", "on_policy_accuracy"));
        assert!(!same_unit("gold", "kl") && !same_unit("gold", "demo_log_likelihood"));
    }
}
