//! Reader of `pytorch_model.bin`, the layout before safetensors: a zip archive whose pickle says
//! which bytes belong to which tensor. A library that supports only the few instructions that
//! tensors need parses the pickle. Nothing in it is ever executed.

use super::file::{Stored, TensorLocation, beginning};
use super::{Entry, StoredAs, Values, Weights};
use crate::defect::guarded;
use crate::model::contents::Foreign;
use crate::{Context, Error, Result};
use pytorch_reader::{DType, PytorchReader};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

impl Weights {
    /// Reads which tensors a pickled file holds; their values are read when they are taken.
    ///
    /// # Errors
    /// A file that is not such an archive, is cut short, or whose pickle holds anything but
    /// tensors.
    pub fn read_pickle(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let mut file = File::open(path).context(failed)?;
        let length = file.metadata().context(failed)?.len();
        if let Some(foreign) = Foreign::in_pickle(&beginning(&mut file).context(failed)?) {
            return Err(foreign.error(&path.display().to_string()));
        }
        let damaged = || {
            Error::model(format!("{} cannot be read as tensors saved by PyTorch", path.display()))
                .hint("it may have been cut off or damaged while being copied or downloaded; fetch it again")
        };
        let reader = guarded(
            || PytorchReader::new(path).map_err(|cause| damaged().caused_by(cause)),
            |why| damaged().caused_by(why.to_owned()),
        )?;
        let shared: Arc<Path> = Arc::from(path);
        let mut weights = Self::new(path.display().to_string());
        for (name, tensor) in reader.into_tensors() {
            let (shape, count) = (tensor.shape().to_vec(), tensor.num_elements());
            let dtype = stored_as(tensor.dtype());
            let place = TensorLocation::Pickle(tensor);
            let stored = Stored {
                path: Arc::clone(&shared),
                name: name.clone(),
                dtype,
                count,
                place,
            };
            // A view of few bytes may claim any shape.
            if stored.bytes().is_none_or(|bytes| bytes > length) && stored.dtype.is_ok() {
                let message = format!(
                    "{}: tensor `{name}` of shape {shape:?} is larger than the file",
                    path.display()
                );
                return Err(Error::model(message)
                    .hint("the file is damaged, or was not written by torch.save"));
            }
            weights.tensors.insert(
                name,
                Entry {
                    shape,
                    values: Values::Stored(stored),
                },
            );
        }
        Ok(weights)
    }
}

fn stored_as(dtype: DType) -> std::result::Result<StoredAs, String> {
    match dtype {
        DType::F32 => Ok(StoredAs::F32),
        DType::F16 => Ok(StoredAs::F16),
        DType::BF16 => Ok(StoredAs::Bf16),
        other => Err(format!("{other:?}")),
    }
}
