//! Named tensors: what a checkpoint file holds and what a model is built from. Loading is strict: a missing tensor, a tensor
//! of another shape and a tensor nobody asked for are errors, so a head is never silently re-initialised.
//!
//! Values stay where they are, on disk or in a model, until they are taken or written, one tensor at a time. So reading a
//! checkpoint needs the model's memory and that of one tensor, and so does writing one.

mod file;
mod index;
mod pickle;
mod write;

pub(super) use index::FILES;
pub use write::SHARD_BYTES;
pub(super) use write::is_weights;

use crate::{Error, Result};
use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use file::Stored;
use safetensors::tensor::Dtype;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The weights of a model folder, where they are in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Says which file holds which tensor, where they are in several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Their names before there was safetensors.
const PICKLED: &str = "pytorch_model.bin";
const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";

/// Number type of a checkpoint on disk; in memory weights are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoredAs {
    F32,
    F16,
    Bf16,
}

impl fmt::Display for StoredAs {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl StoredAs {
    /// The name that `torch_dtype` in config.json has for it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn bytes(self) -> usize {
        self.dtype().bitsize() / 8
    }
}

/// Tensors by name, row-major, in the checkpoint's own layout (`[out, in]` for linear weights), read as f32.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Entry>,
    /// Where they came from, for messages.
    origin: String,
}

#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    values: Values,
}

/// Where values are until they are asked for.
enum Values {
    Held(Vec<f32>),
    /// In a file.
    Stored(Stored),
    /// In a model's parameter.
    Computed(Box<dyn Fn() -> Vec<f32> + Send>),
}

impl fmt::Debug for Values {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Held(values) => write!(out, "{} values", values.len()),
            Self::Stored(stored) => stored.fmt(out),
            Self::Computed(_) => out.write_str("a parameter"),
        }
    }
}

impl Entry {
    fn values(&self) -> Result<Cow<'_, [f32]>> {
        match &self.values {
            Values::Held(values) => Ok(values.into()),
            Values::Stored(stored) => stored.read().map(Cow::Owned),
            Values::Computed(compute) => Ok(compute().into()),
        }
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A tensor without its values.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// None if it is of no type that a weight may have, or not in a file.
    pub stored_as: Option<StoredAs>,
    /// The file that holds it; none if it is in memory.
    pub file: Option<&'a Path>,
}

impl Weights {
    pub fn new(origin: impl Into<String>) -> Self {
        Self { tensors: BTreeMap::new(), origin: origin.into() }
    }

    /// Where these tensors came from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        self.tensors.insert(name.into(), Entry { shape: shape.to_vec(), values: Values::Held(values) });
    }

    /// Inserts values that are computed only when they are asked for.
    pub fn insert_computed(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        compute: impl Fn() -> Vec<f32> + Send + 'static,
    ) {
        let values = Values::Computed(Box::new(compute));
        self.tensors.insert(name.into(), Entry { shape: shape.to_vec(), values });
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Every tensor, in the order of names.
    pub fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.tensors.iter().map(|(name, entry)| {
            let (stored_as, file) = match &entry.values {
                Values::Stored(stored) => (stored.stored_as().ok(), Some(stored.path())),
                Values::Held(_) | Values::Computed(_) => (None, None),
            };
            Listed { name, shape: &entry.shape, stored_as, file }
        })
    }

    /// Gives every tensor the name that `rename` makes of its own.
    pub fn rename(&mut self, rename: impl Fn(String) -> String) {
        let tensors = std::mem::take(&mut self.tensors);
        self.tensors = tensors.into_iter().map(|(name, entry)| (rename(name), entry)).collect();
    }

    /// Drops a tensor that the architecture declares unused (such as a mask buffer saved by old libraries).
    pub fn ignore(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Drops `name`, if it is there, as another copy of the tensor `of`.
    ///
    /// # Errors
    /// If the two differ.
    pub fn ignore_copy(&mut self, name: &str, of: &str) -> Result<()> {
        let (Some(copy), Some(kept)) = (self.tensors.get(name), self.tensors.get(of)) else { return Ok(()) };
        if copy.shape != kept.shape || copy.values()? != kept.values()? {
            return Err(Error::model(format!(
                "{}: `{name}` is not equal to `{of}`, though config.json ties them",
                self.place(copy)
            ))
            .hint("set tie_word_embeddings to false in config.json if the head has weights of its own"));
        }
        self.tensors.remove(name);
        Ok(())
    }

    /// The values of the tensor `name`, which stays.
    pub fn values(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        match self.tensors.get(name) {
            Some(entry) => entry.values(),
            None => Err(Error::model(format!("{}: there is no tensor `{name}`", self.origin))),
        }
    }

    /// Takes the tensor `name`, which must have `shape`.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check(name, shape)?;
        match self.tensors.remove(name).map(|entry| entry.values) {
            Some(Values::Held(values)) => Ok(values),
            Some(Values::Stored(stored)) => stored.read(),
            Some(Values::Computed(compute)) => Ok(compute()),
            None => Err(self.missing(name, shape)),
        }
    }

    /// Errors unless the tensor `name` is there, with `shape` and numbers that can be weights.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some(entry) = self.tensors.get(name) else { return Err(self.missing(name, shape)) };
        if entry.shape != shape {
            return Err(Error::model(format!(
                "{}: tensor `{name}` has shape {:?} where config.json implies {shape:?}",
                self.place(entry),
                entry.shape
            ))
            .hint("config.json and the weights belong to different models"));
        }
        match &entry.values {
            Values::Stored(stored) => stored.stored_as().map(|_| ()),
            Values::Held(_) | Values::Computed(_) => Ok(()),
        }
    }

    /// What is wrong with these tensors as exactly those `expected`, each by name and shape.
    pub fn check_all(&self, expected: &[(String, Vec<usize>)]) -> Vec<Error> {
        let mut wrong: Vec<Error> = expected.iter().filter_map(|(name, shape)| self.check(name, shape).err()).collect();
        let names: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        wrong.extend(
            self.surplus(self.tensors.keys().map(String::as_str).filter(|name| !names.contains(name)).collect()),
        );
        wrong
    }

    fn missing(&self, name: &str, shape: &[usize]) -> Error {
        Error::model(format!("{}: tensor `{name}` of shape {shape:?} is missing", self.origin))
            .hint("the checkpoint is of another architecture or head; nothing is initialised silently")
    }

    /// Errors if a tensor was not taken.
    pub fn finish(self) -> Result<()> {
        self.surplus(self.tensors.keys().map(String::as_str).collect()).map_or(Ok(()), Err)
    }

    /// The error that tensors `names` are, which nobody asked for.
    fn surplus(&self, names: Vec<&str>) -> Option<Error> {
        const SHOWN: usize = 5;
        let error = Error::model(format!(
            "{}: {} tensor(s) that this model does not have: {}{}",
            self.origin,
            names.len(),
            names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", "),
            if names.len() > SHOWN { ", …" } else { "" }
        ));
        let hint = "the checkpoint is of another architecture or head; nothing is left out silently";
        (!names.is_empty()).then(|| error.hint(hint))
    }

    /// Where a tensor is, for messages.
    fn place(&self, entry: &Entry) -> String {
        match &entry.values {
            Values::Stored(stored) => stored.path().display().to_string(),
            Values::Held(_) | Values::Computed(_) => self.origin.clone(),
        }
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
