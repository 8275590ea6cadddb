//! Questions and answers in FastChat's files.

use super::FILES;
use crate::data::dataset::{Dataset, WholeRow};
use crate::data::rows;
use crate::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The categories in the order of the question file, with the temperature of their answers.
const CATEGORIES: [(&str, f32); 8] = [
    ("writing", 0.7),
    ("roleplay", 0.7),
    ("reasoning", 0.0),
    ("math", 0.0),
    ("coding", 0.0),
    ("extraction", 0.0),
    ("stem", 0.1),
    ("humanities", 0.1),
];
/// The temperature of any other category.
const OTHER_TEMPERATURE: f32 = 0.7;

/// The categories whose judge prompts show a reference answer.
const WITH_REFERENCE: [&str; 4] = ["math", "reasoning", "coding", "arena-hard-200"];

/// A question with its turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub question_id: u64,
    pub category: String,
    /// The user's messages, in order.
    pub turns: Vec<String>,
}

impl AnswerRow {
    /// The answers of `model_id` to the turns of a question, made at `tstamp`.
    pub fn new(question: &Question, model_id: &str, turns: Vec<String>, tstamp: f64) -> Self {
        Self {
            question_id: question.question_id,
            answer_id: answer_id(question, model_id, &turns),
            model_id: model_id.to_owned(),
            choices: vec![Choice { index: 0, turns }],
            tstamp,
        }
    }
}

/// A name of an answer, like FastChat's of 22 characters, but of its content.
fn answer_id(question: &Question, model_id: &str, turns: &[String]) -> String {
    let text = serde_json::json!([question.question_id, model_id, turns]).to_string();
    blake3::hash(text.as_bytes()).to_hex()[..22].to_owned()
}

impl Question {
    /// The category of a question of MT-Bench, whose ids are 81 to 160 with ten for each category;
    /// `None` for any other id.
    pub fn category_of(id: u64) -> Option<&'static str> {
        let block = usize::try_from(id.checked_sub(81)? / 10).ok()?;
        CATEGORIES.get(block).map(|(name, _)| *name)
    }

    /// The temperature at which the question is answered.
    pub fn temperature(&self) -> f32 {
        let known = CATEGORIES.iter().find(|(name, _)| *name == self.category);
        match known {
            Some((_, temperature)) => *temperature,
            None if self.category == "arena-hard-200" => 0.0,
            None => OTHER_TEMPERATURE,
        }
    }

    /// True if its judge prompts show a reference answer.
    pub fn needs_reference(&self) -> bool {
        WITH_REFERENCE.contains(&self.category.as_str())
    }

    /// The turns that are judged: the first, and the second if there are exactly two.
    pub fn judged_turns(&self) -> impl Iterator<Item = u8> + use<> {
        1..=if self.turns.len() == 2 { 2 } else { 1 }
    }
}

/// The answers to a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerRow {
    pub question_id: u64,
    pub answer_id: String,
    pub model_id: String,
    pub choices: Vec<Choice>,
    /// Seconds since 1970.
    pub tstamp: f64,
}

/// One answer to every turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub index: usize,
    pub turns: Vec<String>,
}

/// The answers of one model, by question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    rows: BTreeMap<u64, AnswerRow>,
    place: String,
}

/// Reads the questions in FastChat's `question.jsonl`.
///
/// # Errors
/// A file that cannot be read or has no rows, a row that is not a question, a question without a
/// turn, and two questions of one id.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    let questions: Vec<Question> = rows_of(path, "questions")?;
    check(&questions, &path.display().to_string())?;
    Ok(questions)
}

/// The questions in the rows of a data set with the columns of FastChat's `question.jsonl`; `name`
/// names it in errors.
///
/// # Errors
/// As [`read`].
pub fn of(set: &Dataset, name: &str) -> Result<Vec<Question>> {
    let question = |row: Result<WholeRow>| {
        let WholeRow { place, cells, .. } = row?;
        let cells: BTreeMap<_, _> = cells.into_iter().collect();
        let text = serde_json::to_string(&cells).context(|| place.clone())?;
        serde_json::from_str(&text).map_err(|cause| {
            Error::data(format!("{place}: not a question"))
                .caused_by(cause)
                .hint(FILES)
        })
    };
    let questions: Vec<Question> = set.whole_rows()?.map(question).collect::<Result<_>>()?;
    if questions.is_empty() {
        return Err(Error::data(format!("{name} has no questions")).hint(FILES));
    }
    check(&questions, name)?;
    Ok(questions)
}

/// # Errors
/// A question without a turn, and two questions of one id.
fn check(questions: &[Question], name: &str) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (index, question) in questions.iter().enumerate() {
        let place = || format!("{name}, question {}", question.question_id);
        if question.turns.is_empty() {
            return Err(Error::data(format!("{}: no turns", place()))
                .hint("a question has its messages as `turns`"));
        }
        if let Some(first) = seen.insert(question.question_id, index) {
            return Err(Error::data(format!(
                "{}: rows {} and {} have this id",
                place(),
                first + 1,
                index + 1
            ))
            .hint("remove one of them"));
        }
    }
    Ok(())
}

impl Answers {
    /// Reads a file of answers. Of several rows for a question, the last counts, as in FastChat.
    ///
    /// # Errors
    /// A file that cannot be read or has no rows, a row that is not an answer, and an answer without
    /// a choice.
    pub fn read(path: &Path) -> Result<Self> {
        let rows: Vec<AnswerRow> = rows_of(path, "answers")?;
        let place = path.display().to_string();
        if let Some(row) = rows.iter().find(|row| row.choices.is_empty()) {
            return Err(
                Error::data(format!("{place}, question {}: no choices", row.question_id))
                    .hint("an answer has its turns in `choices`"),
            );
        }
        let rows = rows.into_iter().map(|row| (row.question_id, row)).collect();
        Ok(Self { rows, place })
    }

    /// The first choice's answer to a turn, from 1.
    ///
    /// # Errors
    /// A question without an answer, named with its file.
    pub fn turn(&self, question: &Question, turn: u8) -> Result<&str> {
        let id = question.question_id;
        let row = self.rows.get(&id);
        let row = row.ok_or_else(|| {
            Error::data(format!("{}: no answer to question {id}", self.place))
                .hint("answer all questions first: touchstone eval mt-bench answers")
        })?;
        let text = row.choices[0].turns.get(usize::from(turn) - 1);
        text.map(String::as_str).ok_or_else(|| {
            Error::data(format!(
                "{}: no answer to turn {turn} of question {id}",
                self.place
            ))
            .hint("an answer has a text for each turn of its question")
        })
    }
}

/// The rows of one of FastChat's files.
pub(super) fn rows_of<T: DeserializeOwned>(path: &Path, what: &str) -> Result<Vec<T>> {
    if !path.is_file() {
        return Err(
            Error::files(format!("there is no file {} of {what}", path.display())).hint(FILES),
        );
    }
    let rows: Vec<T> = rows::read(path)?;
    match rows.is_empty() {
        true => Err(Error::data(format!("{} has no {what}", path.display())).hint(FILES)),
        false => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn categories_have_temperatures_and_references() {
        let question = |category: &str| Question {
            question_id: 1,
            category: category.into(),
            turns: vec!["a".into(), "b".into()],
        };
        let temperatures = [
            "writing",
            "roleplay",
            "math",
            "coding",
            "extraction",
            "stem",
            "new",
        ]
        .map(|category| question(category).temperature());
        assert_eq!(temperatures, [0.7, 0.7, 0.0, 0.0, 0.0, 0.1, 0.7]);
        let with = ["math", "reasoning", "coding", "extraction", "stem"]
            .map(|category| question(category).needs_reference());
        assert_eq!(with, [true, true, true, false, false]);
        assert_eq!(question("stem").judged_turns().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_last_answer_counts_and_missing_ones_are_named() {
        let row = |id: u64, text: &str| {
            format!(
                r#"{{"question_id": {id}, "answer_id": "a", "model_id": "m", "choices": [{{"index": 0, "turns": ["{text}"]}}], "tstamp": 1.5}}"#
            )
        };
        let file = file(&[row(1, "old"), row(2, "x"), row(1, "new")].join("\n"));
        let answers = Answers::read(file.path()).unwrap();
        let question = |question_id| Question {
            question_id,
            category: "math".into(),
            turns: vec!["q".into()],
        };
        assert_eq!(answers.turn(&question(1), 1).unwrap(), "new");
        let error = |id, turn| answers.turn(&question(id), turn).unwrap_err().to_string();
        assert!(error(3, 1).ends_with("no answer to question 3"));
        assert!(error(2, 2).ends_with("no answer to turn 2 of question 2"));
    }

    #[test]
    fn rows_that_are_not_questions_are_refused() {
        let read = |text: &str| read(file(text).path()).unwrap_err().to_string();
        assert!(read("").ends_with("has no questions"));
        assert!(read(r#"{"question_id": 1}"#).contains("line 1"));
        let twice = r#"{"question_id": 1, "category": "c", "turns": ["a"]}"#;
        assert!(read(&format!("{twice}\n{twice}")).ends_with("rows 1 and 2 have this id"));
        assert!(read(r#"{"question_id": 1, "category": "c", "turns": []}"#).ends_with("no turns"));
    }
}
