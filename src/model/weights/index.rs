//! The files that hold the weights of a folder, and the index that says which of several files
//! holds which tensor.

use super::{INDEX, PICKLED, PICKLED_INDEX, SINGLE, Values, Weights};
use crate::model::contents;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

/// `model.safetensors.index.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    #[serde(default)]
    pub metadata: Metadata,
    /// The file of each tensor.
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Metadata {
    /// Bytes of all tensors together, as any kind of number: old tools wrote `1.0e9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_size: Option<serde_json::Number>,
}

/// Files that may hold a model's weights; the first that exists is used.
pub(in crate::model) const FILES: [&str; 4] = [SINGLE, INDEX, PICKLED, PICKLED_INDEX];

const REMEDY: &str = "index and files belong to different checkpoints; fetch them again";

impl Weights {
    /// Opens the weights of a model folder. As in transformers, a single file takes precedence over
    /// an index, and safetensors over pickles.
    pub fn open(folder: &Path) -> Result<Self> {
        let found = FILES
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file());
        let path = found.unwrap_or_else(|| folder.join(SINGLE));
        if path.extension() == Some(OsStr::new("json")) {
            Self::read_shards(&path)
        } else {
            Self::read_file(&path)
        }
    }

    fn read_file(path: &Path) -> Result<Self> {
        if path.extension() == Some(OsStr::new("bin")) {
            Self::read_pickle(path)
        } else {
            Self::read(path)
        }
    }

    /// Reads which of the tensors named in `index` (a `model.safetensors.index.json`) the files
    /// beside it hold.
    ///
    /// # Errors
    /// A missing file, a tensor that is not in the file that should hold it or is in one that
    /// should not, and files with only weights whose total size differs from the index. (Masks are
    /// counted in several ways.)
    pub fn read_shards(index: &Path) -> Result<Self> {
        let Index {
            metadata,
            weight_map,
        } = read_index(index)?;
        let files: BTreeSet<&String> = weight_map.values().collect();
        let mut weights = Self::new(index.display().to_string());
        for file in files {
            let path = index.with_file_name(file);
            if !path.is_file() {
                return Err(Error::model(format!(
                    "{} names {file}, which is not there",
                    index.display()
                ))
                .hint("fetch all files of the checkpoint"));
            }
            let shard = Self::read_file(&path)?;
            let lost = weight_map
                .iter()
                .find(|(tensor, held_by)| *held_by == file && !shard.contains(tensor));
            if let Some((tensor, _)) = lost {
                let message = format!(
                    "{} has no tensor `{tensor}`, which its index promises",
                    path.display()
                );
                return Err(Error::model(message).hint(REMEDY));
            }
            for (tensor, entry) in shard.tensors {
                match weight_map.get(&tensor) {
                    Some(held_by) if held_by == file => weights.tensors.insert(tensor, entry),
                    told => {
                        let told = told
                            .map_or("does not name".into(), |other| format!("places in {other}"));
                        let message = format!(
                            "{} holds tensor `{tensor}`, which its index {told}",
                            path.display()
                        );
                        return Err(Error::model(message).hint(REMEDY));
                    }
                };
            }
        }
        let found: Option<u64> = weights
            .tensors
            .values()
            .map(|entry| entry.values.stored_bytes())
            .sum();
        match metadata
            .total_size
            .zip(found)
            .filter(|(promised, found)| promised.as_f64() != Some(*found as f64))
        {
            Some((promised, found)) => Err(Error::model(format!(
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
            Self::Stored(stored) => stored.bytes(),
            Self::Held(_) | Self::Computed(_) | Self::Made(_) => None,
        }
    }
}

/// Reads an index. Files must be named without a folder, so that an index cannot point outside its
/// own.
fn read_index(path: &Path) -> Result<Index> {
    let index: Index = serde_json::from_value(contents::json(path)?).map_err(|cause| {
        Error::model(format!("{} is not an index of weights", path.display()))
            .caused_by(cause)
            .hint("an index has the key weight_map, which names the file of every tensor; fetch it again")
    })?;
    match index
        .weight_map
        .values()
        .find(|file| Path::new(file).file_name() != Some(OsStr::new(file)))
    {
        Some(file) => Err(Error::model(format!(
            "{}: `{file}` is not the name of a file",
            path.display()
        ))
        .hint("an index names files beside it; fetch it again")),
        None => Ok(index),
    }
}
