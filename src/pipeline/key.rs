//! The spec of a stage, and its content address.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The blake3 of a [`StageSpec`]; shown and stored as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageKey([u8; 32]);

impl StageKey {
    /// The first 12 digits: enough for people and log lines.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for StageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for StageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "StageKey({})", self.short())
    }
}

impl FromStr for StageKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|cause| {
            Error::store(format!("`{text}` is not a stage key"))
                .hint("a stage key is 64 hexadecimal digits; `touchstone runs list` shows those of a store")
                .caused_by(cause)
        })
    }
}

impl Serialize for StageKey {
    fn serialize<S: Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StageKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(input)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Everything that can change a stage's result, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Name of the function, for example `"ppo"`.
    pub kind: String,
    /// Version of the function: raised whenever its code changes what it computes.
    pub version: u32,
    /// The function's own settings, as its settings type serialises them.
    pub settings: Value,
    /// The artifacts it reads, by the role they play.
    pub inputs: BTreeMap<String, StageKey>,
    /// The seed, only where the result depends on it, so that stages that do not depend on it are
    /// computed once.
    pub seed: Option<u64>,
}

impl StageSpec {
    /// The blake3 of the canonical JSON of the five fields.
    pub fn key(&self) -> StageKey {
        StageKey(*blake3::hash(self.canonical().as_bytes()).as_bytes())
    }

    fn canonical(&self) -> String {
        let inputs = self
            .inputs
            .iter()
            .map(|(role, key)| (role.clone(), Value::from(key.to_string())))
            .collect();
        let fields = serde_json::Map::from_iter([
            ("kind".to_owned(), Value::from(self.kind.as_str())),
            ("version".to_owned(), Value::from(self.version)),
            ("settings".to_owned(), self.settings.clone()),
            ("inputs".to_owned(), Value::Object(inputs)),
            (
                "seed".to_owned(),
                self.seed.map_or(Value::Null, Value::from),
            ),
        ]);
        canonical(&Value::Object(fields))
    }
}

/// The canonical text of a JSON value, from which its hash is computed.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

/// JSON with keys sorted by their bytes, no space, integers in full and floats as the shortest
/// digits that read back as the same number, in scientific notation (`1.5e-4`). An integer and a
/// float of the same value differ on purpose.
///
/// This is written here and not left to `serde_json`, whose order of keys depends on the features
/// that other crates enable and whose notation of floats has changed between releases: either would
/// silently rename every artifact.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&canonical_number(number)),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            out.push('{');
            for (index, (name, item)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
    }
}

fn canonical_number(number: &serde_json::Number) -> String {
    if let Some(natural) = number.as_u64() {
        natural.to_string()
    } else if let Some(integer) = number.as_i64() {
        integer.to_string()
    } else {
        number
            .as_f64()
            .map_or_else(|| number.to_string(), |float| format!("{float:e}"))
    }
}

/// A JSON string with only what must be escaped: quote, backslash and control characters, the
/// latter as `\u00xx`.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn example() -> StageSpec {
        let base: StageKey = "0f".repeat(32).parse().unwrap();
        StageSpec {
            kind: "ppo".into(),
            version: 3,
            settings: json!({"rate": 1.5e-4, "steps": 200, "whiten": true, "note": "a\"b\n", "beta": [0.05, 1.0, 1]}),
            inputs: BTreeMap::from([("policy".into(), base)]),
            seed: Some(7),
        }
    }

    /// Changing this line renames every artifact in every store: raise the store's format version
    /// with it.
    #[test]
    fn the_canonical_form_and_the_key_are_stable() {
        assert_eq!(
            example().canonical(),
            r#"{"inputs":{"policy":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"},"kind":"ppo","seed":7,"settings":{"beta":[5e-2,1e0,1],"note":"a\"b\u000a","rate":1.5e-4,"steps":200,"whiten":true},"version":3}"#
        );
        assert_eq!(
            example().key().to_string(),
            "cf46ad9974c6ce7723a0b49ab773d4b676ad0c06e05d9743fb12d9ff461053ff"
        );
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_a_hint() {
        for wrong in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
            assert!(
                wrong
                    .parse::<StageKey>()
                    .unwrap_err()
                    .to_string()
                    .contains("not a stage key")
            );
        }
    }

    fn settings() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    prop_compose! {
        fn specs()(
            kind in "[a-z_]{0,8}",
            version in any::<u32>(),
            settings in settings(),
            inputs in prop::collection::btree_map("[a-z0-9/]{0,6}", any::<[u8; 32]>().prop_map(StageKey), 0..3),
            seed in any::<Option<u64>>(),
        ) -> StageSpec {
            StageSpec { kind, version, settings, inputs, seed }
        }
    }

    proptest! {
        #[test]
        fn a_spec_read_back_has_the_same_key(spec in specs()) {
            let text = serde_json::to_string_pretty(&spec).unwrap();
            let back: StageSpec = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.key(), spec.key());
        }

        #[test]
        fn two_specs_share_a_key_only_if_they_are_equal(one in specs(), other in specs()) {
            prop_assert_eq!(one.key() == other.key(), one == other);
        }

        #[test]
        fn every_part_moves_the_key(spec in specs(), extra in any::<[u8; 32]>()) {
            let changed = [
                StageSpec { kind: format!("{}x", spec.kind), ..spec.clone() },
                StageSpec { version: spec.version.wrapping_add(1), ..spec.clone() },
                StageSpec { settings: json!([spec.settings]), ..spec.clone() },
                StageSpec { inputs: with(&spec.inputs, "another role", StageKey(extra)), ..spec.clone() },
                StageSpec { seed: spec.seed.map_or(Some(0), |_| None), ..spec.clone() },
                StageSpec { seed: Some(spec.seed.map_or(1, |seed| seed.wrapping_add(1))), ..spec.clone() },
            ];
            let keys: std::collections::BTreeSet<_> =
                changed.iter().map(StageSpec::key).chain([spec.key()]).collect();
            prop_assert_eq!(keys.len(), changed.len() + 1);
        }

        #[test]
        fn a_key_reads_back(bytes in any::<[u8; 32]>()) {
            let key = StageKey(bytes);
            prop_assert_eq!(key.to_string().parse::<StageKey>().unwrap(), key);
            prop_assert!(key.to_string().starts_with(&key.short()));
        }
    }

    fn with(
        inputs: &BTreeMap<String, StageKey>,
        role: &str,
        key: StageKey,
    ) -> BTreeMap<String, StageKey> {
        let mut inputs = inputs.clone();
        inputs.insert(role.into(), key);
        inputs
    }
}
