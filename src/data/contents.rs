//! The bytes of a local file, read once and hashed while they are read: all later parsing uses
//! these bytes, whatever happens to the file meanwhile.

use crate::{Context, Error, Result};
use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};
use std::fs::{File, FileType};
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tempfile::{SpooledData, SpooledTempFile};

/// The length above which the bytes are held in an unnamed temporary file.
const IN_MEMORY: usize = 256 << 20;

/// The bytes of a file at the time it was read.
#[derive(Clone, Debug)]
pub struct Contents {
    pub bytes: u64,
    /// The BLAKE3 hash as 64 hexadecimal digits.
    pub blake3: String,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    Memory(Bytes),
    /// A copy without a name, so that nobody else can write to it.
    Copy(Arc<Mutex<File>>),
}

/// A file outside the store that a stage has read, as its manifest records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// The absolute path of the file.
    pub path: PathBuf,
    pub bytes: u64,
    pub blake3: String,
}

impl Contents {
    /// Reads `path`, which errors call `shown`.
    ///
    /// # Errors
    /// A path that leads to no file, to a folder, or to what cannot be read.
    pub fn read(path: &Path, shown: &str) -> Result<Self> {
        let file = File::open(path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::files(format!("there is no file {shown}"))
                .caused_by(cause)
                .hint("check the path"),
            _ => Error::files(format!("cannot open {shown}"))
                .caused_by(cause)
                .hint("check the path"),
        })?;
        let failed = || format!("cannot read {shown}");
        let kind = file.metadata().context(failed)?.file_type();
        if kind.is_dir() {
            return Err(Error::files(format!("{shown} is a folder, not a file"))
                .hint("give the path of a file in it"));
        }
        if is_device(kind) {
            return Err(Error::files(format!("{shown} is a device, not a file"))
                .hint("give the path of a file"));
        }
        let (mut hasher, mut held) = (blake3::Hasher::new(), SpooledTempFile::new(IN_MEMORY));
        let (mut file, mut buffer) = (file, vec![0; 1 << 20]);
        loop {
            let length = match file.read(&mut buffer) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                read => read.context(failed)?,
            };
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            held.write_all(&buffer[..length])
                .context(|| format!("cannot hold the bytes of {shown} in a temporary file"))?;
        }
        let held = match held.into_inner() {
            SpooledData::InMemory(bytes) => Held::Memory(bytes.into_inner().into()),
            SpooledData::OnDisk(file) => Held::Copy(Arc::new(Mutex::new(file))),
        };
        Ok(Self {
            bytes: hasher.count(),
            blake3: hasher.finalize().to_hex().to_string(),
            held,
        })
    }

    /// A reader of the bytes from the beginning.
    pub fn reader(&self) -> Box<dyn BufRead + Send> {
        match &self.held {
            Held::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
            Held::Copy(file) => Box::new(BufReader::new(At {
                file: file.clone(),
                position: 0,
            })),
        }
    }

    /// At most `most` bytes from the beginning.
    ///
    /// # Errors
    /// A copy that cannot be read back.
    pub fn head(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader().take(most as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// All bytes in one piece.
    ///
    /// # Errors
    /// A copy that cannot be read back.
    pub fn whole(&self) -> io::Result<Bytes> {
        match &self.held {
            Held::Memory(bytes) => Ok(bytes.clone()),
            Held::Copy(_) => {
                let mut bytes = Vec::new();
                self.reader().read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// The record of having read these bytes from `path`, for a manifest.
    ///
    /// # Errors
    /// A relative path in a folder that is gone.
    pub fn record(&self, path: &Path) -> Result<FileRead> {
        let path =
            std::path::absolute(path).context(|| format!("cannot find {}", path.display()))?;
        Ok(FileRead {
            path,
            bytes: self.bytes,
            blake3: self.blake3.clone(),
        })
    }

    /// # Errors
    /// Bytes whose hash isn't `planned`.
    pub fn expect(&self, planned: &str, shown: &str) -> Result<()> {
        match self.blake3 == planned {
            true => Ok(()),
            false => Err(changed(shown, planned, &self.blake3)),
        }
    }
}

/// Whether a path leads to a device, such as a terminal or `/dev/zero`, which has no end.
fn is_device(kind: FileType) -> bool {
    #[cfg(unix)]
    return kind.is_char_device() || kind.is_block_device();
    #[cfg(not(unix))]
    return false;
}

/// The error that the BLAKE3 hash of `shown` was `planned` when the study was planned and is now
/// different.
pub fn changed(shown: &str, planned: &str, now: &str) -> Error {
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    Error::data(format!(
        "{shown} has changed since this study was planned: its BLAKE3 hash was {}…, now it is {}…",
        short(planned),
        short(now)
    ))
    .hint("put the file back, or run the same command again: it plans anew, and other contents are another study")
}

/// The files of a tokenizer's folder that define how text becomes tokens and where texts end; only
/// the first is required.
const TOKENIZER_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "config.json",
];

/// The files of a tokenizer's folder, each read once.
#[derive(Clone, Debug)]
pub struct TokenizerFolder {
    shown: String,
    files: Vec<(&'static str, Contents)>,
    records: Vec<FileRead>,
}

impl TokenizerFolder {
    /// # Errors
    /// A folder without a tokenizer.json; a file that cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let (mut files, mut records) = (Vec::new(), Vec::new());
        for (index, name) in TOKENIZER_FILES.into_iter().enumerate() {
            let path = folder.join(name);
            if index == 0 || path.exists() {
                let contents = Contents::read(&path, &path.display().to_string())?;
                records.push(contents.record(&path)?);
                files.push((name, contents));
            }
        }
        Ok(Self {
            shown: folder.display().to_string(),
            files,
            records,
        })
    }

    /// The hash of tokenizer.json if that is the only file, else one over the hashes of all files.
    pub fn blake3(&self) -> String {
        if let [(_, only)] = &self.files[..] {
            return only.blake3.clone();
        }
        let mut hasher = blake3::Hasher::new();
        for (name, contents) in &self.files {
            hasher.update(format!("{name} {}\n", contents.blake3).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// # Errors
    /// Files whose hash isn't `planned`.
    pub fn expect(&self, planned: &str) -> Result<()> {
        let now = self.blake3();
        match now == planned {
            true => Ok(()),
            false => Err(changed(
                &format!("the tokenizer in {}", self.shown),
                planned,
                &now,
            )),
        }
    }

    /// Writes the files to the new folder `folder`, as a copy that nobody else changes.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn copy_to(&self, folder: &Path) -> Result<()> {
        let failed = || format!("cannot write the tokenizer's files to {}", folder.display());
        std::fs::create_dir_all(folder).context(failed)?;
        for (name, contents) in &self.files {
            std::fs::write(folder.join(name), contents.whole().context(failed)?).context(failed)?;
        }
        Ok(())
    }

    /// Records of having read these files, for a manifest.
    pub fn records(&self) -> &[FileRead] {
        &self.records
    }
}

/// One of several independent positions in a file.
struct At {
    file: Arc<Mutex<File>>,
    position: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.position))?;
        let length = file.read(buffer)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Length for Contents {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Contents {
    type T = Box<dyn BufRead + Send>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        match &self.held {
            Held::Memory(bytes) => {
                let mut cursor = Cursor::new(bytes.clone());
                cursor.set_position(start);
                Ok(Box::new(cursor))
            }
            Held::Copy(file) => Ok(Box::new(BufReader::new(At {
                file: file.clone(),
                position: start,
            }))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match &self.held {
            Held::Memory(bytes) => bytes.get_bytes(start, length),
            Held::Copy(file) => {
                let mut bytes = vec![
                    0;
                    usize::try_from(self.bytes.saturating_sub(start))
                        .unwrap_or(0)
                        .min(length)
                ];
                At {
                    file: file.clone(),
                    position: start,
                }
                .read_exact(&mut bytes)?;
                match bytes.len() == length {
                    true => Ok(bytes.into()),
                    false => Err(parquet::errors::ParquetError::EOF(
                        "the file ends before its last page".into(),
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_are_the_bytes_that_were_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "before").unwrap();
        let contents = Contents::read(&path, "x").unwrap();
        std::fs::write(&path, "after!").unwrap();
        assert_eq!(
            (&contents.whole().unwrap()[..], contents.bytes),
            (&b"before"[..], 6)
        );
        assert_eq!(contents.blake3, blake3::hash(b"before").to_hex().as_str());
        contents.expect(&contents.blake3, "x").unwrap();
        let error = contents
            .expect(blake3::hash(b"after!").to_hex().as_str(), "x")
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("x has changed since this study was planned"),
            "{error}"
        );
    }

    #[test]
    fn a_copy_on_disk_is_read_like_memory_and_at_several_places_at_once() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\n").unwrap();
        let contents = Contents {
            bytes: 8,
            blake3: String::new(),
            held: Held::Copy(Arc::new(Mutex::new(file))),
        };
        let (mut first, mut second) = (contents.reader(), contents.reader());
        let line = |reader: &mut dyn BufRead| {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line
        };
        assert_eq!(
            [line(&mut first), line(&mut second), line(&mut first)],
            ["one\n", "one\n", "two\n"]
        );
        assert_eq!(&contents.whole().unwrap()[..], b"one\ntwo\n");
        assert_eq!(&contents.get_bytes(4, 3).unwrap()[..], b"two");
        assert!(contents.get_bytes(4, 9).is_err());
    }

    #[test]
    fn every_file_of_a_tokenizer_counts_and_a_lone_one_has_its_own_hash() {
        let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(TokenizerFolder::read(folder.path()).is_err());
        std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        let alone = TokenizerFolder::read(folder.path()).unwrap();
        assert_eq!(alone.blake3(), blake3::hash(b"{}").to_hex().as_str());
        std::fs::write(folder.path().join("generation_config.json"), "{}").unwrap();
        let both = TokenizerFolder::read(folder.path()).unwrap();
        assert!(both.expect(&alone.blake3()).is_err() && both.expect(&both.blake3()).is_ok());
        both.copy_to(&copy.path().join("inside")).unwrap();
        assert!(
            TokenizerFolder::read(&copy.path().join("inside"))
                .unwrap()
                .expect(&both.blake3())
                .is_ok()
        );
    }

    #[test]
    fn a_folder_and_a_missing_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str| {
            Contents::read(&folder.path().join(name), "x")
                .unwrap_err()
                .to_string()
        };
        assert_eq!(told("absent"), "there is no file x");
        assert_eq!(told(""), "x is a folder, not a file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_refused_before_it_is_read() {
        let error = Contents::read(Path::new("/dev/zero"), "/dev/zero").unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero is a device, not a file");
    }
}
