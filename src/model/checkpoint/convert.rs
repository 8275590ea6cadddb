//! Conversion of any accepted model folder to the hub's layout: names with their prefix, no
//! buffers, one number type.

use super::{CONFIG, Checkpoint, Normalisation, REWARD, config, copy, write_json};
use crate::folder::UnpublishedFolder;
use crate::model::layout::{self, Head};
use crate::model::tokenizer::{CHAT_TEMPLATE, TOKENIZER};
use crate::model::weights::{StoredAs, Weights, is_weights};
use crate::{Context, Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files that are copied unchanged with a model, if they exist.
pub const FILES_BESIDE: [&str; 6] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    CHAT_TEMPLATE,
    REWARD,
];

/// Options for writing a folder.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    /// Number type of the weights; `None` keeps the present one.
    pub stored_as: Option<StoredAs>,
    /// Largest number of bytes of tensors per file, unless a single tensor is larger.
    pub shard_bytes: u64,
    /// Allows the replacement of an existing model.
    pub force: bool,
}

impl Checkpoint {
    /// Writes this checkpoint to the folder `to`, which appears whole or not at all, and may be
    /// this checkpoint's own. Only one tensor is in memory at a time.
    ///
    /// # Errors
    /// A tensor that is missing, superfluous or of another shape; weights of several number types
    /// if none is chosen; a number too large for the chosen type; a folder that is not empty.
    pub fn convert(&self, to: &Path, how: &Conversion) -> Result<()> {
        check_place(to, how.force)?;
        let path = self.folder.join(CONFIG);
        let mut keys = config::read(&path)?.keys;
        let config = config::parse(keys.clone(), &path)?;
        let mut weights = Weights::open(&self.folder)?;
        let beside = layout::normalise(&mut weights, &config)?;
        let head = Head::of(&weights, &config);
        let expected = layout::tensors(&config, head);
        weights
            .check_all(&expected)
            .into_iter()
            .next()
            .map_or(Ok(()), Err)?;
        let stored_as = how.stored_as.map_or_else(|| common_type(&weights), Ok)?;

        keys.insert("architectures".into(), json!([config.naming().class(head)]));
        // The newer name of the same key, which would contradict it.
        keys.remove("dtype");
        keys.insert("torch_dtype".into(), json!(stored_as.torch_name()));
        if head == Head::Reward
            && !keys.contains_key("pad_token_id")
            && self.folder.join(TOKENIZER).is_file()
        {
            let padding = config::padding(&self.tokenizer()?, &self.folder, &config)?;
            keys.insert("pad_token_id".into(), json!(padding));
        }

        let draft = UnpublishedFolder::new(to)?;
        write_json(&draft.path().join(CONFIG), &Value::Object(keys))?;
        weights.save(&draft.path(), stored_as, how.shard_bytes)?;
        for name in FILES_BESIDE {
            let file = self.folder.join(name);
            if file.is_file() {
                copy(&file, &draft.path().join(name))?;
            }
        }
        let normalisation = self.normalisation(&beside)?;
        if normalisation != Normalisation::none(0.0) {
            write_json(&draft.path().join(REWARD), &json!(normalisation))?;
        }
        draft.publish()
    }
}

/// The number type that all weights share.
fn common_type(weights: &Weights) -> Result<StoredAs> {
    let types: BTreeSet<StoredAs> = weights
        .list()
        .filter_map(|tensor| tensor.stored_as)
        .collect();
    match types.first() {
        Some(only) if types.len() == 1 => Ok(*only),
        _ => {
            let types: Vec<_> = types.iter().map(ToString::to_string).collect();
            Err(Error::model(format!(
                "{}: its weights are of several types: {}",
                weights.origin(),
                types.join(", ")
            ))
            .hint("choose one with --dtype"))
        }
    }
}

/// Refuses to replace anything but a model, or a model without `force`.
fn check_place(place: &Path, force: bool) -> Result<()> {
    let unreadable = || format!("cannot read {}", place.display());
    if !place.try_exists().context(unreadable)? {
        return Ok(());
    }
    if !fs::symlink_metadata(place).context(unreadable)?.is_dir() {
        return Err(Error::model(format!(
            "{} is there, and is not a folder",
            place.display()
        )));
    }
    for entry in fs::read_dir(place).context(unreadable)? {
        let entry = entry.context(unreadable)?;
        let name = entry.file_name();
        if !force {
            return Err(Error::model(format!("{} is not empty", place.display()))
                .hint("give a new folder, or --force to replace the model that lies there"));
        }
        let known = |name: &str| name == CONFIG || FILES_BESIDE.contains(&name) || is_weights(name);
        if !(name.to_str().is_some_and(known) && entry.file_type().context(unreadable)?.is_file()) {
            return Err(Error::model(format!(
                "{} holds `{}`, which would be lost with the model",
                place.display(),
                name.to_string_lossy()
            ))
            .hint("only a folder of nothing but a model is replaced; move the file away or give a new folder"));
        }
    }
    Ok(())
}
