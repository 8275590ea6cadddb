//! Rows that users bring: local files and the splits of data sets, here or on a hub, in parquet,
//! JSON or separated text.

mod csv;
mod json;
mod layout;
mod parquet;
mod reader;
mod records;
mod row;

pub use layout::choices;
pub use reader::no_rows;
pub use records::{
    BenchmarkPair, Chat, ChatPreference, Comparison, Message, Preference, Record, SummarisedPost,
    Summary, Text,
};
pub use row::{Row, RowPlace, conversation, holds_messages, is_conversation};

use crate::data::contents::{Contents, FileRead};
#[cfg(not(feature = "hub"))]
use crate::data::hub::not_built_in;
#[cfg(feature = "hub")]
use crate::data::hub::{Hub, RepositoryKind};
use crate::data::hub::{Repository, Source};
use crate::folder::files_below;
use crate::{Error, Result};
use layout::Format;
use reader::{Cell, Reader, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The files of one split, found and, if they come from a hub, downloaded. Every file is read once,
/// on first use: rows, count and fingerprint are of the same bytes, whatever happens to the file
/// meanwhile.
#[derive(Clone, Debug)]
pub struct Dataset {
    source: String,
    /// The commit of the hub's repository.
    commit: Option<String>,
    config: Option<String>,
    split: Option<String>,
    files: Vec<DataFile>,
}

#[derive(Clone, Debug)]
struct DataFile {
    /// The path within the repository or folder.
    name: String,
    /// The name by which errors call the file.
    shown: String,
    path: PathBuf,
    format: Format,
    contents: OnceLock<Contents>,
}

/// The identity of the data that were read: two data sets with equal fingerprints give the same
/// rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The source as the user named it: a path, or `hf:datasets/owner/name@revision`.
    pub source: String,
    /// The commit of the hub's repository, whatever the revision was called.
    pub commit: Option<String>,
    pub config: Option<String>,
    pub split: Option<String>,
    pub files: Vec<FileFingerprint>,
    pub rows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFingerprint {
    /// The path within the repository or folder.
    pub name: String,
    pub bytes: u64,
    pub blake3: String,
}

impl Dataset {
    /// Opens the split `split` of a folder or of a repository on a hub, whose files are downloaded
    /// unless they are cached. If there are several configs, `config` must name one. A single file
    /// is its own split, whatever `config` and `split` say.
    ///
    /// # Errors
    /// As [`Source::fetch`], but for a model's repository; a missing config or split, with the
    /// names of the existing ones; a split with a missing file.
    pub fn open(source: &Source, config: Option<&str>, split: &str) -> Result<Self> {
        match source {
            Source::Local(path) if path.is_dir() => Self::folder(path, config, split),
            Source::Local(path) => Self::file(path),
            Source::Hub(repository) => fetch(repository, config, split),
        }
    }

    /// Opens a split like [`open`](Self::open), from a hub other than the environment's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "hub")]
    pub fn on_hub(
        hub: &Hub,
        repository: &Repository,
        config: Option<&str>,
        split: &str,
    ) -> Result<Self> {
        if repository.kind == RepositoryKind::Model {
            let Repository { id, revision, .. } = repository;
            return Err(Error::data(format!(
                "{repository} is a model, and a data set is needed here"
            ))
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
            files: layout::choose(&source, &names, config, split)?
                .into_iter()
                .map(file)
                .collect::<Result<_>>()?,
            source,
        })
    }

    /// Opens one local file. If its name doesn't show its format, its contents decide.
    ///
    /// # Errors
    /// A file that does not exist or is a folder; contents of an unknown format.
    pub fn file(path: &Path) -> Result<Self> {
        let source = path.display().to_string();
        let name = path.file_name().map_or_else(
            || source.clone(),
            |name| name.to_string_lossy().into_owned(),
        );
        let contents = Contents::read(path, &source)?;
        let format = match Format::of(&name) {
            Some(format) => format,
            None => reader::format_of(&contents, &source)?,
        };
        let file = DataFile {
            name,
            shown: source.clone(),
            path: path.to_owned(),
            format,
            contents: contents.into(),
        };
        Ok(Self {
            source,
            commit: None,
            config: None,
            split: None,
            files: vec![file],
        })
    }

    /// The rows, in the order of the files, with only a part of a file in memory at a time (all of
    /// a JSON list). A row that isn't a `T` is an error, and the next row follows it; a damaged
    /// part of a file is an error that ends the rows.
    ///
    /// # Errors
    /// A file that cannot be opened or lacks a column of `T`.
    pub fn rows<T: Record>(&self) -> Result<impl Iterator<Item = Result<T>> + use<T>> {
        Ok(self.placed_rows()?.map(|row| Ok(row?.1)))
    }

    /// The rows of [`rows`](Self::rows), each with its place as errors name it.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub fn placed_rows<T: Record>(
        &self,
    ) -> Result<impl Iterator<Item = Result<(String, T)>> + use<T>> {
        let readers = self.readers(Wanted::Only {
            required: T::COLUMNS,
            optional: T::OPTIONAL,
        })?;
        Ok(Rows {
            readers,
            record: PhantomData,
        })
    }

    /// The rows with all their cells, as they are written.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn whole_rows(&self) -> Result<impl Iterator<Item = Result<WholeRow>> + use<>> {
        Ok(WholeRows {
            readers: self.readers(Wanted::All)?,
        })
    }

    fn readers(&self, wanted: Wanted) -> Result<VecDeque<Reader>> {
        self.files
            .iter()
            .map(|file| Reader::open(file.contents()?, &file.shown, file.format, wanted))
            .collect()
    }

    /// The number of rows. For parquet only the ends of the files are read.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn len(&self) -> Result<usize> {
        self.files
            .iter()
            .map(|file| Reader::count(file.contents()?, &file.shown, file.format))
            .sum()
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

    /// The names and hashes of the bytes that the rows come from.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        Ok(Fingerprint {
            source: self.source.clone(),
            commit: self.commit.clone(),
            config: self.config.clone(),
            split: self.split.clone(),
            files: self
                .files
                .iter()
                .map(DataFile::fingerprint)
                .collect::<Result<_>>()?,
            rows: self.len()?,
        })
    }

    /// Records of the local files that have the user's own names, for a manifest.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn files_read(&self) -> Result<Vec<FileRead>> {
        match self.commit {
            Some(_) => Ok(Vec::new()),
            None => self
                .files
                .iter()
                .map(|file| file.contents()?.record(&file.path))
                .collect(),
        }
    }
}

impl DataFile {
    fn new(shown: String, name: String, path: PathBuf) -> Result<Self> {
        // Layouts name only files whose extension shows their format.
        let format = Format::of(&name)
            .ok_or_else(|| Error::internal(format!("{shown} is in no known format")))?;
        Ok(Self {
            name,
            shown,
            path,
            format,
            contents: OnceLock::new(),
        })
    }

    fn contents(&self) -> Result<&Contents> {
        if let Some(contents) = self.contents.get() {
            return Ok(contents);
        }
        let read = Contents::read(&self.path, &self.shown)?;
        Ok(self.contents.get_or_init(|| read))
    }

    fn fingerprint(&self) -> Result<FileFingerprint> {
        let Contents { bytes, blake3, .. } = self.contents()?;
        Ok(FileFingerprint {
            name: self.name.clone(),
            bytes: *bytes,
            blake3: blake3.clone(),
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

/// A row with all its cells.
#[derive(Debug)]
pub struct WholeRow {
    /// The file and its line or row, as errors name it.
    pub place: String,
    /// Whether numbers and lists are written as text, as in csv.
    pub untyped: bool,
    /// The cells in the order of the file, as they are written.
    pub cells: Vec<(String, Box<RawValue>)>,
    file: String,
    by_line: bool,
    number: usize,
    typed: bool,
}

impl WholeRow {
    fn new(place: RowPlace<'_>, untyped: bool, cells: Vec<(String, Cell)>) -> Result<Self> {
        let RowPlace {
            file,
            by_line,
            number,
            typed,
        } = place;
        let cells = cells
            .into_iter()
            .map(|(name, cell)| Ok((name, raw(cell)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            place: place.to_string(),
            untyped,
            cells,
            file: file.to_owned(),
            by_line,
            number,
            typed,
        })
    }

    /// The record in the columns of its type.
    ///
    /// # Errors
    /// A column that is missing or has another type.
    pub fn record<T: Record>(&self) -> Result<T> {
        let Self {
            by_line,
            number,
            typed,
            untyped,
            ..
        } = *self;
        let place = RowPlace {
            file: &self.file,
            by_line,
            number,
            typed,
        };
        let of_record = |name: &str| T::COLUMNS.contains(&name) || T::OPTIONAL.contains(&name);
        let cells = self.cells.iter().filter(|(name, _)| of_record(name));
        let cells = reader::values(
            place,
            cells
                .map(|(name, raw)| (name.clone(), Cell::Json(raw.clone())))
                .collect(),
        )?;
        let has = self.cells.iter().map(|(name, _)| name.clone()).collect();
        T::read(Row {
            place,
            untyped,
            prefix: String::new(),
            cells,
            has,
        })
    }
}

/// An iterator over rows.
struct Rows<T> {
    readers: VecDeque<Reader>,
    record: PhantomData<T>,
}

impl<T: Record> Iterator for Rows<T> {
    type Item = Result<(String, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let reader = self.readers.front_mut()?;
            match reader.next() {
                Ok(Some(parsed)) => {
                    let (place, untyped) = (reader.place(parsed.number), reader.is_untyped());
                    let row = |cells| Row {
                        place,
                        untyped,
                        prefix: String::new(),
                        cells,
                        has: parsed.has,
                    };
                    let read =
                        reader::values(place, parsed.cells).and_then(|cells| T::read(row(cells)));
                    return Some(read.map(|read| (place.to_string(), read)));
                }
                Ok(None) => drop(self.readers.pop_front()),
                Err(error) => {
                    self.readers.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// An iterator over whole rows.
struct WholeRows {
    readers: VecDeque<Reader>,
}

impl Iterator for WholeRows {
    type Item = Result<WholeRow>;

    fn next(&mut self) -> Option<Result<WholeRow>> {
        loop {
            let reader = self.readers.front_mut()?;
            match reader.next() {
                Ok(Some(parsed)) => {
                    let (place, untyped) = (reader.place(parsed.number), reader.is_untyped());
                    return Some(WholeRow::new(place, untyped, parsed.cells));
                }
                Ok(None) => drop(self.readers.pop_front()),
                Err(error) => {
                    self.readers.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

fn raw(cell: Cell) -> Result<Box<RawValue>> {
    let encode = |value: &Value| serde_json::value::to_raw_value(value);
    match cell {
        Cell::Json(raw) => Ok(raw),
        Cell::Value(value) => encode(&value)
            .map_err(|cause| Error::internal("a value that JSON does not have").caused_by(cause)),
    }
}

/// The value in `raw`, at the key `name` of the row at `place`.
///
/// # Errors
/// A value that cannot be read.
pub fn json_value(place: &str, name: &str, raw: &RawValue) -> Result<Value> {
    json::value(name, raw)
        .map_err(|fault| Error::data(format!("{place}: {}", fault.what)).hint(fault.remedy))
}
