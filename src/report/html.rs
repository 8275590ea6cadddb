//! `report.html`: the same page as one file with its figures inside, which opens anywhere without a
//! network.

use super::Content;
use super::page::{Markup, one_line, render as page};
use super::table::{Cell, ColumnKind, Mark, Table};
use super::view::View;
use crate::error::Result;

/// The whole document.
pub fn render(view: &View, content: &Content) -> Result<String> {
    page(view, content, &Html, include_str!("report.html.jinja"))
}

/// The most columns of estimates that a page has room for side by side.
const DENSE: usize = 4;

struct Html;

impl Markup for Html {
    fn table(&self, table: &Table) -> String {
        // With many estimates, each interval is put under its point to save width.
        let estimates = table
            .columns
            .iter()
            .filter(|column| column.kind == ColumnKind::Estimate)
            .count();
        let class = if estimates > DENSE {
            "wide dense"
        } else {
            "wide"
        };
        let mut text = format!("<div class=\"{class}\"><table>\n<thead><tr>");
        for column in &table.columns {
            text.push_str(&format!(
                "<th{}>{}</th>",
                align(column.kind),
                self.plain(&column.label)
            ));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            text.push_str("<tr>");
            for (column, cell) in table.columns.iter().zip(row) {
                text.push_str(&format!(
                    "<td{}>{}</td>",
                    align(column.kind),
                    self.cell(cell)
                ));
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody></table></div>");
        text
    }

    fn prose(&self, text: &str) -> String {
        paired(&paired(&self.plain(text), "`", "code"), "**", "strong")
    }

    fn plain(&self, text: &str) -> String {
        one_line(text)
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
    }
}

impl Html {
    fn cell(&self, cell: &Cell) -> String {
        let text = self.plain(&cell.show());
        let Cell::Estimate(it) = cell else {
            return text;
        };
        let (point, interval) = match text.split_once(" [") {
            Some((point, interval)) => (
                point,
                format!(" <span class=\"interval\">[{interval}</span>"),
            ),
            None => (text.as_str(), String::new()),
        };
        match it.mark {
            Mark::Separated => format!("<strong>{point}{interval}</strong>"),
            Mark::Tied => format!(
                "<span title=\"best, or not separated from the best\">≈</span> {point}{interval}"
            ),
            Mark::None => format!("{point}{interval}"),
        }
    }
}

fn align(kind: ColumnKind) -> &'static str {
    if matches!(kind, ColumnKind::Text) {
        ""
    } else {
        " class=\"number\""
    }
}

/// Turns the text between two `sign`s into an element; a last sign without a partner stays.
fn paired(text: &str, sign: &str, element: &str) -> String {
    let parts: Vec<&str> = text.split(sign).collect();
    let mut out = String::with_capacity(text.len());
    for (place, part) in parts.iter().enumerate() {
        match (place % 2 == 1, place + 1 == parts.len()) {
            (true, false) => out.push_str(&format!("<{element}>{part}</{element}>")),
            (true, true) => out.push_str(&format!("{sign}{part}")),
            (false, _) => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_its_place() {
        assert_eq!(
            Html.prose("a **b** `<i>` c ** d"),
            "a <strong>b</strong> <code>&lt;i&gt;</code> c ** d"
        );
        assert_eq!(Html.plain("\"x\" & y\nz"), "&quot;x&quot; &amp; y z");
    }
}
