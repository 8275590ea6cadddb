//! A question of a task: what is read from a row, before any prompt is made of it.

use crate::{Context, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// A row of a data set with all its cells, as they are written there.
#[derive(Clone, Debug)]
pub struct Row {
    /// The file and its line or row, as errors name it.
    pub place: String,
    pub cells: Vec<(String, Box<RawValue>)>,
}

impl Row {
    /// The cell `name`, which must be `wanted`.
    ///
    /// # Errors
    /// A cell that is missing or something else.
    pub fn get<T: DeserializeOwned>(&self, name: &str, wanted: &str) -> Result<T> {
        let Some((_, cell)) = self.cells.iter().find(|(key, _)| key == name) else {
            let names: Vec<&str> = self.cells.iter().map(|(key, _)| key.as_str()).collect();
            return Err(self
                .error(&format!("no `{name}`"))
                .hint(format!("the row has {}", names.join(", "))));
        };
        serde_json::from_str(cell.get()).map_err(|cause| {
            self.error(&format!("`{name}` is not {wanted}"))
                .caused_by(cause)
        })
    }

    /// Whether there is a cell `name`.
    pub fn has(&self, name: &str) -> bool {
        self.cells.iter().any(|(key, _)| key == name)
    }

    /// Puts `value` into the cell `name`, a new one behind the others unless there is one.
    ///
    /// # Errors
    /// A value that JSON does not have.
    pub fn set(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let value = to_raw_value(value).context(|| self.place.clone())?;
        match self.cells.iter_mut().find(|(key, _)| key == name) {
            Some((_, cell)) => *cell = value,
            None => self.cells.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// # Errors
    /// A cell that is missing or not text.
    pub fn text(&self, name: &str) -> Result<String> {
        self.get(name, "text")
    }

    /// A whole number, which may be written as text.
    ///
    /// # Errors
    /// A cell that is missing or not a whole number.
    pub fn integer(&self, name: &str) -> Result<i64> {
        let wanted = "a whole number";
        match self.get(name, wanted)? {
            Number::Number(number) => Ok(number),
            Number::Text(text) => text
                .trim()
                .parse()
                .map_err(|_| self.error(&format!("`{name}` is {text:?}, not {wanted}"))),
        }
    }

    /// The place of the right one of `count` candidates, which the cell `name` names as `given`.
    ///
    /// # Errors
    /// A place that no candidate has.
    pub fn gold(&self, name: &str, given: i64, count: usize) -> Result<usize> {
        let place = usize::try_from(given).ok().filter(|place| *place < count);
        place.ok_or_else(|| {
            self.error(&format!(
                "`{name}` is {given}, and there are {count} candidates"
            ))
            .hint("candidates are counted from 0; repair or drop the row")
        })
    }

    /// An error of this row.
    pub fn error(&self, what: &str) -> Error {
        Error::data(format!("{}: {what}", self.place))
    }
}

/// Rows are equal if their cells are, wherever they stand.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let cells = |row: &Self| -> Vec<(String, String)> {
            let cell = |(name, raw): &(String, Box<RawValue>)| (name.clone(), raw.get().to_owned());
            row.cells.iter().map(cell).collect()
        };
        cells(self) == cells(other)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.cells.iter().map(|(name, raw)| (name, raw)))
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Number {
    Number(i64),
    Text(String),
}

/// A question, its candidates or solution, and the text that it is as an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub row: Row,
    /// The text that stands before the answer.
    pub query: String,
    /// The question with its right answer, as it stands among few-shot examples.
    pub example: String,
    pub answer: Answer,
}

/// The answers that are asked of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One of several candidates is right.
    Choice {
        /// The candidates that are scored, without the space before them.
        candidates: Vec<String>,
        /// The texts that the candidates stand for: those behind the letters A to D, or the
        /// candidates themselves.
        texts: Vec<String>,
        gold: usize,
    },
    /// One of two contexts is right, before the same continuation.
    Context {
        /// The sentence up to its gap, filled by each option.
        contexts: [String; 2],
        /// The options.
        texts: [String; 2],
        /// The rest of the sentence, without the space before it.
        suffix: String,
        gold: usize,
    },
    /// TruthfulQA's two sets of candidates.
    Truth { mc1: Targets, mc2: Targets },
    /// A solution to be written.
    Solution(String),
}

/// Candidates of which several may be true.
#[derive(Clone, Debug, PartialEq)]
pub struct Targets {
    pub choices: Vec<String>,
    /// Whether a choice is true.
    pub labels: Vec<bool>,
}

/// The row that a JSON object is.
#[cfg(test)]
pub(super) fn row(json: &str) -> Row {
    struct Cells;
    impl<'de> serde::de::Visitor<'de> for Cells {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
            out.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    let mut from = serde_json::Deserializer::from_str(json);
    let cells = serde::Deserializer::deserialize_map(&mut from, Cells).unwrap();
    let place = "rows, line 1".to_owned();
    Row { place, cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_or_named() {
        let read = row(r#"{"a": "x", "n": 3, "t": "4", "list": [1, 2]}"#);
        assert_eq!(read.text("a").unwrap(), "x");
        assert_eq!(
            [read.integer("n").unwrap(), read.integer("t").unwrap()],
            [3, 4]
        );
        assert_eq!(read.gold("n", 3, 4).unwrap(), 3);
        let told = |error: Error| error.to_string();
        insta::assert_snapshot!(
            [
                told(read.text("b").unwrap_err()),
                told(read.text("n").unwrap_err()),
                told(read.integer("a").unwrap_err()),
                told(read.integer("list").unwrap_err()),
                told(read.gold("n", 3, 3).unwrap_err()),
                told(read.gold("n", -1, 3).unwrap_err()),
            ]
            .join("\n"),
            @"
        rows, line 1: no `b`
        rows, line 1: `n` is not text
        rows, line 1: `a` is \"x\", not a whole number
        rows, line 1: `list` is not a whole number
        rows, line 1: `n` is 3, and there are 3 candidates
        rows, line 1: `n` is -1, and there are 3 candidates
        "
        );
    }

    #[test]
    fn a_row_is_written_as_it_was_read() {
        let text = r#"{"b":"\u00e9","a":[1, 2.0],"c":null}"#;
        assert_eq!(serde_json::to_string(&row(text)).unwrap(), text);
        assert!(row(text) == row(text) && row(text) != row(r#"{"b":1}"#));
    }
}
