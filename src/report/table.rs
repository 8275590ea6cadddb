//! The neutral table: typed cells without layout. Markdown, csv and parquet are three views of the
//! same table, so they cannot disagree.

use super::format;
use super::input::Better;
use crate::stats::Estimate;

/// A table of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The file name without its extension.
    pub id: String,
    pub title: String,
    pub note: Option<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The column's name in csv and parquet.
    pub id: String,
    /// The heading in prose.
    pub label: String,
    pub kind: ColumnKind,
}

/// The kind of a column, which decides its alignment and how many columns it takes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    Integer,
    Number,
    /// A point with its standard error, interval, seeds and mark; six columns in a file.
    Estimate,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Integer(Option<i64>),
    /// A number that is shown with `decimals` decimals.
    Number {
        value: Option<f64>,
        decimals: usize,
    },
    Probability(Option<f64>),
    /// A number that is shown as `1.2e15`.
    Scientific(Option<f64>),
    Estimate(Measured),
}

/// A point estimate as a table shows it. Its parts are `None` if nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Measured {
    pub point: Option<f64>,
    pub se: Option<f64>,
    /// The low and high end of the interval.
    pub interval: Option<(f64, f64)>,
    /// The number of seeds (or pairs of seeds) behind the estimate.
    pub n: usize,
    /// The number of planned seeds; if fewer are behind the estimate, the cell says so.
    pub planned: usize,
    /// The number of digits after the point when shown.
    pub decimals: usize,
    /// Whether the value is shown as `1.23e15` instead.
    pub scientific: bool,
    pub mark: Mark,
}

/// The rank of an estimate in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mark {
    #[default]
    None,
    /// The best, separated from every other one after correction.
    Separated,
    /// The best, or not separated from the best.
    Tied,
}

impl Mark {
    /// The mark's name in files.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Separated => Some("separated"),
            Self::Tied => Some("tied"),
        }
    }
}

impl Column {
    pub fn new(id: impl Into<String>, label: impl Into<String>, kind: ColumnKind) -> Self {
        Self {
            id: id.into(),
            label: label.into(),
            kind,
        }
    }

    pub fn text(id: &str, label: &str) -> Self {
        Self::new(id, label, ColumnKind::Text)
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn count(n: usize) -> Self {
        Self::Integer(i64::try_from(n).ok())
    }

    pub fn number(value: Option<f64>, decimals: usize) -> Self {
        Self::Number { value, decimals }
    }

    /// The cell as plain text, rounded.
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(value) => value.map_or_else(
                || format::NOT_AVAILABLE.to_owned(),
                |value| value.to_string(),
            ),
            Self::Number { value, decimals } => format::grouped(*value, *decimals),
            Self::Probability(p) => format::p_value(*p),
            Self::Scientific(value) => value.map_or_else(
                || format::NOT_AVAILABLE.to_owned(),
                |value| format!("{value:.1e}"),
            ),
            Self::Estimate(it) => it.show(),
        }
    }
}

impl Measured {
    /// The cell of an estimate without measurements, of `planned` seeds.
    pub fn nothing(planned: usize) -> Self {
        Self {
            planned,
            ..Self::default()
        }
    }

    pub fn of(estimate: &Estimate, planned: usize, decimals: usize) -> Self {
        let interval = estimate
            .interval
            .map(|interval| (interval.low, interval.high));
        Self {
            point: Some(estimate.point),
            se: estimate.se,
            interval,
            n: estimate.n,
            planned,
            decimals,
            scientific: false,
            mark: Mark::None,
        }
    }

    fn show(&self) -> String {
        let number = |value: f64| match self.scientific {
            true => format!("{value:.2e}"),
            false => format::fixed(value, self.decimals),
        };
        let text = format::estimate(self.point, self.interval, number);
        if self.n > 0 && self.n < self.planned {
            format!("{text} (n={})", self.n)
        } else {
            text
        }
    }
}

impl Table {
    /// The table cut at the values of a text column, in order of first occurrence; the parts leave
    /// that column out.
    pub fn split_by(&self, id: &str) -> Vec<(String, Table)> {
        let Some(at) = self.columns.iter().position(|column| column.id == id) else {
            return vec![(String::new(), self.clone())];
        };
        let without = |row: &[Cell]| [&row[..at], &row[at + 1..]].concat();
        let mut parts: Vec<(String, Table)> = Vec::new();
        for row in &self.rows {
            let key = row[at].show();
            let place = parts
                .iter()
                .position(|(name, _)| *name == key)
                .unwrap_or_else(|| {
                    let mut columns = self.columns.clone();
                    columns.remove(at);
                    parts.push((
                        key,
                        Table {
                            columns,
                            rows: Vec::new(),
                            ..self.clone()
                        },
                    ));
                    parts.len() - 1
                });
            parts[place].1.rows.push(without(row));
        }
        parts
    }
}

/// The arrow for the direction in which a metric improves.
pub fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => " ↑",
        Better::Lower => " ↓",
        Better::Neither => "",
    }
}
