//! The filter `tojson` of chat templates: JSON in the format of Python's `json.dumps`, on which
//! models were trained.

use super::python_text;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// `value | tojson`, with the options `ensure_ascii`, `indent`, `separators` and `sort_keys`; HTML
/// is not escaped.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let (item, key) = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson takes two separators",
            ));
        }
    };
    let ascii = options
        .get::<Option<bool>>("ensure_ascii")?
        .unwrap_or(false);
    let sorts = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "tojson is given what is not defined",
        ));
    }
    let value = match sorts {
        true => &sorted(value),
        false => value,
    };
    let mut written = Vec::new();
    let spelling = Spelling {
        item,
        key,
        ascii,
        indent,
        depth: 0,
        filled: false,
    };
    let failed = |why: String| Error::new(ErrorKind::BadSerialization, why);
    value
        .serialize(&mut Serializer::with_formatter(&mut written, spelling))
        .map_err(|cause| failed(cause.to_string()))?;
    String::from_utf8(written).map_err(|cause| failed(cause.to_string()))
}

/// `value` with the keys of every table in order.
fn sorted(value: &Value) -> Value {
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => {
            let mut keys: Vec<Value> = items().collect();
            keys.sort();
            let pair = |key: Value| {
                let held = value.get_item(&key).unwrap_or_default();
                (key, sorted(&held))
            };
            keys.into_iter().map(pair).collect()
        }
        ValueKind::Seq | ValueKind::Iterable => items().map(|item| sorted(&item)).collect(),
        _ => value.clone(),
    }
}

/// A JSON formatter with Python's separators, line ends and escapes.
struct Spelling {
    item: String,
    key: String,
    ascii: bool,
    indent: Option<usize>,
    depth: usize,
    /// True if the innermost open list or object has any items so far.
    filled: bool,
}

impl Spelling {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        self.filled = true;
        out.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.filled = true;
        self.line(out)
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        match self.indent {
            None => Ok(()),
            Some(width) => write!(out, "\n{:1$}", "", width * self.depth),
        }
    }
}

impl Formatter for Spelling {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(python_text::float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;

    fn rendered(expression: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", super::tojson);
        environment
            .render_str(&format!("{{{{ {expression} }}}}"), ())
            .unwrap()
    }

    #[test]
    fn json_is_spelled_as_python_spells_it() {
        let value = r#"{"b": [1, none, true, 2.5], "a": "<é>'\"\n"}"#;
        assert_eq!(
            rendered(&format!("{value} | tojson")),
            r#"{"b": [1, null, true, 2.5], "a": "<é>'\"\n"}"#
        );
        assert_eq!(
            rendered("['é😀'] | tojson(ensure_ascii=true)"),
            r#"["\u00e9\ud83d\ude00"]"#
        );
        assert_eq!(
            rendered("[[], {}] | tojson(separators=[',', ':'])"),
            "[[],{}]"
        );
        assert_eq!(
            rendered("{'b': [{'d': 1e-7, 'c': 1e16}], 'a': 0.1} | tojson(sort_keys=true)"),
            r#"{"a": 0.1, "b": [{"c": 1e+16, "d": 1e-07}]}"#
        );
    }

    #[test]
    fn an_indent_breaks_lines_but_in_what_is_empty() {
        assert_eq!(
            rendered("{'a': [1, [], {}]} | tojson(indent=2)"),
            "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ]\n}"
        );
    }
}
