//! The short summary that a terminal shows at the end of a run.

use comfy_table::{CellAlignment, Table as Grid, TableComponent, presets};

use super::compute::Spending;
use super::exploratory::Comparisons;
use super::input::{ReportInput, TableKind};
use super::table::{Cell, Mark, Table};
use super::view::View;
use super::{format, prose, tables};
use crate::error::Result;

/// Cells, verdicts and the primary table as plain text without colours.
///
/// # Errors
/// As [`super::write`], except those of files.
pub fn console(input: &ReportInput) -> Result<String> {
    let view = View::new(input)?;
    let mut text = format!("{}\ncells: {}\n", view.header().title, prose::total(&view));
    if !view.input.claims.is_empty() {
        let comparisons = Comparisons::new(&view, &Spending::new(&view))?;
        text.push('\n');
        text.push_str(&verdicts(&view, &comparisons)?);
    }
    let primary = &view.layout().primary;
    let table = view
        .layout()
        .tables
        .iter()
        .find(|table| table.kind == TableKind::Policy && table.metrics.contains(primary));
    if let Some(spec) = table {
        text.push('\n');
        text.push_str(&main_table(&tables::results(&view, spec)?, primary));
        text.push_str(&format!(
            "mean [{} % t interval] over seeds; * best and separated, ~ tied with the best\n",
            format::percent(view.level())
        ));
    }
    Ok(text)
}

fn verdicts(view: &View, comparisons: &Comparisons) -> Result<String> {
    let table = tables::claims(view, &comparisons.claims, &comparisons.companions)?;
    Ok(draw(
        &table,
        &["claim", "contrast", "size", "difference", "verdict"],
    ))
}

/// A table of size, method and the primary metric, with marks that any terminal can show.
fn main_table(table: &Table, primary: &str) -> String {
    draw(table, &["size", "method", primary])
}

/// The `wanted` columns of a table; a value that the first column repeats is left blank.
pub(super) fn draw(table: &Table, wanted: &[&str]) -> String {
    let places: Vec<usize> = wanted
        .iter()
        .filter_map(|id| table.columns.iter().position(|column| column.id == *id))
        .collect();
    let mut grid = Grid::new();
    grid.load_preset(presets::NOTHING);
    grid.set_style(TableComponent::HeaderLines, '─');
    grid.set_style(TableComponent::MiddleHeaderIntersections, '─');
    grid.set_header(places.iter().map(|at| table.columns[*at].label.clone()));
    let mut group = None;
    for row in &table.rows {
        // A value that the first column repeats is not written again.
        let mut texts: Vec<String> = places.iter().map(|at| cell(&row[*at])).collect();
        let first = texts.first().cloned();
        if first == group
            && let Some(text) = texts.first_mut()
        {
            text.clear();
        }
        group = first;
        grid.add_row(texts);
    }
    for (index, column) in grid.column_iter_mut().enumerate() {
        let text = table.columns[places[index]].kind == super::table::ColumnKind::Text;
        column.set_cell_alignment(if text {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    let lines: Vec<String> = grid
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

fn cell(cell: &Cell) -> String {
    let text = cell.show();
    match cell {
        Cell::Estimate(it) => match it.mark {
            Mark::None => text + "  ",
            Mark::Separated => text + " *",
            Mark::Tied => text + " ~",
        },
        _ => text,
    }
}
