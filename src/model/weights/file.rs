//! Reader of safetensors: the header at once, each tensor's values when they are requested.

use super::{Entry, StoredAs, Values, Weights};
use crate::model::contents::{Foreign, START};
use crate::{Context, Error, Result};
use safetensors::tensor::Metadata;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the number at the beginning of every file that gives the header's length.
const LENGTH: u64 = 8;
/// The format's own limit on headers, which also limits the memory that a damaged length can make
/// us allocate.
const MOST_HEADER: u64 = 100_000_000;
/// Number of bytes that are decoded at a time.
const PIECE: usize = 1 << 18;

/// The values of one tensor, in a file.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(super) path: Arc<Path>,
    /// The tensor's name in the file.
    pub(super) name: String,
    /// The number type of the values, or the name of a type that weights cannot have.
    pub(super) dtype: std::result::Result<StoredAs, String>,
    pub(super) count: usize,
    pub(super) place: TensorLocation,
}

/// The location of a tensor's values.
#[derive(Clone, Debug)]
pub(super) enum TensorLocation {
    /// Offset in bytes. The file is kept open, so that the values are those that the header
    /// described even if the file is replaced meanwhile.
    Bytes(Arc<Mutex<File>>, u64),
    /// A tensor in an archive that a library reads.
    Pickle(pytorch_reader::Tensor),
}

impl Weights {
    /// Reads a safetensors file's header; values are read, and f16 and bf16 are converted to f32,
    /// when they are taken.
    ///
    /// # Errors
    /// A header that is not valid, tensors that overlap, leave gaps or do not have the length that
    /// their shape and type imply, and a file whose length differs from the header's.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read {}", path.display());
        let mut file = File::open(path).context(failed)?;
        let length = file.metadata().context(failed)?.len();
        if let Some(foreign) = Foreign::in_safetensors(&beginning(&mut file).context(failed)?) {
            return Err(foreign.error(&path.display().to_string()));
        }
        let (header, start) = read_header(&mut file, length).map_err(|cause| {
            Error::model(format!("{} is not a complete safetensors file", path.display()))
                .caused_by(cause)
                .hint("it may have been cut off or damaged while being copied or downloaded; fetch it again")
        })?;
        let (file, shared) = (Arc::new(Mutex::new(file)), Arc::from(path));
        let mut weights = Self::new(path.display().to_string());
        for (name, info) in header.tensors() {
            let stored = Stored {
                path: Arc::clone(&shared),
                name: name.clone(),
                dtype: StoredAs::of(info.dtype).ok_or_else(|| info.dtype.to_string()),
                count: info.shape.iter().product(),
                place: TensorLocation::Bytes(Arc::clone(&file), start + info.data_offsets.0 as u64),
            };
            weights.tensors.insert(
                name,
                Entry {
                    shape: info.shape.clone(),
                    values: Values::Stored(stored),
                },
            );
        }
        Ok(weights)
    }
}

/// The first bytes of a file, which is then rewound.
pub(super) fn beginning(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(START);
    Read::by_ref(file)
        .take(START as u64)
        .read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(start)
}

/// The header of a file of `length` bytes, and the offset at which values begin.
fn read_header(
    file: &mut File,
    length: u64,
) -> std::result::Result<(Metadata, u64), Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = [0; LENGTH as usize];
    if length < LENGTH {
        return Err(
            format!("it has {length} bytes, fewer than the length of a header takes").into(),
        );
    }
    file.read_exact(&mut bytes)?;
    let header = u64::from_le_bytes(bytes);
    if header > MOST_HEADER.min(length - LENGTH) {
        return Err(format!("its header claims {header} bytes, and the file has {length}").into());
    }
    let mut bytes = vec![0; header as usize];
    file.read_exact(&mut bytes)?;
    // Checks that shapes, types and places of all tensors agree, and that they follow each other
    // without gap or overlap.
    let metadata: Metadata = serde_json::from_slice(&bytes)?;
    let (start, promised) = (LENGTH + header, metadata.data_len() as u64);
    if start.checked_add(promised) != Some(length) {
        return Err(format!(
            "its header promises {promised} bytes of values, and {} follow",
            length - start
        )
        .into());
    }
    Ok((metadata, start))
}

impl Stored {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of a weight in bytes; `None` for other types.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.dtype
            .as_ref()
            .ok()
            .map(|dtype| (self.count as u64).saturating_mul(dtype.bytes() as u64))
    }

    /// The number type of the values. Masks and other buffers have other types and are never read.
    pub(super) fn stored_as(&self) -> Result<StoredAs> {
        self.dtype.clone().map_err(|other| {
            Error::model(format!("{}: tensor `{}` has type {other}", self.path.display(), self.name))
                .hint(match other.as_str() {
                    "F64" => "weights may be f32, f16 or bf16; convert them with `model.float()` and save the model again",
                    other if other.starts_with('F') => {
                        "these are fp8 weights, which are read with a scale that the format does not say; take the original \
                         weights, which are f32, f16 or bf16"
                    }
                    _ => {
                        "these are quantised weights or another model's buffers; take the original weights, which are f32, \
                         f16 or bf16, or save them with `model.dequantize()` of transformers"
                    }
                })
        })
    }

    /// The values as f32.
    pub(super) fn read(&self) -> Result<Vec<f32>> {
        let stored_as = self.stored_as()?;
        let mut values = Vec::with_capacity(self.count);
        self.bytes_in_pieces(stored_as, |bytes| decode(bytes, stored_as, &mut values))?;
        Ok(values)
    }

    /// Passes the values on piece by piece, so that they are never in memory together.
    pub(super) fn read_in_pieces(&self, mut hear: impl FnMut(&[f32])) -> Result<()> {
        let stored_as = self.stored_as()?;
        let mut values = Vec::new();
        self.bytes_in_pieces(stored_as, |bytes| {
            values.clear();
            decode(bytes, stored_as, &mut values);
            hear(&values);
        })
    }

    fn bytes_in_pieces(&self, stored_as: StoredAs, mut hear: impl FnMut(&[u8])) -> Result<()> {
        let failed = || {
            format!(
                "cannot read tensor `{}` of {}",
                self.name,
                self.path.display()
            )
        };
        match &self.place {
            TensorLocation::Bytes(file, start) => self
                .read_from(file, *start, stored_as, hear)
                .context(failed),
            TensorLocation::Pickle(tensor) => {
                let mut bytes = tensor
                    .read()
                    .map_err(|cause| Error::model(failed()).caused_by(cause))?;
                // The library converts numbers to the machine's own byte order.
                if cfg!(target_endian = "big") {
                    bytes
                        .chunks_mut(stored_as.bytes())
                        .for_each(<[u8]>::reverse);
                }
                hear(&bytes);
                Ok(())
            }
        }
    }

    /// Reads the values piece by piece, so that they are in memory only once.
    fn read_from(
        &self,
        file: &Mutex<File>,
        start: u64,
        stored_as: StoredAs,
        mut hear: impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let mut left = self.count * stored_as.bytes();
        let mut piece = vec![0; PIECE.min(left)];
        while left > 0 {
            let bytes = &mut piece[..PIECE.min(left)];
            file.read_exact(bytes)?;
            hear(bytes);
            left -= bytes.len();
        }
        Ok(())
    }
}

/// Appends the numbers that `bytes` hold.
fn decode(bytes: &[u8], stored_as: StoredAs, values: &mut Vec<f32>) {
    match stored_as {
        StoredAs::F32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        StoredAs::F16 => values.extend(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| half::f16::from_le_bytes(*b).to_f32()),
        ),
        StoredAs::Bf16 => values.extend(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| half::bf16::from_le_bytes(*b).to_f32()),
        ),
    }
}
