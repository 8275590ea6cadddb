//! Data sets: the rows of one split, read a few at a time from parquet, jsonl or csv, here or on a hub.

mod layout;
mod reader;
mod records;
mod row;

pub use records::{
    BenchmarkPair, Chat, ChatPreference, Comparison, Message, Preference, Record, SummarisedPost, Summary, Text,
};
pub use row::Row;

#[cfg(not(feature = "hub"))]
use crate::data::hub::not_built_in;
#[cfg(feature = "hub")]
use crate::data::hub::{Hub, Kind};
use crate::data::hub::{Repository, Source};
use crate::folder::files_below;
use crate::{Context, Error, Result};
use layout::Format;
use reader::Reader;
use row::Cells;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// The files of one split, found and, where they come from a hub, fetched; nothing of them is read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    source: String,
    /// Of the hub.
    commit: Option<String>,
    config: Option<String>,
    split: Option<String>,
    files: Vec<DataFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DataFile {
    /// In its repository or folder.
    name: String,
    /// As errors call it.
    shown: String,
    path: PathBuf,
    format: Format,
}

/// What exactly was read: two data sets of equal fingerprints give the same rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// As it was named: a path, or `hf:datasets/owner/name@revision`.
    pub source: String,
    /// Of the hub's repository, whatever the revision was called.
    pub commit: Option<String>,
    pub config: Option<String>,
    pub split: Option<String>,
    pub files: Vec<FileFingerprint>,
    pub rows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFingerprint {
    /// In its repository or folder.
    pub name: String,
    pub bytes: u64,
    pub blake3: String,
}

impl Dataset {
    /// The split `split` of a folder or of a repository on a hub, whose files are downloaded unless they are cached. Of
    /// several configs one must be named. A single file is its own split, whatever `config` and `split` say.
    ///
    /// # Errors
    /// As [`Source::fetch`], but a model's repository; no such config or split, with those that there are; a split of which a
    /// file is missing.
    pub fn open(source: &Source, config: Option<&str>, split: &str) -> Result<Self> {
        match source {
            Source::Local(path) if path.is_dir() => Self::folder(path, config, split),
            Source::Local(path) => Self::file(path),
            Source::Hub(repository) => fetch(repository, config, split),
        }
    }

    /// As [`open`](Self::open), from a hub that the environment does not name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "hub")]
    pub fn on_hub(hub: &Hub, repository: &Repository, config: Option<&str>, split: &str) -> Result<Self> {
        if repository.kind == Kind::Model {
            let Repository { id, revision, .. } = repository;
            return Err(Error::data(format!("{repository} is a model, and a data set is needed here"))
                .hint(format!("a data set is written hf:datasets/{id}@{revision}")));
        }
        let source = repository.to_string();
        let choose = |names: Vec<String>| {
            let chosen = layout::choose(&source, &names, config, split)?;
            Ok(chosen.into_iter().map(str::to_owned).collect())
        };
        let fetched = hub.fetch_chosen(repository, choose)?;
        let file = |(name, path)| DataFile::new(format!("{name} of {repository}"), name, path);
        Ok(Self {
            commit: Some(fetched.commit),
            config: config.map(str::to_owned),
            split: Some(split.to_owned()),
            files: fetched.files.into_iter().map(file).collect::<Result<_>>()?,
            source,
        })
    }

    fn folder(folder: &Path, config: Option<&str>, split: &str) -> Result<Self> {
        let (source, names) = (folder.display().to_string(), files_below(folder));
        let file = |name: &str| {
            let path = folder.join(name);
            DataFile::new(path.display().to_string(), name.to_owned(), path)
        };
        Ok(Self {
            commit: None,
            config: config.map(str::to_owned),
            split: Some(split.to_owned()),
            files: layout::choose(&source, &names, config, split)?.into_iter().map(file).collect::<Result<_>>()?,
            source,
        })
    }

    /// One file here.
    ///
    /// # Errors
    /// A file that is not there, or whose name does not end in `.parquet`, `.jsonl` or `.csv`.
    pub fn file(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let name = path.file_name().map_or_else(|| source.clone(), |name| name.to_string_lossy().into_owned());
        std::fs::File::open(path).context(|| format!("cannot open {source}"))?;
        let file = DataFile::new(source.clone(), name, path.to_owned())?;
        Ok(Self { source, commit: None, config: None, split: None, files: vec![file] })
    }

    /// The rows, in the order of the files; a part of a file is in memory at a time (all of a csv file). A row that is not
    /// a `T` is an error and the next row follows it; a damaged part of a file is an error and nothing follows it.
    ///
    /// # Errors
    /// A file that cannot be opened or lacks a column of `T`.
    pub fn rows<T: Record>(&self) -> Result<impl Iterator<Item = Result<T>> + use<T>> {
        let open = |file: &DataFile| Reader::open(&file.path, &file.shown, file.format, T::COLUMNS, T::OPTIONAL);
        let readers = self.files.iter().map(open).collect::<Result<_>>()?;
        Ok(Rows { readers, chunk: Vec::new().into_iter(), number: 0, record: PhantomData })
    }

    /// How many rows there are. For parquet only the files' ends are read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn len(&self) -> Result<usize> {
        self.files.iter().map(|file| Reader::count(&file.path, &file.shown, file.format)).sum()
    }

    /// # Errors
    /// A file that cannot be read.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The files, in the order of the rows.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// Reads every byte, so that a manifest can say what a result is made from.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        Ok(Fingerprint {
            source: self.source.clone(),
            commit: self.commit.clone(),
            config: self.config.clone(),
            split: self.split.clone(),
            files: self.files.iter().map(DataFile::fingerprint).collect::<Result<_>>()?,
            rows: self.len()?,
        })
    }
}

impl DataFile {
    fn new(shown: String, name: String, path: PathBuf) -> Result<Self> {
        let format = Format::of(&name).ok_or_else(|| {
            Error::data(format!("{shown} is not .jsonl, .parquet or .csv"))
                .hint("the file's ending says how it is read")
        })?;
        Ok(Self { name, shown, path, format })
    }

    fn fingerprint(&self) -> Result<FileFingerprint> {
        let mut hasher = blake3::Hasher::new();
        let read = std::fs::File::open(&self.path).and_then(|file| hasher.update_reader(file).map(|_| ()));
        read.context(|| format!("cannot read {}", self.shown))?;
        Ok(FileFingerprint {
            name: self.name.clone(),
            bytes: hasher.count(),
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }
}

#[cfg(feature = "hub")]
fn fetch(repository: &Repository, config: Option<&str>, split: &str) -> Result<Dataset> {
    Dataset::on_hub(&Hub::from_env()?, repository, config, split)
}

#[cfg(not(feature = "hub"))]
fn fetch(repository: &Repository, _config: Option<&str>, _split: &str) -> Result<Dataset> {
    Err(not_built_in(repository, "its files"))
}

/// Rows on their way.
struct Rows<T> {
    readers: VecDeque<Reader>,
    chunk: std::vec::IntoIter<Cells>,
    /// Of the last row, in its file.
    number: usize,
    record: PhantomData<T>,
}

impl<T: Record> Iterator for Rows<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            let reader = self.readers.front_mut()?;
            if let Some(cells) = self.chunk.next() {
                self.number += 1;
                let (file, untyped) = (reader.file(), reader.is_untyped());
                return Some(T::read(Row { file, number: self.number, untyped, prefix: String::new(), cells }));
            }
            match reader.next() {
                Ok(chunk) if chunk.is_empty() => {
                    self.readers.pop_front();
                    self.number = 0;
                }
                Ok(chunk) => self.chunk = chunk.into_iter(),
                Err(error) => {
                    self.readers.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
