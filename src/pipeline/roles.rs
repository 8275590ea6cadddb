//! A stage's inputs as a struct: a field for each role, and a list for the roles `name/0`,
//! `name/1`, ….

use super::key::StageKey;
use crate::error::{Context, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The keys of `inputs` by role. A field that is `None` is left out.
pub fn roles(inputs: &impl Serialize) -> Result<BTreeMap<String, StageKey>> {
    let no_roles = || "inputs are not a struct of stage keys".to_owned();
    let fields: Map<String, Value> = serde_json::to_value(inputs)
        .and_then(serde_json::from_value)
        .context(no_roles)?;
    let mut roles = BTreeMap::new();
    for (role, value) in fields {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                roles.extend(items.map(|(index, item)| (format!("{role}/{index}"), item)));
            }
            one => drop(roles.insert(role, one)),
        }
    }
    let key = |(role, value)| Ok((role, serde_json::from_value(value).context(no_roles)?));
    roles.into_iter().map(key).collect()
}

/// The inverse of [`roles`]: a struct built from its `inputs`.
///
/// # Errors
/// A role that is missing, or that the struct does not have.
pub(super) fn gather<T: Serialize + DeserializeOwned>(
    inputs: &BTreeMap<String, StageKey>,
) -> Result<T> {
    let (mut fields, mut lists) = (Map::new(), BTreeMap::<&str, BTreeMap<usize, Value>>::new());
    for (role, key) in inputs {
        let place = role
            .split_once('/')
            .and_then(|(list, index)| Some((list, index.parse().ok()?)));
        match place {
            Some((list, index)) => drop(lists.entry(list).or_default().insert(index, json!(key))),
            None => drop(fields.insert(role.clone(), json!(key))),
        }
    }
    fields.extend(
        lists
            .into_iter()
            .map(|(list, items)| (list.to_owned(), items.into_values().collect())),
    );
    let names = || {
        inputs
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let gathered: T = serde_json::from_value(Value::Object(fields))
        .context(|| format!("its inputs are: {}", names()))?;
    if roles(&gathered)? != *inputs {
        return Err(Error::internal(format!(
            "some of its inputs have no part in it: {}",
            names()
        )));
    }
    Ok(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inputs {
        base: StageKey,
        tuning: Option<StageKey>,
        #[serde(default)]
        pairs: Vec<StageKey>,
        #[serde(flatten)]
        posts: Posts,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Posts {
        Local(StageKey),
        Published(StageKey),
    }

    fn key(digit: usize) -> StageKey {
        format!("{digit:x}").repeat(64).parse().unwrap()
    }

    #[test]
    fn inputs_become_roles_and_come_back() {
        let pairs = (2..13).map(|number| key(number % 7)).collect();
        let inputs = Inputs {
            base: key(1),
            tuning: None,
            pairs,
            posts: Posts::Published(key(8)),
        };
        let roles = roles(&inputs).unwrap();
        assert_eq!(
            (roles.len(), roles["base"], roles["published"]),
            (13, key(1), key(8))
        );
        assert_eq!(
            (roles["pairs/2"], roles["pairs/10"]),
            (key(4), key(5)),
            "as numbers, not as text"
        );
        assert_eq!(gather::<Inputs>(&roles).unwrap(), inputs);
        let inputs = Inputs {
            base: key(1),
            tuning: Some(key(2)),
            pairs: vec![],
            posts: Posts::Local(key(3)),
        };
        assert_eq!(
            gather::<Inputs>(&super::roles(&inputs).unwrap()).unwrap(),
            inputs
        );
    }

    #[test]
    fn roles_that_are_missing_or_unknown_are_errors() {
        let roles = |names: &[&str]| {
            names
                .iter()
                .map(|name| (name.to_string(), key(1)))
                .collect()
        };
        assert!(gather::<Inputs>(&roles(&["base", "local"])).is_ok());
        for wrong in [
            &["base"][..],
            &["local"],
            &["base", "local", "judge"],
            &["base", "local", "judge/0"],
        ] {
            assert!(gather::<Inputs>(&roles(wrong)).is_err(), "{wrong:?}");
        }
        assert!(super::roles(&"base").is_err() && super::roles(&json!({"base": 1})).is_err());
    }
}
