//! The input of a report: the header, one long table of metrics, costs, the claims as they were
//! declared, and the layout. It knows nothing of stages or training, so any producer that can fill
//! it gets the same report.

use serde::{Deserialize, Serialize};

pub use super::metrics::{BySeed, Metric, Metrics};
pub use crate::stats::{Design, Direction, Role};

/// All data that one report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportInput {
    pub header: Header,
    pub metrics: Metrics,
    #[serde(default)]
    pub costs: Vec<Cost>,
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// The design by which primary claims are looked at.
    pub design: Design,
    pub layout: Layout,
    #[serde(default)]
    pub curves: Vec<Curve>,
    #[serde(default)]
    pub items: Vec<ItemValues>,
    #[serde(default)]
    pub ablations: Vec<Ablation>,
    #[serde(default)]
    pub tunings: Vec<Tuning>,
}

/// The question, the setup of the runs, and the outcome of every planned cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The short name of the experiment, as in its file name.
    pub experiment: String,
    pub title: String,
    pub question: String,
    /// The compared methods and their common setup.
    #[serde(default)]
    pub description: String,
    pub profile: String,
    pub scale: String,
    /// The revision of the code, where known.
    pub revision: Option<String>,
    pub device: String,
    pub seeds_planned: Vec<u64>,
    pub cells: Vec<CellStatus>,
    /// Limits of this run, and the reasons for absent columns.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The registration of the primary claims, if they were written before the runs.
    #[serde(default)]
    pub registration: Option<Registration>,
}

/// The file of primary claims that was frozen before their runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    pub file: String,
    /// The BLAKE3 hash of the file's text.
    pub blake3: String,
    /// Whether the experiment records that hash; otherwise the claims are a draft.
    pub frozen: bool,
    /// The time at which the file was written, as RFC 3339 in UTC.
    pub registered: String,
    /// The first and last of the seeds on which the claims are judged, in ascending order.
    pub seeds: [u64; 2],
    /// The results that had been seen when the file was written.
    pub background: String,
}

/// One planned run: a method at a model size under a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellStatus {
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// The number of the pre-trained model that the run started from, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    pub status: Status,
}

/// The outcome of a planned run. A collapsed run finished and its numbers count; it is named so
/// that nobody misses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Finished,
    Failed { error: String },
    Collapsed { why: String },
    Missing,
}

/// The cost of one stage of one run. A quantity that was not measured is `None`, not 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The kind of stage: sft, reward, ppo, generate, …
    pub stage_kind: String,
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// The iteration that the cost belongs to, from 1; 0 for stages that do not iterate.
    #[serde(default)]
    pub iteration: i64,
    #[serde(default)]
    pub role: CostRole,
    pub wall_seconds: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub peak_memory_mib: Option<f64>,
    /// The number of tokens processed, prompt and response.
    pub tokens: Option<f64>,
    pub flops: Option<f64>,
}

/// The role of a cost: making a method or only measuring it. A user of the method pays for the
/// making.
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
    /// The origin of the claim, or of the doubt about it: "abstract", "review R3", …
    pub source: String,
    /// The ids of the claim's metrics, each of which is a comparison of its own.
    pub metrics: Vec<String>,
    pub method: String,
    pub versus: String,
    /// One size, or `None` for all: the claim then has to hold at each of them.
    pub size: Option<String>,
    /// The sign that the claim gives to `method − versus`.
    pub direction: Direction,
    /// The difference that has to be exceeded (or undercut), in the metric's units.
    #[serde(default)]
    pub threshold: f64,
    pub role: Role,
    /// The margin: differences within ± this value do not matter; in the metric's units.
    pub margin: Option<f64>,
    /// The reason for the size of the margin.
    #[serde(default)]
    pub margin_reason: Option<String>,
    /// The time at which the oldest compared result was made, if that was before the claim's
    /// registration.
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

/// The selection, order and names of everything that a report shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The method that every other one is compared with first, for example `sft`.
    pub baseline: String,
    /// The method under study, which is compared with each other one.
    pub under_study: String,
    /// The methods in the order of rows and axes.
    pub methods: Vec<MethodRow>,
    /// The sizes in the order of panels, with their labels; sizes of the data that are missing here
    /// follow in sorted order.
    #[serde(default)]
    pub sizes: Vec<SizeLabel>,
    pub metrics: Vec<MetricColumn>,
    /// The metric that decides the experiment.
    pub primary: String,
    pub tables: Vec<TableSpec>,
    /// Numbers that were published of methods under study, at another scale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// A sentence about the published cost of an iteration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_cost: Option<String>,
    /// The rule by which a run counts as collapsed; `None`: the report says nothing about
    /// collapses.
    #[serde(default)]
    pub collapses: Option<CollapseRule>,
    /// The confidence level of every interval.
    #[serde(default = "default_level")]
    pub level: f64,
}

fn default_level() -> f64 {
    0.95
}

/// A number that was published of a method, for other models and data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The ids of the method and of the metric.
    pub method: String,
    pub metric: String,
    pub value: f64,
    /// The number of digits after the point with which it was published.
    pub decimals: usize,
    /// The models and data.
    pub of: String,
    pub source: String,
}

/// The rule by which a run has collapsed: its metric ends more than `drop` below the median of its
/// method and size, or more than `drop` below the value of the baseline under the same seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollapseRule {
    /// The id of the metric, for which more is better.
    pub metric: String,
    /// The drop, in the metric's units.
    pub drop: f64,
    /// Methods that do not start from the baseline and are therefore compared with their median
    /// alone.
    #[serde(default)]
    pub own_start: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodRow {
    pub id: String,
    pub label: String,
    /// Whether the method is a rule that needs no training (length, log-probability, random), which
    /// is shown in reward tables alone.
    #[serde(default)]
    pub heuristic: bool,
    /// Whether the method is a point of an [`Ablation`], which is shown there and in claims, never
    /// among the methods.
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
    /// The number of digits after the point in prose and tables; csv and parquet keep all of them.
    pub decimals: usize,
    /// The range of the metric's values, which keeps a plot's axis inside it.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// The metric that holds the share of ties and is shown beside this one, for a share of pairs
    /// in which each tie counts one half.
    #[serde(default)]
    pub ties: Option<String>,
}

/// The direction in which a metric improves.
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
    /// The file name of the csv and parquet.
    pub id: String,
    pub title: String,
    #[serde(default)]
    pub note: Option<String>,
    /// The ids of the columns, in order.
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
    /// The file name of the svg.
    pub id: String,
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub lines: Vec<CurveLine>,
    #[serde(default)]
    pub log_x: bool,
    #[serde(default)]
    pub log_y: bool,
    /// Whether lines of one method and size are seeds: their mean at equal x is then drawn with its
    /// t band and tabled.
    #[serde(default)]
    pub bands: bool,
    /// The question that the curve answers, and the answer; empty if it has none.
    #[serde(default)]
    pub note: String,
}

/// The line of one run in a [`Curve`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveLine {
    /// A method, whose label and colour the line has; any other text is used as the label.
    pub method: String,
    pub size: String,
    pub seed: u64,
    /// The points (x, y), in the order in which they are joined.
    pub points: Vec<[f64; 2]>,
}

/// Values of a metric of one run at the method's last iteration, one per test item (a prompt or a
/// pair). Items are in the same order for all methods and seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemValues {
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
    /// The training that was tuned, as a section of settings.
    pub section: String,
    pub epochs: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The parameter λ of IQ-Learn.
    #[serde(default)]
    pub lambda: Option<f64>,
    /// The mean log-likelihood of the held-out demonstrations, in nats per response.
    pub held_out_log_likelihood: f64,
    /// The lists whose first or last value was chosen.
    #[serde(default)]
    pub edges: Vec<String>,
    /// The number of candidates that were trained.
    pub tried: usize,
    /// The number of candidates that diverged.
    pub failed: usize,
}

/// A question that is answered by varying one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// The file name of the ablation's tables and figures.
    pub id: String,
    pub title: String,
    pub question: String,
    /// The origin of the question: "review R1", "ours", …
    pub source: String,
    #[serde(default)]
    pub note: String,
    /// The label of the varied quantity.
    pub axis: String,
    pub scale: AxisScale,
    /// The ids of the layout's metrics; the first is drawn first.
    pub metrics: Vec<String>,
    pub lines: Vec<AblationLine>,
    /// The method that is drawn as a level; a table shows where each line reaches it.
    #[serde(default)]
    pub against: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AxisScale {
    Linear,
    Log,
    /// An axis of labels: points have no x and no meaningful order.
    Words,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationLine {
    /// The method that is varied, which gives the line its colour.
    pub method: String,
    pub label: String,
    pub points: Vec<AblationPoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AblationPoint {
    /// The id of the point's metrics in the long table.
    pub method: String,
    pub label: String,
    #[serde(default)]
    pub x: Option<f64>,
}
