//! Rows to score or to continue: prompts and responses as text, as tokens or as the messages of a
//! conversation, among any other cells of a row.

use crate::data::dataset::{
    Dataset, Record, WholeRow, choices, conversation, holds_messages, is_conversation, json_value,
    no_rows,
};
use crate::tasks::chat::{Conversation, ConversationPair};
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::path::Path;

/// A row of the input. Every cell that is not named here passes through unchanged and in order.
#[derive(Debug)]
pub struct Row {
    /// File and line or row, as named in errors.
    pub place: String,
    pub prompt: Option<String>,
    pub response: Option<String>,
    pub prompt_ids: Option<Vec<u32>>,
    pub response_ids: Option<Vec<u32>>,
    /// The column `messages`, in a row that has neither prompt nor response.
    pub conversation: Option<Conversation>,
    /// The columns `chosen` and `rejected`, in a row to score that has no response.
    pub pair: Option<ConversationPair>,
    pub other: Cells,
}

/// All cells of a row, as they are written.
#[derive(Debug)]
pub struct Cells(Vec<(String, Box<RawValue>)>);

impl Cells {
    /// Adds a cell, replacing one of the same name.
    pub fn insert(&mut self, name: String, value: Value) {
        // Every value can be written as JSON.
        let Ok(raw) = to_raw_value(&value) else {
            return;
        };
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, cell)) => *cell = raw,
            None => self.0.push((name, raw)),
        }
    }
}

/// Reads the rows of `input`, each of which has text or tokens for every one of `needed`, or a
/// conversation. Where a response is needed, two answers to compare stand for it.
///
/// # Errors
/// A file that cannot be read or has no rows; a row in which something is missing or of the wrong
/// type.
pub fn read(input: &Path, needed: &[&str]) -> Result<Vec<Row>> {
    let rows = Dataset::file(input)?
        .whole_rows()?
        .map(|row| Row::new(row?, needed))
        .collect::<Result<Vec<_>>>()?;
    match rows.is_empty() {
        true => Err(no_rows(&input.display().to_string())),
        false => Ok(rows),
    }
}

impl Row {
    /// Adds cells whose names begin with `prefix`.
    pub fn add(&mut self, prefix: &str, cells: impl IntoIterator<Item = (&'static str, Value)>) {
        for (name, value) in cells {
            self.other.insert(format!("{prefix}{name}"), value);
        }
    }

    fn new(row: WholeRow, needed: &[&str]) -> Result<Self> {
        if needed.contains(&"response") && holds_pair(&row)? {
            return Ok(Self {
                prompt: None,
                response: None,
                prompt_ids: None,
                response_ids: None,
                conversation: None,
                pair: Some(row.record()?),
                place: row.place,
                other: Cells(row.cells),
            });
        }
        let read = Self {
            prompt: text(&row, "prompt")?,
            response: text(&row, "response")?,
            prompt_ids: ids(&row, "prompt_ids")?,
            response_ids: ids(&row, "response_ids")?,
            conversation: None,
            pair: None,
            other: Cells(Vec::new()),
            place: String::new(),
        };
        let text_or_ids = [
            read.prompt.is_some(),
            read.response.is_some(),
            read.prompt_ids.is_some(),
        ];
        if !text_or_ids.contains(&true)
            && read.response_ids.is_none()
            && row.cells.iter().any(|(name, _)| name == MESSAGES)
        {
            let conversation = Some(row.record()?);
            return Ok(Self {
                conversation,
                place: row.place,
                other: Cells(row.cells),
                ..read
            });
        }
        for &side in needed {
            let (text, ids) = match side {
                "prompt" => (&read.prompt, &read.prompt_ids),
                _ => (&read.response, &read.response_ids),
            };
            if text.is_none() && ids.is_none() {
                return Err(missing(&row, side));
            }
        }
        Ok(Self {
            place: row.place,
            other: Cells(row.cells),
            ..read
        })
    }
}

/// True if `chosen` or `rejected` holds messages and nothing else is the response.
fn holds_pair(row: &WholeRow) -> Result<bool> {
    let mut holds = false;
    for name in ConversationPair::COLUMNS {
        holds |= cell(row, name)?.is_some_and(|value| holds_messages(&value));
    }
    Ok(holds && cell(row, "response")?.is_none() && cell(row, "response_ids")?.is_none())
}

/// The column that holds a conversation.
const MESSAGES: &str = "messages";

fn missing(row: &WholeRow, side: &str) -> Error {
    if let Some((name, raw)) = row.cells.iter().find(|(name, _)| is_conversation(name))
        && json_value(&row.place, name, raw).is_ok_and(|value| holds_messages(&value))
    {
        return conversation(&row.place, name);
    }
    let has: Vec<&str> = row.cells.iter().map(|(name, _)| name.as_str()).collect();
    let needs = format!("a row needs \"{side}\" (text) or \"{side}_ids\" (tokens)");
    let hint = match has
        .iter()
        .find(|name| name.trim() == side && **name != side)
    {
        Some(padded) => format!("{needs}; there is `{padded}`, with spaces around its name"),
        None if has.contains(&side) => format!("{needs}; it is null here"),
        None if has.is_empty() => needs,
        None => format!("{needs}; {}", choices(side, &has)),
    };
    Error::data(format!("{}: no {side}", row.place)).hint(hint)
}

fn cell(row: &WholeRow, name: &str) -> Result<Option<Value>> {
    let Some((_, raw)) = row.cells.iter().find(|(key, _)| key == name) else {
        return Ok(None);
    };
    Ok(Some(json_value(&row.place, name, raw)?).filter(|value| !value.is_null()))
}

fn text(row: &WholeRow, name: &str) -> Result<Option<String>> {
    match cell(row, name)? {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) if holds_messages(&other) => Err(conversation(&row.place, name)),
        Some(other) => {
            let kind = match other {
                Value::Array(_) => "a list",
                Value::Object(_) => "a struct",
                Value::Bool(_) => "a truth value",
                _ => "a number",
            };
            Err(
                Error::data(format!("{}: `{name}` is {kind}, not text", row.place)).hint(format!(
                    "write it as text in quotes; tokens stand under {name}_ids"
                )),
            )
        }
    }
}

/// Reads a list of token ids, which is text in a file without types.
fn ids(row: &WholeRow, name: &str) -> Result<Option<Vec<u32>>> {
    let wrong = |what: String| {
        Error::data(format!("{}: {what}", row.place))
            .hint("token ids are whole numbers from 0, as in [12, 7, 0]")
    };
    let value = match cell(row, name)? {
        Some(Value::String(text)) if row.untyped => {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        }
        Some(value) => value,
        None => return Ok(None),
    };
    let Value::Array(items) = value else {
        return Err(wrong(format!("`{name}` is not a list of token ids")));
    };
    let id = |(index, item): (usize, &Value)| {
        let id = item.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(format!("`{name}[{index}]` is {item}, not a token id")))
    };
    items
        .iter()
        .enumerate()
        .map(id)
        .collect::<Result<_>>()
        .map(Some)
}

/// True if `value` is present and differs from `raw`.
fn is_other<T: DeserializeOwned + PartialEq>(raw: &RawValue, value: &Option<T>) -> bool {
    value.is_some() && serde_json::from_str::<T>(raw.get()).ok() != *value
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Self {
            prompt,
            response,
            prompt_ids,
            response_ids,
            other: Cells(cells),
            ..
        } = self;
        let mut map = serializer.serialize_map(None)?;
        for (name, raw) in cells {
            match name.as_str() {
                "response" if is_other(raw, response) => map.serialize_entry(name, response)?,
                "response_ids" if is_other(raw, response_ids) => {
                    map.serialize_entry(name, response_ids)?
                }
                "prompt_ids" if is_other(raw, prompt_ids) => {
                    map.serialize_entry(name, prompt_ids)?
                }
                _ => map.serialize_entry(name, raw)?,
            }
        }
        let absent = |name: &str| !cells.iter().any(|(key, _)| key == name);
        for (name, text) in [("prompt", prompt), ("response", response)] {
            if text.is_some() && absent(name) {
                map.serialize_entry(name, text)?;
            }
        }
        for (name, ids) in [("prompt_ids", prompt_ids), ("response_ids", response_ids)] {
            if ids.is_some() && absent(name) {
                map.serialize_entry(name, ids)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path, &["prompt"]).unwrap()
    }

    #[test]
    fn whatever_passes_through_is_what_was_written() {
        let text = r#"{"z":123456789012345678901234567890,"prompt":"\u00e9","response":"\u00e9","x":0.1000000000000000055,"y":1e400,"n":null,"a":{"c":1,"b":-0.0}}"#;
        assert_eq!(serde_json::to_string(&rows(text)[0]).unwrap(), text);
    }

    #[test]
    fn what_is_added_takes_the_place_of_its_name_or_the_end() {
        let mut row = rows(r#"{"reward":"old","prompt":"a","response":"before"}"#).remove(0);
        row.other.insert("reward".into(), 0.5.into());
        row.other.insert("ended".into(), true.into());
        (row.response, row.response_ids) = (Some("after".into()), Some(vec![3]));
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"reward":0.5,"prompt":"a","response":"after","ended":true,"response_ids":[3]}"#
        );
    }
}
