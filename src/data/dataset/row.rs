//! One row, cell by cell, with errors that name the file, the row and the column.

use crate::{Error, Result};
use serde_json::{Map, Value};

pub type Cells = Map<String, Value>;

/// A row, or a struct inside one. Cells are taken out of it.
#[derive(Debug)]
pub struct Row<'a> {
    /// As errors call it.
    pub file: &'a str,
    /// In its file, from 1.
    pub number: usize,
    /// In files without types, numbers are written as text.
    pub untyped: bool,
    /// What stands before the names of the cells: `info.` inside the column `info`.
    pub prefix: String,
    pub cells: Cells,
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

    /// # Errors
    /// A null, or anything but a whole number.
    pub fn integer(&mut self, name: &str) -> Result<i64> {
        self.optional_integer(name)?.ok_or_else(|| self.missing(name))
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
            Some(value) => integer(value).map(Some).ok_or_else(|| self.wrong(name, value, "a whole number")),
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
            Some(value) => number(value).map(Some).ok_or_else(|| self.wrong(name, value, "a number")),
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
        Self { prefix: format!("{}{name}", self.prefix), cells, ..*self }
    }

    fn missing(&self, name: &str) -> Error {
        self.error(&format!("no {}{name}", self.prefix)).hint("fill it in or drop the row")
    }

    fn wrong(&self, name: &str, found: &Value, wanted: &str) -> Error {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a struct",
        };
        self.error(&format!("`{}{name}` is {found}, not {wanted}", self.prefix))
    }

    /// An error of this row.
    pub fn error(&self, what: &str) -> Error {
        Error::data(format!("{}, row {}: {what}", self.file, self.number))
    }
}
