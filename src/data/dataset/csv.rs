//! Rows of separated text. Their values have no types, an empty cell is null, and the separator is
//! not guessed.

use super::reader::{Cell, Parsed};
use crate::data::contents::Contents;
use crate::{Error, Result};
use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{BufRead, Read};

/// The separators that a header may be written with, and their names in errors.
const SEPARATORS: [(u8, &str); 4] = [
    (b',', "commas"),
    (b'\t', "tabs"),
    (b';', "semicolons"),
    (b'|', "vertical bars"),
];

pub struct Separated {
    reader: csv::Reader<Quotes<Box<dyn BufRead + Send>>>,
    pub columns: Vec<String>,
    record: ByteRecord,
}

impl Separated {
    /// # Errors
    /// A header with another separator than `separator`, or that is not UTF-8.
    pub fn open(contents: &Contents, file: &str, separator: u8) -> Result<Self> {
        let mut source = contents.reader();
        let marked = source
            .fill_buf()
            .is_ok_and(|bytes| bytes.starts_with("\u{feff}".as_bytes()));
        if marked {
            source.consume("\u{feff}".len());
        }
        let mut reader = ReaderBuilder::new()
            .delimiter(separator)
            .from_reader(Quotes::new(source, separator));
        let header = reader
            .byte_headers()
            .map_err(|cause| broken(file, 1, cause))?
            .clone();
        let line = reader.get_mut().begun.pop_front().unwrap_or(1);
        let header = header
            .iter()
            .map(|name| text(name, file, line, "the header has"))
            .collect::<Result<Vec<_>>>()?;
        other_separator(&header, file, separator)?;
        // An empty name is an index without a name, or comes from a separator at the end of every
        // line.
        let columns = if header.iter().all(String::is_empty) {
            Vec::new()
        } else {
            header
        };
        Ok(Self {
            reader,
            columns,
            record: ByteRecord::new(),
        })
    }

    /// The next row; `None` at the end. Empty lines are skipped.
    ///
    /// # Errors
    /// A row of another length than the header, a quote that is not closed, a cell that is not
    /// UTF-8.
    pub fn next(&mut self, file: &str, is_wanted: impl Fn(&str) -> bool) -> Result<Option<Parsed>> {
        let read = self.reader.read_byte_record(&mut self.record);
        let source = self.reader.get_mut();
        let line = source.begun.pop_front().unwrap_or(source.line);
        // The end of the file closes an open quote, which would turn the rows in between into one
        // cell.
        if let Some(line) = source.open_at_end() {
            return Err(Error::data(format!(
                "{file}, line {line}: a quote is opened and never closed"
            ))
            .hint("close it; a quote inside a quoted cell is written twice: \"\""));
        }
        if !read.map_err(|cause| broken(file, line, cause))? {
            return Ok(None);
        }
        let mut cells = Vec::with_capacity(self.columns.len());
        for (name, cell) in self
            .columns
            .iter()
            .zip(&self.record)
            .filter(|(name, _)| !name.is_empty() && is_wanted(name))
        {
            let cell = match text(cell, file, line, &format!("the cell of `{name}` has"))? {
                empty if empty.is_empty() => Value::Null,
                text => Value::String(text),
            };
            cells.push((name.clone(), Cell::Value(cell)));
        }
        Ok(Some(Parsed {
            number: line,
            cells,
            has: Vec::new(),
        }))
    }
}

fn text(cell: &[u8], file: &str, line: usize, what: &str) -> Result<String> {
    match std::str::from_utf8(cell) {
        Ok(text) => Ok(text.to_owned()),
        Err(cause) => Err(super::reader::not_utf8(file, line, what, cell, &cause)),
    }
}

fn broken(file: &str, line: usize, cause: csv::Error) -> Error {
    match cause.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            Error::data(format!("{file}, line {line}: {len} cells, but the header names {expected_len} columns"))
                .hint("quote a cell that holds a separator or a line break, and drop separators at the end of a line")
        }
        ErrorKind::Io(_) => Error::files(format!("cannot read {file}")).caused_by(cause),
        _ => Error::data(format!("cannot read {file} as separated text")).caused_by(cause),
    }
}

/// Refuses a header that is one word to `separator` and several to another.
fn other_separator(header: &[String], file: &str, separator: u8) -> Result<()> {
    let [only] = header else { return Ok(()) };
    let count = |separator: u8| only.bytes().filter(|byte| *byte == separator).count();
    let Some((other, name)) = SEPARATORS
        .into_iter()
        .filter(|(other, _)| count(*other) > 0)
        .max_by_key(|(other, _)| count(*other))
    else {
        return Ok(());
    };
    let wanted = SEPARATORS
        .iter()
        .find(|(byte, _)| *byte == separator)
        .map_or("", |(_, name)| name);
    let remedy = match other {
        b'\t' => "name it .tsv, or write it with commas".to_owned(),
        b',' => "name it .csv".to_owned(),
        _ => format!("write it with {wanted} (pandas: sep=\",\"; spreadsheets: text with commas)"),
    };
    Err(Error::data(format!(
        "the columns of {file} are separated by {name}, not by {wanted}"
    ))
    .hint(remedy))
}

/// Text on its way to the parser, with the lines on which its rows begin and the state of its last
/// quote.
struct Quotes<R> {
    source: R,
    separator: u8,
    line: usize,
    /// The numbers of the lines on which rows begin that the parser has not returned yet.
    begun: VecDeque<usize>,
    state: State,
    ended: bool,
}

#[derive(Clone, Copy)]
enum State {
    RowBegins,
    CellBegins,
    Bare,
    /// The state inside a quote that was opened on this line.
    Quoted(usize),
    /// The state behind a quote inside a quoted cell, where a second quote stands for the character
    /// itself.
    Closing(usize),
}

impl<R> Quotes<R> {
    fn new(source: R, separator: u8) -> Self {
        Self {
            source,
            separator,
            line: 1,
            begun: VecDeque::new(),
            state: State::RowBegins,
            ended: false,
        }
    }

    /// The line of the quote that is still open at the end of the file.
    fn open_at_end(&self) -> Option<usize> {
        match self.state {
            State::Quoted(line) if self.ended => Some(line),
            _ => None,
        }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.ended |= length == 0 && !buffer.is_empty();
        for &byte in &buffer[..length] {
            if matches!(self.state, State::RowBegins) && !matches!(byte, b'\n' | b'\r') {
                self.begun.push_back(self.line);
            }
            self.state = match (self.state, byte) {
                (State::RowBegins | State::CellBegins, b'"') => State::Quoted(self.line),
                (State::Quoted(line), b'"') => State::Closing(line),
                (State::Closing(line), b'"') => State::Quoted(line),
                (State::Quoted(line), _) => State::Quoted(line),
                (_, b'\n' | b'\r') => State::RowBegins,
                (_, other) if other == self.separator => State::CellBegins,
                _ => State::Bare,
            };
            self.line += usize::from(byte == b'\n');
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<(usize, Vec<String>)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, text).unwrap();
        let mut rows = Separated::open(&Contents::read(&path, "x.csv")?, "x.csv", b',')?;
        let mut all = Vec::new();
        while let Some(row) = rows.next("x.csv", |_| true)? {
            let cells = row.cells.into_iter().map(|(_, cell)| match cell {
                Cell::Value(Value::String(text)) => text,
                _ => String::new(),
            });
            all.push((row.number, cells.collect()));
        }
        Ok(all)
    }

    #[test]
    fn rows_are_found_by_the_line_that_they_begin_on() {
        for end in ["\n", "\r\n"] {
            let text = ["", "a,b", "", "1,\"x", "", "y\"", "", "", "2,z"].join(end);
            let rows = read(&text).unwrap();
            assert_eq!(
                rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
                [4, 9],
                "{text:?}"
            );
        }
    }

    proptest! {
        /// Checks that cells of any text are read as they were written, with the right line
        /// numbers.
        #[test]
        fn cells_are_read_as_they_were_written(rows in prop::collection::vec(("[a,\"\r\n ]{0,6}", "[b;\"\n]{0,6}"), 0..8)) {
            let mut writer = ::csv::Writer::from_writer(Vec::new());
            writer.write_record(["x", "y"]).unwrap();
            for (x, y) in &rows {
                writer.write_record([x, y]).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let read = read(&text).unwrap();
            let mut line = 2;
            for ((number, cells), (x, y)) in read.iter().zip(&rows) {
                prop_assert_eq!(cells, &[x.clone(), y.clone()]);
                prop_assert_eq!(*number, line);
                line += 1 + x.matches('\n').count() + y.matches('\n').count();
            }
            prop_assert_eq!(read.len(), rows.len());
        }
    }
}
