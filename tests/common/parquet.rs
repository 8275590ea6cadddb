//! Rows of JSON written as parquet.

use polars::prelude::{
    Column, DataFrame, IntoSeries, NamedFrom, ParquetWriter, Series, StructChunked,
};
use serde_json::Value;
use std::fs::File;
use std::path::Path;

/// Writes rows of the same columns to `path`, in row groups of `group` rows.
pub fn write(path: &Path, rows: &[Value], group: usize) {
    let columns = rows[0].as_object().unwrap().keys();
    let column =
        |name: &String| series(name, &rows.iter().map(|row| &row[name]).collect::<Vec<_>>()).into();
    let columns: Vec<Column> = columns.map(column).collect();
    let mut frame = DataFrame::new(rows.len(), columns).unwrap();
    let writer = ParquetWriter::new(File::create(path).unwrap()).with_row_group_size(Some(group));
    writer.finish(&mut frame).unwrap();
}

/// A column of the type of its values.
fn series(name: &str, values: &[&Value]) -> Series {
    let name = name.into();
    match values.iter().find(|value| !value.is_null()) {
        None => Series::full_null(name, values.len(), &polars::prelude::DataType::String),
        Some(Value::String(_)) => Series::new(
            name,
            values
                .iter()
                .map(|value| value.as_str())
                .collect::<Vec<_>>(),
        ),
        Some(Value::Number(number)) if number.is_i64() => Series::new(
            name,
            values
                .iter()
                .map(|value| value.as_i64().map(|x| x as i32))
                .collect::<Vec<_>>(),
        ),
        Some(Value::Number(_)) => Series::new(
            name,
            values
                .iter()
                .map(|value| value.as_f64())
                .collect::<Vec<_>>(),
        ),
        Some(Value::Array(_)) => {
            let lists = values.iter().map(|value| {
                series(
                    "item",
                    &value.as_array().unwrap().iter().collect::<Vec<_>>(),
                )
            });
            Series::new(name, lists.collect::<Vec<_>>())
        }
        Some(Value::Object(first)) => {
            let fields: Vec<Series> = first
                .keys()
                .map(|key| {
                    series(
                        key,
                        &values.iter().map(|value| &value[key]).collect::<Vec<_>>(),
                    )
                })
                .collect();
            StructChunked::from_series(name, values.len(), fields.iter())
                .unwrap()
                .into_series()
        }
        Some(other) => panic!("no column of {other}"),
    }
}
