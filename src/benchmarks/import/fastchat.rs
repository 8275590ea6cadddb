//! Judgments of FastChat's `llm_judge` (lm-sys/FastChat at 0e6d3e4): `<judge>_single.jsonl` and
//! `<judge>_pair.jsonl`.

use super::documents::{hash, values};
use super::{Format, Imported, Options};
use crate::benchmarks::mt_bench::judge::{PairRow, SingleRow};
use crate::benchmarks::mt_bench::questions::Question;
use crate::benchmarks::mt_bench::summary::{self, Findings, Judged, Row};
use crate::benchmarks::mt_bench::{NAME, pairwise};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The format of a file of judgments.
pub struct FastChat;

impl Format for FastChat {
    fn name(&self) -> &'static str {
        "fastchat"
    }

    fn benchmark(&self) -> &'static str {
        NAME
    }

    fn read(&self, files: &[PathBuf], options: &Options) -> Result<Vec<Imported>> {
        let mut found = Vec::new();
        for path in files {
            let file = File::read(path)?;
            found.extend(match file.is_pairwise() {
                true => file.pairwise()?,
                false => file.single()?,
            });
        }
        match (&options.model, &mut found[..]) {
            (None, _) => {}
            (Some(name), [only]) => only.evaluation.summary.model.clone_from(name),
            (Some(_), all) => {
                let count = all.len();
                return Err(Error::configuration(format!(
                    "{count} evaluations cannot all be called the same"
                ))
                .hint("leave --model out"));
            }
        }
        Ok(found)
    }
}

/// The rows of a file.
struct File {
    place: String,
    hash: String,
    rows: Vec<(String, Value)>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let rows = values(path)?;
        let place = path.display().to_string();
        if rows.is_empty() {
            return Err(Error::data(format!("{place} has no judgments"))
                .hint("give a file of FastChat's model_judgment"));
        }
        Ok(Self {
            place,
            hash: hash(path)?,
            rows,
        })
    }

    fn is_pairwise(&self) -> bool {
        self.rows[0].1.get("g1_winner").is_some()
    }

    /// The rows as those of one kind.
    fn rows<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        let row = |(place, value): &(String, Value)| {
            serde_json::from_value(value.clone()).map_err(|cause| {
                Error::data(format!(
                    "{place}: not a judgment of the kind of the first row"
                ))
                .caused_by(cause)
                .hint("single and pairwise judgments have files of their own")
            })
        };
        self.rows.iter().map(row).collect()
    }

    /// An evaluation for each model and judge.
    fn single(&self) -> Result<Vec<Imported>> {
        let rows = self.rows()?;
        let groups = grouped(rows, |row: &SingleRow| {
            [row.model.clone(), row.judge.0.clone()]
        });
        let imported = groups.into_iter().map(|([model, judge], rows)| {
            let questions = questions(&rows);
            let judged = self.judged(&questions, &rows);
            let identity = json!({"judge": judge, "imported_from": self.hash});
            let (evaluation, findings) = summary::evaluate(&judged, &model, identity)?;
            Ok(Imported {
                evaluation,
                notices: vec![told(&findings)],
            })
        });
        imported.collect()
    }

    /// An evaluation for each pair of models and judge.
    fn pairwise(&self) -> Result<Vec<Imported>> {
        let rows = self.rows()?;
        let key = |row: &PairRow| {
            [
                row.model_1.clone(),
                row.model_2.clone(),
                row.judge.0.clone(),
            ]
        };
        let imported = grouped(rows, key)
            .into_iter()
            .map(|([model, other, judge], rows)| {
                let questions = questions(&rows);
                let judged = self.judged(&questions, &rows);
                let identity =
                    json!({"judge": judge, "baseline": other, "imported_from": self.hash});
                let (mut evaluation, findings, _) =
                    pairwise::evaluate(&judged, &model, identity, None)?;
                evaluation.summary.convention += &format!(" against {other}");
                Ok(Imported {
                    evaluation,
                    notices: vec![told(&findings)],
                })
            });
        imported.collect()
    }

    fn judged<'a, R>(&'a self, questions: &'a [Question], rows: &'a [R]) -> Judged<'a, R> {
        Judged {
            questions,
            rows,
            place: &self.place,
            // Only the question file, which is not read here, tells which judgments are missing.
            allow_missing: true,
        }
    }
}

fn grouped<R, const N: usize>(
    rows: Vec<R>,
    key: impl Fn(&R) -> [String; N],
) -> BTreeMap<[String; N], Vec<R>> {
    let mut groups: BTreeMap<[String; N], Vec<R>> = BTreeMap::new();
    for row in rows {
        groups.entry(key(&row)).or_default().push(row);
    }
    groups
}

/// The questions that rows are about, without their texts: a turn for each that was judged.
fn questions<R: Row>(rows: &[R]) -> Vec<Question> {
    let mut turns: BTreeMap<u64, u8> = BTreeMap::new();
    for row in rows {
        let most = turns.entry(row.question()).or_default();
        *most = row.turn().max(*most);
    }
    let question = |(id, turns): (u64, u8)| Question {
        question_id: id,
        category: Question::category_of(id).unwrap_or("other").to_owned(),
        turns: vec![String::new(); usize::from(turns)],
    };
    turns.into_iter().map(question).collect()
}

fn told(findings: &Findings) -> String {
    let used = findings.rows - findings.duplicates - findings.failed - findings.without_result;
    findings.described(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(question: u64, turn: u8, model: &str, score: &str) -> Value {
        json!({
            "question_id": question, "model": model, "judge": ["gpt-4", "single-v1"], "user_prompt": "",
            "judgment": format!("Rating: [[{score}]]"), "score": score.parse::<f64>().unwrap(), "turn": turn, "tstamp": 0.0,
        })
    }

    fn import(rows: &[Value], options: &Options) -> Result<Vec<Imported>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpt-4_single.jsonl");
        let text: String = rows.iter().map(|row| row.to_string() + "\n").collect();
        std::fs::write(&path, text).unwrap();
        FastChat.read(&[path], options)
    }

    #[test]
    fn every_model_has_an_evaluation_by_category_and_turn() {
        let rows = [
            single(81, 1, "a", "7"),
            single(81, 2, "a", "5"),
            single(111, 1, "a", "2"),
            single(111, 2, "a", "-1"),
            single(81, 1, "b", "9"),
            single(81, 1, "a", "1"),
        ];
        let found = import(&rows, &Options::default()).unwrap();
        let [a, b] = &found[..] else {
            panic!("two models: {found:?}")
        };
        assert_eq!(a.evaluation.summary.model, "a");
        let tasks: Vec<&str> = a
            .evaluation
            .items
            .iter()
            .map(|it| it.task.as_str())
            .collect();
        assert_eq!(tasks, ["writing", "writing", "math", "math"]);
        assert_eq!(
            a.evaluation.items[0].value,
            Some(7.0),
            "the first of two rows counts"
        );
        assert!(a.evaluation.items[3].missing.is_some());
        assert_eq!(
            a.notices,
            [
                "n = 3 judgments of 5 rows; 1 duplicates left out; 1 of them with another result; \
              1 judgments without a result"
            ]
        );
        assert_eq!(b.evaluation.items.len(), 1);
        let named = Options {
            model: Some("c".to_owned()),
            task: None,
        };
        assert!(import(&rows, &named).is_err());
    }

    #[test]
    fn rows_of_another_kind_are_refused_by_line() {
        let error = import(
            &[single(81, 1, "a", "7"), json!({"x": 1})],
            &Options::default(),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with("line 2: not a judgment of the kind of the first row"),
            "{error}"
        );
    }
}
