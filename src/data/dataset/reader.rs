//! The rows of one file, some at a time. Parquet and csv are read by polars. A line of jsonl is parsed by itself: polars
//! infers one type for a column and turns cells of another, whole structs too, into text without a word.

use super::layout::{Format, choices};
use super::row::Cells;
use crate::{Context, Error, Result};
use polars::io::parquet::metadata::FileMetadataRef;
use polars::prelude::{
    CsvReadOptions, DataFrame, DataType, ParallelStrategy, ParquetReader, PolarsResult, SerReader, Series,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

/// Rows held at a time; of a parquet file, never more than a row group's.
const CHUNK: usize = 1024;
/// Lines of jsonl that are looked at to learn the columns.
const LOOK_AHEAD: usize = 100;

/// An open file, and the columns of it that are read.
pub struct Reader {
    /// As errors call it.
    file: String,
    columns: Vec<String>,
    rows: Rows,
}

enum Rows {
    Parquet {
        file: File,
        metadata: FileMetadataRef,
        /// Where the chunks begin, and their rows.
        slices: std::vec::IntoIter<(usize, usize)>,
    },
    Jsonl(Lines),
    /// Quotes may span lines, so it is parsed as a whole.
    Csv {
        frame: DataFrame,
        next: usize,
    },
}

impl Reader {
    /// Opens `path`, which errors call `file`, for the columns `required` and those of `optional` that it has.
    ///
    /// # Errors
    /// A file that cannot be opened, is not of `format`, or lacks a required column.
    pub fn open(path: &Path, file: &str, format: Format, required: &[&str], optional: &[&str]) -> Result<Self> {
        let (rows, has) = Rows::open(path, file, format)?;
        // An empty file has no rows, and that is no fault of theirs.
        for &name in required.iter().filter(|_| !has.is_empty()) {
            if !has.iter().any(|column| column == name) {
                let has: Vec<&str> = has.iter().map(String::as_str).collect();
                return Err(Error::data(format!("{file} has no column `{name}`"))
                    .hint(format!("{}; rename the column that holds the {name}", choices(name, &has))));
            }
        }
        let wanted = |column: &String| required.contains(&column.as_str()) || optional.contains(&column.as_str());
        let columns = has.into_iter().filter(wanted).collect();
        Ok(Self { file: file.to_owned(), columns, rows })
    }

    /// How many rows the file has, which for parquet is known without reading them.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn count(path: &Path, file: &str, format: Format) -> Result<usize> {
        match Rows::open(path, file, format)?.0 {
            Rows::Parquet { metadata, .. } => Ok(metadata.num_rows),
            Rows::Csv { frame, .. } => Ok(frame.height()),
            Rows::Jsonl(mut lines) => {
                let mut count = 0;
                while lines.advance(file)? {
                    count += 1;
                }
                Ok(count)
            }
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether numbers are written as text.
    pub fn is_untyped(&self) -> bool {
        matches!(self.rows, Rows::Csv { .. })
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// A part of the file that is damaged, or a column of a type that no record has.
    pub fn next(&mut self) -> Result<Vec<Cells>> {
        let Self { file, columns, rows } = self;
        match rows {
            Rows::Jsonl(lines) => lines.chunk(file, columns),
            Rows::Parquet { file: handle, metadata, slices } => match slices.next() {
                Some(slice) => {
                    let frame = read_slice(handle, metadata, columns, slice);
                    let (first, last) = (slice.0 + 1, slice.0 + slice.1);
                    let damaged = || {
                        Error::data(format!("{file}: rows {first} to {last} cannot be read"))
                            .hint("the file is damaged: fetch or write it again")
                    };
                    cells(file, &frame.map_err(|cause| damaged().caused_by(cause))?)
                }
                None => Ok(Vec::new()),
            },
            Rows::Csv { frame, next } => {
                let slice = frame.slice(i64::try_from(*next).unwrap_or(i64::MAX), CHUNK);
                *next += slice.height();
                cells(
                    file,
                    &slice.select(columns.iter().map(String::as_str)).context(|| format!("cannot read {file}"))?,
                )
            }
        }
    }
}

impl Rows {
    /// The file's rows and the names of its columns.
    fn open(path: &Path, file: &str, format: Format) -> Result<(Self, Vec<String>)> {
        let opened = || File::open(path).context(|| format!("cannot open {file}"));
        let failed = || format!("cannot read {file}");
        match format {
            Format::Parquet => {
                let handle = opened()?;
                let mut reader = ParquetReader::new(handle.try_clone().context(failed)?);
                let schema = reader.schema();
                let schema = schema
                    .context(failed)
                    .map_err(|error| error.hint("the file is cut short or is not parquet: fetch or write it again"))?;
                let metadata = reader.get_metadata().context(failed)?.clone();
                let groups = metadata.row_groups.iter().map(|group| group.num_rows());
                let slices = slices(groups).into_iter();
                let columns = schema.iter_names().map(ToString::to_string).collect();
                Ok((Self::Parquet { file: handle, metadata, slices }, columns))
            }
            Format::Jsonl => {
                let mut lines = Lines::new(opened()?);
                let columns = lines.columns(file)?;
                Ok((Self::Jsonl(lines), columns))
            }
            Format::Csv => {
                // No type is inferred: an id of digits is text all the same.
                let options = CsvReadOptions::default().with_infer_schema_length(Some(0)).with_raise_if_empty(false);
                let frame = options.into_reader_with_file_handle(opened()?).finish().context(failed)?;
                let columns = frame.get_column_names().iter().map(ToString::to_string).collect();
                Ok((Self::Csv { frame, next: 0 }, columns))
            }
        }
    }
}

/// Chunks that do not cross row groups: reading one decodes nothing of another.
fn slices(groups: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut start = 0;
    let mut slices = Vec::new();
    for rows in groups {
        slices.extend((0..rows).step_by(CHUNK).map(|at| (start + at, CHUNK.min(rows - at))));
        start += rows;
    }
    slices
}

fn read_slice(
    file: &File,
    metadata: &FileMetadataRef,
    columns: &[String],
    slice: (usize, usize),
) -> PolarsResult<DataFrame> {
    let mut reader = ParquetReader::new(file.try_clone()?)
        .with_columns(Some(columns.to_vec()))
        .with_slice(Some(slice))
        // This strategy skips the row groups outside the slice.
        .read_parallel(ParallelStrategy::RowGroups);
    reader.set_metadata(metadata.clone());
    reader.finish()
}

/// The rows of a frame.
fn cells(file: &str, frame: &DataFrame) -> Result<Vec<Cells>> {
    let mut rows = vec![Cells::new(); frame.height()];
    for column in frame.columns() {
        let name = column.name();
        let values = values(column.as_materialized_series())
            .context(|| format!("{file}: column `{name}` is of type {}, which is not read here", column.dtype()))?;
        for (row, value) in rows.iter_mut().zip(values) {
            row.insert(name.to_string(), value);
        }
    }
    Ok(rows)
}

fn values(series: &Series) -> PolarsResult<Vec<Value>> {
    let text = |series: &Series| {
        Ok(series.str()?.iter().map(|text| text.map_or(Value::Null, |text| Value::String(text.to_owned()))).collect())
    };
    match series.dtype() {
        DataType::Null => Ok(vec![Value::Null; series.len()]),
        DataType::String => text(series),
        DataType::Categorical(..) | DataType::Enum(..) => text(&series.cast(&DataType::String)?),
        DataType::Boolean => Ok(series.bool()?.iter().map(Value::from).collect()),
        dtype if dtype.is_float() => Ok(series.cast(&DataType::Float64)?.f64()?.iter().map(Value::from).collect()),
        dtype if dtype.is_integer() => {
            Ok(series.strict_cast(&DataType::Int64)?.i64()?.iter().map(Value::from).collect())
        }
        DataType::List(_) => {
            let item = |list: Option<Series>| list.map_or(Ok(Value::Null), |list| values(&list).map(Value::Array));
            series.list()?.series_iter().map(item).collect()
        }
        DataType::Struct(_) => {
            let structs = series.struct_()?;
            let mut rows = vec![Cells::new(); series.len()];
            for field in structs.fields_as_series() {
                for (row, value) in rows.iter_mut().zip(values(&field)?) {
                    row.insert(field.name().to_string(), value);
                }
            }
            let null = series.is_null();
            let value = |(cells, null): (Cells, Option<bool>)| match null {
                Some(true) => Value::Null,
                _ => Value::Object(cells),
            };
            Ok(rows.into_iter().zip(null.iter()).map(value).collect())
        }
        // The caller says of which type the column is.
        dtype => Err(polars::error::polars_err!(InvalidOperation: "no cells of type {dtype}")),
    }
}

/// The lines of a jsonl file that are not blank.
struct Lines {
    lines: BufReader<File>,
    line: Vec<u8>,
    /// Of `line`, from 1.
    number: usize,
}

impl Lines {
    fn new(file: File) -> Self {
        Self { lines: BufReader::new(file), line: Vec::new(), number: 0 }
    }

    /// Whether there was another line.
    fn advance(&mut self, file: &str) -> Result<bool> {
        loop {
            self.line.clear();
            let length = self.lines.read_until(b'\n', &mut self.line).context(|| format!("cannot read {file}"))?;
            if length == 0 {
                return Ok(false);
            }
            self.number += 1;
            if self.number == 1 && self.line.starts_with("\u{feff}".as_bytes()) {
                self.line.drain(.."\u{feff}".len());
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn parse(&self, file: &str) -> Result<Cells> {
        serde_json::from_slice(&self.line).map_err(|cause| {
            Error::data(format!("{file}, line {}: not a JSON object", self.number))
                .caused_by(cause)
                .hint("every line of a jsonl file is one row, as {\"column\": \"text\"}")
        })
    }

    /// The columns of the first lines together; then the reader is at the beginning again.
    fn columns(&mut self, file: &str) -> Result<Vec<String>> {
        let mut columns = BTreeSet::new();
        for _ in 0..LOOK_AHEAD {
            if !self.advance(file)? {
                break;
            }
            columns.extend(self.parse(file)?.into_iter().map(|(name, _)| name));
        }
        self.lines.rewind().context(|| format!("cannot read {file}"))?;
        self.number = 0;
        Ok(columns.into_iter().collect())
    }

    fn chunk(&mut self, file: &str, columns: &[String]) -> Result<Vec<Cells>> {
        let mut rows = Vec::new();
        while rows.len() < CHUNK && self.advance(file)? {
            let mut cells = self.parse(file)?;
            cells.retain(|name, _| columns.contains(name));
            rows.push(cells);
        }
        Ok(rows)
    }
}
