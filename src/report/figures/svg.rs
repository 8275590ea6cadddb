//! A small SVG writer: the same shapes give the same bytes, coordinates are rounded to a tenth of a
//! pixel, and colours live in one style sheet that follows the reader's light or dark scheme.

use std::fmt::Write;

/// The text size of axes and labels, in pixels; a figure is as wide as GitHub shows it, so it is
/// read at this size.
pub const TEXT: f64 = 13.0;

/// Okabe and Ito's palette (2008), distinguishable under the common colour-vision deficiencies,
/// without its black and yellow, which are invisible on one of the two backgrounds.
const PALETTE: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31",
];

/// The dash patterns of series, so that colour is never the only distinction.
const DASHES: [&str; 7] = ["none", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "5 2 1 2"];

/// The alignment of a text at its point.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under construction, in pixels from the upper left.
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

impl Svg {
    pub fn new(width: f64, height: f64, title: &str, description: &str) -> Self {
        Self {
            width,
            height,
            title: title.to_owned(),
            description: description.to_owned(),
            body: String::new(),
        }
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.element(&format!(
            r#"<line class="{class}" x1="{}" y1="{}" x2="{}" y2="{}"/>"#,
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1)
        ));
    }

    pub fn circle(&mut self, class: &str, centre: (f64, f64), radius: f64) {
        self.element(&format!(
            r#"<circle class="{class}" cx="{}" cy="{}" r="{}"/>"#,
            px(centre.0),
            px(centre.1),
            px(radius)
        ));
    }

    pub fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let joined: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", px(x), px(y)))
            .collect();
        self.element(&format!(
            r#"<polyline class="{class}" points="{}"/>"#,
            joined.join(" ")
        ));
    }

    pub fn polygon(&mut self, class: &str, points: &[(f64, f64)]) {
        let joined: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", px(x), px(y)))
            .collect();
        self.element(&format!(
            r#"<polygon class="{class}" points="{}"/>"#,
            joined.join(" ")
        ));
    }

    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        self.turned(class, at, anchor, 0.0, text);
    }

    /// Draws text turned clockwise by `degrees` about its point.
    pub fn turned(
        &mut self,
        class: &str,
        at: (f64, f64),
        anchor: Anchor,
        degrees: f64,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (px(at.0), px(at.1));
        let turn = if degrees == 0.0 {
            String::new()
        } else {
            format!(r#" transform="rotate({} {x} {y})""#, px(degrees))
        };
        let text = escape(text);
        self.element(&format!(
            r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}"{turn}>{text}</text>"#
        ));
    }

    fn element(&mut self, element: &str) {
        self.body.push_str("  ");
        self.body.push_str(element);
        self.body.push('\n');
    }

    pub fn finish(self) -> String {
        let (width, height) = (px(self.width), px(self.height));
        let (title, description) = (escape(&self.title), escape(&self.description));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n  <title>{title}</title>\n  <desc>{description}</desc>\n  \
             <style>\n{}  </style>\n  <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n{}</svg>\n",
            style(),
            self.body
        )
    }
}

/// The classes of the `index`-th series: a colour and a dash; each combination occurs once in 49.
pub fn series(index: usize) -> String {
    styled(index, index + index / PALETTE.len())
}

/// The classes of a series whose colour and dash are chosen independently.
pub fn styled(colour: usize, dash: usize) -> String {
    format!("s{} d{}", colour % PALETTE.len(), dash % DASHES.len())
}

fn style() -> String {
    let mut css = format!(
        "    text {{ font: {TEXT}px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328; }}\n    \
         text.title {{ font-size: 16px; font-weight: 600; }}\n    text.muted {{ fill: #59636e; }}\n    \
         text.strong {{ font-weight: 600; }}\n    .page {{ fill: #ffffff; }}\n    .grid {{ stroke: #d1d9e0; stroke-width: 1; }}\n    .axis {{ stroke: #59636e; stroke-width: 1; }}\n    \
         .reference {{ stroke: #59636e; stroke-width: 1.5; stroke-dasharray: 5 4; }}\n    \
         .dot {{ fill-opacity: 0.55; }}\n    .mean {{ stroke-width: 2.5; }}\n    \
         .seed {{ stroke-width: 1; stroke-opacity: 0.6; }}\n    .bold {{ stroke-width: 2.5; }}\n    .thin {{ stroke-width: 1.4; stroke-opacity: 0.85; }}\n"
    );
    for (index, colour) in PALETTE.iter().enumerate() {
        let _ = writeln!(css, "    .s{index} {{ stroke: {colour}; fill: {colour}; }}");
        let _ = writeln!(
            css,
            "    .bold.d{index} {{ stroke-dasharray: {}; }}",
            DASHES[index]
        );
    }
    // After the series and more specific, so that a line is never filled.
    css.push_str(
        "    polyline[class], .hollow[class] { fill: none; }\n    .hollow { stroke-width: 1.5; }\n    \
         .empty[class] { fill: #ffffff; stroke-width: 2; }\n    .open { stroke: #59636e; fill: #59636e; }\n    \
         text.verdict { stroke: none; }\n    text.verdict.s2 { fill: #007a59; }\n    text.verdict.s1 { fill: #b34a00; }\n    \
         .band[class] { fill-opacity: 0.15; stroke: none; }\n    .level { fill: #59636e; fill-opacity: 0.14; }\n    @media (prefers-color-scheme: dark) {\n      text { fill: #f0f6fc; }\n      \
         text.muted { fill: #9198a1; }\n      .page { fill: #0d1117; }\n      .grid { stroke: #30363d; }\n      \
         .axis, .reference { stroke: #9198a1; }\n      .level { fill: #9198a1; }\n      .empty[class] { fill: #0d1117; }\n      \
         .open { stroke: #9198a1; fill: #9198a1; }\n      text.verdict.s0 { fill: #56a8e0; }\n      \
         text.verdict.s1 { fill: #f0883e; }\n      text.verdict.s2 { fill: #35c79a; }\n    }\n",
    );
    css
}

/// A coordinate to a tenth of a pixel, without a trailing zero.
fn px(value: f64) -> String {
    let text = crate::report::format::fixed(value, 1);
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// Text as character data.
fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, character| {
            match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                other if other.is_control() => out.push(' '),
                other => out.push(other),
            }
            out
        })
}

/// The text cut to about this width, with an ellipsis if something was cut.
pub fn fitted(text: &str, width: f64) -> String {
    let most = (width / width_of("x")) as usize;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end_matches([' ', ',']))
}

/// The text in lines of about this width, broken between words; a wider word has a line of its own.
pub fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width_of(line) + width_of(word) + width_of(" ") <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The approximate width of a text at [`TEXT`] size; fonts differ, so it is a generous estimate.
pub fn width_of(text: &str) -> f64 {
    text.chars().count() as f64 * TEXT * 0.58
}
