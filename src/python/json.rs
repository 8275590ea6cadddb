//! JSON as Python's `json.dumps` writes it.

use super::text::float;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// The options of `json.dumps`. Their defaults are Python's, but that text is not escaped to ASCII.
#[derive(Clone, Debug)]
pub struct Options {
    /// The text between items.
    pub item: String,
    /// The text between a key and its value.
    pub key: String,
    /// Whether characters beyond ASCII are escaped.
    pub ascii: bool,
    /// The number of spaces of each level, where every item has a line of its own.
    pub indent: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            item: ", ".to_owned(),
            key: ": ".to_owned(),
            ascii: false,
            indent: None,
        }
    }
}

impl Options {
    /// The options `indent=width`.
    pub fn indented(width: usize) -> Self {
        Self {
            item: ",".to_owned(),
            indent: Some(width),
            ..Self::default()
        }
    }
}

/// `json.dumps(value)`.
///
/// # Errors
/// A value that JSON does not have.
pub fn dumps(value: &(impl Serialize + ?Sized), options: &Options) -> serde_json::Result<String> {
    let mut written = Vec::new();
    let spelling = Spelling {
        options,
        depth: 0,
        filled: false,
    };
    value.serialize(&mut Serializer::with_formatter(&mut written, spelling))?;
    String::from_utf8(written).map_err(serde::ser::Error::custom)
}

/// `json.dumps(text)`: a string with ASCII characters alone.
pub fn string(text: &str) -> String {
    let options = Options {
        ascii: true,
        ..Options::default()
    };
    // Every text has a form in JSON.
    dumps(text, &options).unwrap_or_default()
}

/// A formatter with the state of the writing.
struct Spelling<'a> {
    options: &'a Options,
    depth: usize,
    /// True if the innermost open list or object has any items so far.
    filled: bool,
}

impl Spelling<'_> {
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
            out.write_all(self.options.item.as_bytes())?;
        }
        self.filled = true;
        self.line(out)
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        match self.options.indent {
            None => Ok(()),
            Some(width) => write!(out, "\n{:1$}", "", width * self.depth),
        }
    }
}

impl Formatter for Spelling<'_> {
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
        out.write_all(self.options.key.as_bytes())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !self.options.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ b' '..=b'~') => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_ascii_alone_where_it_is_asked_for() {
        let text = "a\"\\/\n\u{7f}é\u{1f600}\u{1}";
        let expected = r#""a\"\\/\n\u007f\u00e9\ud83d\ude00\u0001""#;
        assert_eq!(string(text), expected);
        let expected = "\"a\\\"\\\\/\\n\u{7f}é\u{1f600}\\u0001\"";
        assert_eq!(dumps(text, &Options::default()).unwrap(), expected);
    }

    #[test]
    fn an_indent_gives_every_item_a_line() {
        let value = json!({"a": [1, [], {}], "b": 1e-7});
        assert_eq!(
            dumps(&value, &Options::indented(2)).unwrap(),
            "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": 1e-07\n}"
        );
    }
}
