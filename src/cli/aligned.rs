//! Aligned tables of numbers, as commands print them.

use comfy_table::{CellAlignment, Table, TableComponent, presets};

/// A table whose columns but the first are aligned to the right.
pub fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    for between_rows in [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
    ] {
        table.remove_style(between_rows);
    }
    table.set_header(headers).add_rows(rows);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    format!("{table}\n")
}

/// A level as a percentage, rounded to remove the noise of binary fractions.
pub fn round_percent(level: f64) -> f64 {
    (level * 1e8).round() / 1e6
}

/// Four digits behind the point, more of what is small; `n/a` for what is undefined.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "n/a".into(),
        Some(value) if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) => {
            format!("{value:.3e}")
        }
        Some(value) => format!("{value:.4}"),
    }
}

/// The bounds of an interval.
pub fn range(low: Option<f64>, high: Option<f64>) -> String {
    low.zip(high).map_or("n/a".into(), |(low, high)| {
        format!("[{}, {}]", number(Some(low)), number(Some(high)))
    })
}

/// A p-value to four digits.
pub fn p_value(p: Option<f64>) -> String {
    match p {
        Some(p) if p < 1e-4 => "<0.0001".into(),
        other => other.map_or("n/a".into(), |p| format!("{p:.4}")),
    }
}
