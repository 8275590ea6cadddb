//! Named tensors on the host: what a checkpoint file holds and what a model is built from. Loading is strict: a missing
//! tensor, a tensor of another shape and a tensor nobody asked for are errors, so a head is never silently re-initialised.

use crate::{Context, Error, Result};
use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

/// Number type of a checkpoint on disk; in memory weights are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAs {
    F32,
    F16,
}

/// Tensors by name, f32, row-major, in the checkpoint's own layout (`[out, in]` for linear weights).
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Where they came from, for messages.
    origin: String,
}

impl Weights {
    pub fn new(origin: impl Into<String>) -> Self {
        Self { tensors: BTreeMap::new(), origin: origin.into() }
    }

    pub fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.tensors.insert(name.into(), (shape.to_vec(), values));
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Drops a tensor that the architecture declares unused (such as a mask buffer saved by old libraries).
    pub fn ignore(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Takes the tensor `name`, which must have `shape`.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some((found, values)) = self.tensors.remove(name) else {
            return Err(Error::new(format!("{}: tensor `{name}` of shape {shape:?} is missing", self.origin))
                .hint("the checkpoint is of another architecture or head; nothing is initialised silently"));
        };
        if found != shape {
            return Err(Error::new(format!(
                "{}: tensor `{name}` has shape {found:?} where config.json implies {shape:?}",
                self.origin
            ))
            .hint("config.json and the weights belong to different models"));
        }
        Ok(values)
    }

    /// Errors if a tensor was not taken.
    pub fn finish(self) -> Result<()> {
        if self.tensors.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = self.tensors.keys().take(5).map(String::as_str).collect();
        Err(Error::new(format!(
            "{}: {} tensor(s) that this model does not have: {}{}",
            self.origin,
            self.tensors.len(),
            names.join(", "),
            if self.tensors.len() > 5 { ", …" } else { "" }
        ))
        .hint("load it with the head it was saved with (`--kind lm` or `--kind reward`)"))
    }

    /// Reads a safetensors file; f16 and bf16 become f32.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
        let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|cause| {
            Error::new(format!("{} is not a complete safetensors file", path.display()))
                .caused_by(cause)
                .hint("it may have been cut off while being copied or downloaded; fetch it again")
        })?;
        let mut weights = Self::new(path.display().to_string());
        for (name, view) in file.tensors() {
            weights.insert(&name, view.shape(), to_f32(&name, &view, path)?);
        }
        Ok(weights)
    }

    /// Reads the safetensors files beside `index` (a `model.safetensors.index.json`) that it names.
    ///
    /// # Errors
    /// A file that is not there, a tensor that is not in the file that should hold it, and one that is in two files.
    pub fn read_shards(index: &Path) -> Result<Self> {
        let map = read_index(index)?;
        let files: BTreeSet<&String> = map.values().collect();
        let mut weights = Self::new(index.display().to_string());
        for name in files {
            let path = index.with_file_name(name);
            if !path.is_file() {
                return Err(Error::new(format!("{} names {name}, which is not there", index.display()))
                    .hint("fetch all files of the checkpoint"));
            }
            let shard = Self::read(&path)?;
            let lost = map.iter().find(|(tensor, file)| *file == name && !shard.contains(tensor));
            if let Some((tensor, _)) = lost {
                return Err(Error::new(format!(
                    "{} has no tensor `{tensor}`, which its index promises",
                    path.display()
                ))
                .hint("index and files belong to different checkpoints; fetch them again"));
            }
            for (tensor, value) in shard.tensors {
                if weights.contains(&tensor) {
                    return Err(Error::new(format!("{}: tensor `{tensor}` is in another file too", path.display()))
                        .hint("index and files belong to different checkpoints; fetch them again"));
                }
                weights.tensors.insert(tensor, value);
            }
        }
        Ok(weights)
    }

    /// Writes a safetensors file.
    pub fn write(&self, path: &Path, stored_as: StoredAs) -> Result<()> {
        let encoded: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), to_bytes(values, stored_as)))
            .collect();
        let dtype = match stored_as {
            StoredAs::F32 => Dtype::F32,
            StoredAs::F16 => Dtype::F16,
        };
        let mut views = Vec::with_capacity(encoded.len());
        for (name, shape, bytes) in &encoded {
            let view = TensorView::new(dtype, shape.to_vec(), bytes).context(|| format!("cannot encode {name}"))?;
            views.push((*name, view));
        }
        let metadata = [("format".to_string(), "pt".to_string())].into();
        safetensors::serialize_to_file(views, Some(metadata), path)
            .context(|| format!("cannot write {}", path.display()))
    }

    /// Every tensor's name and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.tensors.iter().map(|(name, (_, values))| (name.as_str(), values.as_slice()))
    }

    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors.get(name).map(|(_, values)| values.as_slice())
    }
}

/// File by tensor. Files are named without a folder, so that an index cannot point out of its own.
fn read_index(index: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).context(|| format!("cannot read {}", index.display()))?;
    let Index { weight_map } =
        serde_json::from_str(&text).context(|| format!("{} is not an index of weights", index.display()))?;
    match weight_map.values().find(|file| Path::new(file).file_name() != Some(OsStr::new(file))) {
        Some(file) => Err(Error::new(format!("{}: `{file}` is not the name of a file", index.display()))),
        None => Ok(weight_map),
    }
}

fn to_f32(name: &str, view: &TensorView, path: &Path) -> Result<Vec<f32>> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        // Masks and other buffers: kept by name only, so that `ignore` or the strict check sees them.
        Dtype::BOOL | Dtype::U8 => bytes.iter().map(|&b| f32::from(b)).collect(),
        other => {
            return Err(Error::new(format!("{}: tensor `{name}` has type {other:?}", path.display()))
                .hint("weights may be f32, f16 or bf16"));
        }
    })
}

fn to_bytes(values: &[f32], stored_as: StoredAs) -> Vec<u8> {
    match stored_as {
        StoredAs::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        StoredAs::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
    }
}

/// Transposes a row-major `[rows, columns]` matrix; linear weights are `[out, in]` on disk and `[in, out]` in memory.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        for column in 0..columns {
            out[column * rows + row] = values[row * columns + column];
        }
    }
    out
}

/// A parameter whose id is a function of its name, so that an optimiser's saved state finds it again in another process.
pub fn parameter<const D: usize>(name: &str, values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(stable_id(name), tensor).set_require_grad(true)
}

/// The same for the same name in every process.
pub fn stable_id(name: &str) -> ParamId {
    let hash = blake3::hash(name.as_bytes());
    ParamId::from(u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default()))
}

/// The values of a tensor, on the host, as f32.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap_or_default()
}
