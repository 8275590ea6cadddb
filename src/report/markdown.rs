//! `report.md`: tables as text, put in their order by a template.

use minijinja::{Environment, context};
use serde::Serialize;

use super::figures::{Figure, Figures};
use super::format;
use super::input::TableKind;
use super::prose;
use super::table::{Cell, Kind, Mark, Table};
use super::view::{View, file_stem};
use super::{Content, claims::Judged};
use crate::error::{Context, Result};

/// A table as the template sees it: text, cut into named parts.
#[derive(Serialize)]
struct Rendered<'t> {
    id: &'t str,
    title: &'t str,
    note: Option<&'t str>,
    parts: Vec<Part>,
    /// The whole table, uncut.
    text: String,
}

#[derive(Serialize)]
struct Part {
    name: String,
    text: String,
}

#[derive(Serialize)]
struct FigureLink<'f> {
    id: &'f str,
    title: &'f str,
}

#[derive(Serialize)]
struct ClaimLine<'c> {
    id: &'c str,
    text: String,
    source: &'c str,
    overall: &'static str,
}

/// The whole text.
pub fn render(view: &View, content: &Content) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    let failed = || "cannot fill in the report's template".to_owned();
    environment.add_template("report.md", include_str!("report.md.jinja")).context(failed)?;
    let template = environment.get_template("report.md").context(failed)?;
    let header = view.header();
    let Figures { dots, iterations, curves } = &content.figures;
    let is_primary = |figure: &Figure| figure.id == file_stem(&view.layout().primary);
    let (main_figure, more_figures) = dots.split_at(usize::from(dots.first().is_some_and(is_primary)));
    let (iteration_figure, more_iteration_figures) = iterations.split_at(iterations.len().min(1));
    let results = |kind| content.results_of(kind).map(|table| cut(table, "size")).collect::<Vec<_>>();
    let text = template.render(context! {
        header => context! {
            title => &header.title,
            question => &header.question,
            experiment => escape(&header.experiment),
            profile => escape(&header.profile),
            scale => escape(&header.scale),
            device => escape(&header.device),
            revision => header.revision.as_deref().map_or(format::NOT_AVAILABLE.to_owned(), escape),
        },
        seeds => prose::seeds(view),
        total => prose::total(view),
        cells => whole(&content.cells),
        mishaps => prose::mishaps(view),
        claims => content.claims.iter().map(claim_line).collect::<Vec<_>>(),
        claims_intro => prose::claims(view),
        claims_table => whole(&content.claims_table),
        policy => results(TableKind::Policy),
        reward => results(TableKind::Reward),
        diagnostics => results(TableKind::Diagnostics),
        main_figure => links(main_figure),
        more_figures => links(more_figures),
        iteration_figure => links(iteration_figure),
        more_iteration_figures => links(more_iteration_figures),
        curves => links(curves),
        differences_intro => prose::differences(view)?,
        differences => content.differences.iter().map(|table| cut(table, "metric")).collect::<Vec<_>>(),
        iterations => cut(&content.iterations, "size"),
        costs => cut(&content.costs, ""),
        notes => prose::notes(view),
        reading => prose::reading(view),
    });
    Ok(tidy(&text.context(failed)?))
}

/// At most one empty line at a time, and none at the end.
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

fn links(figures: &[Figure]) -> Vec<FigureLink<'_>> {
    figures.iter().map(|figure| FigureLink { id: &figure.id, title: &figure.title }).collect()
}

fn claim_line<'c>(judged: &Judged<'c>) -> ClaimLine<'c> {
    let claim = judged.claim;
    ClaimLine { id: &claim.id, text: one_line(&claim.text), source: &claim.source, overall: judged.overall() }
}

fn whole(table: &Table) -> Rendered<'_> {
    Rendered {
        id: &table.id,
        title: &table.title,
        note: table.note.as_deref(),
        parts: Vec::new(),
        text: grid(&without_idle_iterations(table)),
    }
}

/// Cut at the values of the column `by`; without rows, without parts.
fn cut<'t>(table: &'t Table, by: &str) -> Rendered<'t> {
    let parts = if table.rows.is_empty() { Vec::new() } else { without_idle_iterations(table).split_by(by) };
    let parts = parts.into_iter().map(|(name, part)| Part { name: one_line(&name), text: grid(&part) }).collect();
    Rendered { parts, ..whole(table) }
}

/// The column `iteration` says nothing where no method iterates.
fn without_idle_iterations(table: &Table) -> Table {
    let mut table = table.clone();
    if let Some(at) = table.columns.iter().position(|column| column.id == "iteration")
        && table.rows.iter().all(|row| matches!(row[at], Cell::Integer(None | Some(0))))
    {
        table.columns.remove(at);
        for row in &mut table.rows {
            row.remove(at);
        }
    }
    table
}

/// A table as a pipe table.
fn grid(table: &Table) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(table.columns.iter().map(|column| escape(&column.label)).collect());
    let rule = |kind| if matches!(kind, Kind::Text) { ":--" } else { "--:" };
    text.push_str(&row(table.columns.iter().map(|column| rule(column.kind).to_owned()).collect()));
    for cells in &table.rows {
        text.push_str(&row(cells.iter().map(cell).collect()));
    }
    text
}

fn cell(cell: &Cell) -> String {
    let text = escape(&cell.show());
    match cell {
        Cell::Estimate(it) if it.mark == Mark::Separated => format!("**{text}**"),
        Cell::Estimate(it) if it.mark == Mark::Tied => format!("{text} ≈"),
        _ => text,
    }
}

/// Free text inside a table cell: one line, no column breaks, no markup of its own.
fn escape(text: &str) -> String {
    let text = one_line(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            // Before a digit or a space it opens no tag, and `<0.001` stays readable as it is.
            '<' if rest.peek().is_some_and(|next| !next.is_ascii_digit() && *next != ' ') => out.push_str("&lt;"),
            '|' | '*' | '`' | '\\' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
