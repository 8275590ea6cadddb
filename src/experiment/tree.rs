//! A TOML document as a tree in which every key and value knows where it was written. Overrides are
//! merged as trees, before anything is typed, so that an error in a merged section points at the
//! line that caused it, whether that is the shared section, a profile, a method or `--set` on the
//! command line.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A text with its name, as errors show it.
#[derive(Debug)]
pub struct Text {
    pub name: String,
    pub content: String,
}

/// A byte range of a text.
#[derive(Clone, Debug)]
pub struct Span {
    pub text: Arc<Text>,
    pub range: Range<usize>,
}

impl Span {
    /// An error with `message` that points at this place.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::configuration(message).at(
            &self.text.name,
            self.text.content.as_str(),
            self.range.clone(),
        )
    }

    /// True if `other` is a place in the same file.
    pub fn is_in_file_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text)
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Table(Table),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub place: Span,
}

/// A key's value and the place of the key.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Span,
    pub node: Node,
}

pub type Table = BTreeMap<String, Entry>;

impl Node {
    /// Reads a whole document; the result is a table.
    pub fn parse(name: &str, content: &str) -> Result<Self> {
        let text = Arc::new(Text {
            name: name.to_owned(),
            content: content.to_owned(),
        });
        let document = DeTable::parse(content).map_err(|error| {
            let range = error.span().unwrap_or(0..0);
            Span {
                text: text.clone(),
                range,
            }
            .error(format!("{name} is not valid TOML: {}", error.message()))
        })?;
        let place = Span {
            text: text.clone(),
            range: 0..0,
        };
        Ok(Self {
            value: Value::Table(table(&text, document.get_ref())?),
            place,
        })
    }

    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The node at a dotted path of keys, such as `ppo.optimiser.beta_1`.
    pub fn at(&self, path: &str) -> Option<&Node> {
        path.split('.')
            .try_fold(self, |node, key| Some(&node.table()?.get(key)?.node))
    }

    /// Lays `over` on top: tables are merged key by key, anything else is replaced.
    pub fn merge(&mut self, over: &Node) {
        match (&mut self.value, &over.value) {
            (Value::Table(under), Value::Table(over)) => merge(under, over),
            _ => *self = over.clone(),
        }
    }
}

/// Lays the keys of `over` on `under`; see [`Node::merge`].
pub fn merge(under: &mut Table, over: &Table) {
    for (key, entry) in over {
        match under.get_mut(key) {
            Some(old) => old.node.merge(&entry.node),
            None => {
                under.insert(key.clone(), entry.clone());
            }
        }
    }
}

fn table(text: &Arc<Text>, table: &DeTable) -> Result<Table> {
    let place = |range| Span {
        text: text.clone(),
        range,
    };
    table
        .iter()
        .map(|(key, value)| {
            let node = node(text, value.get_ref(), place(value.span()))?;
            Ok((
                key.get_ref().to_string(),
                Entry {
                    key: place(key.span()),
                    node,
                },
            ))
        })
        .collect()
}

fn node(text: &Arc<Text>, value: &DeValue, place: Span) -> Result<Node> {
    let value = match value {
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::String(value) => Value::String(value.to_string()),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(value) => Value::Integer(value),
            Err(_) => return Err(place.error(format!("{value} does not fit into 64 bits"))),
        },
        DeValue::Float(value) => match value.as_str().parse::<f64>() {
            Ok(value) if value.is_finite() => Value::Float(value),
            _ => return Err(place.error(format!("{} is not a finite number", value.as_str()))),
        },
        DeValue::Datetime(_) => return Err(place.error("no setting is a date")),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue>| {
                let place = Span {
                    text: text.clone(),
                    range: item.span(),
                };
                node(text, item.get_ref(), place)
            };
            Value::Array(items.iter().map(item).collect::<Result<_>>()?)
        }
        DeValue::Table(inner) => Value::Table(table(text, inner)?),
    };
    Ok(Node { value, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_is_not_overridden_and_remembers_who_wrote_what() {
        let mut base = Node::parse(
            "base.toml",
            "[ppo]\nupdates = 40\nclip = 0.2\nlist = [1, 2]\n",
        )
        .unwrap();
        let over = Node::parse("over.toml", "[ppo]\nupdates = 4\nlist = [3]\n").unwrap();
        base.merge(&over);
        let at = |path: &str| base.at(path).unwrap_or_else(|| panic!("{path} is there"));
        assert!(matches!(at("ppo.updates").value, Value::Integer(4)));
        assert!(matches!(at("ppo.clip").value, Value::Float(clip) if clip == 0.2));
        assert!(matches!(&at("ppo.list").value, Value::Array(items) if items.len() == 1));
        assert_eq!(at("ppo.updates").place.text.name, "over.toml");
        assert_eq!(at("ppo.clip").place.text.name, "base.toml");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for bad in [
            "x = nan",
            "x = inf",
            "x = 99999999999999999999",
            "x = 1979-05-27",
            "x = ",
        ] {
            assert!(Node::parse("bad.toml", bad).is_err(), "{bad}");
        }
        let node = Node::parse("good.toml", "a = 0x10\nb = 1_000").unwrap();
        assert!(matches!(
            node.at("a").map(|a| &a.value),
            Some(Value::Integer(16))
        ));
        assert!(matches!(
            node.at("b").map(|b| &b.value),
            Some(Value::Integer(1000))
        ));
    }
}
