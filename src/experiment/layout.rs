//! What a report of the experiment shows, and in which order.

use super::vocabulary::Metric;
use serde::{Deserialize, Serialize};

/// Which way a metric is better; `Neither` for descriptions such as length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
    Neither,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportSettings {
    /// Id of the method that the others are compared with.
    pub baseline: String,
    /// Id of the method under study.
    pub subject: String,
    /// The metric that decides.
    pub primary: Metric,
    /// Every metric that is shown, with how it is written.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
    #[serde(rename = "table")]
    pub tables: Vec<TableLayout>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub metric: Metric,
    pub label: String,
    pub better: Better,
    /// Digits after the decimal point.
    pub decimals: usize,
    /// Values that the metric can take, where it is bounded.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

/// What a table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Policies, by method.
    Policy,
    /// Rewards, by method, with the heuristics that rank the same pairs.
    Reward,
    /// Descriptions that make nothing better or worse.
    Diagnostics,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableLayout {
    pub id: String,
    pub title: String,
    pub kind: TableKind,
    /// Metrics, each declared as a column.
    pub columns: Vec<Metric>,
}
