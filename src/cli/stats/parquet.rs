//! Columns of a parquet file by their physical types. Columns that are not named are never read.

use super::StatsArgs;
use super::table::{Names, Rows, bad_cell, bad_name, check_once, damaged, number, place};
use crate::defect::guarded;
use crate::error::{Context, Error, Result};
use ::parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, DataType, FixedLenByteArray, Int96};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, Type};
use chrono::{DateTime, NaiveTime};
use foldhash::fast::RandomState;
use half::f16;
use num_bigint::BigInt;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// Number of cells that are decoded at a time.
const BATCH: usize = 8192;

/// The meaning of a column's cells.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Boolean,
    Signed,
    Unsigned,
    Float,
    Half,
    /// Unscaled integers; the number is 10^-scale times each.
    Decimal {
        scale: i32,
    },
    Text,
    Date,
    /// Fractions of a second since midnight.
    Time {
        per_second: i64,
    },
    /// Fractions of a second since 1970.
    Timestamp {
        per_second: i64,
        utc: bool,
    },
    Uuid,
}

impl Meaning {
    /// The meaning of the cells of `column`; `None` if they can be read neither as numbers nor as
    /// names.
    fn of(column: &ColumnDescriptor) -> Option<Self> {
        let per_second = |unit: &TimeUnit| match unit {
            TimeUnit::MILLIS => 1_000,
            TimeUnit::MICROS => 1_000_000,
            TimeUnit::NANOS => 1_000_000_000,
        };
        let by_logical = match column.logical_type_ref() {
            Some(LogicalType::Decimal(decimal)) => Some(Self::Decimal {
                scale: decimal.scale,
            }),
            Some(LogicalType::Date) => Some(Self::Date),
            Some(LogicalType::Time(time)) => Some(Self::Time {
                per_second: per_second(&time.unit),
            }),
            Some(LogicalType::Timestamp(time)) => Some(Self::Timestamp {
                per_second: per_second(&time.unit),
                utc: time.is_adjusted_to_u_t_c,
            }),
            Some(LogicalType::Integer(int)) => Some(if int.is_signed {
                Self::Signed
            } else {
                Self::Unsigned
            }),
            Some(LogicalType::Float16) => Some(Self::Half),
            Some(LogicalType::Uuid) => Some(Self::Uuid),
            _ => None,
        };
        let by_converted = || match column.converted_type() {
            ConvertedType::DECIMAL => Some(Self::Decimal {
                scale: column.type_scale(),
            }),
            ConvertedType::DATE => Some(Self::Date),
            ConvertedType::TIME_MILLIS => Some(Self::Time { per_second: 1_000 }),
            ConvertedType::TIME_MICROS => Some(Self::Time {
                per_second: 1_000_000,
            }),
            ConvertedType::TIMESTAMP_MILLIS => Some(Self::Timestamp {
                per_second: 1_000,
                utc: true,
            }),
            ConvertedType::TIMESTAMP_MICROS => Some(Self::Timestamp {
                per_second: 1_000_000,
                utc: true,
            }),
            ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64 => Some(Self::Unsigned),
            _ => None,
        };
        let by_physical = || match column.physical_type() {
            Physical::BOOLEAN => Some(Self::Boolean),
            Physical::INT32 | Physical::INT64 => Some(Self::Signed),
            Physical::INT96 => Some(Self::Timestamp {
                per_second: 1_000_000_000,
                utc: false,
            }),
            Physical::FLOAT | Physical::DOUBLE => Some(Self::Float),
            Physical::BYTE_ARRAY => Some(Self::Text),
            Physical::FIXED_LEN_BYTE_ARRAY => None,
        };
        by_logical.or_else(by_converted).or_else(by_physical)
    }

    /// The word in an error for cells that are not numbers; `None` for numbers, and for text, which
    /// may spell them.
    fn no_number(self) -> Option<&'static str> {
        match self {
            Self::Date => Some("dates"),
            Self::Time { .. } => Some("times of day"),
            Self::Timestamp { .. } => Some("timestamps"),
            Self::Uuid => Some("UUIDs"),
            _ => None,
        }
    }
}

/// A named column of the file.
struct Column<'a> {
    path: &'a Path,
    name: &'a str,
    /// The column's place among the leaves of the schema.
    leaf: usize,
    meaning: Meaning,
}

/// Reads the columns that `args` names.
pub(super) fn read(path: &Path, file: &File, args: &StatsArgs) -> Result<Rows> {
    guarded(
        || read_columns(path, file, args),
        |_| damaged(path, "its contents contradict each other"),
    )
}

fn read_columns(path: &Path, file: &File, args: &StatsArgs) -> Result<Rows> {
    let handle = file
        .try_clone()
        .context(|| format!("reading the table {}", path.display()))?;
    let unread =
        |cause: ParquetError| damaged(path, "it cannot be read as parquet").caused_by(cause);
    let reader = SerializedFileReader::new(handle).map_err(unread)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let columns: Vec<String> = schema
        .root_schema()
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    check_once(path, &columns)?;
    let find = |name| {
        let root = place(path, &columns, name)?;
        let leaf = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == root);
        let field = schema.root_schema().get_fields().get(root);
        column(path, name, leaf.zip(field.map(|field| &**field)), |leaf| {
            schema.column(leaf)
        })
    };
    let (group, unit, value) = (find(&args.group)?, find(&args.unit)?, find(&args.value)?);
    if let Some(what) = value.meaning.no_number() {
        return Err(Error::data(format!("{}: column {:?} holds {what}, not numbers", path.display(), value.name))
            .hint("name a column of numbers with --value; for a length of time write it as a number of seconds"));
    }
    let mut rows = Rows::default();
    let (mut known_groups, mut known_units) = (Known::default(), Known::default());
    for index in 0..reader.num_row_groups() {
        let part = reader.get_row_group(index).map_err(unread)?;
        let open = |column: &Column| part.get_column_reader(column.leaf).map_err(unread);
        group.names(
            open(&group)?,
            &mut rows.groups,
            &mut known_groups,
            &mut rows.group,
        )?;
        unit.names(
            open(&unit)?,
            &mut rows.units,
            &mut known_units,
            &mut rows.unit,
        )?;
        value.numbers(open(&value)?, &mut rows.value)?;
        if rows.group.len() != rows.value.len() || rows.unit.len() != rows.value.len() {
            return Err(damaged(
                path,
                &format!("its columns differ in length in row group {}", index + 1),
            ));
        }
    }
    Ok(rows)
}

/// The column `name`, from its first leaf and its field.
fn column<'a>(
    path: &'a Path,
    name: &'a str,
    found: Option<(usize, &Type)>,
    descriptor: impl FnOnce(usize) -> ::parquet::schema::types::ColumnDescPtr,
) -> Result<Column<'a>> {
    let refuse = |what: &str| {
        Error::data(format!(
            "{}: column {name:?} {what}, which is neither a number nor a name",
            path.display()
        ))
        .hint("name a column with one value in each row")
    };
    let Some((leaf, field)) = found else {
        return Err(refuse("has no values"));
    };
    let descriptor = descriptor(leaf);
    if !field.is_primitive() || descriptor.max_rep_level() > 0 {
        return Err(refuse("holds lists, structs or maps"));
    }
    let Some(meaning) = Meaning::of(&descriptor) else {
        return Err(
            refuse("holds bytes of a fixed length, as polars writes integers of 128 bits")
                .hint("cast the column to 64-bit integers, decimals or text before it is written"),
        );
    };
    Ok(Column {
        path,
        name,
        leaf,
        meaning,
    })
}

/// Numbers of names, by the integer that the name's cells are stored as.
type Known = HashMap<i64, u32, RandomState>;

impl Column<'_> {
    /// Calls `each` with every cell of a chunk.
    fn cells<T: DataType>(
        &self,
        mut reader: ColumnReaderImpl<T>,
        mut row: usize,
        mut each: impl FnMut(&T::T, usize) -> Result<()>,
    ) -> Result<()> {
        let (mut levels, mut values) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        loop {
            levels.clear();
            values.clear();
            let read = reader.read_records(BATCH, Some(&mut levels), None, &mut values);
            let (records, found, _) = read.map_err(|cause| {
                let place = format!(
                    "column {:?} cannot be decoded at or after row {}",
                    self.name,
                    row + 1
                );
                damaged(self.path, &place).caused_by(cause)
            })?;
            if found < records {
                let null = levels.iter().position(|level| *level == 0).unwrap_or(0);
                // A fault in an earlier cell is reported first.
                values[..null.min(found)]
                    .iter()
                    .enumerate()
                    .try_for_each(|(at, cell)| each(cell, row + at))?;
                return Err(bad_cell(self.path, self.name, row + null, "nothing"));
            }
            values
                .iter()
                .enumerate()
                .try_for_each(|(at, cell)| each(cell, row + at))?;
            if records == 0 {
                return Ok(());
            }
            row += records;
        }
    }

    /// Adds the numbers of a chunk.
    fn numbers(&self, reader: ColumnReader, into: &mut Vec<f64>) -> Result<()> {
        let row = into.len();
        let mut add =
            |value: f64, row: usize| self.finite(value, row).map(|value| into.push(value));
        match reader {
            ColumnReader::BoolColumnReader(reader) => {
                self.cells(reader, row, |cell, row| add(f64::from(*cell), row))
            }
            ColumnReader::Int32ColumnReader(reader) => self.cells(reader, row, |cell, row| {
                add(self.integer(i64::from(*cell), 32), row)
            }),
            ColumnReader::Int64ColumnReader(reader) => {
                self.cells(reader, row, |cell, row| add(self.integer(*cell, 64), row))
            }
            ColumnReader::FloatColumnReader(reader) => {
                self.cells(reader, row, |cell, row| add(f64::from(*cell), row))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                self.cells(reader, row, |cell, row| add(*cell, row))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.cells(reader, row, |cell: &ByteArray, row| match self.meaning {
                    Meaning::Decimal { scale } => add(parsed(&decimal(cell.data(), scale)), row),
                    _ => add(number(self.path, self.name, row, cell.data())?, row),
                })
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                self.cells(reader, row, |cell: &FixedLenByteArray, row| {
                    match self.meaning {
                        Meaning::Decimal { scale } => {
                            add(parsed(&decimal(cell.data(), scale)), row)
                        }
                        _ => add(half(cell.data()), row),
                    }
                })
            }
            // Timestamps are refused earlier.
            ColumnReader::Int96ColumnReader(_) => {
                Err(damaged(self.path, "a column is not of its own type"))
            }
        }
    }

    /// The number that an integer of `bits` bits stands for.
    fn integer(&self, cell: i64, bits: u32) -> f64 {
        match self.meaning {
            Meaning::Unsigned => unsigned(cell, bits) as f64,
            Meaning::Decimal { scale } => parsed(&decimal(&cell.to_be_bytes(), scale)),
            _ => cell as f64,
        }
    }

    /// Adds the numbers that stand for the names in a chunk.
    fn names(
        &self,
        reader: ColumnReader,
        names: &mut Names,
        known: &mut Known,
        into: &mut Vec<u32>,
    ) -> Result<()> {
        let row = into.len();
        let mut namer = Namer {
            column: self,
            names,
            known,
            into,
        };
        match reader {
            ColumnReader::BoolColumnReader(reader) => self.cells(reader, row, |cell, row| {
                namer.keyed(i64::from(*cell), || cell.to_string(), row)
            }),
            ColumnReader::Int32ColumnReader(reader) => self.cells(reader, row, |cell, row| {
                namer.keyed(i64::from(*cell), || self.spelled(i64::from(*cell), 32), row)
            }),
            ColumnReader::Int64ColumnReader(reader) => self.cells(reader, row, |cell, row| {
                namer.keyed(*cell, || self.spelled(*cell, 64), row)
            }),
            ColumnReader::FloatColumnReader(reader) => self.cells(reader, row, |cell, row| {
                self.finite(f64::from(*cell), row)?;
                namer.keyed(i64::from(cell.to_bits()), || format!("{cell:?}"), row)
            }),
            ColumnReader::DoubleColumnReader(reader) => self.cells(reader, row, |cell, row| {
                self.finite(*cell, row)?;
                namer.keyed(cell.to_bits().cast_signed(), || format!("{cell:?}"), row)
            }),
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.cells(reader, row, |cell: &ByteArray, row| match self.meaning {
                    Meaning::Decimal { scale } => namer
                        .add(decimal(cell.data(), scale).as_bytes(), row)
                        .map(drop),
                    _ => namer.add(cell.data(), row).map(drop),
                })
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                self.cells(reader, row, |cell: &FixedLenByteArray, row| {
                    let text = match self.meaning {
                        Meaning::Decimal { scale } => decimal(cell.data(), scale),
                        Meaning::Half => format!("{:?}", self.finite(half(cell.data()), row)?),
                        _ => uuid(cell.data()),
                    };
                    namer.add(text.as_bytes(), row).map(drop)
                })
            }
            ColumnReader::Int96ColumnReader(reader) => {
                self.cells(reader, row, |cell: &Int96, row| {
                    let [low, high, day] =
                        [0, 1, 2].map(|word| cell.data().get(word).copied().unwrap_or_default());
                    let nanoseconds = (i64::from(high) << 32) | i64::from(low);
                    // Days are Julian.
                    let seconds = (i64::from(day) - 2_440_588) * 86_400
                        + nanoseconds.div_euclid(1_000_000_000);
                    let text = instant(seconds, nanoseconds.rem_euclid(1_000_000_000), false);
                    namer.add(text.as_bytes(), row).map(drop)
                })
            }
        }
    }

    /// # Errors
    /// A number that is not finite.
    fn finite(&self, value: f64, row: usize) -> Result<f64> {
        match value.is_finite() {
            true => Ok(value),
            false => Err(bad_cell(self.path, self.name, row, &value.to_string())),
        }
    }

    /// The spelling of a name that is an integer of `bits` bits.
    fn spelled(&self, cell: i64, bits: u32) -> String {
        match self.meaning {
            Meaning::Unsigned => unsigned(cell, bits).to_string(),
            Meaning::Decimal { scale } => decimal(&cell.to_be_bytes(), scale),
            Meaning::Date => {
                let day = cell
                    .checked_mul(86_400)
                    .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
                day.map_or_else(
                    || format!("day {cell}"),
                    |day| day.format("%Y-%m-%d").to_string(),
                )
            }
            Meaning::Time { per_second } => {
                let (seconds, nanoseconds) = split(cell, per_second);
                let time = u32::try_from(seconds)
                    .ok()
                    .zip(u32::try_from(nanoseconds).ok());
                let time = time.and_then(|(seconds, rest)| {
                    NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest)
                });
                time.map_or_else(
                    || format!("time {cell}"),
                    |time| time.format("%H:%M:%S%.f").to_string(),
                )
            }
            Meaning::Timestamp { per_second, utc } => {
                let (seconds, nanoseconds) = split(cell, per_second);
                instant(seconds, nanoseconds, utc)
            }
            _ => cell.to_string(),
        }
    }
}

/// Assigns numbers to the names in a column.
struct Namer<'a> {
    column: &'a Column<'a>,
    names: &'a mut Names,
    known: &'a mut Known,
    into: &'a mut Vec<u32>,
}

impl Namer<'_> {
    fn add(&mut self, name: &[u8], row: usize) -> Result<u32> {
        let Column {
            path, name: column, ..
        } = self.column;
        if name.is_empty() {
            return Err(bad_cell(path, column, row, "nothing"));
        }
        let number = self
            .names
            .number(name)
            .map_err(|why| bad_name(path, column, row, name, why))?;
        self.into.push(number);
        Ok(number)
    }

    /// Adds the number of a name stored as an integer; `spelled` is called only for a new name.
    fn keyed(&mut self, key: i64, spelled: impl FnOnce() -> String, row: usize) -> Result<()> {
        if let Some(number) = self.known.get(&key) {
            self.into.push(*number);
            return Ok(());
        }
        let number = self.add(spelled().as_bytes(), row)?;
        self.known.insert(key, number);
        Ok(())
    }
}

/// The unsigned value of an integer of `bits` bits that was stored as signed.
fn unsigned(cell: i64, bits: u32) -> u64 {
    let whole = cell.cast_unsigned();
    if bits == 32 {
        whole & u64::from(u32::MAX)
    } else {
        whole
    }
}

/// Seconds and nanoseconds of a number of fractions of a second.
fn split(cell: i64, per_second: i64) -> (i64, i64) {
    (
        cell.div_euclid(per_second),
        cell.rem_euclid(per_second) * (1_000_000_000 / per_second),
    )
}

fn instant(seconds: i64, nanoseconds: i64, utc: bool) -> String {
    let instant = u32::try_from(nanoseconds)
        .ok()
        .and_then(|rest| DateTime::from_timestamp(seconds, rest));
    let text = instant.map_or_else(
        || format!("second {seconds} and {nanoseconds} ns"),
        |instant| instant.format("%Y-%m-%d %H:%M:%S%.f").to_string(),
    );
    if utc { format!("{text} UTC") } else { text }
}

/// A decimal from its unscaled big-endian bytes, exactly.
fn decimal(unscaled: &[u8], scale: i32) -> String {
    let digits = BigInt::from_signed_bytes_be(unscaled).to_string();
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits.as_str()), |digits| ("-", digits));
    match usize::try_from(scale) {
        // The largest precision is 76 digits.
        Ok(scale @ 1..=76) => {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Ok(0) => format!("{sign}{digits}"),
        _ => format!("{sign}{digits}e{}", -i64::from(scale)),
    }
}

/// The number nearest to a decimal; NaN if the text is not a number.
fn parsed(decimal: &str) -> f64 {
    decimal.parse().unwrap_or(f64::NAN)
}

/// A number in half precision; NaN unless there are two bytes.
fn half(bytes: &[u8]) -> f64 {
    bytes
        .try_into()
        .map_or(f64::NAN, |bytes| f16::from_le_bytes(bytes).to_f64())
}

/// Bytes as hexadecimal digits, grouped as in a UUID.
fn uuid(bytes: &[u8]) -> String {
    let digit = |(at, byte): (usize, &u8)| {
        let dash = if matches!(at, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        };
        format!("{dash}{byte:02x}")
    };
    bytes.iter().enumerate().map(digit).collect()
}
