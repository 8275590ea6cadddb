//! JSON objects that hold rows, with every value as it is written, and the diagnosis of text that
//! isn't JSON.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::collections::HashSet;
use std::fmt;

/// The keys of an object in their order, and their values as they are written.
pub type Fields<'a> = Vec<(String, &'a RawValue)>;

/// A fault in the text of a row, as in "PLACE: WHAT", with the remedy.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub remedy: String,
}

fn fault(what: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault {
        what: what.into(),
        remedy: remedy.into(),
    }
}

const ONE_ROW: &str =
    "a row is one object, as {\"column\": \"text\"}; a jsonl file has one on every line";
const REPRINT: &str =
    "print one row a line, as `jq -c .` does, or name a file that holds one list `.json`";
const DUMP: &str = "write rows with a JSON library, such as Python's json.dumps";

/// The fields of `text`, which holds one object.
///
/// # Errors
/// Anything but one object; a key that occurs twice; half a surrogate pair anywhere in it.
pub fn object(text: &str) -> Result<Fields<'_>, Fault> {
    if let Some(offset) = half_surrogate(text) {
        return Err(of_half_surrogate(text, offset));
    }
    let InOrder(fields) = serde_json::from_str(text).map_err(|cause| diagnose(text, &cause))?;
    let mut seen = HashSet::with_capacity(fields.len());
    match fields.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        Some((key, _)) => Err(fault(
            format!("the key `{key}` occurs twice"),
            "keep one of the two: they may disagree",
        )),
        None => Ok(fields),
    }
}

struct InOrder<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for InOrder<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = InOrder<'de>;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(InOrder(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

/// The value in `raw`, at the key `name`.
///
/// # Errors
/// A number that is too large; an inner object with a key that occurs twice; too many levels.
pub fn value(name: &str, raw: &RawValue) -> Result<Value, Fault> {
    let Strict(value) = serde_json::from_str(raw.get()).map_err(|cause| {
        let cause = cause.to_string();
        let reason = cause
            .rsplit_once(" at line ")
            .map_or(cause.as_str(), |(reason, _)| reason);
        fault(
            format!("`{name}` cannot be read: {reason}"),
            "correct the value or drop the row",
        )
    })?;
    Ok(value)
}

/// A value whose objects have no key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> DeserializeSeed<'de> for Any {
            type Value = Value;

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
                from.deserialize_any(self)
            }
        }
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_string<E>(self, value: String) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element_seed(Any)? {
                    items.push(item);
                }
                Ok(Value::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut fields = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value_seed(Any)?;
                    if fields.contains_key(&key) {
                        return Err(A::Error::custom(format!(
                            "the key `{key}` occurs twice in it"
                        )));
                    }
                    fields.insert(key, value);
                }
                Ok(Value::Object(fields))
            }
        }
        Any.deserialize(from).map(Strict)
    }
}

/// The fault for which the parser refused `text` with `cause`.
pub fn diagnose(text: &str, cause: &serde_json::Error) -> Fault {
    let offset = offset(text, cause.line(), cause.column());
    let (key, word) = (path(text, offset), word(text, offset));
    let named = if key.is_empty() {
        String::new()
    } else {
        format!("`{key}` is ")
    };
    let column = text[..offset].chars().count()
        - text[..offset]
            .rfind('\n')
            .map_or(0, |end| text[..=end].chars().count());
    let here = format!("at column {}", column + 1);
    let reason = cause.to_string();
    let reason = reason
        .rsplit_once(" at line ")
        .map_or(reason.as_str(), |(reason, _)| reason);
    let is_word = ["expected value", "expected ident", "invalid number"]
        .iter()
        .any(|begin| reason.starts_with(begin));
    match if is_word {
        word.trim_start_matches(['+', '-'])
    } else {
        ""
    } {
        "NaN" | "nan" | "Infinity" | "infinity" | "Inf" | "inf" => {
            return fault(
                format!("{named}{word}, which JSON does not have"),
                "write null or drop the key (Python: json.dumps(row, allow_nan=False) finds them)",
            );
        }
        "None" | "True" | "False" => {
            return fault(format!("{named}{word}, which is Python and not JSON"), DUMP);
        }
        "undefined" => {
            return fault(
                format!("{named}undefined, which JSON does not have"),
                "write null or drop the key",
            );
        }
        _ => {}
    }
    let next = text[offset..].chars().next();
    match (text.trim_start().chars().next(), next) {
        (Some('['), _) if text.trim_start().len() == text.len() && cause.is_data() => {
            return fault("a list, not an object", ONE_ROW);
        }
        (Some('"' | '0'..='9' | '-' | 't' | 'f' | 'n'), _) if cause.is_data() => {
            return fault("a single value, not an object", ONE_ROW);
        }
        (_, Some('\'')) => {
            return fault(
                format!("a single quote {here}, which is Python and not JSON"),
                DUMP,
            );
        }
        _ if cause.is_eof() => {
            return fault(
                "the text ends inside a row",
                format!("the file is cut short, or a row is printed over several lines: {REPRINT}"),
            );
        }
        (Some('{'), Some('{')) if reason == "trailing characters" => {
            return fault(format!("another row begins {here}"), ONE_ROW);
        }
        (Some('{'), Some(',')) if reason == "trailing characters" => {
            return fault(
                format!("a comma {here}, after the row"),
                "rows of a jsonl file have no commas between them",
            );
        }
        _ if reason.starts_with("control character") => {
            return fault(
                format!("a control character {here}, inside a text"),
                "inside a text a line break is written \\n and a tab \\t; JSON libraries do so",
            );
        }
        (Some('{' | '['), _) => {}
        _ => return fault("not a JSON object", ONE_ROW),
    }
    let named = if key.is_empty() {
        String::new()
    } else {
        format!(", in or before the value of `{key}`")
    };
    fault(format!("not JSON {here}{named}: {reason}"), DUMP)
}

/// The byte offset of the parser's `line` and `column`, at a boundary between characters.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut offset = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The word or number that covers or touches the byte `offset`.
fn word(text: &str, offset: usize) -> &str {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let start = text[..offset].trim_end_matches(part).len();
    let end = text.len() - text[offset..].trim_start_matches(part).len();
    &text[start..end.min(start + 40).max(start)]
}

/// The keys and indices that lead to the byte `offset` of `text`, which is valid JSON up to there.
fn path(text: &str, offset: usize) -> String {
    enum Level {
        Object(Option<String>),
        List(usize),
    }
    let (bytes, mut levels, mut is_key, mut at) = (text.as_bytes(), Vec::new(), false, 0);
    while at < offset {
        match bytes[at] {
            b'{' => (is_key, _) = (true, levels.push(Level::Object(None))),
            b'[' => (is_key, _) = (false, levels.push(Level::List(0))),
            b'}' | b']' => drop(levels.pop()),
            b',' => match levels.last_mut() {
                Some(Level::Object(_)) => is_key = true,
                Some(Level::List(index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let start = at + 1;
                at = start;
                while at < offset && bytes[at] != b'"' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                if let (true, Some(Level::Object(key))) = (is_key, levels.last_mut()) {
                    *key = text.get(start..at.min(text.len())).map(str::to_owned);
                    is_key = false;
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Object(Some(key)) if path.is_empty() => path = key,
            Level::Object(Some(key)) => path += &format!(".{key}"),
            Level::Object(None) => {}
            Level::List(index) => path += &format!("[{index}]"),
        }
    }
    path
}

/// The byte offset of the first escape of half a surrogate pair.
pub fn half_surrogate(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let code = |at: usize| {
        let escape = bytes
            .get(at..at + 6)
            .filter(|escape| escape.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
    };
    let mut at = text.find('\\')?;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        at += match code(at) {
            Some(0xd800..0xdc00) if matches!(code(at + 6), Some(0xdc00..0xe000)) => 12,
            Some(0xd800..0xe000) => return Some(at),
            Some(_) => 6,
            None => 2,
        };
    }
    None
}

/// The fault of half a surrogate pair at the byte `offset`.
pub fn of_half_surrogate(text: &str, offset: usize) -> Fault {
    let key = path(text, offset);
    let line = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let column = text[line..offset].chars().count() + 1;
    let escape = text.get(offset..offset + 6).unwrap_or_default();
    let named = if key.is_empty() {
        String::new()
    } else {
        format!(" in `{key}`")
    };
    fault(
        format!("half a surrogate pair, {escape},{named} at column {column}, which is not text"),
        "an emoji was cut in two: write the whole pair (as \\ud83d\\ude00) or drop the half",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match object(text) {
            Ok(fields) => {
                format!(
                    "{:?}",
                    fields
                        .iter()
                        .map(|(key, raw)| (key.as_str(), raw.get()))
                        .collect::<Vec<_>>()
                )
            }
            Err(Fault { what, .. }) => what,
        }
    }

    #[test]
    fn values_stay_as_they_are_written_and_keys_in_their_order() {
        let text = r#"{"z": 123456789012345678901234567890, "a": 0.1000000000000000055, "m": 1e400, "é": {"b": 1, "a": 2}}"#;
        assert_eq!(
            told(text),
            r#"[("z", "123456789012345678901234567890"), ("a", "0.1000000000000000055"), ("m", "1e400"), ("é", "{\"b\": 1, \"a\": 2}")]"#
        );
        assert_eq!(
            told(r#"{"text": "\ud83d\ude00 \\ud83d"}"#),
            r#"[("text", "\"\\ud83d\\ude00 \\\\ud83d\"")]"#
        );
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let texts = [
            r#"{"a": 1, "a": 2}"#,
            r#"{"a": {"b": [1, NaN]}}"#,
            r#"{"score": -Infinity}"#,
            r#"{"score": nan}"#,
            r#"{"title": None}"#,
            r#"{'title': 'x'}"#,
            r#"{"a": "x\ud83d"}"#,
            r#"{"a": "\ude00"}"#,
            r#"{"\ud83d": 1}"#,
            r#"{"a": 1,}"#,
            r#"{"a": "x"#,
            r#"{"a": 1"#,
            r#"{"a": 1} {"a": 2}"#,
            r#"{"a": 1},"#,
            "{\"a\": \"x\ty\"}",
            r#"{"a": 01}"#,
            r#"{a: 1}"#,
            r#"[{"a": 1}]"#,
            r#""text""#,
            "7",
            "id,post",
            "{\"a\": \"é\", \"b\": \"\\x\"}",
            "",
        ];
        let all: Vec<String> = texts
            .iter()
            .map(|text| format!("{text}  →  {}", told(text)))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn values_that_are_used_are_read_strictly() {
        let raw = |text: &str| serde_json::from_str::<Box<RawValue>>(text).unwrap();
        assert_eq!(
            value("x", &raw(r#"[{"a": 1.5, "b": null}, -3, true]"#)).unwrap(),
            serde_json::json!([{"a": 1.5, "b": null}, -3, true])
        );
        let refused = |text: &str| value("x", &raw(text)).unwrap_err().what;
        assert_eq!(
            refused(r#"{"a": 1, "a": 2}"#),
            "`x` cannot be read: the key `a` occurs twice in it"
        );
        assert_eq!(refused("1e400"), "`x` cannot be read: number out of range");
        assert!(
            refused(&format!("{}{}", "[".repeat(500), "]".repeat(500))).contains("recursion limit")
        );
    }
}
