//! Weights in several files: `model.safetensors.index.json` says which file holds which tensor.

use super::{INDEX, SINGLE, Values, Weights};
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

/// `model.safetensors.index.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub metadata: Metadata,
    /// File by tensor.
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Metadata {
    /// Bytes of all tensors together. A number of any kind: old tools wrote `1.0e9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size: Option<serde_json::Number>,
}

const REMEDY: &str = "index and files belong to different checkpoints; fetch them again";

impl Weights {
    /// Reads what a model folder holds; as in transformers, a single file wins over an index.
    pub fn open(folder: &Path) -> Result<Self> {
        let single = folder.join(SINGLE);
        if single.is_file() { Self::read(&single) } else { Self::read_shards(&folder.join(INDEX)) }
    }

    /// Reads the headers of the safetensors files beside `index` (a `model.safetensors.index.json`) that it names.
    ///
    /// # Errors
    /// A file that is not there, a tensor that is not in the file that should hold it or is in one that should not, and
    /// files whose tensors have not as many bytes as the index says.
    pub fn read_shards(index: &Path) -> Result<Self> {
        let Index { metadata, weight_map } = read_index(index)?;
        let files: BTreeSet<&String> = weight_map.values().collect();
        let mut weights = Self::new(index.display().to_string());
        for file in files {
            let path = index.with_file_name(file);
            if !path.is_file() {
                return Err(Error::new(format!("{} names {file}, which is not there", index.display()))
                    .hint("fetch all files of the checkpoint"));
            }
            let shard = Self::read(&path)?;
            let lost = weight_map.iter().find(|(tensor, held_by)| *held_by == file && !shard.contains(tensor));
            if let Some((tensor, _)) = lost {
                let message = format!("{} has no tensor `{tensor}`, which its index promises", path.display());
                return Err(Error::new(message).hint(REMEDY));
            }
            for (tensor, entry) in shard.tensors {
                match weight_map.get(&tensor) {
                    Some(held_by) if held_by == file => weights.tensors.insert(tensor, entry),
                    told => {
                        let told = told.map_or("does not name".into(), |other| format!("places in {other}"));
                        let message = format!("{} holds tensor `{tensor}`, which its index {told}", path.display());
                        return Err(Error::new(message).hint(REMEDY));
                    }
                };
            }
        }
        let found: u64 = weights.tensors.values().filter_map(|entry| entry.values.stored_bytes()).sum();
        match metadata.total_size.filter(|promised| promised.as_f64() != Some(found as f64)) {
            Some(promised) => Err(Error::new(format!(
                "{} promises {promised} bytes of tensors, and its files hold {found}",
                index.display()
            ))
            .hint(REMEDY)),
            None => Ok(weights),
        }
    }
}

impl Values {
    fn stored_bytes(&self) -> Option<u64> {
        match self {
            Self::Stored(stored) => Some(stored.bytes()),
            Self::Held(_) | Self::Computed(_) => None,
        }
    }
}

/// Files are named without a folder, so that an index cannot point out of its own.
fn read_index(path: &Path) -> Result<Index> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    let index: Index =
        serde_json::from_str(&text).context(|| format!("{} is not an index of weights", path.display()))?;
    match index.weight_map.values().find(|file| Path::new(file).file_name() != Some(OsStr::new(file))) {
        Some(file) => Err(Error::new(format!("{}: `{file}` is not the name of a file", path.display()))),
        None => Ok(index),
    }
}
