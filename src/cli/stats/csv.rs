//! Columns of a csv file of any length, read one buffer at a time.

use super::StatsArgs;
use super::table::{HEAD, Rows, bad_cell, bad_name, check_once, fill, number, place};
use crate::error::{Context, Error, Result};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::io::Read;
use std::path::Path;

/// Separators in the order in which they are tried.
const SEPARATORS: [u8; 4] = *b",;\t|";

/// Reads the columns that `args` names from text that begins with `head` and continues in `rest`.
/// The separator is the first of `,`, `;`, tab and `|` for which the header contains all of them.
pub(super) fn read(path: &Path, head: Vec<u8>, rest: impl Read, args: &StatsArgs) -> Result<Rows> {
    let whole = head.len() < HEAD;
    let headers: Vec<(u8, Vec<String>)> = SEPARATORS
        .into_iter()
        .filter_map(|separator| Some((separator, header(&head, whole, separator)?)))
        .collect();
    let wanted = [&args.group, &args.unit, &args.value];
    let has_all =
        |(_, columns): &&(u8, Vec<String>)| wanted.iter().all(|name| columns.contains(name));
    let found = headers.iter().find(has_all).or_else(|| {
        headers
            .iter()
            .rev()
            .max_by_key(|(_, columns)| columns.len())
    });
    let Some((separator, columns)) = found else {
        return Err(Error::data(format!(
            "{}: the first line is longer than {HEAD} bytes",
            path.display()
        ))
        .hint("give a csv file whose first line names its columns"));
    };
    check_once(path, columns)?;
    let [group, unit, value] = [
        (place(path, columns, &args.group)?, &args.group),
        (place(path, columns, &args.unit)?, &args.unit),
        (place(path, columns, &args.value)?, &args.value),
    ];
    let mut records = Records::new(*separator, head, rest);
    records.next(path)?;
    let mut rows = Rows::default();
    let mut row = 0;
    while let Some(record) = records.next(path)? {
        if record.len() != columns.len() {
            return Err(Error::data(format!(
                "{}: row {} (line {}) has {} fields where the header has {}",
                path.display(),
                row + 1,
                record.line,
                record.len(),
                columns.len()
            ))
            .hint("quote fields that hold a separator, such as numbers with decimal commas, or write decimal points"));
        }
        for (numbers, names, (place, column)) in [
            (&mut rows.group, &mut rows.groups, group),
            (&mut rows.unit, &mut rows.units, unit),
        ] {
            let cell = record.field(place);
            if cell.is_empty() {
                return Err(bad_cell(path, column, row, "nothing"));
            }
            numbers.push(
                names
                    .number(cell)
                    .map_err(|why| bad_name(path, column, row, cell, why))?,
            );
        }
        rows.value
            .push(number(path, value.1, row, record.field(value.0))?);
        row += 1;
    }
    Ok(rows)
}

/// The column names for a given separator; `None` if `head` ends before the first record does.
fn header(head: &[u8], whole: bool, separator: u8) -> Option<Vec<String>> {
    let mut reader = ReaderBuilder::new().delimiter(separator).build();
    let (mut fields, mut ends) = (vec![0; head.len()], vec![0; head.len() + 1]);
    let (result, read, mut wrote, mut ended) = reader.read_record(head, &mut fields, &mut ends);
    match result {
        ReadRecordResult::Record => {}
        // The header ends with the file.
        ReadRecordResult::InputEmpty if whole => {
            let (_, _, more, last) =
                reader.read_record(&head[read..], &mut fields[wrote..], &mut ends[ended..]);
            (wrote, ended) = (wrote + more, ended + last);
        }
        _ => return None,
    }
    let fields = &fields[..wrote];
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let name =
        |(start, end): (usize, &usize)| String::from_utf8_lossy(&fields[start..*end]).into_owned();
    Some(starts.zip(&ends[..ended]).map(name).collect())
}

/// A reader of records, one after the other.
struct Records<R> {
    reader: Reader,
    source: R,
    /// The bytes that are read and not yet parsed are `input[start..end]`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    fields: Vec<u8>,
    ends: Vec<usize>,
}

/// The fields of one record.
struct Record<'a> {
    /// The line in which the record begins.
    line: u64,
    fields: &'a [u8],
    ends: &'a [usize],
}

impl Record<'_> {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn field(&self, place: usize) -> &[u8] {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.fields[start..self.ends[place]]
    }
}

impl<R: Read> Records<R> {
    fn new(separator: u8, head: Vec<u8>, source: R) -> Self {
        let reader = ReaderBuilder::new().delimiter(separator).build();
        let end = head.len();
        let mut input = head;
        // If the file's length is a multiple of this size, its end is found only with one more
        // read.
        input.resize(HEAD, 0);
        Self {
            reader,
            source,
            input,
            start: 0,
            end,
            fields: vec![0; 1024],
            ends: vec![0; 64],
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// A file that cannot be read further, or that ends inside a quoted field.
    fn next(&mut self, path: &Path) -> Result<Option<Record<'_>>> {
        let (mut wrote, mut ended) = (0, 0);
        let line = self.reader.line();
        let (mut quotes, mut at_end) = (0, false);
        loop {
            if self.start == self.end && !at_end {
                let reading = || format!("reading the table {}", path.display());
                (self.start, self.end) =
                    (0, fill(&mut self.source, &mut self.input).context(reading)?);
                at_end = self.end == 0;
            }
            let input = &self.input[self.start..self.end];
            let (result, read, out, last) =
                self.reader
                    .read_record(input, &mut self.fields[wrote..], &mut self.ends[ended..]);
            quotes += input[..read].iter().filter(|byte| **byte == b'"').count();
            self.start += read;
            (wrote, ended) = (wrote + out, ended + last);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.fields.resize(2 * self.fields.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        // Only a quoted field continues beyond a line.
        if at_end && quotes % 2 == 1 && self.reader.line() > line {
            return Err(Error::data(format!(
                "{}: a quoted field that begins in or after line {} is never closed",
                path.display(),
                line
            ))
            .hint("close or double the quote; rows that it takes in would be lost"));
        }
        Ok(Some(Record {
            line,
            fields: &self.fields[..wrote],
            ends: &self.ends[..ended],
        }))
    }
}
