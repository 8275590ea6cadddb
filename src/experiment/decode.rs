//! Conversion of an experiment file's tree to typed settings, by serde, with errors that say which
//! key is wrong, where it stands, what was expected and which known key is nearest.

use super::tree::{Node, Span, Table, Value};
use crate::error::{Error, Result};
use serde::de::{self, DeserializeOwned, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::collections::btree_map;
use std::fmt::{self, Display};

/// Reads `node` as a `T`. `also` lists keys that stand beside those of `T` in this table and are
/// read elsewhere, so that they can be suggested for a misspelt key.
pub fn decode<T: DeserializeOwned>(node: &Node, also: &[&str]) -> Result<T> {
    T::deserialize(Located(node)).map_err(|fault| fault.at(&node.place).report(also))
}

/// The candidate nearest to `word`, if one is similar enough to be meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(word, candidate),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= 0.6)
        // Of two equally near candidates, the one that begins `word` wins.
        .max_by(|a, b| {
            a.0.total_cmp(&b.0)
                .then(word.starts_with(a.1).cmp(&word.starts_with(b.1)))
        })
        .map(|(_, candidate)| candidate)
}

/// A hint: "did you mean …?", or the list of candidates.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => {
            let known: Vec<_> = candidates
                .into_iter()
                .map(|candidate| format!("`{candidate}`"))
                .collect();
            format!("known: {}", known.join(", "))
        }
    }
}

#[derive(Debug)]
enum FaultKind {
    /// A `word` that is not among `known`; `what` names the sort of word.
    Unknown {
        what: &'static str,
        word: String,
        known: &'static [&'static str],
    },
    Other(String),
}

type Outcome<T> = std::result::Result<T, Fault>;

/// An error on its way up, with the keys passed so far, innermost first, and the innermost place.
#[derive(Debug)]
struct Fault {
    kind: FaultKind,
    path: Vec<String>,
    place: Option<Span>,
}

impl Fault {
    fn at(mut self, place: &Span) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }

    fn report(mut self, also: &[&str]) -> Error {
        self.path.reverse();
        let path = self.path.join(".");
        let (message, hint) = match &self.kind {
            FaultKind::Unknown { what, word, known } => {
                // Sibling keys read elsewhere belong to the outermost table only.
                let also = if path.is_empty() { also } else { &[] };
                let place = if path.is_empty() {
                    String::new()
                } else {
                    format!(" in `{path}`")
                };
                let hint = suggestion(word, known.iter().chain(also).copied());
                (format!("unknown {what} `{word}`{place}"), Some(hint))
            }
            FaultKind::Other(message) if path.is_empty() => (message.clone(), None),
            FaultKind::Other(message) => (format!("`{path}`: {message}"), None),
        };
        let error = match &self.place {
            Some(place) => place.error(message),
            None => Error::configuration(message),
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:?}", self.kind)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self {
            kind: FaultKind::Other(message.to_string()),
            path: Vec::new(),
            place: None,
        }
    }

    fn invalid_type(found: de::Unexpected, expected: &dyn de::Expected) -> Self {
        Self::custom(format!("expected {}, found {found}", plain(expected)))
    }

    fn invalid_value(found: de::Unexpected, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(word: &str, known: &'static [&'static str]) -> Self {
        let kind = FaultKind::Unknown {
            what: "key",
            word: word.to_owned(),
            known,
        };
        Self {
            kind,
            path: Vec::new(),
            place: None,
        }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let kind = FaultKind::Unknown {
            what: "choice",
            word: word.to_owned(),
            known,
        };
        Self {
            kind,
            path: Vec::new(),
            place: None,
        }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format!("the key `{key}` is missing"))
    }
}

/// Serde's name of a Rust type, in the words of a settings file.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "usize" | "u64" | "u32" => "a whole number, 0 or more".into(),
        "i64" | "i32" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        other if other.starts_with("struct ") || other == "a map" => "a table".into(),
        other if other.starts_with("enum ") => "one of the words for this choice, in quotes".into(),
        other => other.to_owned(),
    }
}

struct Located<'a>(&'a Node);

impl<'de> de::Deserializer<'de> for Located<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match &self.0.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Array(items) => visitor.visit_seq(ListItems(items.iter())),
            Value::Table(table) => visitor.visit_map(Entries::of(table)),
        }
        .map_err(|fault| fault.at(&self.0.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        match &self.0.value {
            Value::String(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            Value::Table(table) => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries::of(table)))
            }
            _ => return self.deserialize_any(visitor),
        }
        .map_err(|fault| fault.at(&self.0.place))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct ListItems<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for ListItems<'_> {
    type Error = Fault;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Outcome<Option<T::Value>> {
        self.0
            .next()
            .map(|node| {
                seed.deserialize(Located(node))
                    .map_err(|fault| fault.at(&node.place))
            })
            .transpose()
    }
}

struct Entries<'a> {
    rest: btree_map::Iter<'a, String, super::tree::Entry>,
    current: Option<(&'a str, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn of(table: &'a Table) -> Self {
        Self {
            rest: table.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Outcome<Option<K::Value>> {
        let Some((key, entry)) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some((key, &entry.node));
        seed.deserialize(key.as_str().into_deserializer())
            .map(Some)
            .map_err(|fault: Fault| fault.at(&entry.key))
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Outcome<V::Value> {
        let Some((key, node)) = self.current.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(Located(node))
            .map_err(|fault| fault.at(&node.place).under(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        Red,
        DarkBlue,
        Grey { level: u64 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        count: usize,
        rate: f32,
        colour: Colour,
        note: Option<String>,
        list: Vec<u64>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        inner: Inner,
    }

    const GOOD: &str = "[inner]\ncount = 3\nrate = 1\ncolour = \"dark_blue\"\nlist = [1, 2]\n";

    fn read(text: &str) -> Result<Outer> {
        decode(&Node::parse("t.toml", text).unwrap(), &["world"])
    }

    /// The message of an error, its hint, and the text it points at.
    fn wrong(text: &str) -> (String, Option<String>, String) {
        use miette::Diagnostic;
        let error = read(text).unwrap_err();
        let label = error
            .labels()
            .and_then(|mut labels| labels.next())
            .expect("the error points somewhere");
        let here = text[label.offset()..label.offset() + label.len()].to_owned();
        (
            error.to_string(),
            error.help().map(|hint| hint.to_string()),
            here,
        )
    }

    #[test]
    fn every_sort_of_value_is_read() {
        let inner = read(GOOD).unwrap().inner;
        let expected = Inner {
            count: 3,
            rate: 1.0,
            colour: Colour::DarkBlue,
            note: None,
            list: vec![1, 2],
        };
        assert_eq!(inner, expected);
        let table = GOOD.replace("\"dark_blue\"", "{ grey = { level = 7 } }");
        assert_eq!(
            read(&table).unwrap().inner.colour,
            Colour::Grey { level: 7 }
        );
    }

    #[test]
    fn errors_name_key_place_and_remedy() {
        let (message, hint, here) = wrong(&GOOD.replace("rate", "rat"));
        assert_eq!(message, "unknown key `rat` in `inner`");
        assert_eq!(
            (hint.as_deref(), here.as_str()),
            (Some("did you mean `rate`?"), "rat")
        );

        let (message, hint, here) = wrong(&GOOD.replace("dark_blue", "drak_blue"));
        assert_eq!(message, "unknown choice `drak_blue` in `inner.colour`");
        assert_eq!(
            (hint.as_deref(), here.as_str()),
            (Some("did you mean `dark_blue`?"), "\"drak_blue\"")
        );

        let (message, _, here) = wrong(&GOOD.replace("count = 3", "count = -3"));
        assert_eq!(
            message,
            "`inner.count`: expected a whole number, 0 or more, found integer `-3`"
        );
        assert_eq!(here, "-3");

        let (message, _, here) = wrong(&GOOD.replace("[1, 2]", "[1, \"two\"]"));
        assert_eq!(
            message,
            "`inner.list`: expected a whole number, 0 or more, found string \"two\""
        );
        assert_eq!(here, "\"two\"");

        let (message, _, _) = wrong(&GOOD.replace("count = 3\n", ""));
        assert_eq!(message, "`inner`: the key `count` is missing");
    }

    #[test]
    fn keys_that_are_read_elsewhere_are_suggested_beside_the_own_ones() {
        let (message, hint, _) = wrong(&format!("wrold = 1\n{GOOD}"));
        assert_eq!(message, "unknown key `wrold`");
        assert_eq!(hint.as_deref(), Some("did you mean `world`?"));
        let (_, hint, _) = wrong(&format!("zzz = 1\n{GOOD}"));
        assert_eq!(hint.as_deref(), Some("known: `inner`, `world`"));
    }
}
