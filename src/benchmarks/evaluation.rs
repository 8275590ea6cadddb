//! The result of a benchmark for one model: the score of every item, and the rule by which items
//! make the numbers that are reported. Comparisons between models read nothing else.

use crate::data::rows;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name of the evaluated model among the scorers of an [`ItemScore`]; other scorers are trivial
/// rivals, such as `length` or `random`.
pub const MODEL: &str = "model";

/// File with everything but the items.
const SUMMARY: &str = "evaluation.json";
/// File with a line for every item.
const ITEMS: &str = "items.jsonl";
/// The files of an evaluation.
pub const FILES: [&str; 2] = [SUMMARY, ITEMS];

/// An evaluation of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub summary: Summary,
    pub items: Vec<ItemScore>,
}

/// An evaluation without its items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The benchmark, such as `rewardbench`.
    pub benchmark: String,
    /// The variant of the benchmark's rules, such as `allenai`.
    pub convention: String,
    /// The model as the user named it.
    pub model: String,
    /// Everything that can move a score: hashes of the model, the tokenizer and the data, settings.
    pub identity: Value,
    /// The reported numbers, in the order of the report.
    pub aggregates: Vec<Aggregate>,
}

/// A reported number: the weighted mean Σ wₚ·mean(p) / Σ wₚ over its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// The name, such as `chat_hard` or `arc_challenge/acc_norm`.
    pub name: String,
    pub parts: Vec<Part>,
}

/// The items of one task under one metric, with their weight in an aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub task: String,
    pub metric: String,
    pub weight: f64,
}

/// The score of one item under one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemScore {
    /// [`MODEL`], or the name of a trivial rival.
    pub scorer: String,
    /// The subset, task or category.
    pub task: String,
    pub metric: String,
    /// The name of the item within its task, which is the same for every model.
    pub item: String,
    /// The name of what the item shares with others, such as a question with two turns. Scores
    /// within a cluster are not independent.
    pub cluster: String,
    /// The score; `None` if there is none.
    pub value: Option<f64>,
    /// The reason for a missing score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Whether the scores of a metric lie between 0 and 1: shares of right answers, of wins, or of
/// probability. Behind a comma stands the filter of an answer.
pub fn is_share_metric(metric: &str) -> bool {
    let name = metric.split(',').next().unwrap_or_default();
    matches!(
        name,
        "accuracy"
            | "acc"
            | "acc_norm"
            | "acc_bytes"
            | "acc_mutual_info"
            | "mc1"
            | "mc2"
            | "exact_match"
            | "exact_match_flexible"
            | "preference"
            | "win_rate"
            | "loss_rate"
            | "win_rate_adjusted"
    )
}

impl Aggregate {
    /// The mean of one task under one metric.
    pub fn of_task(name: impl Into<String>, task: &str, metric: &str) -> Self {
        let part = Part {
            task: task.to_owned(),
            metric: metric.to_owned(),
            weight: 1.0,
        };
        Self {
            name: name.into(),
            parts: vec![part],
        }
    }
}

impl Evaluation {
    /// Reads the folder that [`write`](Self::write) has made.
    ///
    /// # Errors
    /// A file that is missing or is not what `write` makes, and what [`check`](Self::check) refuses.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(SUMMARY);
        let text = std::fs::read(&path).map_err(|cause| {
            Error::data(format!("{} has no evaluation", folder.display()))
                .caused_by(cause)
                .hint("give a folder that `touchstone eval` has written")
        })?;
        let summary: Summary = serde_json::from_slice(&text).map_err(|cause| {
            Error::data(format!("{} is not an evaluation", path.display()))
                .caused_by(cause)
                .hint("give a folder that `touchstone eval` has written")
        })?;
        let items = rows::read(&folder.join(ITEMS))?;
        let read = Self { summary, items };
        read.check(&folder.display().to_string())?;
        Ok(read)
    }

    /// Writes the evaluation into a folder that exists.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let [summary, items] = FILES.map(|name| folder.join(name));
        let failed = || format!("cannot write {}", summary.display());
        rows::write(&items, &self.items)?;
        let mut text = serde_json::to_vec_pretty(&self.summary).context(failed)?;
        text.push(b'\n');
        std::fs::write(&summary, text).context(failed)?;
        Ok(vec![summary, items])
    }

    /// Checks that every item has one score under a metric, a finite one or none with a reason, and
    /// that every part of an aggregate has items; `place` is where the evaluation comes from.
    ///
    /// # Errors
    /// The first item or part that does not hold.
    pub fn check(&self, place: &str) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut parts = BTreeSet::new();
        for score in &self.items {
            let ItemScore {
                scorer,
                task,
                metric,
                item,
                ..
            } = score;
            let refused = |what: &str| {
                Err(Error::data(format!(
                    "{place}: {what} for item {item} of {task} under {metric}, by {scorer}"
                ))
                .hint("evaluate again, or repair the file"))
            };
            match (score.value, &score.missing) {
                (Some(value), _) if !value.is_finite() => {
                    return refused(&format!("the score {value}"));
                }
                (None, None) => return refused("neither a score nor a reason for none"),
                _ => {}
            }
            if !seen.insert((scorer, task, metric, item)) {
                return refused("two scores");
            }
            parts.insert((task, metric));
        }
        let mut declared = self.summary.aggregates.iter().flat_map(|it| &it.parts);
        match declared.find(|part| !parts.contains(&(&part.task, &part.metric))) {
            None => Ok(()),
            Some(part) => Err(Error::data(format!(
                "{place}: no item of {} under {}",
                part.task, part.metric
            ))
            .hint("evaluate again, or leave it out of the aggregates")),
        }
    }

    /// The scorers that occur, the model first.
    pub fn scorers(&self) -> Vec<&str> {
        let others: BTreeSet<&str> = self.items.iter().map(|it| it.scorer.as_str()).collect();
        let (model, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| *it == MODEL);
        model.into_iter().chain(others).collect()
    }

    /// The scores of one task under one metric by one scorer, in the order of the file.
    pub fn scores<'a>(
        &'a self,
        scorer: &'a str,
        task: &'a str,
        metric: &'a str,
    ) -> impl Iterator<Item = &'a ItemScore> {
        self.items
            .iter()
            .filter(move |it| it.scorer == scorer && it.task == task && it.metric == metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(item: &str, value: f64) -> ItemScore {
        ItemScore {
            scorer: MODEL.to_owned(),
            task: "arc".to_owned(),
            metric: "acc".to_owned(),
            item: item.to_owned(),
            cluster: item.to_owned(),
            value: Some(value),
            missing: None,
        }
    }

    fn evaluation(items: Vec<ItemScore>) -> Evaluation {
        let summary = Summary {
            benchmark: "leaderboard".to_owned(),
            convention: "h4".to_owned(),
            model: "m".to_owned(),
            identity: Value::Null,
            aggregates: vec![Aggregate::of_task("arc", "arc", "acc")],
        };
        Evaluation { summary, items }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let missing = ItemScore {
            value: None,
            missing: Some("empty reply".to_owned()),
            ..score("2", 0.0)
        };
        let written = evaluation(vec![score("1", 0.5), missing]);
        written.write(folder.path()).unwrap();
        assert_eq!(Evaluation::read(folder.path()).unwrap(), written);
    }

    #[test]
    fn items_that_cannot_be_averaged_are_refused_by_name() {
        let message = |items| evaluation(items).check("here").unwrap_err().to_string();
        assert_eq!(
            message(vec![score("1", 0.0), score("1", 1.0)]),
            "here: two scores for item 1 of arc under acc, by model"
        );
        assert_eq!(
            message(vec![score("1", f64::NAN)]),
            "here: the score NaN for item 1 of arc under acc, by model"
        );
        assert_eq!(message(vec![]), "here: no item of arc under acc");
    }
}
