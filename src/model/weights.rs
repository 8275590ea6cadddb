//! Named tensors: the contents of a checkpoint file, from which a model is built. Loading is
//! strict: a missing tensor, a tensor of another shape and a superfluous tensor are errors, so a
//! head is never silently re-initialised.
//!
//! Values stay on disk or in a model until they are taken or written, one tensor at a time. Reading
//! a checkpoint therefore needs the memory of the model and of one tensor, and so does writing one.

mod file;
mod index;
mod pickle;
mod transpose;
mod write;

pub(super) use index::FILES;
pub use transpose::transposed;
pub use write::SHARD_BYTES;
pub(super) use write::is_weights;

use crate::{Error, Result};
use burn::module::{Param, ParamId};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use file::Stored;
use safetensors::tensor::Dtype;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use transpose::Transposing;

/// File with the weights of a model folder, if there is only one.
pub(super) const SINGLE: &str = "model.safetensors";
/// File that lists which file holds which tensor, if there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// File of the weights in folders from before safetensors.
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
    /// The type's name under `torch_dtype` in config.json.
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

/// Tensors by name, row-major, in the checkpoint's own layout (`[out, in]` for linear weights),
/// read as f32.
#[derive(Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Entry>,
    /// The source of the tensors, for messages.
    origin: String,
    /// True if a model will hold them in bf16, whose range is smaller than that of f32.
    in_bf16: bool,
}

#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    values: Values,
}

/// A function that hands the values of a tensor on in pieces, row-major.
pub type Make = Box<dyn Fn(&mut dyn FnMut(&[f32])) + Send>;

/// The place of values until they are requested.
pub enum Values {
    Held(Vec<f32>),
    /// Values in a file.
    Stored(Stored),
    /// Values in a model's parameter.
    Computed(Box<dyn Fn() -> Result<Vec<f32>> + Send>),
    /// Values that are made piece by piece.
    Made(Make),
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self::Held(values)
    }
}

impl From<Make> for Values {
    fn from(make: Make) -> Self {
        Self::Made(make)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Held(values) => write!(out, "{} values", values.len()),
            Self::Stored(stored) => stored.fmt(out),
            Self::Computed(_) => out.write_str("a parameter"),
            Self::Made(_) => out.write_str("values to be made"),
        }
    }
}

impl Entry {
    /// The values, checked if they were stored: results computed from a number that is not finite
    /// are meaningless.
    fn values(&self, in_bf16: bool) -> Result<Cow<'_, [f32]>> {
        match &self.values {
            Values::Held(values) => Ok(values.into()),
            Values::Stored(stored) => {
                let values = stored.read()?;
                let mut scan = NotFinite::in_tensor(stored.path(), &stored.name, in_bf16);
                scan.hear(&values, &self.shape);
                if scan.any() {
                    Err(scan.error())
                } else {
                    Ok(values.into())
                }
            }
            Values::Computed(compute) => compute().map(Cow::Owned),
            Values::Made(make) => {
                let mut values = Vec::with_capacity(self.count());
                make(&mut |piece| values.extend_from_slice(piece));
                Ok(values.into())
            }
        }
    }

    /// The values of a matrix `[rows, columns]`, transposed. They are in memory once, unless they
    /// were before.
    fn transposed(&self, in_bf16: bool) -> Result<Vec<f32>> {
        let [rows, columns] = self.shape[..] else {
            return Err(Error::internal(format!(
                "a tensor of shape {:?} is no matrix",
                self.shape
            )));
        };
        let mut turning = Transposing::new(rows, columns);
        match &self.values {
            Values::Held(_) | Values::Computed(_) => turning.hear(&self.values(in_bf16)?),
            Values::Made(make) => make(&mut |piece| turning.hear(piece)),
            Values::Stored(stored) => {
                let mut scan = NotFinite::in_tensor(stored.path(), &stored.name, in_bf16);
                stored.read_in_pieces(|piece| {
                    scan.hear(piece, &self.shape);
                    turning.hear(piece);
                })?;
                if scan.any() {
                    return Err(scan.error());
                }
            }
        }
        Ok(turning.finish())
    }

    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Numbers of one stored tensor that are not finite.
#[derive(Clone, Debug)]
pub struct NotFinite {
    file: PathBuf,
    tensor: String,
    in_bf16: bool,
    seen: usize,
    pub nan: usize,
    pub infinite: usize,
    /// Number of values that are finite in f32 and too large for bf16, if the model will hold them
    /// in bf16.
    too_large: usize,
    first: Option<(Vec<usize>, f32)>,
}

impl NotFinite {
    fn in_tensor(file: &Path, tensor: &str, in_bf16: bool) -> Self {
        let (file, tensor) = (file.to_owned(), tensor.to_owned());
        Self {
            file,
            tensor,
            in_bf16,
            seen: 0,
            nan: 0,
            infinite: 0,
            too_large: 0,
            first: None,
        }
    }

    /// Counts the numbers that are not finite in the next values of the tensor, which has this
    /// shape.
    fn hear(&mut self, values: &[f32], shape: &[usize]) {
        let wrong = |value: f32| {
            !value.is_finite() || (self.in_bf16 && !half::bf16::from_f32(value).is_finite())
        };
        let found: Vec<usize> = (0..values.len())
            .filter(|place| wrong(values[*place]))
            .collect();
        for place in found {
            let value = values[place];
            let count = if value.is_nan() {
                &mut self.nan
            } else if value.is_infinite() {
                &mut self.infinite
            } else {
                &mut self.too_large
            };
            *count += 1;
            self.first
                .get_or_insert_with(|| (index(self.seen + place, shape), value));
        }
        self.seen += values.len();
    }

    fn any(&self) -> bool {
        self.first.is_some()
    }

    fn error(&self) -> Error {
        Error::model(self.to_string()).hint(match self.nan + self.infinite {
            0 => "compute in f32 (`training.dtype = \"f32\"`); bf16 ends at 3.39e38",
            _ => "the model was saved from a training that diverged, or the file is damaged; take another checkpoint",
        })
    }
}

impl fmt::Display for NotFinite {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            nan,
            infinite,
            too_large,
            ..
        } = self;
        write!(
            out,
            "{}: tensor `{}` holds ",
            self.file.display(),
            self.tensor
        )?;
        match too_large {
            0 => write!(
                out,
                "{} numbers that are not finite ({nan} NaN, {infinite} infinite)",
                nan + infinite
            )?,
            _ => write!(
                out,
                "{} numbers that are not finite in bf16",
                nan + infinite + too_large
            )?,
        }
        match &self.first {
            Some((index, value)) => write!(out, ", the first, {value}, at {index:?}"),
            None => Ok(()),
        }
    }
}

/// The index in a tensor of this shape of the value at `place`, row-major.
fn index(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (part, size) in index.iter_mut().zip(shape).rev() {
        *part = place % size.max(&1);
        place /= size.max(&1);
    }
    index
}

/// A tensor without its values.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// The number type; `None` if it is not one of weights, or the tensor is not in a file.
    pub stored_as: Option<StoredAs>,
    /// The file that holds the tensor; `None` if it is in memory.
    pub file: Option<&'a Path>,
}

impl Weights {
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            tensors: BTreeMap::new(),
            origin: origin.into(),
            in_bf16: false,
        }
    }

    /// The source of these tensors, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn insert(&mut self, name: impl Into<String>, shape: &[usize], values: impl Into<Values>) {
        let (shape, values) = (shape.to_vec(), values.into());
        if let Values::Held(held) = &values {
            debug_assert_eq!(shape.iter().product::<usize>(), held.len());
        }
        self.tensors.insert(name.into(), Entry { shape, values });
    }

    /// Inserts values that are computed only when requested.
    pub fn insert_computed(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        compute: impl Fn() -> Result<Vec<f32>> + Send + 'static,
    ) {
        let values = Values::Computed(Box::new(compute));
        self.tensors.insert(
            name.into(),
            Entry {
                shape: shape.to_vec(),
                values,
            },
        );
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Every tensor, in alphabetical order.
    pub fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.tensors.iter().map(|(name, entry)| {
            let (stored_as, file) = match &entry.values {
                Values::Stored(stored) => (stored.stored_as().ok(), Some(stored.path())),
                Values::Held(_) | Values::Computed(_) | Values::Made(_) => (None, None),
            };
            Listed {
                name,
                shape: &entry.shape,
                stored_as,
                file,
            }
        })
    }

    /// Sets the type in which a model will hold these tensors, so that a number too large for it is
    /// an error and does not become infinite.
    pub fn will_be(&mut self, dtype: FloatDType) {
        self.in_bf16 = dtype == FloatDType::BF16;
    }

    /// The tensors in files that contain numbers that are not finite; only a piece of one tensor is
    /// in memory at a time.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn not_finite(&self) -> Result<Vec<NotFinite>> {
        let mut found = Vec::new();
        for entry in self.tensors.values() {
            let Values::Stored(stored) = &entry.values else {
                continue;
            };
            if stored.stored_as().is_err() {
                continue;
            }
            let mut scan = NotFinite::in_tensor(stored.path(), &stored.name, self.in_bf16);
            stored.read_in_pieces(|values| scan.hear(values, &entry.shape))?;
            found.extend(scan.any().then_some(scan));
        }
        Ok(found)
    }

    /// Renames every tensor by `rename`.
    ///
    /// # Errors
    /// Two tensors that would get the same name.
    pub fn rename(&mut self, rename: impl Fn(&str) -> String) -> Result<()> {
        let mut renamed = BTreeMap::new();
        let mut earlier: BTreeMap<String, String> = BTreeMap::new();
        for (name, entry) in std::mem::take(&mut self.tensors) {
            let new = rename(&name);
            if let Some(other) = earlier.insert(new.clone(), name.clone()) {
                return Err(Error::model(format!(
                    "{}: `{other}` and `{name}` are both names of `{new}`",
                    self.origin
                ))
                .hint(
                    "the folder mixes two ways of saving a model; save it again from one of them",
                ));
            }
            renamed.insert(new, entry);
        }
        self.tensors = renamed;
        Ok(())
    }

    /// Drops a tensor that the architecture declares unused (such as a mask buffer saved by old
    /// libraries).
    pub fn ignore(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Drops `name`, if it is there, as another copy of the tensor `of`.
    ///
    /// # Errors
    /// If the two differ.
    pub fn ignore_copy(&mut self, name: &str, of: &str) -> Result<()> {
        let (Some(copy), Some(kept)) = (self.tensors.get(name), self.tensors.get(of)) else {
            return Ok(());
        };
        if copy.shape != kept.shape || copy.values(false)? != kept.values(false)? {
            return Err(Error::model(format!(
                "{}: `{name}` is not equal to `{of}`, though config.json ties them",
                self.place(copy)
            ))
            .hint("set tie_word_embeddings to false in config.json if the head has weights of its own"));
        }
        self.tensors.remove(name);
        Ok(())
    }

    /// The values of the tensor `name`, which stays available.
    pub fn values(&self, name: &str) -> Result<Cow<'_, [f32]>> {
        match self.tensors.get(name) {
            Some(entry) => entry.values(self.in_bf16),
            None => Err(Error::model(format!(
                "{}: there is no tensor `{name}`",
                self.origin
            ))),
        }
    }

    /// Takes the tensor `name`, which must have `shape`.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.check(name, shape)?;
        match self.tensors.remove(name) {
            Some(Entry {
                values: Values::Held(values),
                ..
            }) => Ok(values),
            Some(entry) => entry.values(self.in_bf16).map(Cow::into_owned),
            None => Err(self.missing(name, shape)),
        }
    }

    /// Takes the matrix `name`, which must have the shape `[rows, columns]`, as its transpose.
    pub fn take_transposed(&mut self, name: &str, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
        self.check(name, &[rows, columns])?;
        match self.tensors.remove(name) {
            Some(entry) => entry.transposed(self.in_bf16),
            None => Err(self.missing(name, &[rows, columns])),
        }
    }

    /// Returns an error unless the tensor `name` exists, with `shape` and a number type of weights.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(self.missing(name, shape));
        };
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
            Values::Held(_) | Values::Computed(_) | Values::Made(_) => Ok(()),
        }
    }

    /// Returns an error for the first tensor whose number type is not one of weights.
    pub fn check_types(&self) -> Result<()> {
        self.tensors
            .values()
            .try_for_each(|entry| match &entry.values {
                Values::Stored(stored) => stored.stored_as().map(|_| ()),
                Values::Held(_) | Values::Computed(_) | Values::Made(_) => Ok(()),
            })
    }

    /// The differences between these tensors and those `expected`, each given by name and shape.
    pub fn check_all(&self, expected: &[(String, Vec<usize>)]) -> Vec<Error> {
        let mut wrong: Vec<Error> = expected
            .iter()
            .filter_map(|(name, shape)| self.check(name, shape).err())
            .collect();
        let names: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        wrong.extend(
            self.surplus(
                self.tensors
                    .keys()
                    .map(String::as_str)
                    .filter(|name| !names.contains(name))
                    .collect(),
            ),
        );
        wrong
    }

    fn missing(&self, name: &str, shape: &[usize]) -> Error {
        Error::model(format!(
            "{}: tensor `{name}` of shape {shape:?} is missing",
            self.origin
        ))
        .hint("the checkpoint is of another architecture or head; nothing is initialised silently")
    }

    /// Returns an error if a tensor was not taken.
    pub fn finish(self) -> Result<()> {
        self.surplus(self.tensors.keys().map(String::as_str).collect())
            .map_or(Ok(()), Err)
    }

    /// The error for superfluous tensors `names`.
    fn surplus(&self, names: Vec<&str>) -> Option<Error> {
        const SHOWN: usize = 5;
        let error = Error::model(format!(
            "{}: {} tensor(s) that this model does not have: {}{}",
            self.origin,
            names.len(),
            names
                .iter()
                .take(SHOWN)
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
            if names.len() > SHOWN { ", …" } else { "" }
        ));
        let hint =
            "the checkpoint is of another architecture or head; nothing is left out silently";
        (!names.is_empty()).then(|| error.hint(hint))
    }

    /// The place of a tensor, for messages.
    fn place(&self, entry: &Entry) -> String {
        match &entry.values {
            Values::Stored(stored) => stored.path().display().to_string(),
            Values::Held(_) | Values::Computed(_) | Values::Made(_) => self.origin.clone(),
        }
    }
}

/// A parameter whose id is a function of its name, so that an optimiser's saved state can be
/// matched to it in another process.
pub fn parameter<const D: usize>(
    name: &str,
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(stable_id(name), tensor).set_require_grad(true)
}

/// An id that is the same for the same name in every process.
pub fn stable_id(name: &str) -> ParamId {
    let hash = blake3::hash(name.as_bytes());
    ParamId::from(u64::from_le_bytes(
        hash.as_bytes()[..8].try_into().unwrap_or_default(),
    ))
}

/// The values of a tensor as f32, copied to the host.
///
/// # Errors
/// A device failure, in the pending computation or while being read.
pub fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let shape = tensor.dims();
    let unread = || {
        Error::device(format!("a tensor of shape {shape:?} cannot be read from its device")).hint(
            "the device failed, or its memory is full; run the command again, with a smaller batch if it fails again",
        )
    };
    let data = tensor
        .try_into_data()
        .map_err(|cause| unread().caused_by(format!("{cause:?}")))?;
    let values: Vec<f32> = data
        .convert::<f32>()
        .try_into_vec()
        .map_err(|cause| unread().caused_by(format!("{cause:?}")))?;
    match values.len() == shape.iter().product::<usize>() {
        true => Ok(values),
        false => Err(unread().caused_by(format!("it gave {} values", values.len()))),
    }
}
