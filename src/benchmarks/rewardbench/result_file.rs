//! Files in RewardBench's own format: accuracies by subset, and the scores of all pairs.

use super::encode::Kind;
use super::evaluate::verdict;
use super::rows::Pair;
use super::scores::Rewards;
use super::text::Texts;
use super::{Convention, subsets};
use crate::{Context, Result};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The model that a file is about.
#[derive(Clone, Debug)]
pub struct About {
    pub model: String,
    pub kind: Kind,
    /// The reference of an implicit reward.
    pub reference: Option<String>,
    pub template: String,
}

impl About {
    /// The name of the kind of model, as the leaderboard has it.
    pub fn model_type(&self) -> &'static str {
        match (self.kind, &self.reference) {
            (Kind::Reward, _) => "Seq. Classifier",
            (Kind::Implicit, Some(_)) => "DPO",
            (Kind::Implicit, None) => "DPO Ref. Free",
        }
    }

    /// The keys that are no subset. A file of a classifier names no reference.
    fn keys(&self) -> Map<String, Value> {
        let mut keys = Map::new();
        keys.insert("model".into(), json!(self.model));
        keys.insert("model_type".into(), json!(self.model_type()));
        keys.insert("chat_template".into(), json!(self.template));
        if self.kind == Kind::Implicit {
            keys.insert("ref_model".into(), json!(self.reference));
        }
        keys
    }
}

/// The text of a result file: the accuracies of some subsets beside the keys of `about`.
///
/// # Errors
/// A value that JSON does not have.
pub fn result(about: &About, accuracies: &BTreeMap<String, f64>) -> Result<String> {
    let mut keys = about.keys();
    let all = accuracies.iter();
    keys.extend(all.map(|(name, accuracy)| (name.clone(), json!(accuracy))));
    python(&keys.into())
}

/// JSON as Python's `json.dumps(value, indent=4, sort_keys=True)` writes it.
fn python(value: &Value) -> Result<String> {
    let mut written = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut written, PrettyFormatter::with_indent(b"    "));
    let failed = || "cannot encode a result".to_owned();
    // Without the feature `preserve_order`, the keys of a map are sorted.
    value.serialize(&mut serializer).context(failed)?;
    let text = String::from_utf8(written).context(failed)?;
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if character <= '~' {
            ascii.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    Ok(ascii)
}

/// The files that are written.
pub const FILES: [&str; 4] = [
    "eval-set.json",
    "eval-set-scores.json",
    "pref-sets.json",
    "pref-sets-scores.json",
];

/// Writes the files of an evaluation into `folder`: `eval-set.json` with the subsets of RewardBench
/// and `pref-sets.json` with the prior sets, where they are present, and beside each the scores of
/// its pairs.
///
/// # Errors
/// A folder that cannot be written.
pub fn write(
    folder: &Path,
    about: &About,
    convention: Convention,
    accuracies: &BTreeMap<String, f64>,
    scored: &[(&Pair, &Texts, &Rewards)],
) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (name, prior) in [("eval-set", false), ("pref-sets", true)] {
        let here = |subset: &str| subsets::is_prior(subset) == prior;
        let some: BTreeMap<String, f64> = accuracies
            .iter()
            .filter(|(subset, _)| here(subset))
            .map(|(subset, accuracy)| (subset.clone(), *accuracy))
            .collect();
        if some.is_empty() {
            continue;
        }
        let of: Vec<_> = scored
            .iter()
            .filter(|(pair, ..)| here(&pair.subset))
            .collect();
        for (name, text) in [
            (format!("{name}.json"), result(about, &some)?),
            (
                format!("{name}-scores.json"),
                scores(about, convention, &of)?,
            ),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
            files.push(path);
        }
    }
    Ok(files)
}

/// The text of a file of scores: a list for each column.
fn scores(
    about: &About,
    convention: Convention,
    scored: &[&(&Pair, &Texts, &Rewards)],
) -> Result<String> {
    let column = |of: &dyn Fn(&(&Pair, &Texts, &Rewards)) -> Value| -> Value {
        scored.iter().map(|row| of(row)).collect()
    };
    let mut keys = about.keys();
    keys.remove("ref_model");
    let columns = [
        ("id", column(&|(pair, ..)| json!(pair.item))),
        ("subset", column(&|(pair, ..)| json!(pair.subset))),
        ("prompt", column(&|(_, texts, _)| json!(texts.prompt))),
        ("text_chosen", column(&|(_, texts, _)| json!(texts.chosen))),
        (
            "text_rejected",
            column(&|(_, texts, _)| json!(texts.rejected)),
        ),
        (
            "results",
            column(&|(.., it)| json!(verdict(it, convention))),
        ),
        ("scores_chosen", column(&|(.., it)| json!(it.chosen))),
        ("scores_rejected", column(&|(.., it)| json!(it.rejected))),
    ];
    keys.extend(columns.map(|(name, values)| (name.to_owned(), values)));
    python(&keys.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is what Python 3.11 writes for the same keys.
    #[test]
    fn a_result_is_written_as_python_writes_it() {
        let about = About {
            model: "müller/ä \u{1F600}".into(),
            kind: Kind::Implicit,
            reference: None,
            template: "tokenizer".into(),
        };
        let accuracies = [
            ("xstest-should-refuse", 1.0),
            ("llmbar-adver-GPTInst", 0.1),
            ("llmbar-adver-manual", 1.0 / 3.0),
        ];
        let accuracies = accuracies.map(|(name, value)| (name.to_owned(), value));
        let text = result(&about, &accuracies.into_iter().collect()).unwrap();
        let expected = "{\n    \"chat_template\": \"tokenizer\",\n    \"llmbar-adver-GPTInst\": 0.1,\n    \
                        \"llmbar-adver-manual\": 0.3333333333333333,\n    \
                        \"model\": \"m\\u00fcller/\\u00e4 \\ud83d\\ude00\",\n    \"model_type\": \"DPO Ref. Free\",\n    \
                        \"ref_model\": null,\n    \"xstest-should-refuse\": 1.0\n}";
        assert_eq!(text, expected);
    }
}
