//! The long table of metrics, checked once and kept sorted, so that the order of runs in the input
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use polars::prelude::{Column, DataFrame, DataType, PolarsError};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    pub method: String,
    pub size: String,
    pub seed: i64,
    /// The iteration; 0 for methods of a single step.
    pub iteration: i64,
    pub metric: String,
    /// The value; `None` if the metric was evaluated and is undefined.
    pub value: Option<f64>,
}

impl Metric {
    fn key(&self) -> (&str, &str, &str, i64, i64) {
        (
            &self.method,
            &self.size,
            &self.metric,
            self.iteration,
            self.seed,
        )
    }
}

/// All measured values: sorted by method, size, metric, iteration and seed, each of which occurs
/// once.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Metric>", into = "Vec<Metric>")]
pub struct Metrics(Vec<Metric>);

/// The values of one metric by seed.
pub type BySeed = BTreeMap<i64, f64>;

impl Metrics {
    /// # Errors
    /// When a (method, size, seed, iteration, metric) has two values: an average of them would hide
    /// a mistake upstream.
    pub fn from_rows(mut rows: Vec<Metric>) -> Result<Self> {
        for row in &mut rows {
            row.value = row.value.filter(|value| value.is_finite());
        }
        rows.sort_by(|a, b| a.key().cmp(&b.key()));
        if let Some(twice) = rows.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            let Metric {
                method,
                size,
                seed,
                iteration,
                metric,
                ..
            } = &twice[0];
            return Err(Error::data(format!(
                "the metrics table has two values of `{metric}` for method `{method}`, size `{size}`, seed {seed}, \
                 iteration {iteration}"
            ))
            .hint("each run must be collected once"));
        }
        Ok(Self(rows))
    }

    /// Builds the table from a frame with columns `method`, `size`, `metric` (text), `seed`,
    /// `iteration` (integers), `value` (number).
    ///
    /// # Errors
    /// When a column is absent or cannot be read as its type, or a key is null or occurs twice.
    pub fn from_frame(frame: &DataFrame) -> Result<Self> {
        let column = |name: &str, kind: DataType| -> Result<Column> {
            frame
                .column(name)
                .and_then(|column| column.strict_cast(&kind))
                .context(|| {
                    format!("column `{name}` of the metrics table is absent or not {kind:?}")
                })
        };
        let text = |name| column(name, DataType::String);
        let whole = |name| column(name, DataType::Int64);
        let (method, size, metric) = (text("method")?, text("size")?, text("metric")?);
        let (seed, iteration) = (whole("seed")?, whole("iteration")?);
        let value = column("value", DataType::Float64)?;
        let read =
            |failure: PolarsError| Error::data("cannot read the metrics table").caused_by(failure);
        let (method, size, metric) = (
            method.str().map_err(read)?,
            size.str().map_err(read)?,
            metric.str().map_err(read)?,
        );
        let (seed, iteration, value) = (
            seed.i64().map_err(read)?,
            iteration.i64().map_err(read)?,
            value.f64().map_err(read)?,
        );
        let null = |name: &str, row: usize| {
            Error::data(format!(
                "`{name}` is null in row {row} of the metrics table"
            ))
        };
        let rows = (0..frame.height())
            .map(|row| {
                Ok(Metric {
                    method: method
                        .get(row)
                        .ok_or_else(|| null("method", row))?
                        .to_owned(),
                    size: size.get(row).ok_or_else(|| null("size", row))?.to_owned(),
                    seed: seed.get(row).ok_or_else(|| null("seed", row))?,
                    iteration: iteration.get(row).ok_or_else(|| null("iteration", row))?,
                    metric: metric
                        .get(row)
                        .ok_or_else(|| null("metric", row))?
                        .to_owned(),
                    value: value.get(row),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Self::from_rows(rows)
    }

    /// The same table as a frame, sorted.
    pub fn frame(&self) -> Result<DataFrame> {
        fn gather<'a, T>(rows: &'a [Metric], part: impl Fn(&'a Metric) -> T) -> Vec<T> {
            rows.iter().map(part).collect()
        }
        let rows = &self.0;
        DataFrame::new(
            rows.len(),
            vec![
                Column::new("method".into(), gather(rows, |row| row.method.as_str())),
                Column::new("size".into(), gather(rows, |row| row.size.as_str())),
                Column::new("seed".into(), gather(rows, |row| row.seed)),
                Column::new("iteration".into(), gather(rows, |row| row.iteration)),
                Column::new("metric".into(), gather(rows, |row| row.metric.as_str())),
                Column::new("value".into(), gather(rows, |row| row.value)),
            ],
        )
        .context(|| "cannot build the metrics table".to_owned())
    }

    pub fn rows(&self) -> &[Metric] {
        &self.0
    }

    /// The sizes that occur, sorted.
    pub fn sizes(&self) -> BTreeSet<&str> {
        self.0.iter().map(|row| row.size.as_str()).collect()
    }

    fn of<'a>(&'a self, method: &'a str, size: &'a str) -> impl Iterator<Item = &'a Metric> {
        let start = self
            .0
            .partition_point(|row| (row.method.as_str(), row.size.as_str()) < (method, size));
        self.0[start..]
            .iter()
            .take_while(move |row| row.method == method && row.size == size)
    }

    /// Iterations at which the method has any value at this size, in order.
    pub fn iterations(&self, method: &str, size: &str) -> BTreeSet<i64> {
        self.of(method, size).map(|row| row.iteration).collect()
    }

    /// The iteration that represents the method: its last at this size.
    pub fn last_iteration(&self, method: &str, size: &str) -> Option<i64> {
        self.of(method, size).map(|row| row.iteration).max()
    }

    /// The defined values at one iteration.
    pub fn at(&self, method: &str, size: &str, metric: &str, iteration: i64) -> BySeed {
        self.of(method, size)
            .filter(|row| row.metric == metric && row.iteration == iteration)
            .filter_map(|row| Some((row.seed, row.value?)))
            .collect()
    }

    /// The defined values at the method's last iteration. A seed that stopped earlier has none.
    pub fn last(&self, method: &str, size: &str, metric: &str) -> BySeed {
        match self.last_iteration(method, size) {
            Some(iteration) => self.at(method, size, metric, iteration),
            None => BySeed::new(),
        }
    }

    /// The number of undefined values of each metric.
    pub fn undefined(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for row in self.0.iter().filter(|row| row.value.is_none()) {
            *counts.entry(row.metric.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

impl TryFrom<Vec<Metric>> for Metrics {
    type Error = Error;

    fn try_from(rows: Vec<Metric>) -> Result<Self> {
        Self::from_rows(rows)
    }
}

impl From<Metrics> for Vec<Metric> {
    fn from(metrics: Metrics) -> Self {
        metrics.0
    }
}
