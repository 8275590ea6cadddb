//! The rows of one file in any format: the one reader of rows that users bring.

use super::csv::Separated;
use super::json::{self, Fault};
use super::layout::{Format, choices};
use super::parquet::Parquet;
use super::row::{Cells, RowPlace, is_conversation};
use crate::data::contents::Contents;
use crate::data::foreign;
use crate::{Context, Error, Result};
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashSet};
use std::io::BufRead;
use std::ops::Range;

/// The number of lines of jsonl that are read to find the columns.
const LOOK_AHEAD: usize = 100;

/// An open file.
pub struct Reader {
    /// The name by which errors call the file.
    file: String,
    wanted: Wanted,
    rows: Rows,
}

/// The columns that are read.
#[derive(Clone, Copy)]
pub enum Wanted {
    Only {
        required: &'static [&'static str],
        optional: &'static [&'static str],
    },
    All,
}

impl Wanted {
    fn has(self, name: &str) -> bool {
        match self {
            Self::Only { required, optional } => {
                required.contains(&name) || optional.contains(&name)
            }
            Self::All => true,
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Only { required, .. } => required,
            Self::All => &[],
        }
    }
}

/// A row as it was read.
pub struct Parsed {
    /// The number of the line in a text file, else of the row, from 1.
    pub number: usize,
    /// The wanted cells, in the order of the file.
    pub cells: Vec<(String, Cell)>,
    /// The names of all cells, if a required one is absent.
    pub has: Vec<String>,
}

pub enum Cell {
    /// A value as it is written.
    Json(Box<RawValue>),
    Value(Value),
}

enum Rows {
    Parquet(Box<Parquet>),
    Lines(Lines),
    List(List),
    Separated(Box<Separated>),
}

impl Reader {
    /// Opens `contents`, which errors call `file`, to read the `wanted` columns.
    ///
    /// # Errors
    /// Contents that are not of `format`, or lack a required column.
    pub fn open(contents: &Contents, file: &str, format: Format, wanted: Wanted) -> Result<Self> {
        let (mut rows, columns) = Rows::open(contents, file, format)?;
        if let Some(twice) = twice(&columns) {
            return Err(
                Error::data(format!("{file} has two columns of the name `{twice}`"))
                    .hint("rename or drop one of them: they may disagree"),
            );
        }
        // An empty file has no rows, so it doesn't lack columns.
        if !columns.is_empty()
            && let Some(name) = wanted
                .required()
                .iter()
                .find(|name| !columns.iter().any(|column| column == *name))
        {
            return Err(missing(
                &format!("{file} has no column `{name}`"),
                name,
                &columns,
            ));
        }
        if let Rows::Parquet(parquet) = &mut rows {
            parquet.select(file, |name| wanted.has(name))?;
        }
        Ok(Self {
            file: file.to_owned(),
            wanted,
            rows,
        })
    }

    /// The number of rows, which for parquet is known without reading them.
    ///
    /// # Errors
    /// Contents that are not of `format`.
    pub fn count(contents: &Contents, file: &str, format: Format) -> Result<usize> {
        match Rows::open(contents, file, format)?.0 {
            Rows::Parquet(parquet) => Ok(parquet.len()),
            Rows::List(list) => Ok(list.items.len()),
            Rows::Separated(mut separated) => {
                let mut count = 0;
                while separated.next(file, |_| false)?.is_some() {
                    count += 1;
                }
                Ok(count)
            }
            Rows::Lines(mut lines) => {
                let mut count = 0;
                while lines.advance(file)? {
                    count += 1;
                }
                Ok(count)
            }
        }
    }

    /// The place of row `number`.
    pub fn place(&self, number: usize) -> RowPlace<'_> {
        let by_line = matches!(self.rows, Rows::Lines(_) | Rows::Separated(_));
        RowPlace {
            file: &self.file,
            by_line,
            number,
            typed: matches!(self.rows, Rows::Parquet(_)),
        }
    }

    /// Whether numbers are written as text.
    pub fn is_untyped(&self) -> bool {
        matches!(self.rows, Rows::Separated(_))
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// A damaged part of the file: nothing can be read behind it.
    pub fn next(&mut self) -> Result<Option<Parsed>> {
        let Self { file, wanted, rows } = self;
        match rows {
            Rows::Parquet(parquet) => parquet.next(file),
            Rows::Separated(separated) => separated.next(file, |name| wanted.has(name)),
            Rows::Lines(lines) => match lines.advance(file)? {
                true => Ok(Some(parsed(lines.fields(file)?, lines.number, *wanted))),
                false => Ok(None),
            },
            Rows::List(list) => list.next(file, *wanted),
        }
    }
}

fn twice(columns: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    columns
        .iter()
        .find(|column| !column.is_empty() && !seen.insert(column.as_str()))
}

/// The error `message` about the missing `name`, with the names that exist.
pub fn missing(message: &str, name: &str, has: &[String]) -> Error {
    let error = Error::data(message);
    if let Some(padded) = has.iter().find(|column| column.trim() == name) {
        return error.hint(format!(
            "there is `{padded}`, with spaces around its name: remove them"
        ));
    }
    let known: Vec<&str> = has.iter().map(String::as_str).collect();
    if has.is_empty() {
        return error.hint(format!("add the key `{name}`"));
    }
    let choices = choices(name, &known);
    match known.iter().find(|column| is_conversation(column)) {
        Some(chat) => error.hint(format!(
            "{choices}; `{chat}` holds conversations, and plain text is read here: write {name} as text, as \
             tokenizer.apply_chat_template(…, tokenize=False) or the content of one message gives it"
        )),
        None => error.hint(format!("{choices}; rename the one that holds the {name}")),
    }
}

impl Rows {
    /// The rows and the names of their columns; no names if there are no rows.
    fn open(contents: &Contents, file: &str, format: Format) -> Result<(Self, Vec<String>)> {
        if format == Format::Parquet {
            let parquet = Parquet::open(contents, file)?;
            let columns = parquet.columns.clone();
            return Ok((Self::Parquet(Box::new(parquet)), columns));
        }
        let head = contents
            .head(foreign::HEAD)
            .context(|| format!("cannot read {file}"))?;
        if head.starts_with(foreign::PARQUET) {
            return Err(
                Error::data(format!("{file} is a parquet file, whatever its name says"))
                    .hint("name it .parquet"),
            );
        }
        if let Some(other) = foreign::recognise(&head) {
            return Err(Error::data(format!("{file} is {}", other.what)).hint(other.remedy));
        }
        match format {
            Format::Parquet | Format::Jsonl => {
                let mut lines = Lines::new(contents);
                let columns = lines.columns(file)?;
                Ok((Self::Lines(Lines::new(contents)), columns))
            }
            Format::Json => match List::open(contents, file)? {
                Some((list, columns)) => Ok((Self::List(list), columns)),
                // Many files that are called .json hold one row per line.
                None => Self::open(contents, file, Format::Jsonl),
            },
            Format::Csv | Format::Tsv => {
                let separated = Separated::open(
                    contents,
                    file,
                    if format == Format::Csv { b',' } else { b'\t' },
                )?;
                let columns = separated.columns.clone();
                Ok((Self::Separated(Box::new(separated)), columns))
            }
        }
    }
}

/// The error for a file without rows where rows are needed.
pub fn no_rows(file: &str) -> Error {
    Error::data(format!("{file} has no rows"))
        .hint("check what wrote it: it is empty, or holds a header alone")
}

/// The format of contents whose name doesn't show it.
pub fn format_of(contents: &Contents, file: &str) -> Result<Format> {
    let head = contents
        .head(foreign::HEAD)
        .context(|| format!("cannot read {file}"))?;
    if head.starts_with(foreign::PARQUET) {
        return Ok(Format::Parquet);
    }
    if let Some(other) = foreign::recognise(&head) {
        return Err(Error::data(format!("{file} is {}", other.what)).hint(other.remedy));
    }
    match head
        .strip_prefix("\u{feff}".as_bytes())
        .unwrap_or(&head)
        .trim_ascii_start()
        .first()
    {
        Some(b'[') => Ok(Format::Json),
        Some(b'{') => Ok(Format::Jsonl),
        None => Err(no_rows(file)),
        Some(_) => Err(Error::data(format!(
            "neither the name of {file} nor its contents say how its rows are written"
        ))
        .hint("name it .jsonl, .json, .csv, .tsv or .parquet")),
    }
}

/// The error for `bytes` on `line` that are not UTF-8.
pub fn not_utf8(
    file: &str,
    line: usize,
    what: &str,
    bytes: &[u8],
    cause: &std::str::Utf8Error,
) -> Error {
    let at = cause.valid_up_to();
    let byte = bytes.get(at).copied().unwrap_or_default();
    Error::data(format!(
        "{file}, line {line}: {what} a byte that is not UTF-8, {byte:#04x} at byte {}",
        at + 1
    ))
    .hint(
        "convert the file: iconv -f LATIN1 -t UTF-8 OLD > NEW, or from whatever encoding it is in",
    )
}

fn parsed(fields: json::Fields<'_>, number: usize, wanted: Wanted) -> Parsed {
    let absent = |name: &&str| !fields.iter().any(|(key, _)| key == name);
    let has = match wanted.required().iter().any(absent) {
        true => fields.iter().map(|(key, _)| key.clone()).collect(),
        false => Vec::new(),
    };
    let cells = fields.into_iter().filter(|(key, _)| wanted.has(key));
    Parsed {
        number,
        cells: cells
            .map(|(key, raw)| (key, Cell::Json(raw.to_owned())))
            .collect(),
        has,
    }
}

fn broken(place: &str, fault: Fault) -> Error {
    Error::data(format!("{place}: {}", fault.what)).hint(fault.remedy)
}

/// The lines of a jsonl file that are not blank.
struct Lines {
    lines: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    /// The number of `line`, from 1.
    number: usize,
}

impl Lines {
    fn new(contents: &Contents) -> Self {
        Self {
            lines: contents.reader(),
            line: Vec::new(),
            number: 0,
        }
    }

    /// Reads the next line that isn't blank; `false` at the end.
    fn advance(&mut self, file: &str) -> Result<bool> {
        loop {
            self.line.clear();
            let length = self
                .lines
                .read_until(b'\n', &mut self.line)
                .context(|| format!("cannot read {file}"))?;
            if length == 0 {
                return Ok(false);
            }
            self.number += 1;
            // A byte order mark stands at the beginning of a file, and of every part if files were
            // joined.
            if self.line.starts_with("\u{feff}".as_bytes()) {
                self.line.drain(.."\u{feff}".len());
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    fn fields(&self, file: &str) -> Result<json::Fields<'_>> {
        let text = std::str::from_utf8(&self.line)
            .map_err(|cause| not_utf8(file, self.number, "there is", &self.line, &cause))?;
        json::object(text).map_err(|fault| broken(&format!("{file}, line {}", self.number), fault))
    }

    /// The columns of the first lines together.
    fn columns(&mut self, file: &str) -> Result<Vec<String>> {
        let mut columns = BTreeSet::new();
        for _ in 0..LOOK_AHEAD {
            if !self.advance(file)? {
                break;
            }
            if self.line.trim_ascii_start().starts_with(b"[") && columns.is_empty() {
                self.refuse_list(file)?;
            }
            columns.extend(self.fields(file)?.into_iter().map(|(name, _)| name));
        }
        Ok(columns.into_iter().collect())
    }

    /// Fails with an explanation if the file is one list of rows.
    fn refuse_list(&mut self, file: &str) -> Result<()> {
        let first = self.line.trim_ascii();
        if first == b"[" || first[1..].trim_ascii_start().starts_with(b"{") {
            return Err(
                Error::data(format!("{file} holds one JSON list, not a row a line"))
                    .hint("name it .json, or print a row a line: jq -c '.[]' OLD > NEW"),
            );
        }
        Ok(())
    }
}

/// The rows of a JSON document: a list of objects, a list under the key `data`, or one object.
struct List {
    text: Bytes,
    /// The byte ranges of the objects in the text.
    items: Vec<Range<usize>>,
    next: usize,
}

impl List {
    /// Parses the document; `None` if the text has one row per line.
    fn open(contents: &Contents, file: &str) -> Result<Option<(Self, Vec<String>)>> {
        let bytes = contents.whole().context(|| format!("cannot read {file}"))?;
        let start = if bytes.starts_with("\u{feff}".as_bytes()) {
            "\u{feff}".len()
        } else {
            0
        };
        let text = std::str::from_utf8(&bytes[start..]).map_err(|cause| {
            let at = start + cause.valid_up_to();
            let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            let begin = bytes[..at]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |end| end + 1);
            let line_bytes = &bytes[begin..];
            let cause = std::str::from_utf8(line_bytes).err().unwrap_or(cause);
            not_utf8(file, line, "there is", line_bytes, &cause)
        })?;
        let of_list = |items: Vec<&RawValue>| {
            let range = |raw: &RawValue| {
                let begin = raw.get().as_ptr().addr() - bytes.as_ptr().addr();
                begin..begin + raw.get().len()
            };
            items.into_iter().map(range).collect::<Vec<_>>()
        };
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let first = match values.next() {
            None => return Ok(None),
            Some(Ok(first)) => first,
            Some(Err(cause)) => {
                let line = cause.line();
                return Err(broken(
                    &format!("{file}, line {line}"),
                    json::diagnose(text, &cause),
                ));
            }
        };
        if values.next().is_some() {
            return Ok(None);
        }
        let items = match first.get().as_bytes().first() {
            Some(b'[') => of_list(list(first)),
            Some(b'{') => {
                let fields = json::object(first.get()).map_err(|fault| broken(file, fault))?;
                let begins =
                    |raw: &RawValue, bracket: u8| raw.get().as_bytes().first() == Some(&bracket);
                match fields
                    .iter()
                    .find(|(key, raw)| key == "data" && begins(raw, b'['))
                {
                    Some((_, data)) => of_list(list(data)),
                    None if fields.len() > 1 && fields.iter().all(|(_, raw)| begins(raw, b'{')) => {
                        return Err(Error::data(format!("{file} holds an object of columns, not a list of rows"))
                            .hint("pandas writes a row a line with to_json(…, orient=\"records\", lines=True)"));
                    }
                    None => of_list(vec![first]),
                }
            }
            _ => {
                return Err(Error::data(format!(
                    "{file} holds a single value, not a list of rows"
                ))
                .hint("rows are objects, as in [{\"column\": \"text\"}]"));
            }
        };
        let list = Self {
            text: bytes.clone(),
            items,
            next: 0,
        };
        let mut columns = BTreeSet::new();
        for index in 0..list.items.len().min(LOOK_AHEAD) {
            columns.extend(list.fields(file, index)?.into_iter().map(|(name, _)| name));
        }
        Ok(Some((list, columns.into_iter().collect())))
    }

    fn fields(&self, file: &str, index: usize) -> Result<json::Fields<'_>> {
        // The whole text is UTF-8, and the range is that of a value in it.
        let text = std::str::from_utf8(&self.text[self.items[index].clone()]).unwrap_or_default();
        json::object(text).map_err(|fault| broken(&format!("{file}, row {}", index + 1), fault))
    }

    fn next(&mut self, file: &str, wanted: Wanted) -> Result<Option<Parsed>> {
        if self.next == self.items.len() {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(parsed(
            self.fields(file, self.next - 1)?,
            self.next,
            wanted,
        )))
    }
}

/// The items of a value if it is a list.
fn list(raw: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The values of a row's cells.
///
/// # Errors
/// A value that cannot be read, which names the row.
pub fn values(place: RowPlace<'_>, cells: Vec<(String, Cell)>) -> Result<Cells> {
    let value = |(name, cell): (String, Cell)| {
        let value = match cell {
            Cell::Value(value) => value,
            Cell::Json(raw) => {
                json::value(&name, &raw).map_err(|fault| broken(&place.to_string(), fault))?
            }
        };
        Ok((name, value))
    };
    cells.into_iter().map(value).collect()
}
