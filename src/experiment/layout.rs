//! The contents of an experiment's report, and their order.

use super::vocabulary::Metric;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The direction in which a metric is better; `Neither` for descriptions such as length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Higher,
    Lower,
    Neither,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportSettings {
    /// Id of the method that the others are compared with.
    pub baseline: String,
    /// Id of the method under study.
    pub under_study: String,
    /// The metric that decides the comparison.
    pub primary: Metric,
    /// Every metric that is shown, with its format.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
    #[serde(rename = "table")]
    pub tables: Vec<TableLayout>,
    /// Numbers that were published of these methods, which the report shows beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// A sentence about the published cost of an iteration, which the report shows under its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_cost: Option<String>,
}

/// A number that was published of a method, for other models and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Id of the method; a study without it, or without the metric, leaves the number out.
    pub method: String,
    /// A metric that is declared as a column.
    pub metric: Metric,
    pub value: f64,
    /// Number of digits after the decimal point with which it was published.
    pub decimals: usize,
    /// The models and data.
    pub of: String,
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub metric: Metric,
    pub label: String,
    pub better: Better,
    /// Number of digits after the decimal point.
    pub decimals: usize,
    /// The range of the metric, if it is bounded.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

/// The kind of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Policies, by method.
    Policy,
    /// Rewards, by method, with the heuristics that rank the same pairs.
    Reward,
    /// Descriptive metrics, of which no value is better or worse.
    Diagnostics,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableLayout {
    pub id: String,
    pub title: String,
    pub kind: TableKind,
    /// Metrics, each declared as a column.
    pub columns: Vec<Metric>,
}
