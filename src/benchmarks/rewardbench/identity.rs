//! The identity of a model in an evaluation: hashes of the files that are read of its folder.

use crate::Result;
use crate::files;
use crate::folder::files_below;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The BLAKE3 hash of every file of a model folder that moves what the model computes or reads.
///
/// # Errors
/// A file that cannot be read.
pub fn of_folder(folder: &Path) -> Result<Value> {
    let mut hashes = Map::new();
    for name in files_below(folder) {
        let is_read = [".safetensors", ".json", ".jinja", ".bin"]
            .iter()
            .any(|ending| name.ends_with(ending));
        if is_read && !name.contains('/') {
            let record = files::hash(&folder.join(&name))?;
            hashes.insert(name, json!(record.blake3));
        }
    }
    Ok(Value::Object(hashes))
}

/// The padding id that `config.json` of a model folder names.
///
/// # Errors
/// A file that cannot be read.
pub fn padding(folder: &Path) -> Result<Option<u32>> {
    let keys: Value = files::read_json(&folder.join("config.json"))?;
    let id = keys["pad_token_id"].as_u64();
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}
