//! The series of numbers that an artifact holds.

use crate::error::Result;
use crate::files;
use crate::pipeline::{Manifest, Store};
use serde_json::Value;

/// The file in which stages that train write their curves.
const CURVE: &str = "curve.json";
/// The file in which stages that measure write their means.
const METRICS: &str = "metrics.json";

/// Numbers by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    /// The step of the first value.
    pub first: i64,
    pub values: Vec<f64>,
}

/// All series of an artifact: its curves by step, its metrics and its costs at the iteration that
/// the label names, else at 0.
///
/// # Errors
/// A file of the artifact that was changed since it was written.
pub fn series_of(store: &Store, manifest: &Manifest) -> Result<Vec<Series>> {
    let at = iteration(&manifest.label);
    let mut found = Vec::new();
    if let Some(path) = store.file(&manifest.key, CURVE)? {
        found.extend(curves(&files::read_json(&path)?, at));
    }
    if let Some(path) = store.file(&manifest.key, METRICS)? {
        found.extend(metrics(&files::read_json(&path)?, at));
    }
    let costs = [
        ("cost/wall_seconds", Some(manifest.wall_seconds)),
        ("cost/processor_seconds", manifest.cpu_seconds),
        (
            "cost/peak_memory_bytes",
            manifest.peak_memory_bytes.map(|bytes| bytes as f64),
        ),
        ("cost/tokens", Some(manifest.tokens as f64)),
        ("cost/flops", Some(manifest.flops)),
    ];
    found.extend(
        costs
            .into_iter()
            .filter_map(|(name, value)| Some(single(name.into(), value?, at))),
    );
    Ok(found)
}

fn single(name: String, value: f64, at: i64) -> Series {
    Series {
        name,
        first: at,
        values: vec![value],
    }
}

/// The iteration in a label such as `irl/mini-1b/seed 3/iteration 2/ppo`; 0 without one.
fn iteration(label: &str) -> i64 {
    let mut parts = label.split('/');
    let number = parts.find_map(|part| part.strip_prefix("iteration ")?.parse().ok());
    number.unwrap_or(0)
}

/// The series of a curve file: lists of numbers by name, or a list of records. Numbers that stand
/// alone are of the whole stage. Null, which stands for what is not finite, ends nothing: the steps
/// after it keep theirs.
fn curves(curve: &Value, at: i64) -> Vec<Series> {
    let mut found = Vec::new();
    match curve {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = format!("curve/{name}");
                match value {
                    Value::Array(list) => found.extend(runs(&name, list.iter().map(Value::as_f64))),
                    Value::Number(_) => {
                        found.extend(value.as_f64().map(|value| single(name, value, at)));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(records) => {
            let names = records.first().and_then(Value::as_object);
            for name in names.into_iter().flat_map(|fields| fields.keys()) {
                let values = records.iter().map(|record| record[name].as_f64());
                found.extend(runs(&format!("curve/{name}"), values));
            }
        }
        _ => {}
    }
    found
}

/// The stretches of `values` without a gap.
fn runs(name: &str, values: impl Iterator<Item = Option<f64>>) -> Vec<Series> {
    let mut found: Vec<Series> = Vec::new();
    let mut open = false;
    for (step, value) in values.enumerate() {
        match (value, found.last_mut().filter(|_| open)) {
            (Some(value), Some(series)) => series.values.push(value),
            (Some(value), None) => found.push(single(name.into(), value, step as i64)),
            (None, _) => {}
        }
        open = value.is_some();
    }
    found
}

/// The means of a metrics file, a list of `{"metric": …, "value": …}`.
fn metrics(measured: &Value, at: i64) -> Vec<Series> {
    let rows = measured.as_array().into_iter().flatten();
    rows.filter_map(|row| {
        let name = row["metric"].as_str()?;
        Some(single(format!("metric/{name}"), row["value"].as_f64()?, at))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(series: &[Series]) -> Vec<String> {
        let show = |it: &Series| format!("{} {} {:?}", it.name, it.first, it.values);
        series.iter().map(show).collect()
    }

    #[test]
    fn curves_are_lists_by_name_or_lists_of_records() {
        let lists = curves(
            &json!({"loss": [2.0, null, 1.0], "pairs": 7, "note": "x"}),
            4,
        );
        assert_eq!(
            shown(&lists),
            [
                "curve/loss 0 [2.0]",
                "curve/loss 2 [1.0]",
                "curve/pairs 4 [7.0]"
            ]
        );
        let records = curves(
            &json!([{"kl": 0.0, "score": 1.0}, {"kl": 0.5, "score": 2.0}]),
            4,
        );
        assert_eq!(
            shown(&records),
            ["curve/kl 0 [0.0, 0.5]", "curve/score 0 [1.0, 2.0]"]
        );
        assert!(curves(&json!(null), 0).is_empty());
    }

    #[test]
    fn metrics_stand_at_their_iteration() {
        let label = "irl/mini-1b/seed 3/iteration 2/evaluate";
        let measured =
            json!([{"metric": "gold", "value": 0.5, "n": 3}, {"metric": "x", "value": null}]);
        assert_eq!(
            shown(&metrics(&measured, iteration(label))),
            ["metric/gold 2 [0.5]"]
        );
        assert_eq!(iteration("sft/mini-1b/seed 3/sft"), 0);
    }
}
