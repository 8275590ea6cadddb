//! One row, read cell by cell, with errors that name the file, the row and the column.

use super::reader;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::fmt;

pub type Cells = Map<String, Value>;

/// The place of a row in its file, as errors name it.
#[derive(Clone, Copy, Debug)]
pub struct RowPlace<'a> {
    /// The name by which errors call the file.
    pub file: &'a str,
    /// Whether `number` is that of a line, as in text files.
    pub by_line: bool,
    /// The number of the line or the row, from 1.
    pub number: usize,
    /// Whether columns have types.
    pub typed: bool,
}

impl fmt::Display for RowPlace<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let unit = if self.by_line { "line" } else { "row" };
        write!(out, "{}, {unit} {}", self.file, self.number)
    }
}

/// A row, or a struct inside one, whose cells are taken out as they are read.
#[derive(Debug)]
pub struct Row<'a> {
    pub place: RowPlace<'a>,
    /// Whether numbers are written as text, as in files without types.
    pub untyped: bool,
    /// The prefix of the cells' names: `info.` inside the column `info`.
    pub prefix: String,
    pub cells: Cells,
    /// The names of all cells, if a required one is absent.
    pub has: Vec<String>,
}

impl Row<'_> {
    /// # Errors
    /// A null, or anything but text.
    pub fn text(&mut self, name: &str) -> Result<String> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    /// # Errors
    /// Anything but text or null.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>> {
        match self.cells.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "text")),
        }
    }

    /// The id of a row: text, or a whole number as it is written.
    ///
    /// # Errors
    /// A null, or anything else.
    pub fn id(&mut self, name: &str) -> Result<String> {
        match self.cells.get(name) {
            Some(Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            _ => self.text(name),
        }
    }

    /// # Errors
    /// A null, or anything but a whole number.
    pub fn integer(&mut self, name: &str) -> Result<i64> {
        self.optional_integer(name)?
            .ok_or_else(|| self.missing(name))
    }

    /// # Errors
    /// Anything but a whole number or null.
    pub fn optional_integer(&mut self, name: &str) -> Result<Option<i64>> {
        let integer = |value: &Value| match value {
            Value::String(text) if self.untyped => text.trim().parse().ok(),
            value => value.as_i64(),
        };
        match self.cells.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => integer(value)
                .map(Some)
                .ok_or_else(|| self.wrong(name, value, "a whole number")),
        }
    }

    /// # Errors
    /// Anything but a number or null.
    pub fn optional_number(&mut self, name: &str) -> Result<Option<f64>> {
        let number = |value: &Value| match value {
            Value::String(text) if self.untyped => text.trim().parse().ok(),
            value => value.as_f64(),
        };
        match self.cells.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => number(value)
                .map(Some)
                .ok_or_else(|| self.wrong(name, value, "a number")),
        }
    }

    /// The struct in a column.
    ///
    /// # Errors
    /// A null, or anything but a struct.
    pub fn part(&mut self, name: &str) -> Result<Self> {
        self.optional_part(name)?.ok_or_else(|| self.missing(name))
    }

    /// # Errors
    /// Anything but a struct or null.
    pub fn optional_part(&mut self, name: &str) -> Result<Option<Self>> {
        match self.cells.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(cells)) => Ok(Some(self.inner(format!("{name}."), cells))),
            Some(other) => Err(self.wrong(name, &other, "a struct")),
        }
    }

    /// The structs in a column of lists.
    ///
    /// # Errors
    /// A null, anything but a list, or a list of anything but structs.
    pub fn parts(&mut self, name: &str) -> Result<Vec<Self>> {
        match self.cells.remove(name) {
            None | Some(Value::Null) => Err(self.missing(name)),
            Some(Value::Array(items)) => {
                let part = |(index, item)| match item {
                    Value::Object(cells) => Ok(self.inner(format!("{name}[{index}]."), cells)),
                    other => Err(self.wrong(&format!("{name}[{index}]"), &other, "a struct")),
                };
                items.into_iter().enumerate().map(part).collect()
            }
            Some(other) => Err(self.wrong(name, &other, "a list")),
        }
    }

    fn inner(&self, name: String, cells: Cells) -> Self {
        let prefix = format!("{}{name}", self.prefix);
        Self {
            place: self.place,
            untyped: self.untyped,
            prefix,
            cells,
            has: Vec::new(),
        }
    }

    fn missing(&self, name: &str) -> Error {
        if self.prefix.is_empty() && !self.has.is_empty() && !self.has.iter().any(|has| has == name)
        {
            return reader::missing(&format!("{}: no `{name}`", self.place), name, &self.has);
        }
        self.error(&format!("no {}{name}", self.prefix))
            .hint("fill it in or drop the row")
    }

    fn wrong(&self, name: &str, found: &Value, wanted: &str) -> Error {
        let name = format!("{}{name}", self.prefix);
        if wanted == "text" && holds_messages(found) {
            return conversation(&self.place.to_string(), &name);
        }
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a struct",
        };
        let error = self.error(&format!("`{name}` is {found}, not {wanted}"));
        match (wanted, self.place.typed) {
            ("text", true) => error.hint(format!("write the column `{name}` as text")),
            ("text", false) if found == "a number" => error.hint("write it in quotes"),
            _ => error,
        }
    }

    /// An error of this row.
    pub fn error(&self, what: &str) -> Error {
        Error::data(format!("{}: {what}", self.place))
    }
}

/// Whether a column of this name usually holds a conversation.
pub fn is_conversation(name: &str) -> bool {
    matches!(
        name,
        "messages" | "conversations" | "conversation" | "turns" | "dialogue" | "dialog"
    )
}

/// Whether `value` is a message or a list of messages, as chat models take them.
pub fn holds_messages(value: &Value) -> bool {
    let is_message = |value: &Value| {
        value.as_object().is_some_and(|turn| {
            (turn.contains_key("role") && turn.contains_key("content"))
                || (turn.contains_key("from") && turn.contains_key("value"))
        })
    };
    match value {
        Value::Array(turns) => !turns.is_empty() && turns.iter().all(is_message),
        one => is_message(one),
    }
}

/// The error for a conversation in `name` where text is expected.
pub fn conversation(place: &str, name: &str) -> Error {
    Error::data(format!("{place}: `{name}` is a conversation (messages with roles), and plain text is read here")).hint(
        "write it as text: tokenizer.apply_chat_template(messages, tokenize=False) of transformers gives the text that a \
         chat model sees; for one message, take its content",
    )
}
