//! The answers of several studies to the same claims, side by side: does what holds in one world
//! hold in another? Claims are the same if they have the same identifier.

use super::summary::FORMAT;
use crate::{Context, Error, Result};
use serde::Deserialize;
use std::path::Path;

/// The part of a report's `summary.json` that a comparison of studies reads.
#[derive(Clone, Debug, Deserialize)]
pub struct Answers {
    format: u32,
    pub experiment: String,
    claims: Vec<Answered>,
}

#[derive(Clone, Debug, Deserialize)]
struct Answered {
    id: String,
    comparisons: Vec<Compared>,
}

#[derive(Clone, Debug, Deserialize)]
struct Compared {
    metric: String,
    size: String,
    comparison: Option<Difference>,
    finding: Option<Found>,
    answer: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Difference {
    difference: Estimated,
}

#[derive(Clone, Debug, Deserialize)]
struct Estimated {
    point: f64,
    interval: Option<Bounds>,
    n: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Found {
    estimate: Option<f64>,
    interval: Option<Bounds>,
    n: Option<usize>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Bounds {
    low: f64,
    high: f64,
}

impl Answers {
    /// The answers in the folder of a report.
    ///
    /// # Errors
    /// A folder without a report, or a report of another version of touchstone.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("summary.json");
        let text = std::fs::read_to_string(&path).map_err(|cause| {
            Error::files(format!("cannot read {}", path.display()))
                .caused_by(cause)
                .hint("write the report first: touchstone reproduce, or touchstone report")
        })?;
        let answers: Self =
            serde_json::from_str(&text).context(|| format!("cannot read {}", path.display()))?;
        if answers.format != FORMAT {
            return Err(Error::data(format!(
                "{} has format {}, the program writes {FORMAT}",
                path.display(),
                answers.format
            ))
            .hint("write the report again: touchstone report"));
        }
        Ok(answers)
    }

    fn claim(&self, id: &str) -> Option<&Answered> {
        self.claims.iter().find(|claim| claim.id == id)
    }
}

impl Compared {
    /// The answer with its interval: that of the looks at a primary claim, else Student's.
    fn cell(&self) -> String {
        let looked = self.finding.as_ref().and_then(|found| {
            let interval = found.interval?;
            Some((found.estimate?, interval, found.n?))
        });
        let compared = self.comparison.as_ref().and_then(|it| {
            let Estimated { point, interval, n } = &it.difference;
            Some((*point, (*interval)?, *n))
        });
        match looked.or(compared) {
            Some((point, Bounds { low, high }, n)) => {
                let answer = &self.answer;
                format!("{answer}: {point:+.3} [{low:+.3}, {high:+.3}], n = {n}")
            }
            None => self.answer.clone(),
        }
    }
}

/// A markdown table with a row for every claim and metric that the first study has, and a column for
/// every study. A study that does not have the claim, or not on this metric, has a dash.
pub fn table(studies: &[Answers]) -> String {
    let Some(first) = studies.first() else {
        return String::new();
    };
    let names: Vec<&str> = studies.iter().map(|study| &*study.experiment).collect();
    let mut text = format!("| claim | metric | {} |\n", names.join(" | "));
    text += &format!("|---|---|{}\n", "---|".repeat(names.len()));
    for claim in &first.claims {
        let mut metrics: Vec<&str> = claim.comparisons.iter().map(|it| &*it.metric).collect();
        metrics.dedup();
        for metric in metrics {
            let cells: Vec<String> = studies
                .iter()
                .map(|study| cell(study.claim(&claim.id), metric))
                .collect();
            text += &format!("| {} | {metric} | {} |\n", claim.id, cells.join(" | "));
        }
    }
    text
}

/// The answers to a claim on one metric, one for each size.
fn cell(claim: Option<&Answered>, metric: &str) -> String {
    let comparisons: Vec<&Compared> = claim
        .iter()
        .flat_map(|claim| &claim.comparisons)
        .filter(|it| it.metric == metric)
        .collect();
    let said: Vec<String> = match &comparisons[..] {
        [] => vec!["–".into()],
        [one] => vec![one.cell()],
        several => several
            .iter()
            .map(|it| format!("{}: {}", it.size, it.cell()))
            .collect(),
    };
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn study(name: &str, claims: serde_json::Value) -> Answers {
        let summary = json!({ "format": FORMAT, "experiment": name, "claims": claims });
        serde_json::from_value(summary).unwrap()
    }

    #[test]
    fn claims_stand_side_by_side_and_what_is_not_there_is_a_dash() {
        let interval = json!({ "low": -0.1, "high": 0.3 });
        let student = json!({ "difference": { "point": 0.1, "interval": interval, "n": 5 } });
        let repeated = json!({ "low": -0.2, "high": 0.4 });
        let finding = json!({ "estimate": 0.125, "interval": repeated, "n": 10 });
        let part = |metric: &str, finding: &serde_json::Value| {
            json!({
                "metric": metric, "size": "mini", "comparison": student, "finding": finding,
                "answer": "inconclusive",
            })
        };
        let none = serde_json::Value::Null;
        let a = study(
            "a",
            json!([
                { "id": "x", "comparisons": [part("gold", &finding), part("kl", &none)] },
                { "id": "y", "comparisons": [part("gold", &none)] },
            ]),
        );
        let b = study(
            "b",
            json!([{ "id": "x", "comparisons": [part("gold", &none)] }]),
        );
        insta::assert_snapshot!(table(&[a, b]), @r"
        | claim | metric | a | b |
        |---|---|---|---|
        | x | gold | inconclusive: +0.125 [-0.200, +0.400], n = 10 | inconclusive: +0.100 [-0.100, +0.300], n = 5 |
        | x | kl | inconclusive: +0.100 [-0.100, +0.300], n = 5 | – |
        | y | gold | inconclusive: +0.100 [-0.100, +0.300], n = 5 | – |
        ");
    }
}
