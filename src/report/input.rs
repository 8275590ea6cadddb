//! What a report is made from: the header, one long table of metrics, costs, the claims as they were declared, and how
//! to lay it all out. It knows nothing of stages or training, so any producer that can fill it gets the same report.

use serde::{Deserialize, Serialize};

pub use super::metrics::{BySeed, Metric, Metrics};
pub use crate::stats::{Design, Direction, Role};

/// Everything one report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportInput {
    pub header: Header,
    pub metrics: Metrics,
    #[serde(default)]
    pub costs: Vec<Cost>,
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// How primary claims are looked at.
    pub design: Design,
    pub layout: Layout,
    #[serde(default)]
    pub curves: Vec<Curve>,
    #[serde(default)]
    pub items: Vec<Items>,
    #[serde(default)]
    pub ablations: Vec<Ablation>,
    #[serde(default)]
    pub tunings: Vec<Tuning>,
}

/// What was asked, how it was run, and what became of every planned cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Short name, as in the experiment's file name.
    pub experiment: String,
    pub title: String,
    pub question: String,
    /// What is compared, and what all have in common.
    #[serde(default)]
    pub description: String,
    pub profile: String,
    pub scale: String,
    /// Revision of the code, where known.
    pub revision: Option<String>,
    pub device: String,
    pub seeds_planned: Vec<u64>,
    pub cells: Vec<CellStatus>,
    /// Limits of this run, and which columns are absent and why.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where the primary claims were written before the runs.
    #[serde(default)]
    pub registration: Option<Registration>,
}

/// The file of primary claims that was frozen before their runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    pub file: String,
    /// Hash of its text.
    pub blake3: String,
    /// Whether the experiment records that hash; otherwise the claims are a draft.
    pub frozen: bool,
    /// When it was written, RFC 3339 in UTC.
    pub registered: String,
    /// First and last of the seeds on which its claims are judged, in ascending order.
    pub seeds: [u64; 2],
    /// Results that had been seen when it was written.
    pub background: String,
}

/// One planned run: a method at a model size under a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellStatus {
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// Number of the pre-trained model that it started from, where there are several to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    pub status: Status,
}

/// What became of a planned run. A collapsed run finished and its numbers count; it is named so that nobody misses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Finished,
    Failed { error: String },
    Collapsed { why: String },
    Missing,
}

/// What one stage of one run cost. A quantity that was not measured is `None`, not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Kind of stage: sft, reward, ppo, generate, …
    pub stage_kind: String,
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// The iteration it was spent in, from 1; 0 for what does not iterate.
    #[serde(default)]
    pub iteration: i64,
    #[serde(default)]
    pub role: CostRole,
    pub wall_seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub peak_memory_mib: Option<f64>,
    /// Tokens processed, prompt and response.
    pub tokens: Option<f64>,
    pub flops: Option<f64>,
}

/// Whether a cost made a method or only measured it: what a user of the method pays is the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostRole {
    #[default]
    Making,
    Measuring,
}

/// A statement about two methods, declared in the experiment's file before any run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub id: String,
    pub text: String,
    /// Who makes or doubts it: "abstract", "review R3", …
    pub source: String,
    /// Each is a comparison of its own.
    pub metrics: Vec<String>,
    pub method: String,
    pub versus: String,
    /// One size, or `None` for all: the claim then has to hold at each of them.
    pub size: Option<String>,
    /// The sign it gives to `method − versus`.
    pub direction: Direction,
    /// The difference that has to be exceeded (or undercut), in the metric's units.
    #[serde(default)]
    pub threshold: f64,
    pub role: Role,
    /// Differences within ± this margin do not matter; in the metric's units.
    pub margin: Option<f64>,
    /// Why the margin is as large as it is.
    #[serde(default)]
    pub margin_reason: Option<String>,
    /// When the oldest result that it compares was made, if that was before its registration.
    #[serde(default)]
    pub seen_before: Option<String>,
    /// Another difference that `method − versus` is compared with, as in "degrades less than".
    #[serde(default)]
    pub relative_to: Option<RelativeTo>,
}

/// The difference `method − versus` that a claim subtracts from its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeTo {
    pub method: String,
    pub versus: String,
}

/// What is shown, in which order, under which names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The method every other one is compared with first, for example `sft`.
    pub baseline: String,
    /// The method under study, compared with each other one.
    pub subject: String,
    /// In the order of rows and axes.
    pub methods: Vec<MethodRow>,
    /// In the order of panels, with their labels; a size of the data that is not named here follows in sorted order.
    #[serde(default)]
    pub sizes: Vec<SizeLabel>,
    pub metrics: Vec<MetricColumn>,
    /// The metric on which the experiment is decided.
    pub primary: String,
    pub tables: Vec<TableSpec>,
    /// When a run counts as collapsed; `None`: nothing is said of collapses.
    #[serde(default)]
    pub collapses: Option<CollapseRule>,
    /// Confidence level of every interval.
    #[serde(default = "default_level")]
    pub level: f64,
}

fn default_level() -> f64 {
    0.95
}

/// A run has collapsed if its metric ends further below the median of its method and size, or below that of the baseline under the same
/// seed, than `drop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollapseRule {
    /// Of which more is better.
    pub metric: String,
    /// In the metric's units.
    pub drop: f64,
    /// Methods that do not start from the baseline, so that they are held to their median alone.
    #[serde(default)]
    pub own_start: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodRow {
    pub id: String,
    pub label: String,
    /// A rule that needs no training (length, log-probability, random). Shown in reward tables alone.
    #[serde(default)]
    pub heuristic: bool,
    /// A point of an [`Ablation`], shown there and in claims, never among the methods.
    #[serde(default)]
    pub point: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeLabel {
    pub id: String,
    pub label: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricColumn {
    pub id: String,
    pub label: String,
    pub better: Better,
    /// Digits after the point in prose and tables; csv and parquet keep all of them.
    pub decimals: usize,
    /// Values the metric can take, to keep a plot's axis inside them.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// The metric that holds the share of ties, for a share of pairs in which each tie counts one half; shown beside it.
    #[serde(default)]
    pub ties: Option<String>,
}

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
    Neither,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// File name of the csv and parquet.
    pub id: String,
    pub title: String,
    #[serde(default)]
    pub note: Option<String>,
    /// Ids of the columns, in order.
    pub metrics: Vec<String>,
    pub kind: TableKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    Policy,
    Reward,
    Diagnostics,
}

/// A free plot, for example gold reward against KL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// File name of the svg.
    pub id: String,
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub lines: Vec<CurveLine>,
    #[serde(default)]
    pub log_x: bool,
    #[serde(default)]
    pub log_y: bool,
    /// Lines of one method and size are seeds: their mean at equal x is drawn with its t band and tabled.
    #[serde(default)]
    pub bands: bool,
    /// What the curve answers, if it answers something.
    #[serde(default)]
    pub note: String,
}

/// One run's line in a [`Curve`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveLine {
    /// A method, whose label and colour it takes; any other text labels itself.
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// (x, y), in the order they are joined.
    pub points: Vec<[f64; 2]>,
}

/// Values of a metric of one run at the method's last iteration, one per test item (a prompt or a pair). Items are in
/// the same order for all methods and seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Items {
    pub method: String,
    pub size: String,
    pub seed: u64,
    pub metric: String,
    pub values: Vec<f64>,
}

/// Values of one run that were chosen by a search, and how well they did in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// Training that was tuned, as a section of settings.
    pub section: String,
    pub epochs: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// λ of IQ-Learn.
    #[serde(default)]
    pub lambda: Option<f64>,
    /// Mean log-likelihood of the held-out demonstrations, in nats per response.
    pub held_out_log_likelihood: f64,
    /// Lists at whose first or last value the choice lies.
    #[serde(default)]
    pub edges: Vec<String>,
    /// Candidates that were trained.
    pub tried: usize,
    /// Those of them that diverged.
    pub failed: usize,
}

/// One question, answered by varying one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// File name of its tables and figures.
    pub id: String,
    pub title: String,
    pub question: String,
    /// Who asks: "review R1", "ours", …
    pub source: String,
    #[serde(default)]
    pub note: String,
    /// Label of what varies.
    pub axis: String,
    pub scale: AxisScale,
    /// Ids of the layout's metrics; the first is drawn first.
    pub metrics: Vec<String>,
    pub lines: Vec<AblationLine>,
    /// A method that is drawn as a level; where each line reaches it is tabled.
    #[serde(default)]
    pub against: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AxisScale {
    Linear,
    Log,
    /// Points have no x, only labels, and no order that means something.
    Words,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationLine {
    /// The method that is varied; gives the colour.
    pub method: String,
    pub label: String,
    pub points: Vec<AblationPoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationPoint {
    /// Id under which its metrics stand in the long table.
    pub method: String,
    pub label: String,
    #[serde(default)]
    pub x: Option<f64>,
}
