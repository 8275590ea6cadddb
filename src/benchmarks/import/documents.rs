//! JSON documents as Python writes them: one value, or a value a line, where `NaN` and `Infinity`
//! may stand for numbers.

use crate::files;
use crate::{Context, Error, Result};
use serde_json::Value;
use std::path::Path;

/// The text by which a number that is not finite is read.
const NOT_FINITE: &str = "\u{FDD0}not finite";

/// The values of a file with their places: the items of a list, the lines of a file of lines, or
/// the one value.
///
/// # Errors
/// A file that cannot be read, or text that is not JSON, by its line.
pub fn values(path: &Path) -> Result<Vec<(String, Value)>> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).context(|| format!("cannot read {shown}"))?;
    let text = String::from_utf8(bytes).map_err(|cause| {
        Error::data(format!("{shown} is not UTF-8"))
            .caused_by(cause)
            .hint("convert it, or fetch the file again")
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let torn = |line: usize, cause: serde_json::Error| {
        Error::data(format!("{shown}, line {line}: this is not JSON"))
            .caused_by(cause)
            .hint("give a file of JSON, or of one JSON object a line; a file that was cut off has a torn end")
    };
    let whole = match parse(text) {
        Ok(Value::Array(items)) => {
            let row = |(index, value)| (format!("{shown}, row {}", index + 1), value);
            return Ok(items.into_iter().enumerate().map(row).collect());
        }
        Ok(one) => return Ok(vec![(shown, one)]),
        Err(cause) => cause,
    };
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match parse(line) {
            Ok(value) => rows.push((format!("{shown}, line {}", index + 1), value)),
            Err(_) if line.trim().is_empty() => {}
            // A first line that is no value begins a document of several lines.
            Err(_) if rows.is_empty() && !text.trim().is_empty() => {
                return Err(torn(whole.line(), whole));
            }
            Err(cause) => return Err(torn(index + 1, cause)),
        }
    }
    Ok(rows)
}

/// Parses JSON in which names of numbers that are not finite stand outside of strings.
fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| match finite(text) {
        Some(repaired) => serde_json::from_str(&repaired),
        None => Err(error),
    })
}

/// The text with each `NaN` and `Infinity` outside of strings replaced by a string that stands for
/// it; `None` if there is none.
fn finite(text: &str) -> Option<String> {
    let mut repaired = String::with_capacity(text.len());
    let (mut rest, mut quoted, mut found) = (text, false, false);
    while let Some(character) = rest.chars().next() {
        let name = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|name| !quoted && rest.starts_with(name));
        let length = match (name, character) {
            (Some(name), _) => {
                found = true;
                repaired.push('"');
                repaired.push_str(NOT_FINITE);
                repaired.push('"');
                rest = &rest[name.len()..];
                continue;
            }
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, '"') => {
                quoted = !quoted;
                1
            }
            (None, other) => other.len_utf8(),
        };
        repaired.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    found.then_some(repaired)
}

/// A number in a document, or the reason why there is none.
pub fn number(value: Option<&Value>, name: &str) -> std::result::Result<f64, String> {
    match value {
        None => Err(format!("no `{name}`")),
        Some(Value::Null) => Err(format!("`{name}` is null")),
        Some(Value::Bool(holds)) => Ok(f64::from(u8::from(*holds))),
        Some(Value::String(text)) if text == NOT_FINITE => Err(format!("`{name}` is not finite")),
        // transformers' pipelines give a list with one score.
        Some(Value::Array(only)) if only.len() == 1 => number(only.first(), name),
        Some(value) => value
            .as_f64()
            .ok_or_else(|| format!("`{name}` is not a number")),
    }
}

/// The hash of a file that was imported.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(path: &Path) -> Result<String> {
    Ok(files::hash(path)?.blake3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Vec<(String, Value)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, text).unwrap();
        let read = values(&path)?;
        let name = |place: String| place.rsplit('/').next().unwrap().to_owned();
        Ok(read
            .into_iter()
            .map(|(place, value)| (name(place), value))
            .collect())
    }

    #[test]
    fn lists_lines_and_single_values_are_read() {
        let rows = |text| read(text).unwrap();
        let two = |unit: &str| {
            [1, 2]
                .map(|n| (format!("x, {unit} {n}"), json!({"a": n})))
                .to_vec()
        };
        assert_eq!(rows("[{\"a\": 1},\n {\"a\": 2}]"), two("row"));
        assert_eq!(rows("\u{feff}{\"a\": 1}\n{\"a\": 2}\n"), two("line"));
        assert_eq!(rows("{\"a\":\n 1}"), [("x".to_owned(), json!({"a": 1}))]);
        let error = read("{\"a\": 1}\n\n{\"a\": ").unwrap_err().to_string();
        assert!(error.ends_with("x, line 3: this is not JSON"), "{error}");
        let error = read("[{\"a\": 1},\n{\"a\":\n,}]").unwrap_err().to_string();
        assert!(error.ends_with("x, line 3: this is not JSON"), "{error}");
        assert_eq!(rows(" \n"), []);
    }

    #[test]
    fn numbers_that_are_not_finite_have_a_reason() {
        let text = r#"{"a": NaN, "b": [-Infinity], "c": "NaN \" Infinity", "d": [2.5], "e": true}"#;
        let [(_, value)] = &read(text).unwrap()[..] else {
            panic!("one value")
        };
        let told = |name: &str| number(value.get(name), name);
        assert_eq!(told("a"), Err("`a` is not finite".into()));
        assert_eq!(told("b"), Err("`b` is not finite".into()));
        assert_eq!(value["c"], "NaN \" Infinity");
        assert_eq!(told("c"), Err("`c` is not a number".into()));
        assert_eq!(told("d"), Ok(2.5));
        assert_eq!(told("e"), Ok(1.0));
        assert_eq!(told("f"), Err("no `f`".into()));
    }
}
