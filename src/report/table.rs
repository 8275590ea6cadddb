//! The neutral table: typed cells, no layout. Markdown, csv and parquet are three views of the same one, so that they
//! cannot disagree.

use super::format;
use super::input::Better;

/// A table of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// File name without ending.
    pub id: String,
    pub title: String,
    pub note: Option<String>,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name in csv and parquet.
    pub id: String,
    /// Heading in prose.
    pub label: String,
    pub kind: Kind,
}

/// What a column holds; decides alignment, rounding and how many columns it takes in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    Integer,
    /// A number, shown with so many decimals.
    Number {
        decimals: usize,
    },
    /// A point with its interval, seeds and mark; six columns in a file.
    Estimate {
        decimals: usize,
    },
    Probability,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    Integer(Option<i64>),
    Number(Option<f64>),
    Estimate(Measured),
}

/// A point estimate as a table shows it. All of it is `None` where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Measured {
    pub point: Option<f64>,
    pub se: Option<f64>,
    /// Low and high end.
    pub interval: Option<(f64, f64)>,
    /// Seeds (or pairs of seeds) behind it.
    pub n: usize,
    pub mark: Mark,
}

/// How an estimate stands among its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mark {
    #[default]
    None,
    /// Best, and separated from every other one after correction.
    Separated,
    /// Best, or not separated from the best.
    Tied,
}

impl Mark {
    /// Word for files.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Separated => Some("separated"),
            Self::Tied => Some("tied"),
        }
    }
}

impl Column {
    pub fn new(id: impl Into<String>, label: impl Into<String>, kind: Kind) -> Self {
        Self { id: id.into(), label: label.into(), kind }
    }

    pub fn text(id: &str, label: &str) -> Self {
        Self::new(id, label, Kind::Text)
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn count(n: usize) -> Self {
        Self::Integer(i64::try_from(n).ok())
    }

    /// As prose, rounded as its column says.
    pub fn show(&self, kind: Kind) -> String {
        match (self, kind) {
            (Self::Text(text), _) => text.clone(),
            (Self::Integer(Some(value)), _) => value.to_string(),
            (Self::Integer(None), _) => format::NOT_AVAILABLE.to_owned(),
            (Self::Number(value), Kind::Probability) => format::p_value(*value),
            (Self::Number(value), Kind::Number { decimals }) => format::grouped(*value, decimals),
            (Self::Number(value), _) => format::optional(*value, 3),
            (Self::Estimate(it), Kind::Estimate { decimals }) => format::estimate(it.point, it.interval, decimals),
            (Self::Estimate(it), _) => format::estimate(it.point, it.interval, 3),
        }
    }
}

/// The arrow that says which way a metric improves.
pub fn arrow(better: Better) -> &'static str {
    match better {
        Better::Higher => " ↑",
        Better::Lower => " ↓",
        Better::Neither => "",
    }
}
