//! AlpacaEval's win rate of annotations that another program has made (`alpaca_eval/metrics` at
//! cd543a1): the mean preference for a model's output over a baseline's, with and without the
//! effect of length.

use super::evaluation::{Aggregate, Evaluation, ItemScore, MODEL, Summary};
use crate::stats::{Estimate, Judgement, Resampling, length_controlled_win_rates};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The task and the metric of all items.
const TASK: &str = "alpaca_eval";
const METRIC: &str = "win_rate";
/// The name of the rival that takes the longer output for the better one.
const LENGTH: &str = "length";

/// An annotation: a preference between the outputs of the baseline (1) and of the model (2).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Annotation {
    pub instruction: String,
    pub output_1: String,
    pub output_2: String,
    pub generator_2: String,
    /// From 1 (the baseline) to 2 (the model), 1.5 or 0 for a draw; null if there is none.
    #[serde(default)]
    pub preference: Option<f64>,
}

/// The numbers that AlpacaEval prints, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    pub win_rate: f64,
    /// The standard deviation (n − 1) over √n; `None` for a single annotation.
    pub standard_error: Option<f64>,
    /// Wins with half a win for a draw.
    pub discrete_win_rate: f64,
    pub wins: usize,
    pub losses: usize,
    pub draws: usize,
    /// Annotations without a preference, which are left out.
    pub left_out: usize,
}

impl Annotation {
    /// The share of a win, from 0 to 1; `None` if there is no preference.
    fn share(&self, place: &str) -> Result<Option<f64>> {
        match self.preference {
            None => Ok(None),
            Some(0.0) => Ok(Some(0.5)),
            Some(preference) if (1.0..=2.0).contains(&preference) => Ok(Some(preference - 1.0)),
            Some(other) => Err(Error::data(format!("{place}: the preference {other}"))
                .hint("a preference is a number from 1 to 2, 0 for a draw, or null")),
        }
    }
}

/// The shares of wins, in the order of the annotations.
fn shares(annotations: &[Annotation], place: &str) -> Result<Vec<Option<f64>>> {
    let share = |(index, annotation): (usize, &Annotation)| {
        annotation.share(&format!("{place}, row {}", index + 1))
    };
    annotations.iter().enumerate().map(share).collect()
}

/// The numbers that AlpacaEval prints of these annotations.
///
/// # Errors
/// A preference out of its range, and no preference at all.
pub fn win_rate(annotations: &[Annotation], place: &str) -> Result<WinRate> {
    let all = shares(annotations, place)?;
    let shares: Vec<f64> = all.iter().copied().flatten().collect();
    if shares.is_empty() {
        return Err(
            Error::data(format!("{place}: no annotation has a preference"))
                .hint("annotate again: the annotator may have failed"),
        );
    }
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let squares: f64 = shares.iter().map(|share| (share - mean).powi(2)).sum();
    let count = |holds: fn(f64) -> bool| shares.iter().filter(|share| holds(**share)).count();
    let (wins, draws) = (count(|share| share > 0.5), count(|share| share == 0.5));
    Ok(WinRate {
        win_rate: 100.0 * mean,
        standard_error: (shares.len() > 1).then(|| 100.0 * (squares / (n - 1.0) / n).sqrt()),
        discrete_win_rate: 100.0 * (wins as f64 + draws as f64 / 2.0) / n,
        wins,
        losses: shares.len() - wins - draws,
        draws,
        left_out: all.len() - shares.len(),
    })
}

/// The win rate at equal length: a logistic fit of the preference on tanh(Δ / sd(Δ)), where Δ is the
/// difference in characters, at Δ = 0. It is AlpacaEval's length-controlled rate without the
/// difficulty of instructions and without a penalty, so the numbers differ from its leaderboard.
///
/// # Errors
/// A preference out of its range, and a fit that does not exist: lengths that do not vary, or a
/// model that always wins or always loses.
pub fn at_equal_length(
    annotations: &[Annotation],
    place: &str,
    resampling: &Resampling,
) -> Result<Estimate> {
    let length = |text: &str| text.chars().count() as f64;
    let rows = annotations.iter().zip(shares(annotations, place)?);
    let rows: Vec<(f64, f64)> = rows
        .filter_map(|(row, share)| Some((length(&row.output_2) - length(&row.output_1), share?)))
        .collect();
    let n = rows.len() as f64;
    let mean = rows.iter().map(|(difference, _)| difference).sum::<f64>() / n;
    let squares: f64 = rows
        .iter()
        .map(|(difference, _)| (difference - mean).powi(2))
        .sum();
    let deviation = (squares / (n - 1.0)).sqrt();
    let judgement = |(prompt, (difference, preference)): (usize, (f64, f64))| Judgement {
        prompt,
        method: 0,
        // Any measure of length that is 0 for equal ones will do.
        log_length_ratio: (difference / deviation).tanh(),
        preference,
    };
    let judgements: Vec<Judgement> = rows.into_iter().enumerate().map(judgement).collect();
    let estimates = length_controlled_win_rates(&judgements, 1, resampling)?;
    let first = estimates.into_iter().next();
    first.ok_or_else(|| Error::internal("a fit without an estimate"))
}

/// The evaluation of annotations of one model. An item is named by its instruction.
///
/// # Errors
/// A preference out of its range, and no preference at all.
pub fn evaluate(annotations: &[Annotation], place: &str, identity: Value) -> Result<Evaluation> {
    let found = win_rate(annotations, place)?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut items = Vec::new();
    for (row, share) in annotations.iter().zip(shares(annotations, place)?) {
        let hash = blake3::hash(row.instruction.as_bytes()).to_hex()[..16].to_owned();
        let again = seen.entry(hash.clone()).or_default();
        let name = format!("{hash}/{again}");
        *again += 1;
        let lengths = [&row.output_2, &row.output_1].map(|text| text.chars().count());
        let longer = match lengths[0].cmp(&lengths[1]) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        for (scorer, value) in [(MODEL, share), (LENGTH, share.map(|_| longer))] {
            items.push(ItemScore {
                scorer: scorer.to_owned(),
                task: TASK.to_owned(),
                metric: METRIC.to_owned(),
                item: name.clone(),
                cluster: hash.clone(),
                value,
                missing: value.is_none().then(|| "no preference".to_owned()),
            });
        }
    }
    let summary = Summary {
        benchmark: "alpaca-eval".to_owned(),
        convention: "alpaca-eval-2".to_owned(),
        model: annotations[0].generator_2.clone(),
        identity: json!({"settings": identity, "numbers": found}),
        aggregates: vec![Aggregate::of_task(METRIC, TASK, METRIC)],
    };
    let evaluation = Evaluation { summary, items };
    evaluation.check(place)?;
    Ok(evaluation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotation(preference: Option<f64>, lengths: [usize; 2]) -> Annotation {
        Annotation {
            instruction: "do".to_owned(),
            output_1: "x".repeat(lengths[0]),
            output_2: "é".repeat(lengths[1]),
            generator_2: "m".to_owned(),
            preference,
        }
    }

    /// Expected values are those of the rules in pandas: `preference.replace(0, 1.5) - 1`, its mean and `sem`.
    #[test]
    fn rates_are_means_of_preferences() {
        let rows = [
            (Some(1.0), [3, 3]),
            (Some(2.0), [3, 9]),
            (Some(0.0), [3, 1]),
            (Some(1.9), [3, 5]),
            (None, [1, 1]),
        ]
        .map(|(preference, lengths)| annotation(preference, lengths));
        let found = win_rate(&rows, "here").unwrap();
        assert!((found.win_rate - 60.0).abs() < 1e-9);
        assert!(
            (found.standard_error.unwrap() - 22.73030282830976).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!(
            (
                found.discrete_win_rate,
                found.wins,
                found.losses,
                found.draws,
                found.left_out
            ),
            (62.5, 2, 1, 1, 1)
        );
        let evaluation = evaluate(&rows, "here", Value::Null).unwrap();
        let rival: Vec<_> = evaluation
            .scores(LENGTH, TASK, METRIC)
            .map(|score| score.value)
            .collect();
        assert_eq!(rival, [Some(0.5), Some(1.0), Some(0.0), Some(1.0), None]);
        let names: Vec<_> = evaluation
            .scores(MODEL, TASK, METRIC)
            .map(|score| &score.item)
            .collect();
        assert!(
            names[0].ends_with("/0") && names[4].ends_with("/4"),
            "{names:?}"
        );
    }

    #[test]
    fn preferences_out_of_range_are_refused_by_row() {
        for other in [-1.0, 0.5, 2.5, f64::NAN] {
            let rows = [
                annotation(Some(1.0), [1, 1]),
                annotation(Some(other), [1, 1]),
            ];
            let error = win_rate(&rows, "here").unwrap_err().to_string();
            assert_eq!(error, format!("here, row 2: the preference {other}"));
        }
        assert!(win_rate(&[annotation(None, [1, 1])], "here").is_err());
    }
}
