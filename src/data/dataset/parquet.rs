//! Rows of parquet by their physical types: text is text in any encoding (plain, dictionary, view,
//! large).

use super::reader::{Cell, Parsed};
use crate::data::contents::Contents;
use crate::data::foreign;
use crate::defect::guarded;
use crate::{Error, Result};
use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Number, Value};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The number of rows that are decoded together, but never more than a row group has.
const CHUNK: usize = 1024;

pub struct Parquet {
    reader: SerializedFileReader<Contents>,
    pub columns: Vec<String>,
    /// The schema of the columns that are read.
    schema: SchemaDescPtr,
    /// The index of the next row group.
    group: usize,
    /// The decoder of the row group before it.
    rows: Option<ReaderIter>,
    /// The number of rows of that group that are not decoded yet.
    left: usize,
    /// The number of decoded rows, of the whole file.
    done: usize,
    ready: std::vec::IntoIter<Parsed>,
}

impl Parquet {
    /// # Errors
    /// Contents that are not parquet, or are cut short.
    pub fn open(contents: &Contents, file: &str) -> Result<Self> {
        let failed =
            |what: &str| Error::data(format!("{file} {what}")).hint("fetch or write it again");
        let head = contents
            .head(foreign::HEAD)
            .map_err(|cause| failed("cannot be read").caused_by(cause))?;
        if !head.starts_with(foreign::PARQUET) {
            return Err(match foreign::recognise(&head) {
                Some(other) => Error::data(format!("{file} is not parquet but {}", other.what))
                    .hint(other.remedy),
                None if head.is_empty() => failed("is empty, which parquet never is"),
                None => failed("is not parquet, whatever its name says"),
            });
        }
        let contents = contents.clone();
        let reader = guarded(|| SerializedFileReader::new(contents), contradictory)
            .map_err(|cause| failed("is parquet that is cut short or damaged").caused_by(cause))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let columns = schema
            .root_schema()
            .get_fields()
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        let ready = Vec::new().into_iter();
        Ok(Self {
            reader,
            columns,
            schema,
            group: 0,
            rows: None,
            left: 0,
            done: 0,
            ready,
        })
    }

    /// The number of rows in the file.
    pub fn len(&self) -> usize {
        usize::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Restricts reading to these columns.
    ///
    /// # Errors
    /// A column of a type that cannot be read.
    pub fn select(&mut self, file: &str, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let root = self.schema.root_schema();
        let wanted: Vec<TypePtr> = root
            .get_fields()
            .iter()
            .filter(|column| is_wanted(column.name()))
            .cloned()
            .collect();
        for column in &wanted {
            if let Some(name) = unreadable(column) {
                let message = format!(
                    "{file}: column `{}` is of type {name}, which is not read here",
                    column.name()
                );
                return Err(Error::data(message).hint("write the column as text, or drop it"));
            }
        }
        let projection = Type::group_type_builder(root.name())
            .with_fields(wanted)
            .build();
        let projection = projection.map_err(|cause| {
            Error::data(format!("the columns of {file} cannot be chosen")).caused_by(cause)
        })?;
        self.schema = Arc::new(SchemaDescriptor::new(Arc::new(projection)));
        Ok(())
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// A damaged part of the file.
    pub fn next(&mut self, file: &str) -> Result<Option<Parsed>> {
        loop {
            if let Some(row) = self.ready.next() {
                return Ok(Some(row));
            }
            if self.left == 0 {
                if self.group == self.reader.num_row_groups() {
                    return Ok(None);
                }
                self.left =
                    usize::try_from(self.reader.metadata().row_group(self.group).num_rows())
                        .unwrap_or(0);
                (self.group, self.rows) = (self.group + 1, None);
                continue;
            }
            let count = self.left.min(CHUNK);
            let (first, last) = (self.done + 1, self.done + count);
            let read = guarded(|| self.chunk(count), contradictory).map_err(|cause| {
                Error::data(format!("{file}: rows {first} to {last} cannot be read"))
                    .caused_by(cause)
                    .hint("the file is damaged, or a text in it is not UTF-8: fetch or write it again")
            })?;
            (self.left, self.done) = (self.left - count, self.done + count);
            let mut parsed = Vec::with_capacity(count);
            for (number, fields) in (first..).zip(read) {
                let cells = fields.into_iter().map(|(name, field)| {
                    let cell = cell(&field).ok_or_else(|| {
                        Error::data(format!(
                            "{file}, row {number}: the value of `{name}` has no form in JSON"
                        ))
                        .hint("drop the column or write it as text")
                    })?;
                    Ok((name, cell))
                });
                parsed.push(Parsed {
                    number,
                    cells: cells.collect::<Result<_>>()?,
                    has: Vec::new(),
                });
            }
            self.ready = parsed.into_iter();
        }
    }

    fn chunk(&mut self, count: usize) -> ParquetResult<Vec<Vec<(String, Field)>>> {
        let rows = match &mut self.rows {
            Some(rows) => rows,
            none => {
                let group = self.reader.get_row_group(self.group - 1)?;
                let tree = TreeBuilder::new().with_batch_size(CHUNK);
                none.insert(tree.as_iter(self.schema.clone(), group.as_ref())?)
            }
        };
        let read: Vec<_> = rows
            .take(count)
            .map(|row| Ok(row?.into_columns()))
            .collect::<ParquetResult<_>>()?;
        match read.len() == count {
            true => Ok(read),
            false => Err(ParquetError::EOF(format!(
                "{} rows where {count} should be",
                read.len()
            ))),
        }
    }
}

/// The error for a decoder that panics on damaged pages.
fn contradictory(_: &str) -> ParquetError {
    ParquetError::General("its pages are not what its end describes".into())
}

/// The name of a type inside `column` that cannot be read as cells.
fn unreadable(column: &Type) -> Option<String> {
    let info = column.get_basic_info();
    let (logical, converted) = (info.logical_type_ref(), info.converted_type());
    if !column.is_primitive() {
        let fields = column.get_fields();
        // The layouts that the decoder assumes without checking.
        let known = match converted {
            ConvertedType::LIST => {
                fields.len() == 1 && fields[0].get_basic_info().repetition() == Repetition::REPEATED
            }
            ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => false,
            _ => !fields.is_empty(),
        };
        let name = || format!("{converted:?}").to_lowercase();
        return if known {
            fields.iter().find_map(|field| unreadable(field))
        } else {
            Some(name())
        };
    }
    let readable = match (column.get_physical_type(), converted) {
        (Physical::BOOLEAN | Physical::FLOAT | Physical::DOUBLE, _) => true,
        (
            Physical::INT32,
            ConvertedType::NONE
            | ConvertedType::INT_8
            | ConvertedType::INT_16
            | ConvertedType::INT_32
            | ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::DATE
            | ConvertedType::DECIMAL,
        ) => true,
        (Physical::INT64, ConvertedType::NONE) => !matches!(
            logical,
            Some(LogicalType::Timestamp { .. } | LogicalType::Time { .. })
        ),
        (
            Physical::INT64,
            ConvertedType::INT_64
            | ConvertedType::UINT_64
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
            | ConvertedType::DECIMAL,
        ) => true,
        (Physical::BYTE_ARRAY, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => {
            true
        }
        (Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY, ConvertedType::DECIMAL) => true,
        (Physical::FIXED_LEN_BYTE_ARRAY, ConvertedType::NONE) => {
            matches!(logical, Some(LogicalType::Float16))
        }
        _ => false,
    };
    if readable {
        return None;
    }
    Some(match (column.get_physical_type(), logical) {
        (Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY, None) => "binary".into(),
        (_, Some(LogicalType::Timestamp { .. })) => "timestamp in nanoseconds".into(),
        (_, Some(LogicalType::Time { .. })) => "time".into(),
        (_, Some(logical)) => format!("{logical:?}"),
        (physical, None) => format!("{physical}"),
    })
}

/// The days since 1970 whose date has a year of four digits; the decoder panics at others.
const DAYS: RangeInclusive<i64> = -719_162..=2_932_896;

/// A field as a cell of JSON; `None` for values that JSON does not have.
fn cell(field: &Field) -> Option<Cell> {
    match field {
        // JSON has decimals of any length, which a float would round.
        Field::Decimal(_) => RawValue::from_string(field.to_string())
            .ok()
            .map(Cell::Json),
        field if has_group(field) => to_raw_value(&Ordered(field)).ok().map(Cell::Json),
        field => value(field).map(Cell::Value),
    }
}

/// True if a field is a group of columns or a list of some.
fn has_group(field: &Field) -> bool {
    match field {
        Field::Group(_) => true,
        Field::ListInternal(list) => list.elements().iter().any(has_group),
        _ => false,
    }
}

/// A field whose groups are written with their columns in the order of the file, which a [`Value`]
/// does not keep.
struct Ordered<'a>(&'a Field);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Field::Group(row) => {
                serializer.collect_map(row.get_column_iter().map(|(name, it)| (name, Ordered(it))))
            }
            Field::ListInternal(list) => {
                serializer.collect_seq(list.elements().iter().map(Ordered))
            }
            field => value(field)
                .ok_or_else(|| S::Error::custom("a value that JSON does not have"))?
                .serialize(serializer),
        }
    }
}

fn value(field: &Field) -> Option<Value> {
    // Pandas writes missing values in columns of numbers as NaN.
    let float = |value: f64| Some(Number::from_f64(value).map_or(Value::Null, Value::Number));
    match field {
        Field::Null => Some(Value::Null),
        Field::Bool(value) => Some((*value).into()),
        Field::Byte(value) => Some((*value).into()),
        Field::Short(value) => Some((*value).into()),
        Field::Int(value) => Some((*value).into()),
        Field::Long(value) => Some((*value).into()),
        Field::UByte(value) => Some((*value).into()),
        Field::UShort(value) => Some((*value).into()),
        Field::UInt(value) => Some((*value).into()),
        Field::ULong(value) => Some((*value).into()),
        Field::Float16(value) => float(value.to_f64()),
        // The shortest text of the float: 0.1, not 0.10000000149011612.
        Field::Float(value) => match value.is_finite() {
            true => serde_json::from_str(&value.to_string()).ok(),
            false => Some(Value::Null),
        },
        Field::Double(value) => float(*value),
        Field::Str(text) => Some(text.as_str().into()),
        Field::Date(days) => DAYS
            .contains(&i64::from(*days))
            .then(|| field.to_string().into()),
        Field::TimestampMillis(time) => DAYS
            .contains(&(time / 86_400_000))
            .then(|| field.to_string().into()),
        Field::TimestampMicros(time) => DAYS
            .contains(&(time / 86_400_000_000))
            .then(|| field.to_string().into()),
        Field::Decimal(_) => Some(field.to_string().into()),
        Field::Group(row) => row
            .get_column_iter()
            .map(|(name, field)| Some((name.clone(), value(field)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Value::Object),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(value)
            .collect::<Option<_>>()
            .map(Value::Array),
        Field::Bytes(_) | Field::TimeMillis(_) | Field::TimeMicros(_) | Field::MapInternal(_) => {
            None
        }
    }
}
