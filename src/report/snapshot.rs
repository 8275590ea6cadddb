//! Results small enough to commit, and the comparison of later results with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::console::draw;
use super::format;
use super::input::{Metrics, ReportInput};
use super::table::{Cell, Column, ColumnKind, Table};
use crate::error::{Context, Error, Result};
use crate::stats::{Sample, welch_difference};

/// The version of the file format, raised when a field changes its meaning.
const FORMAT: u32 = 1;
/// The relative difference that is allowed where nothing else sets a limit: room for rounding on
/// another processor.
const SAME: f64 = 1e-6;
const LEVEL: f64 = 0.95;

/// The metrics of a study over seeds, each method at its last iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub format: u32,
    pub experiment: String,
    pub profile: String,
    pub scale: String,
    /// The values, sorted by method, size and metric.
    pub values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    pub method: String,
    pub size: String,
    pub metric: String,
    pub mean: f64,
    /// The standard deviation over seeds; absent with one seed.
    pub sd: Option<f64>,
    pub n: usize,
    /// The allowed difference of means, if one was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

/// A mean that differs from the snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    pub method: String,
    pub size: String,
    pub metric: String,
    /// The mean in the snapshot; `None` if it is new.
    pub before: Option<f64>,
    /// The mean now; `None` if it is gone.
    pub now: Option<f64>,
    /// The allowed difference.
    pub allowed: Option<f64>,
}

impl Snapshot {
    /// Takes a snapshot of a report's input, with the tolerances stated for some of its metrics.
    ///
    /// # Errors
    /// A tolerance that is negative, not finite, or for a metric that has no value.
    pub fn take(input: &ReportInput, tolerances: &BTreeMap<String, f64>) -> Result<Self> {
        let header = &input.header;
        let snapshot = Self {
            format: FORMAT,
            experiment: header.experiment.clone(),
            profile: header.profile.clone(),
            scale: header.scale.clone(),
            values: values(&input.metrics)?,
        };
        snapshot.with_tolerances(tolerances)
    }

    /// The same snapshot with these tolerances in place of its own.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn with_tolerances(mut self, tolerances: &BTreeMap<String, f64>) -> Result<Self> {
        for (metric, tolerance) in tolerances {
            let mut known = self
                .values
                .iter_mut()
                .filter(|value| value.metric == *metric)
                .peekable();
            if known.peek().is_none() || !(tolerance.is_finite() && *tolerance >= 0.0) {
                let known: BTreeSet<&str> = self
                    .values
                    .iter()
                    .map(|value| value.metric.as_str())
                    .collect();
                return Err(Error::data(format!(
                    "a tolerance of {tolerance} for the metric `{metric}`"
                ))
                .hint(format!(
                    "give a number from 0 for one of: {}",
                    known.into_iter().collect::<Vec<_>>().join(", ")
                )));
            }
            known.for_each(|value| value.tolerance = Some(*tolerance));
        }
        Ok(self)
    }

    /// # Errors
    /// A file that does not exist, cannot be read or has another format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|cause| {
                Error::data(format!("cannot read the snapshot {}", path.display())).caused_by(cause)
            })
            .map_err(|error| error.hint("`touchstone snapshot accept` writes one"))?;
        let snapshot: Self = serde_json::from_str(&text)
            .map_err(|cause| {
                Error::data(format!("{} is not a snapshot", path.display())).caused_by(cause)
            })
            .map_err(|error| error.hint("`touchstone snapshot accept` writes it anew"))?;
        if snapshot.format != FORMAT {
            return Err(Error::data(format!("{} has the format {}", path.display(), snapshot.format))
                .hint(format!("this version reads format {FORMAT}; write it anew with `touchstone snapshot accept`")));
        }
        Ok(snapshot)
    }

    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .context(|| "cannot write the snapshot as JSON".to_owned())?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))
    }

    /// The differences of `now` from `self`. A difference of means is allowed up to the stated
    /// tolerance; if none was stated, up to half the width of its 95 % Welch interval; if neither
    /// side has spread over seeds, up to a millionth.
    ///
    /// # Errors
    /// When `now` is of another experiment, profile or scale.
    pub fn drift(&self, now: &Self) -> Result<Vec<Drift>> {
        let what =
            |it: &Self| [it.experiment.clone(), it.profile.clone(), it.scale.clone()].join(", ");
        if what(self) != what(now) {
            return Err(Error::data(format!(
                "the snapshot is of {}, the run of {}",
                what(self),
                what(now)
            ))
            .hint("choose the profile and scale it was taken with"));
        }
        let by_name = |it: &'_ Self| -> BTreeMap<(String, String, String), Value> {
            let name = |value: &Value| {
                (
                    value.method.clone(),
                    value.size.clone(),
                    value.metric.clone(),
                )
            };
            it.values
                .iter()
                .map(|value| (name(value), value.clone()))
                .collect()
        };
        let (before, now) = (by_name(self), by_name(now));
        let names: BTreeSet<_> = before.keys().chain(now.keys()).cloned().collect();
        let mut found = Vec::new();
        for name in names {
            let (was, is) = (before.get(&name), now.get(&name));
            let allowed = was.zip(is).map(|(was, is)| allowed(was, is)).transpose()?;
            let moved = match (was, is, allowed) {
                (Some(was), Some(is), Some(allowed)) => (is.mean - was.mean).abs() > allowed,
                _ => true,
            };
            if moved {
                let (method, size, metric) = name;
                let mean = |value: Option<&Value>| value.map(|value| value.mean);
                found.push(Drift {
                    method,
                    size,
                    metric,
                    before: mean(was),
                    now: mean(is),
                    allowed,
                });
            }
        }
        Ok(found)
    }
}

fn values(metrics: &Metrics) -> Result<Vec<Value>> {
    let name = |row: &super::Metric| (row.method.clone(), row.size.clone(), row.metric.clone());
    let names: BTreeSet<_> = metrics.rows().iter().map(name).collect();
    let mut found = Vec::new();
    for (method, size, metric) in names {
        let seeds: Vec<f64> = metrics
            .last(&method, &size, &metric)
            .into_values()
            .collect();
        if !seeds.is_empty() {
            let Sample { mean, sd, n } = Sample::of(&seeds)?;
            found.push(Value {
                method,
                size,
                metric,
                mean,
                sd,
                n,
                tolerance: None,
            });
        }
    }
    Ok(found)
}

fn allowed(was: &Value, is: &Value) -> Result<f64> {
    if let Some(tolerance) = was.tolerance {
        return Ok(tolerance);
    }
    let sample = |value: &Value| Sample {
        mean: value.mean,
        sd: value.sd,
        n: value.n,
    };
    let interval = welch_difference(&sample(is), &sample(was), LEVEL)?
        .difference
        .interval;
    let half = interval.map_or(0.0, |interval| (interval.high - interval.low) / 2.0);
    Ok(half.max(SAME * was.mean.abs().max(is.mean.abs())))
}

/// The drift as text for a terminal.
pub fn render(drift: &[Drift], compared: usize) -> String {
    if drift.is_empty() {
        return format!(
            "no drift: {} as they were\n",
            format::count(compared, "mean")
        );
    }
    let row = |it: &Drift| {
        let decimals = it
            .before
            .or(it.now)
            .map_or(3, |mean| format::decimals_for(mean) + 2)
            .min(9);
        let what = match (it.before, it.now) {
            (None, _) => "new",
            (_, None) => "gone",
            _ => "moved",
        };
        let difference = it.before.zip(it.now).map(|(before, now)| now - before);
        vec![
            Cell::text(what),
            Cell::text(&it.method),
            Cell::text(&it.size),
            Cell::text(&it.metric),
            Cell::number(it.before, decimals),
            Cell::number(it.now, decimals),
            Cell::number(difference, decimals),
            Cell::number(it.allowed, decimals),
        ]
    };
    let columns = vec![
        Column::text("drift", "drift"),
        Column::text("method", "method"),
        Column::text("size", "size"),
        Column::text("metric", "metric"),
        Column::new("before", "before", ColumnKind::Number),
        Column::new("now", "now", ColumnKind::Number),
        Column::new("difference", "difference", ColumnKind::Number),
        Column::new("allowed", "allowed", ColumnKind::Number),
    ];
    let ids: Vec<String> = columns.iter().map(|column| column.id.clone()).collect();
    let rows = drift.iter().map(row).collect();
    let table = Table {
        id: "drift".to_owned(),
        title: String::new(),
        note: None,
        columns,
        rows,
    };
    let drawn = draw(&table, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    format!(
        "{drawn}\n{} of {compared} drifted\n",
        format::count(drift.len(), "mean")
    )
}
