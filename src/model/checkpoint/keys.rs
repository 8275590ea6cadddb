//! Keys of `config.json` whose names differ between versions of transformers.

use crate::{Error, Result};
use serde_json::{Map, Value};

/// Tables of the rotary keys in transformers 5 and in earlier versions.
pub const ROPE_TABLES: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// The rotary table that defines the angles, and the kind that it names; `None` if no table does. A
/// table with a factor and no kind counts as `unnamed`.
pub fn rope_type(keys: &Map<String, Value>) -> Option<(&'static str, String)> {
    ROPE_TABLES.into_iter().find_map(|name| {
        let table = keys.get(name)?;
        let kind = ["rope_type", "type"]
            .into_iter()
            .map(|key| &table[key])
            .find(|kind| !kind.is_null());
        match kind {
            Some(kind) => Some((
                name,
                kind.as_str()
                    .map_or_else(|| kind.to_string(), str::to_owned),
            )),
            None => table["factor"]
                .is_number()
                .then(|| (name, "unnamed".to_owned())),
        }
    })
}

/// The value of any of `names`, at the top level or in a rotary table; `None` if none of them is
/// present.
///
/// # Errors
/// Two different values: versions of transformers use different ones.
pub fn one_of(keys: &Map<String, Value>, names: &[&str], origin: &str) -> Result<Option<Value>> {
    let top = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), keys.get(*name)?)));
    let nested = ROPE_TABLES.into_iter().flat_map(|table| {
        names
            .iter()
            .filter_map(move |name| Some((format!("{table}.{name}"), keys.get(table)?.get(*name)?)))
    });
    let said: Vec<_> = top
        .chain(nested)
        .filter(|(_, value)| !value.is_null())
        .collect();
    let Some((first, value)) = said.first() else {
        return Ok(None);
    };
    match said
        .iter()
        .find(|(_, other)| other.as_f64() != value.as_f64())
    {
        None => Ok(Some((*value).clone())),
        Some((other, differs)) => Err(Error::model(format!(
            "{origin}: {first} is {value}, and {other} is {differs}"
        ))
        .hint("they are names of one thing; keep the one that is right")),
    }
}
