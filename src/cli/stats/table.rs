//! Three columns of a table, read once: the groups that are compared, the units that pair them, and
//! the numbers.

use super::{StatsArgs, csv, parquet};
use crate::data::foreign;
use crate::error::{Context, Error, Result};
use foldhash::fast::RandomState;
use indexmap::IndexSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes that are read to detect a file's format; a csv's header must lie within them.
pub(super) const HEAD: usize = 1 << 20;

/// The values of one group, in the order of the table.
pub(super) struct Group {
    pub name: String,
    /// Numbers of the units; a unit has the same number in all groups.
    pub units: Vec<u32>,
    pub values: Vec<f64>,
}

/// The distinct names of a column, numbered from 0 in the order of their first appearance.
#[derive(Default)]
pub(super) struct Names(IndexSet<Box<[u8]>, RandomState>);

impl Names {
    /// The number of the name `name`, added if it is new; a new name must be text.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, or more names than there are numbers.
    pub fn number(&mut self, name: &[u8]) -> std::result::Result<u32, BadName> {
        let place = match self.0.get_index_of(name) {
            Some(place) => place,
            None if std::str::from_utf8(name).is_ok() => self.0.insert_full(name.into()).0,
            None => return Err(BadName::NotText),
        };
        u32::try_from(place).map_err(|_| BadName::TooMany)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, number: u32) -> String {
        self.0
            .get_index(number as usize)
            .map_or_else(String::new, |name| {
                String::from_utf8_lossy(name).into_owned()
            })
    }
}

/// The reason why a cell cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadName {
    NotText,
    TooMany,
}

/// The named columns of a table, row by row.
#[derive(Default)]
pub(super) struct Rows {
    pub groups: Names,
    pub units: Names,
    pub group: Vec<u32>,
    pub unit: Vec<u32>,
    pub value: Vec<f64>,
}

/// The groups of a table, in the order of first appearance.
pub(super) struct Groups {
    pub list: Vec<Group>,
    /// Number of units in all groups together.
    pub units: usize,
}

/// Reads the columns that `args` names, and no others.
///
/// # Errors
/// A file that is not a table, a column that is absent or of a type that cannot be read, a cell
/// without a value, or a unit that occurs twice in a group.
pub(super) fn read(args: &StatsArgs) -> Result<Groups> {
    let path = args.file.as_path();
    let reading = || format!("reading the table {}", path.display());
    if path.is_dir() {
        return Err(Error::data(format!("{} is a folder, not a csv or parquet table", path.display()))
            .hint("name one file; a table in parts is one file after `pandas.read_parquet(FOLDER).to_parquet(FILE)`"));
    }
    let mut file = File::open(path).context(reading)?;
    let mut head = Vec::new();
    (&mut file)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .context(reading)?;
    let rows = if head.starts_with(foreign::PARQUET) {
        parquet::read(path, &file, args)?
    } else {
        check_text(path, &head)?;
        csv::read(path, head, file, args)?
    };
    rows.groups(path)
}

/// Checks that a file that begins with `head` may be a csv table.
fn check_text(path: &Path, head: &[u8]) -> Result<()> {
    let text = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start();
    let (what, remedy) = match foreign::recognise(head) {
        Some(found) => (found.what, found.remedy),
        None if text.is_empty() => (
            "empty",
            "give a csv file with a header and one row per unit",
        ),
        None if text.starts_with(b"{") || text.starts_with(b"[") => (
            "JSON",
            "write the rows as csv or parquet: `pandas.read_json(FILE, lines=True).to_csv(NEW)`",
        ),
        None if head[..head.len().min(4096)].contains(&0) => (
            "not text in UTF-8",
            "write it as UTF-8: iconv -f ENCODING -t UTF-8 OLD > NEW",
        ),
        None => return Ok(()),
    };
    Err(Error::data(format!(
        "{} is not a csv or parquet table: it is {what}",
        path.display()
    ))
    .hint(remedy))
}

impl Rows {
    /// # Errors
    /// No rows, or a unit that occurs twice in a group.
    fn groups(self, path: &Path) -> Result<Groups> {
        if self.value.is_empty() {
            return Err(
                Error::data(format!("{}: the table has no rows", path.display()))
                    .hint("give one row per unit"),
            );
        }
        let mut sizes = vec![0; self.groups.len()];
        self.group
            .iter()
            .for_each(|group| sizes[*group as usize] += 1);
        let empty = |(number, size): (u32, usize)| Group {
            name: self.groups.get(number),
            units: Vec::with_capacity(size),
            values: Vec::with_capacity(size),
        };
        let mut list: Vec<Group> = (0..).zip(sizes).map(empty).collect();
        for ((group, unit), value) in self.group.iter().zip(&self.unit).zip(&self.value) {
            let group = &mut list[*group as usize];
            group.units.push(*unit);
            group.values.push(*value);
        }
        // For each unit, the last group in which it was seen.
        let mut seen = vec![usize::MAX; self.units.len()];
        for (place, group) in list.iter().enumerate() {
            for unit in &group.units {
                if std::mem::replace(&mut seen[*unit as usize], place) == place {
                    return Err(self.twice(path));
                }
            }
        }
        Ok(Groups {
            list,
            units: seen.len(),
        })
    }

    /// The error that names the first row whose unit already occurs in its group.
    fn twice(&self, path: &Path) -> Error {
        let mut first = std::collections::HashMap::new();
        let repeated =
            self.group
                .iter()
                .zip(&self.unit)
                .enumerate()
                .find_map(|(row, (group, unit))| {
                    first
                        .insert((group, unit), row)
                        .map(|before| (before, row, *group, *unit))
                });
        let (before, row, group, unit) = repeated.unwrap_or_default();
        Error::data(format!(
            "{}: unit {:?} occurs twice in group {:?}, in rows {} and {}",
            path.display(),
            self.units.get(unit),
            self.groups.get(group),
            before + 1,
            row + 1
        ))
        .hint("aggregate the table to one row per group and unit first, or give a finer --unit column")
    }
}

/// The index of a column name, which must occur once among `columns`.
///
/// # Errors
/// A name that is absent or occurs twice. A duplicate of any other name is an error too, since one
/// of the two was meant to be another.
pub(super) fn place(path: &Path, columns: &[String], name: &str) -> Result<usize> {
    columns
        .iter()
        .position(|column| column == name)
        .ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            unknown(
                &format!("{} has no column {name:?}", path.display()),
                name,
                "columns",
                &names,
            )
        })
}

/// Refuses a table in which a column name occurs twice. Columns without a name are ignored.
pub(super) fn check_once(path: &Path, columns: &[String]) -> Result<()> {
    let mut places = std::collections::HashMap::new();
    for (place, name) in columns
        .iter()
        .enumerate()
        .filter(|(_, name)| !name.is_empty())
    {
        if let Some(first) = places.insert(name, place) {
            return Err(Error::data(format!(
                "{}: the column name {name:?} occurs twice, as columns {} and {}",
                path.display(),
                first + 1,
                place + 1
            ))
            .hint("rename or remove one of them: which of the two is meant cannot be told"));
        }
    }
    Ok(())
}

/// An error for a name that is not among `known`, with the nearest of them.
pub(super) fn unknown(message: &str, name: &str, what: &str, known: &[&str]) -> Error {
    /// Largest number of names that are listed; a table may have thousands.
    const LISTED: usize = 50;
    let similarity =
        |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let nearest = known
        .iter()
        .copied()
        .filter(|other| similarity(other) > 0.75);
    let nearest = nearest.max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let suggestion = nearest
        .map(|nearest| format!("did you mean {nearest:?}? "))
        .unwrap_or_default();
    let more = match known.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(", … ({more} more)"),
    };
    let listed = known[..known.len().min(LISTED)].join(", ");
    Error::data(message).hint(format!("{suggestion}the {what} are: {listed}{more}"))
}

/// The error for a cell that does not fit its column; `row` counts from 0.
pub(super) fn bad_cell(path: &Path, column: &str, row: usize, found: &str) -> Error {
    Error::data(format!("{}: column {column:?} has {found} in row {} (header not counted)", path.display(), row + 1))
        .hint("every row needs a group, a unit and a finite number; remove failed units and say how many there were")
}

/// The error for bytes that are not a valid name.
pub(super) fn bad_name(path: &Path, column: &str, row: usize, bytes: &[u8], why: BadName) -> Error {
    match why {
        BadName::NotText => {
            let found = format!("{:?}, which is not UTF-8,", String::from_utf8_lossy(bytes));
            bad_cell(path, column, row, &found)
                .hint("write the table as UTF-8, such as by `iconv -f LATIN1 -t UTF-8 FILE > NEW`")
        }
        BadName::TooMany => Error::data(format!(
            "{}: column {column:?} has more than {} different values",
            path.display(),
            u32::MAX
        ))
        .hint("name a column of groups or units"),
    }
}

/// Parses text as a finite number or a boolean.
///
/// # Errors
/// Any other text, with a description of it.
pub(super) fn number(path: &Path, column: &str, row: usize, cell: &[u8]) -> Result<f64> {
    let text = std::str::from_utf8(cell).ok().map(str::trim);
    if let Some(value) = text
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|value| value.is_finite())
    {
        return Ok(value);
    }
    match text {
        Some("") => return Err(bad_cell(path, column, row, "nothing")),
        Some("true" | "True" | "TRUE") => return Ok(1.0),
        Some("false" | "False" | "FALSE") => return Ok(0.0),
        _ => {}
    }
    let error = bad_cell(
        path,
        column,
        row,
        &format!("{:?}", String::from_utf8_lossy(cell)),
    );
    let with_point = text.map(|text| text.replace(',', ".")).unwrap_or_default();
    let without = text
        .map(|text| text.replace([',', '\'', '_', ' ', '\u{a0}', '\u{202f}'], ""))
        .unwrap_or_default();
    let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    Err(if is_number(&with_point) {
        error.hint(
            "a comma may stand for the decimal point or part thousands: write numbers as 1234.5",
        )
    } else if is_number(&without) {
        error.hint("write numbers without signs between their thousands, as 1234.5")
    } else {
        error
    })
}

/// The error for a parquet file that cannot be read.
pub(super) fn damaged(path: &Path, why: &str) -> Error {
    Error::data(format!("reading the table {}: {why}", path.display()))
        .hint("the file is cut short or damaged: write or fetch it again")
}

/// Reads the next bytes of `source` into `buffer`, as many as fit; returns 0 at the end.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn args(file: PathBuf) -> StatsArgs {
        let [value, group, unit] = ["float64", "method", "seed"].map(str::to_owned);
        StatsArgs {
            file,
            value,
            group,
            unit,
            baseline: None,
            level: 0.95,
            json: false,
        }
    }

    fn fixture(name: &str) -> Vec<u8> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/tables")
            .join(name);
        std::fs::read(path).unwrap()
    }

    /// The groups of a file with these bytes, or an error about its contents.
    fn of_bytes(bytes: &[u8]) -> std::result::Result<Groups, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let read = read(&args(file.path().to_owned()));
        if let Err(error) = &read {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            assert!(miette::Diagnostic::help(error).is_some(), "{error}");
        }
        read
    }

    #[test]
    fn a_parquet_file_that_is_cut_or_has_a_wrong_byte_is_an_error_or_a_table() {
        for name in ["encodings.parquet", "pandas.parquet"] {
            let whole = fixture(name);
            assert_eq!(of_bytes(&whole).unwrap().list.len(), 2);
            for at in (0..whole.len()).step_by(3) {
                assert!(of_bytes(&whole[..at]).is_err());
                let mut wrong = whole.clone();
                wrong[at] ^= 1 << (at % 8);
                let _ = of_bytes(&wrong);
            }
        }
    }

    /// A field, quoted as in csv.
    fn quoted(text: &str) -> String {
        format!("\"{}\"", text.replace('"', "\"\""))
    }

    proptest! {
        #[test]
        fn a_csv_gives_what_was_written(
            rows in prop::collection::vec(("[a-c,;\"\n é]{1,4}", -1e9..1e9_f64), 1..20),
            separator in prop::sample::select(vec![",", ";", "\t", "|"]),
            mark in any::<bool>(),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
            text += &["seed", "note", "float64", "method"].join(separator);
            for (unit, (group, value)) in rows.iter().enumerate() {
                let cells = [unit.to_string(), quoted("a, b; \"c\"\n\t|"), value.to_string(), quoted(group)];
                text += end;
                text += &cells.join(separator);
            }
            let groups = of_bytes(text.as_bytes()).unwrap();
            let mut names: Vec<&str> = Vec::new();
            rows.iter().for_each(|(group, _)| if !names.contains(&group.as_str()) { names.push(group) });
            prop_assert_eq!(groups.list.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), names.clone());
            for (group, name) in groups.list.iter().zip(names) {
                let values: Vec<f64> = rows.iter().filter(|row| row.0 == name).map(|row| row.1).collect();
                prop_assert_eq!(&group.values, &values);
            }
        }

        #[test]
        fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = of_bytes(&bytes);
            let _ = of_bytes(&[b"method,seed,float64\n".as_slice(), &bytes].concat());
        }
    }

    #[test]
    fn a_csv_longer_than_a_buffer_is_read_to_its_end() {
        let rows = 150_000;
        let mut text = "method,seed,float64\n".to_owned();
        for row in 0..rows {
            text += &format!("\"m, {}\",{},{}\n", row % 3, row / 3, row % 7);
        }
        assert!(text.len() > 2 * HEAD);
        let groups = of_bytes(text.as_bytes()).unwrap();
        assert_eq!((groups.list.len(), groups.units), (3, rows / 3));
        let sum: f64 = groups.list.iter().flat_map(|group| &group.values).sum();
        assert_eq!(sum, (0..rows).map(|row| (row % 7) as f64).sum::<f64>());
    }
}
