//! Evaluations from the files that other programs write for each item, so that runs made elsewhere
//! get intervals and paired comparisons. Each format has a file of its own.

pub mod alpaca_eval;
pub mod documents;
pub mod fastchat;
pub mod lm_eval;
pub mod rewardbench;

use crate::benchmarks::evaluation::Summary;
use crate::benchmarks::{Aggregate, Evaluation, ItemScore, MODEL};
use crate::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A format of files that hold scores of items.
pub trait Format {
    /// The name by which the command line calls the format.
    fn name(&self) -> &'static str;

    /// The benchmark in the evaluations of this format.
    fn benchmark(&self) -> &'static str;

    /// The evaluations in `files`, one for each model.
    ///
    /// # Errors
    /// A file that is not of the format, and scores that contradict each other, by line or row.
    fn read(&self, files: &[PathBuf], options: &Options) -> Result<Vec<Imported>>;
}

/// Names that the files may leave open.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the model, where all files are of one.
    pub model: Option<String>,
    /// The task of all rows, where names of files do not say it.
    pub task: Option<String>,
}

/// The formats, in the order of the documentation.
pub const FORMATS: [&dyn Format; 4] = [
    &lm_eval::LmEval,
    &rewardbench::RewardBench,
    &fastchat::FastChat,
    &alpaca_eval::AlpacaEval,
];

/// The format called `name`.
pub fn format(name: &str) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.name() == name)
}

/// An evaluation that was read, with what is odd about it as sentences.
#[derive(Clone, Debug)]
pub struct Imported {
    pub evaluation: Evaluation,
    pub notices: Vec<String>,
}

/// A score with the place that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub place: String,
    pub score: ItemScore,
}

/// The scores of one model in the making.
#[derive(Debug, Default)]
pub struct Collected {
    scores: Vec<Placed>,
    /// Index by scorer, task, metric and item.
    seen: BTreeMap<[String; 4], usize>,
    repeated: Vec<String>,
}

impl Collected {
    /// Adds a score. One that says the same as an earlier one is counted and left out.
    ///
    /// # Errors
    /// An item that has another score already.
    pub fn add(&mut self, placed: Placed) -> Result<()> {
        let ItemScore {
            scorer,
            task,
            metric,
            item,
            ..
        } = &placed.score;
        let key = [scorer, task, metric, item].map(Clone::clone);
        let Some(&index) = self.seen.get(&key) else {
            self.seen.insert(key, self.scores.len());
            self.scores.push(placed);
            return Ok(());
        };
        let earlier = &self.scores[index];
        if earlier.score.value == placed.score.value
            && earlier.score.missing == placed.score.missing
        {
            if placed.score.scorer == MODEL {
                self.repeated.push(placed.place);
            }
            return Ok(());
        }
        let told = |score: &ItemScore| match (score.value, &score.missing) {
            (Some(value), _) => value.to_string(),
            (None, why) => why.clone().unwrap_or_else(|| "none".into()),
        };
        let [_, task, metric, item] = &key;
        Err(Error::data(format!(
            "{}: item {item} of {task} has the {metric} {}, and {} at {}",
            placed.place,
            told(&placed.score),
            told(&earlier.score),
            earlier.place
        ))
        .hint("give the files of one run of each model, or remove one of the two rows"))
    }

    /// The scores as an evaluation, with the reported numbers `aggregates`.
    ///
    /// # Errors
    /// Aggregates of tasks without items.
    pub fn finish(self, about: About, aggregates: Vec<Aggregate>) -> Result<Imported> {
        let mut notices = about.notices;
        let missing: Vec<String> = self
            .scores
            .iter()
            .filter(|it| it.score.value.is_none())
            .map(|it| it.place.clone())
            .collect();
        notices.extend(several("scores are missing", &missing));
        notices.extend(several(
            "rows repeat another one and were left out",
            &self.repeated,
        ));
        let evaluation = Evaluation {
            summary: Summary {
                benchmark: about.benchmark.to_owned(),
                convention: about.convention,
                model: about.model,
                identity: json!({"imported_from": about.files}),
                aggregates,
            },
            items: self.scores.into_iter().map(|it| it.score).collect(),
        };
        evaluation.check("the files")?;
        Ok(Imported {
            evaluation,
            notices,
        })
    }

    /// The tasks with their metrics that the model itself has, in the order of their first scores,
    /// with the number of items.
    pub fn tasks(&self) -> Vec<(String, String, usize)> {
        let mut found: Vec<(String, String, usize)> = Vec::new();
        let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for Placed { score, .. } in &self.scores {
            if score.scorer != MODEL {
                continue;
            }
            let index = *places
                .entry((&score.task, &score.metric))
                .or_insert_with(|| {
                    found.push((score.task.clone(), score.metric.clone(), 0));
                    found.len() - 1
                });
            found[index].2 += 1;
        }
        found
    }
}

/// The description of an imported evaluation.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub benchmark: &'static str,
    pub convention: String,
    pub model: String,
    /// The files with their hashes.
    pub files: BTreeMap<String, String>,
    pub notices: Vec<String>,
}

/// A sentence that counts places and names the first of them; `None` if there are none.
fn several(what: &str, places: &[String]) -> Option<String> {
    crate::benchmarks::rewardbench::rows::several(what, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    fn placed(line: usize, item: &str, value: Option<f64>) -> Placed {
        Placed {
            place: format!("x.jsonl, line {line}"),
            score: ItemScore {
                scorer: MODEL.into(),
                task: "arc".into(),
                metric: "acc".into(),
                item: item.into(),
                cluster: item.into(),
                missing: value.is_none().then(|| "no `acc`".into()),
                value,
            },
        }
    }

    #[test]
    fn a_row_may_repeat_another_one_but_not_contradict_it() {
        let mut collected = Collected::default();
        for (line, item, value) in [(1, "a", Some(1.0)), (2, "b", None), (3, "a", Some(1.0))] {
            collected.add(placed(line, item, value)).unwrap();
        }
        let error = collected.add(placed(4, "a", Some(0.0))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.jsonl, line 4: item a of arc has the acc 0, and 1 at x.jsonl, line 1"
        );
        assert_eq!(collected.tasks(), [("arc".into(), "acc".into(), 2)]);
        let aggregates = vec![Aggregate::of_task("arc", "arc", "acc")];
        let imported = collected.finish(About::default(), aggregates).unwrap();
        assert_eq!(imported.evaluation.items.len(), 2);
        assert_eq!(
            imported.notices,
            [
                "1 scores are missing: x.jsonl, line 2",
                "1 rows repeat another one and were left out: x.jsonl, line 3"
            ]
        );
    }

    #[test]
    fn formats_have_names_of_their_own() {
        for format in FORMATS {
            assert_eq!(super::format(format.name()).unwrap().name(), format.name());
        }
        assert!(super::format("xls").is_none());
    }
}
