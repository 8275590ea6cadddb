//! `report.md`: the page as Markdown, for a forge and for reading as text.

use super::Content;
use super::page::{Markup, one_line, render as page};
use super::table::{Cell, ColumnKind, Mark, Table};
use super::view::View;
use crate::error::Result;

/// The whole text.
pub fn render(view: &View, content: &Content) -> Result<String> {
    Ok(tidy(&page(
        view,
        content,
        &Markdown,
        include_str!("report.md.jinja"),
    )?))
}

struct Markdown;

impl Markup for Markdown {
    fn table(&self, table: &Table) -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = row(table
            .columns
            .iter()
            .map(|column| self.plain(&column.label))
            .collect());
        let rule = |kind| {
            if matches!(kind, ColumnKind::Text) {
                ":--"
            } else {
                "--:"
            }
        };
        text.push_str(&row(table
            .columns
            .iter()
            .map(|column| rule(column.kind).to_owned())
            .collect()));
        for cells in &table.rows {
            text.push_str(&row(cells.iter().map(|cell| self.cell(cell)).collect()));
        }
        text
    }

    fn prose(&self, text: &str) -> String {
        one_line(text)
    }

    /// The text on one line, without column breaks and markup.
    fn plain(&self, text: &str) -> String {
        let text = one_line(text);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                // Before a digit or a space, `<` opens no tag, and `<0.001` stays readable.
                '<' if rest
                    .peek()
                    .is_some_and(|next| !next.is_ascii_digit() && *next != ' ') =>
                {
                    out.push_str("&lt;")
                }
                '|' | '*' | '`' | '\\' => out.extend(['\\', character]),
                other => out.push(other),
            }
        }
        out
    }
}

impl Markdown {
    fn cell(&self, cell: &Cell) -> String {
        match cell {
            Cell::Text(text) => self.plain(text),
            Cell::Estimate(it) if it.mark == Mark::Separated => format!("**{}**", cell.show()),
            Cell::Estimate(it) if it.mark == Mark::Tied => format!("{} ≈", cell.show()),
            _ => cell.show(),
        }
    }
}

/// The text with at most one empty line at a time, and none at the beginning or end.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = true;
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && empty) {
            out.push_str(line);
            out.push('\n');
        }
        empty = line.is_empty();
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}
