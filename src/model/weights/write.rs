//! Writer of safetensors: one tensor in memory at a time, one file or several with an index.

use super::index::{Index, Metadata};
use super::{Entry, INDEX, SINGLE, StoredAs, Weights};
use crate::{Context, Error, Result};
use safetensors::tensor::{Metadata as Header, TensorInfo};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Largest number of bytes of tensors per file unless another limit is given; transformers' own
/// default.
pub const SHARD_BYTES: u64 = 5_000_000_000;

impl Weights {
    /// Writes `model.safetensors` to `folder`, or, if that would hold more than `shard_bytes` of
    /// tensors, several files and their index. Earlier weights in the folder are removed.
    ///
    /// # Errors
    /// A file that cannot be written, and a number that `stored_as` cannot represent; unfinished
    /// files are removed.
    pub fn save(&self, folder: &Path, stored_as: StoredAs, shard_bytes: u64) -> Result<()> {
        let shards = self.shards(stored_as, shard_bytes);
        let count = shards.len();
        if count <= 1 {
            self.write(&folder.join(SINGLE), stored_as)?;
            return remove_weights(folder, &[SINGLE.to_owned()]);
        }
        let mut index = Index {
            metadata: Metadata::default(),
            weight_map: BTreeMap::new(),
        };
        let mut kept = vec![INDEX.to_owned()];
        for (number, names) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
            self.write_some(names, &folder.join(&file), stored_as)?;
            index
                .weight_map
                .extend(names.iter().map(|name| ((*name).to_owned(), file.clone())));
            kept.push(file);
        }
        index.metadata.total_size = Some(
            self.tensors
                .values()
                .map(|entry| entry.bytes(stored_as))
                .sum::<u64>()
                .into(),
        );
        let path = folder.join(INDEX);
        let text = serde_json::to_string_pretty(&index)
            .context(|| format!("cannot encode {}", path.display()))?;
        write_beside(&path, |file| {
            file.write_all(text.as_bytes())
                .context(|| cannot_write(&path))
        })?;
        remove_weights(folder, &kept)
    }

    /// Writes all tensors to one safetensors file.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn write(&self, path: &Path, stored_as: StoredAs) -> Result<()> {
        self.write_some(
            &self.tensors.keys().map(String::as_str).collect::<Vec<_>>(),
            path,
            stored_as,
        )
    }

    /// Names of the tensors of each file, in order; a tensor larger than `most` bytes gets a file
    /// of its own.
    fn shards(&self, stored_as: StoredAs, most: u64) -> Vec<Vec<&str>> {
        let mut shards: Vec<Vec<&str>> = Vec::new();
        let mut filled = 0;
        for (name, entry) in &self.tensors {
            let bytes = entry.bytes(stored_as);
            match shards.last_mut() {
                Some(shard) if filled + bytes <= most => {
                    shard.push(name);
                    filled += bytes;
                }
                _ => {
                    shards.push(vec![name]);
                    filled = bytes;
                }
            }
        }
        shards
    }

    fn write_some(&self, names: &[&str], path: &Path, stored_as: StoredAs) -> Result<()> {
        let entries: Vec<(&str, &Entry)> = names
            .iter()
            .filter_map(|name| self.tensors.get_key_value(*name))
            .map(|(name, entry)| (name.as_str(), entry))
            .collect();
        let header = header(&entries, stored_as).context(|| cannot_write(path))?;
        write_beside(path, |file| {
            file.write_all(&header).context(|| cannot_write(path))?;
            for (name, entry) in &entries {
                let values = entry.values(false)?;
                if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                    return Err(Error::divergence(format!(
                        "{}: tensor `{name}` would be saved with {} at {:?}",
                        self.place(entry),
                        values[place],
                        super::index(place, &entry.shape)
                    ))
                    .hint("training diverged: lower the learning rate"));
                }
                if let Some(value) = values.iter().find(|value| !fits(**value, stored_as)) {
                    return Err(Error::model(format!(
                        "{}: tensor `{name}` holds {value}, which {stored_as} cannot",
                        self.place(entry)
                    ))
                    .hint("store the weights as bf16 or f32"));
                }
                encode(&values, stored_as, file).context(|| cannot_write(path))?;
            }
            Ok(())
        })
    }
}

impl Entry {
    fn bytes(&self, stored_as: StoredAs) -> u64 {
        (self.count() * stored_as.bytes()) as u64
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// The beginning of a file: the header's length and the header, padded with spaces to a multiple of
/// eight bytes.
fn header(
    entries: &[(&str, &Entry)],
    stored_as: StoredAs,
) -> std::result::Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let start = end;
        end += entry.count() * stored_as.bytes();
        let info = TensorInfo {
            dtype: stored_as.dtype(),
            shape: entry.shape.clone(),
            data_offsets: (start, end),
        };
        infos.push(((*name).to_owned(), info));
    }
    // transformers refuses a file without the name of the library that its tensors are for.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let mut header = serde_json::to_vec(&Header::new(Some(metadata), infos)?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([(header.len() as u64).to_le_bytes().as_slice(), &header].concat())
}

/// True if a finite number stays finite when stored in this type.
fn fits(value: f32, stored_as: StoredAs) -> bool {
    match stored_as {
        StoredAs::F32 => true,
        StoredAs::F16 => half::f16::from_f32(value).is_finite(),
        StoredAs::Bf16 => half::bf16::from_f32(value).is_finite(),
    }
}

fn encode(values: &[f32], stored_as: StoredAs, out: &mut impl Write) -> std::io::Result<()> {
    match stored_as {
        StoredAs::F32 => values
            .iter()
            .try_for_each(|value| out.write_all(&value.to_le_bytes())),
        StoredAs::F16 => values
            .iter()
            .try_for_each(|value| out.write_all(&half::f16::from_f32(*value).to_le_bytes())),
        StoredAs::Bf16 => values
            .iter()
            .try_for_each(|value| out.write_all(&half::bf16::from_f32(*value).to_le_bytes())),
    }
}

/// Writes a file beside `path` and renames it, so that `path` is never incomplete and may be a file
/// that is being read.
fn write_beside(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let write = || {
        let mut file = BufWriter::with_capacity(
            1 << 20,
            File::create(&beside).context(|| cannot_write(path))?,
        );
        fill(&mut file)?;
        file.flush()
            .and_then(|()| fs::rename(&beside, path))
            .context(|| cannot_write(path))
    };
    write().inspect_err(|_| {
        // The error is reported already; a failure to remove the unfinished file adds nothing.
        let _ = fs::remove_file(&beside);
    })
}

/// Removes the weights of `folder` except the files `kept`.
fn remove_weights(folder: &Path, kept: &[String]) -> Result<()> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).context(unreadable)? {
        let name = entry.context(unreadable)?.file_name();
        let Some(name) = name.to_str().filter(|name| is_weights(name)) else {
            continue;
        };
        if !kept.iter().any(|kept| kept == name) {
            let path = folder.join(name);
            fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// True if a file of this name holds weights or is their index.
pub(in crate::model) fn is_weights(name: &str) -> bool {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let shard = name
        .strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"));
    let shard = shard.and_then(|numbers| numbers.split_once("-of-"));
    name == SINGLE
        || name == INDEX
        || shard.is_some_and(|(number, count)| is_number(number) && is_number(count))
}
