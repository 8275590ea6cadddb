//! The template engine, configured like that of transformers.
//!
//! Five adaptations make the two agree: line ends of the template are `\n`, `{% generation %}` is a
//! block that marks its contents, `tojson` writes Python's JSON, values are printed as Python prints
//! them, and `none` is not iterable.

use super::python_values;
use super::tojson::tojson;
use chrono::{DateTime, Utc};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, escape_formatter};
use minijinja_contrib::globals::joiner;
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Range;
use std::time::SystemTime;

/// Code points that surround the text of a generation block. They are noncharacters, which do not
/// occur in text.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';
/// The code point that is put into the name of a control token to spell it out.
pub(super) const SPELLED: char = '\u{fdd2}';

/// True if `text` contains a code point that serves as a mark here.
pub(super) fn holds_marks(text: &str) -> bool {
    text.contains([BEGIN, END, SPELLED])
}

/// The message that a template passes to `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An engine with the blocks, filters, methods and functions of transformers.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(python_values::method);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Number => {
            Ok(out.write_str(&python_values::text(value))?)
        }
        _ => escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| match value.kind() {
        ValueKind::String => value.clone(),
        _ => Value::from(python_values::text(value)),
    });
    environment.add_filter("title", python_values::title);
    environment.add_filter("round", python_values::round);
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment.add_function("joiner", joiner);
    // Jinja cannot iterate over none, and templates use this test on `tools`.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_filter("generation", |body: &str| format!("{BEGIN}{body}{END}"));
    environment.add_function("raise_exception", |message: &str| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.to_owned())
            .with_source(Raised(message.to_owned())))
    });
    environment
}

/// The number of items of a value; none in one that is not defined.
fn length(value: &Value) -> Result<usize, Error> {
    match value.is_undefined() {
        true => Ok(0),
        false => value.len().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("a value of type {} has no length", value.kind()),
            )
        }),
    }
}

/// Defines the function `strftime_now` of templates, which formats the time `now` in UTC, or the
/// time of the call if `now` is `None`.
pub(super) fn set_clock(environment: &mut Environment<'static>, now: Option<SystemTime>) {
    environment.add_function("strftime_now", move |format: &str| {
        let mut told = String::new();
        let now: DateTime<Utc> = now.unwrap_or_else(SystemTime::now).into();
        match write!(told, "{}", now.format(&without_zone(format))) {
            Ok(()) => Ok(told),
            Err(_) => Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("strftime_now cannot write {format:?}"),
            )),
        }
    });
}

/// The time format `format` without a time zone, since Python's `datetime.now` has none, and with
/// fractions of a second in microseconds.
fn without_zone(format: &str) -> String {
    let (mut adapted, mut characters) = (String::with_capacity(format.len()), format.chars());
    while let Some(character) = characters.next() {
        match (character, (character == '%').then(|| characters.next())) {
            (_, None) => adapted.push(character),
            (_, Some(Some('Z' | 'z'))) => {}
            (_, Some(Some('f'))) => adapted += "%6f",
            (_, Some(code)) => adapted.extend(std::iter::once('%').chain(code)),
        }
    }
    adapted
}

/// The template `source` adapted to the engine, and whether it marks the assistant's turns.
pub(super) fn repaired(source: &str) -> (String, bool) {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let (mut repaired, mut rest, mut marks) =
        (String::with_capacity(source.len()), source.as_str(), false);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        repaired += before;
        match generation_tag(tag) {
            Some((block, length)) => {
                repaired += &block;
                rest = &tag[length..];
                marks = true;
            }
            None => {
                repaired += "{%";
                rest = &tag[2..];
            }
        }
    }
    (repaired + rest, marks)
}

/// The filter block that replaces the generation tag at the beginning of `text`, and the length of
/// that tag.
fn generation_tag(text: &str) -> Option<(String, usize)> {
    let control = |text: &str| {
        if text.starts_with(['-', '+']) {
            text[..1].to_owned()
        } else {
            String::new()
        }
    };
    let left = control(text.strip_prefix("{%")?);
    let inside = text[2 + left.len()..].trim_start();
    let (tag, rest) = match inside.strip_prefix("endgeneration") {
        Some(rest) => ("endfilter", rest),
        None => ("filter generation", inside.strip_prefix("generation")?),
    };
    let rest = rest.trim_start();
    let right = control(rest);
    let behind = rest[right.len()..].strip_prefix("%}")?;
    Some((
        format!("{{%{left} {tag} {right}%}}"),
        text.len() - behind.len(),
    ))
}

/// Text with its marks removed, and the positions of the marks.
#[derive(Debug, Default)]
pub(super) struct Unmarked {
    pub text: String,
    /// The contents of generation blocks.
    pub generated: Vec<Range<usize>>,
    /// Positions inside names that are to be spelled out.
    pub spelled: Vec<usize>,
}

/// Removes the marks of `marked` and returns their positions with the text.
pub(super) fn unmarked(marked: &str) -> Unmarked {
    let (mut found, mut begin) = (Unmarked::default(), 0);
    for part in marked.split_inclusive([BEGIN, END, SPELLED]) {
        let text = part.trim_end_matches([BEGIN, END, SPELLED]);
        found.text += text;
        let at = found.text.len();
        match part[text.len()..].chars().next() {
            Some(BEGIN) => begin = at,
            Some(END) => found.generated.push(begin..at),
            Some(_) => found.spelled.push(at),
            None => {}
        }
    }
    found
}

/// `text` with a mark inserted at every place where one of `names` begins, so that none of them is
/// read as a name.
pub(super) fn spelled_out<'a, 'n>(
    text: &'a str,
    names: impl Iterator<Item = &'n str> + Clone,
) -> Cow<'a, str> {
    let begins = |text: &str| names.clone().any(|name| text.starts_with(name));
    if !names.clone().any(|name| text.contains(name)) {
        return text.into();
    }
    let mut spelled = String::with_capacity(text.len() + SPELLED.len_utf8());
    for (at, character) in text.char_indices() {
        spelled.push(character);
        if begins(&text[at..]) {
            spelled.push(SPELLED);
        }
    }
    spelled.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_newlines_and_generation_tags_filter_blocks() {
        let (source, marks) =
            repaired("a\r\nb\rc{%- generation -%}\n{% endgeneration%}{% set generation = 1 %}");
        assert_eq!(
            source,
            "a\nb\nc{%- filter generation -%}\n{% endfilter %}{% set generation = 1 %}"
        );
        assert!(marks);
        assert_eq!(
            repaired("{% if generation %}{% endif %}{%"),
            ("{% if generation %}{% endif %}{%".into(), false)
        );
    }

    #[test]
    fn marks_are_taken_out_and_found() {
        let found = unmarked("é\u{fdd0}ab\u{fdd1}\u{fdd0}\u{fdd1}<\u{fdd2}s>");
        assert_eq!(
            (found.text.as_str(), found.generated, found.spelled),
            ("éab<s>", vec![2..4, 4..4], vec![5])
        );
    }

    #[test]
    fn every_beginning_of_a_name_is_marked() {
        let names = ["<s>", "<<s>>"];
        assert_eq!(
            spelled_out("a <<s>>", names.into_iter()),
            "a <\u{fdd2}<\u{fdd2}s>>"
        );
        assert!(matches!(
            spelled_out("a < s>", names.into_iter()),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn values_are_iterable_as_in_python() {
        let told = environment()
            .render_str(
                "{{ none is iterable }} {{ [] is iterable }} {{ 1 is iterable }}",
                (),
            )
            .unwrap();
        assert_eq!(told, "False True False");
    }

    #[test]
    fn what_is_not_defined_has_no_items_and_a_number_no_length() {
        let environment = environment();
        let told = environment.render_str("{{ nothing | length }}{{ 'é' | count }}", ());
        assert_eq!(told.unwrap(), "01");
        assert!(environment.render_str("{{ none | length }}", ()).is_err());
    }

    #[test]
    fn the_clock_tells_a_given_time() {
        let mut environment = environment();
        set_clock(&mut environment, Some(SystemTime::UNIX_EPOCH));
        let told = |format: &str| {
            environment.render_str(&format!("{{{{ strftime_now('{format}') }}}}"), ())
        };
        assert_eq!(told("%d %b %Y").unwrap(), "01 Jan 1970");
        assert_eq!(told("%H:%M:%S.%f%z %Z%%Z").unwrap(), "00:00:00.000000 %Z");
        assert!(told("%!").is_err());
    }
}
