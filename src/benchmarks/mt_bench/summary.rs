//! The means of single scores, as FastChat's `show_result.py` has them, with what it passes over in
//! silence counted.

use super::NAME;
use super::judge::SingleRow;
use super::parse::{ERROR_JUDGMENT, NO_SCORE, score};
use super::questions::{Answers, Question};
use crate::benchmarks::evaluation::{Evaluation, Summary};
use crate::benchmarks::{Aggregate, ItemScore, MODEL, Part};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The metric of a turn's scores.
fn metric(turn: u8) -> String {
    format!("turn_{turn}")
}

/// The name of an item.
pub(super) fn item(question: u64, turn: u8) -> String {
    format!("{question}/{turn}")
}

/// The rows of one judge about one model, and the questions that they are to cover.
pub struct Judged<'a, Row> {
    pub questions: &'a [Question],
    pub rows: &'a [Row],
    /// The file of the rows, for messages.
    pub place: &'a str,
    /// Whether questions may lack a judgment.
    pub allow_missing: bool,
}

/// Counts of the rows in a file of judgments, by how they were used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// Rows that were read.
    pub rows: usize,
    /// Later rows about an item, which were left out.
    pub duplicates: usize,
    /// Duplicates with another result than the first.
    pub other_duplicates: usize,
    /// Items whose call failed.
    pub failed: usize,
    /// Items whose judgment states no result.
    pub without_result: usize,
    /// Items without a row.
    pub missing: usize,
    /// Rows whose result is not the one that their judgment states.
    pub disagreeing: usize,
}

impl Findings {
    /// A line with the number of judgments that were used, and of those that were not.
    pub fn described(&self, used: usize) -> String {
        let Self {
            rows,
            duplicates,
            other_duplicates,
            failed,
            without_result,
            missing,
            disagreeing,
        } = self;
        let counts = [
            (duplicates, "duplicates left out"),
            (other_duplicates, "of them with another result"),
            (failed, "failed calls"),
            (without_result, "judgments without a result"),
            (missing, "missing"),
            (
                disagreeing,
                "rows whose result is not the one that their judgment states",
            ),
        ];
        let told = counts.into_iter().filter(|(count, _)| **count > 0);
        let told = told.map(|(count, what)| format!("; {count} {what}"));
        format!("n = {used} judgments of {rows} rows") + &told.collect::<String>()
    }
}

/// A judgment's item.
pub trait Row {
    fn question(&self) -> u64;
    fn turn(&self) -> u8;
    /// True if the results are the same.
    fn agrees(&self, other: &Self) -> bool;
}

impl Row for SingleRow {
    fn question(&self) -> u64 {
        self.question_id
    }

    fn turn(&self) -> u8 {
        self.turn
    }

    fn agrees(&self, other: &Self) -> bool {
        self.score.as_f64() == other.score.as_f64()
    }
}

impl<R: Row> Judged<'_, R> {
    /// The first row of every item in the order of the questions, `None` for one without.
    ///
    /// # Errors
    /// A row about another question or turn, and an item without a row unless that is allowed.
    pub fn by_item(&self, findings: &mut Findings) -> Result<Vec<(&Question, u8, Option<&R>)>> {
        findings.rows = self.rows.len();
        let mut first: BTreeMap<(u64, u8), &R> = BTreeMap::new();
        for row in self.rows {
            match first.get(&(row.question(), row.turn())) {
                None => {
                    first.insert((row.question(), row.turn()), row);
                }
                Some(kept) => {
                    findings.duplicates += 1;
                    findings.other_duplicates += usize::from(!kept.agrees(row));
                }
            }
        }
        let mut items = Vec::new();
        for question in self.questions {
            for turn in question.judged_turns() {
                let row = first.remove(&(question.question_id, turn));
                findings.missing += usize::from(row.is_none());
                items.push((question, turn, row));
            }
        }
        if let Some((question, turn)) = first.keys().next() {
            return Err(Error::data(format!(
                "{}: a judgment of question {question}, turn {turn}, which the questions lack",
                self.place
            ))
            .hint("give the questions that were judged"));
        }
        let missing = items.iter().find(|(_, _, row)| row.is_none());
        match missing.filter(|_| !self.allow_missing) {
            None => Ok(items),
            Some((question, turn, _)) => Err(Error::data(format!(
                "{}: {} of {} judgments are missing, the first for question {}, turn {turn}",
                self.place,
                findings.missing,
                items.len(),
                question.question_id
            ))
            .hint("judge again, which asks only for what is missing, or give --allow-missing to average the others")),
        }
    }
}

/// The evaluation of a model by single scores: turn 1, turn 2, the average over all rows, and each
/// category. Rows without a score are left out of the means, as in FastChat, and are counted.
///
/// # Errors
/// Those of [`Judged::by_item`], scores that no aggregate can be made of, and a file without any
/// score.
pub fn evaluate(
    judged: &Judged<SingleRow>,
    model: &str,
    identity: Value,
) -> Result<(Evaluation, Findings)> {
    let mut findings = Findings::default();
    let mut items = Vec::new();
    for (question, turn, row) in judged.by_item(&mut findings)? {
        let (value, missing) = match row.map(|row| (row, result(row, &mut findings))) {
            None => (None, Some("no judgment".to_owned())),
            Some((_, Ok(score))) => (Some(score), None),
            Some((_, Err(why))) => (None, Some(why)),
        };
        items.push(ItemScore {
            scorer: MODEL.to_owned(),
            task: question.category.clone(),
            metric: metric(turn),
            item: item(question.question_id, turn),
            cluster: question.question_id.to_string(),
            value,
            missing,
        });
    }
    let summary = Summary {
        benchmark: NAME.to_owned(),
        convention: "fastchat-single".to_owned(),
        model: model.to_owned(),
        identity: json!({"settings": identity, "findings": findings}),
        aggregates: aggregates(&items, &[metric(1), metric(2)]),
    };
    let evaluation = Evaluation { summary, items };
    if evaluation.summary.aggregates.is_empty() {
        return Err(Error::data(format!("{}: no row has a score", judged.place))
            .hint("look at the judgments: the judge may not write its rating as [[7]]"));
    }
    evaluation.check(judged.place)?;
    Ok((evaluation, findings))
}

/// The score of a row, or the reason why it has none.
fn result(row: &SingleRow, findings: &mut Findings) -> std::result::Result<f64, String> {
    let stated = score(&row.judgment);
    let number = row.score.as_f64().filter(|score| score.is_finite());
    let stated_number = match &stated {
        Ok(Some(score)) => score.as_f64(),
        _ => Some(NO_SCORE as f64),
    };
    findings.disagreeing += usize::from(number != stated_number);
    match number {
        Some(score) if score != NO_SCORE as f64 => Ok(score),
        _ if row.judgment == ERROR_JUDGMENT => {
            findings.failed += 1;
            Err("the call failed".to_owned())
        }
        _ => {
            findings.without_result += 1;
            Err(match stated {
                Err(why) => why,
                Ok(_) if row.judgment.trim().is_empty() => "an empty judgment".to_owned(),
                Ok(_) => "a judgment without a score".to_owned(),
            })
        }
    }
}

/// A mean over the rows of each metric, over all rows, and over each task's rows. The parts of a
/// mean are weighted by the number of their scores, so that it is the mean over rows.
pub(super) fn aggregates(items: &[ItemScore], metrics: &[String]) -> Vec<Aggregate> {
    let mut tasks: Vec<&str> = Vec::new();
    for item in items {
        if !tasks.contains(&item.task.as_str()) {
            tasks.push(&item.task);
        }
    }
    let mean = |name: &str, metrics: &[String], tasks: &[&str]| {
        let parts = tasks.iter().flat_map(|task| {
            metrics.iter().filter_map(|metric| {
                let scored = items.iter().filter(|item| {
                    item.scorer == MODEL
                        && item.task == *task
                        && item.metric == *metric
                        && item.value.is_some()
                });
                let weight = scored.count() as f64;
                (weight > 0.0).then(|| Part {
                    task: (*task).to_owned(),
                    metric: metric.clone(),
                    weight,
                })
            })
        });
        let parts: Vec<Part> = parts.collect();
        (!parts.is_empty()).then(|| Aggregate {
            name: name.to_owned(),
            parts,
        })
    };
    let by_metric = metrics
        .iter()
        .map(|metric| mean(metric, std::slice::from_ref(metric), &tasks));
    let all = mean("average", metrics, &tasks);
    let by_task = tasks.iter().map(|task| mean(task, metrics, &[*task]));
    by_metric.chain([all]).chain(by_task).flatten().collect()
}

/// Spearman's rank correlation of scores with the number of words of the answers; `None` if either
/// does not vary.
///
/// # Errors
/// A scored item without an answer.
pub fn correlation_with_length(
    judged: &Judged<SingleRow>,
    evaluation: &Evaluation,
    answers: &Answers,
) -> Result<Option<f64>> {
    let scores: BTreeMap<&str, f64> = evaluation
        .items
        .iter()
        .filter_map(|item| Some((item.item.as_str(), item.value?)))
        .collect();
    let (mut values, mut lengths) = (Vec::new(), Vec::new());
    for question in judged.questions {
        for turn in question.judged_turns() {
            if let Some(score) = scores.get(item(question.question_id, turn).as_str()) {
                values.push(*score);
                let words = answers.turn(question, turn)?.split_whitespace().count();
                lengths.push(words as f64);
            }
        }
    }
    Ok(correlation(&ranks(&values), &ranks(&lengths)))
}

/// Ranks from 1; equal values have the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f(x - mean_a, y - mean_b))
            .sum()
    };
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (scale > 0.0).then(|| sum(&|x, y| x * y) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_their_mean_and_correlate_as_in_scipy() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        // scipy.stats.spearmanr([1, 2, 2, 5, 4], [10, 9, 12, 20, 11]).statistic
        let found = correlation(
            &ranks(&[1.0, 2.0, 2.0, 5.0, 4.0]),
            &ranks(&[10.0, 9.0, 12.0, 20.0, 11.0]),
        );
        assert!(
            (found.unwrap() - 0.6668859288553503).abs() < 1e-12,
            "{found:?}"
        );
        assert_eq!(correlation(&ranks(&[1.0, 1.0]), &ranks(&[1.0, 2.0])), None);
    }
}
