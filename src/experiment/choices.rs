//! Rules that choose a method's settings where these are not fixed: `[sft.tuning]` and the like,
//! `sft.as_long_as`. In the file they stand among the settings that they choose; the word `none` in
//! the place of such a table cancels an earlier section's declaration.

use super::decode::{decode, nearest};
use super::tree::{Entry, Node, Table, Value};
use crate::error::Result;
use crate::methods::tune::TuningSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The choices of every section that can leave settings open.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    #[serde(default)]
    pub sft: SftChoices,
    #[serde(default)]
    pub iq_learn: Tuned,
    #[serde(default)]
    pub dpo: Tuned,
}

/// The choices of SFT.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftChoices {
    /// The search for epochs and learning rate by the likelihood of held-out demonstrations; both
    /// are fixed if absent.
    pub tuning: Option<TuningSettings>,
    /// The method whose number of steps or operations determines the number of epochs.
    pub as_long_as: Option<AsLongAs>,
}

/// The choices of a method that starts from SFT.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// The search for settings by the likelihood of held-out demonstrations; they are fixed if
    /// absent.
    pub tuning: Option<TuningSettings>,
}

/// A method whose training is matched, and the quantity in which it is matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsLongAs {
    pub method: String,
    pub unit: Unit,
}

/// The quantity in which two methods are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Optimiser steps.
    Steps,
    /// Floating-point operations.
    Flops,
}

/// The keys of each section that declare a choice.
const KEYS: [(&str, &[&str]); 3] = [
    ("sft", &["tuning", "as_long_as"]),
    ("iq_learn", &["tuning"]),
    ("dpo", &["tuning"]),
];

/// Path of the key that names the method that SFT matches in length.
pub(super) const MATCHED_METHOD: &str = "sft.as_long_as.method";

/// Refuses `--set` of values that a search chooses: they would have no effect.
///
/// # Errors
/// The first such value in `set`.
pub(super) fn check_set(set: &[Node], choices: &Choices) -> Result<()> {
    let Choices { sft, iq_learn, dpo } = choices;
    for (section, tuning) in [
        ("sft", &sft.tuning),
        ("iq_learn", &iq_learn.tuning),
        ("dpo", &dpo.tuning),
    ] {
        let Some(tuning) = tuning else { continue };
        let searched = [
            ("epochs", true),
            ("optimiser.learning_rate", !tuning.learning_rates.is_empty()),
            ("lambda", !tuning.lambdas.is_empty()),
        ];
        for (key, _) in searched.iter().filter(|(_, searched)| *searched) {
            let path = format!("{section}.{key}");
            if let Some(node) = set.iter().find_map(|node| node.at(&path)) {
                let error = node.place.error(format!(
                    "`{path}` would change nothing: `{section}.tuning` chooses it"
                ));
                return Err(error.hint(format!(
                    "switch the search off with --set {section}.tuning=none"
                )));
            }
        }
    }
    Ok(())
}

/// Splits off the choices: the sections without them, and the choices.
///
/// # Errors
/// A key that nearly matches one that declares a choice; a word other than `none` in the place of a
/// table.
pub(super) fn split(merged: &Node) -> Result<(Node, Choices)> {
    let (mut settings, mut chosen) = (merged.clone(), Table::new());
    for (section, keys) in KEYS {
        let Some(entry) = settings
            .table_mut()
            .and_then(|table| table.get_mut(section))
        else {
            continue;
        };
        let (place, name) = (entry.node.place.clone(), entry.key.clone());
        let Some(table) = entry.node.table_mut() else {
            continue;
        };
        let misspelt = table.iter().find_map(|(key, entry)| {
            let meant = nearest(key, keys.iter().copied()).filter(|meant| meant != key)?;
            Some(
                entry
                    .key
                    .error(format!("unknown key `{key}` in `{section}`"))
                    .hint(format!("did you mean `{meant}`?")),
            )
        });
        if let Some(error) = misspelt {
            return Err(error);
        }
        let mut own = Table::new();
        for key in keys {
            let Some(entry) = table.remove(*key) else {
                continue;
            };
            match &entry.node.value {
                Value::String(word) if word == "none" => {}
                Value::String(_) => {
                    return Err(entry.node.place.error(format!(
                        "`{section}.{key}` is a table, or the word \"none\""
                    )));
                }
                _ => {
                    own.insert((*key).into(), entry);
                }
            }
        }
        chosen.insert(
            section.into(),
            Entry {
                key: name,
                node: Node {
                    value: Value::Table(own),
                    place,
                },
            },
        );
    }
    let chosen = Node {
        value: Value::Table(chosen),
        place: merged.place.clone(),
    };
    Ok((settings, decode(&chosen, &[])?))
}
