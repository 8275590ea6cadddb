//! Summaries of artifacts: detailed enough to notice a change, and coarse enough to be the same on
//! another processor, whose last digits differ.

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Number of values kept of a column.
const KEPT: usize = 12;

/// Bounds below which differences are ignored.
pub struct Tolerance {
    /// Bound of the difference of two numbers: a share of the larger one plus an absolute part.
    number: [f64; 2],
    /// Bound of the difference of two columns' lengths, as a share: some files leave out rows of
    /// equal score.
    length: f64,
    /// Least share of a column's values that must be the same.
    same: f64,
    /// True if texts are compared.
    texts: bool,
}

/// Tolerance for a stage that read the same bytes: rounding may change a sample, and with it a row.
pub const SAME_INPUTS: Tolerance = Tolerance {
    number: [0.02, 0.002],
    length: 0.1,
    same: 0.75,
    texts: true,
};
/// Tolerance for a stage whose inputs another processor has rounded differently: it may sample
/// other texts, and learn from them.
pub const OTHER_ROUNDING: Tolerance = Tolerance {
    number: [0.25, 0.05],
    length: 0.25,
    same: 0.5,
    texts: false,
};

/// An artifact's values, by file and place.
pub type Columns = BTreeMap<String, Column>;

/// The values at one place of all rows of a file, or the summary of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Column {
    length: usize,
    /// The first values of the column: numbers, and hashes of texts.
    values: Vec<String>,
}

impl From<Column> for String {
    fn from(column: Column) -> Self {
        let values: String = column
            .values
            .iter()
            .map(|value| format!(" {value}"))
            .collect();
        format!("{}:{values}", column.length)
    }
}

impl TryFrom<String> for Column {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (length, values) = text
            .split_once(':')
            .ok_or(format!("no length in `{text}`"))?;
        let length = length
            .parse()
            .map_err(|error| format!("{error} in `{text}`"))?;
        Ok(Self {
            length,
            values: values.split_whitespace().map(str::to_owned).collect(),
        })
    }
}

impl Column {
    fn agrees(&self, other: &Self, within: &Tolerance) -> bool {
        let (one, another) = (self.length as f64, other.length as f64);
        let same = self
            .values
            .iter()
            .zip(&other.values)
            .filter(|(one, other)| within.accepts(one, other))
            .count();
        let lengths = (one - another).abs() <= within.length * one.max(another);
        lengths && same as f64 >= within.same * self.values.len().min(other.values.len()) as f64
    }
}

impl Tolerance {
    fn accepts(&self, one: &str, other: &str) -> bool {
        let [share, least] = self.number;
        match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= share * a.abs().max(b.abs()) + least,
            (Err(_), Err(_)) => !self.texts || one == other,
            _ => false,
        }
    }
}

/// The places at which two artifacts differ, with both columns.
pub fn differences(was: &Columns, is: &Columns, within: &Tolerance) -> Vec<String> {
    let shown = |columns: &Columns, place: &String| {
        columns
            .get(place)
            .cloned()
            .map_or("nothing".into(), String::from)
    };
    let mut places: Vec<&String> = was.keys().chain(is.keys()).collect();
    places.sort_unstable();
    places.dedup();
    places
        .retain(|place| !matches!((was.get(*place), is.get(*place)), (Some(was), Some(is)) if was.agrees(is, within)));
    places
        .into_iter()
        .map(|place| {
            format!(
                "{place}\n  was {}\n  is  {}",
                shown(was, place),
                shown(is, place)
            )
        })
        .collect()
}

/// The columns of an artifact's `files`; occurrences of `hidden` are removed from texts.
pub fn columns<'a>(
    folder: &Path,
    files: impl Iterator<Item = &'a String>,
    hidden: &str,
) -> Columns {
    let mut columns = Columns::new();
    for name in files {
        let bytes = fs::read(folder.join(name)).unwrap();
        let text = || {
            String::from_utf8(bytes.clone())
                .unwrap()
                .replace(hidden, "")
        };
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            // A tokenizer has thousands of words, so its file is compared as one text.
            _ if name == "tokenizer.json" => add(&mut columns, name, &Value::from(text())),
            Some("jinja") => add(&mut columns, name, &Value::from(text())),
            Some("jsonl") => {
                let rows: Vec<Value> = text()
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                columns.insert(
                    name.clone(),
                    Column {
                        length: rows.len(),
                        values: vec![],
                    },
                );
                add(&mut columns, name, &Value::from(rows));
            }
            Some("json") => add(&mut columns, name, &serde_json::from_str(&text()).unwrap()),
            Some("safetensors") => columns.extend(tensors(name, &bytes)),
            _ => panic!("{name} is a file of a kind that no digest is known of"),
        }
    }
    columns
}

/// Adds the leaves of `value`; those of all items of a list go into one column.
fn add(columns: &mut Columns, place: &str, value: &Value) {
    let leaf = match value {
        Value::Array(items) => {
            return items
                .iter()
                .for_each(|item| add(columns, &format!("{place} []"), item));
        }
        Value::Object(map) => {
            return map
                .iter()
                .for_each(|(key, value)| add(columns, &format!("{place} {key}"), value));
        }
        Value::String(text) => format!("#{}", &blake3::hash(text.as_bytes()).to_hex()[..6]),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), rounded),
        Value::Null | Value::Bool(_) => value.to_string(),
    };
    let column = columns.entry(place.to_owned()).or_insert(Column {
        length: 0,
        values: vec![],
    });
    column.length += 1;
    if column.values.len() < KEPT {
        column.values.push(leaf);
    }
}

/// Type and shape of every tensor; for a matrix also its norm, and its projection on cos(0),
/// cos(1), … divided by the norm. Biases have no numbers: the gradient of an attention's key bias
/// is nothing but rounding.
fn tensors(file: &str, bytes: &[u8]) -> Columns {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let column = |(name, view): (&str, TensorView)| {
        let values: Vec<f64> = match view.dtype() {
            Dtype::F32 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes).into())
                .collect(),
            Dtype::F16 => view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f16::from_le_bytes(*bytes).into())
                .collect(),
            other => panic!("{name} is stored as {other:?}"),
        };
        let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let projection: f64 = values
            .iter()
            .enumerate()
            .map(|(index, value)| value * (index as f64).cos())
            .sum();
        let numbers = if view.shape().len() > 1 {
            vec![rounded(norm), rounded(projection / norm)]
        } else {
            vec![]
        };
        let place = format!("{file} {name} {:?} {:?}", view.dtype(), view.shape());
        (
            place,
            Column {
                length: values.len(),
                values: numbers,
            },
        )
    };
    tensors.iter().map(column).collect()
}

/// The number rounded to four significant digits, in ordinary notation.
fn rounded(number: f64) -> String {
    let digits = format!("{number:.3e}").parse::<f64>().unwrap_or(number);
    digits.to_string()
}

#[test]
fn rounding_and_a_turned_sample_are_the_same_and_anything_else_is_not() {
    let column = |text: &str| Column::try_from(text.to_owned()).unwrap();
    let was = column("8: 1 2 3 4 #aa #bb #cc #dd");
    for (is, same_inputs, other_rounding) in [
        ("8: 1.01 1.99 3.002 4 #aa #bb #cc #dd", true, true),
        ("8: 1 2 3 4 #aa #bb #cc #ff", true, true),
        ("8: 1.1 2.2 3.3 4 #ee #ff #ee #ff", false, true),
        ("9: 1 2 3 4 #aa #bb #cc #dd", false, true),
        ("8: 2 3 5 7 #aa #bb #cc #dd", false, true),
        ("12: 1 2 3 4 #aa #bb #cc #dd", false, false),
        ("8: 2 3 5 7 9 #bb #cc #dd", false, false),
        ("8: #1 #2 #3 #4 #aa #bb #cc 4", false, false),
    ] {
        let is = column(is);
        assert_eq!(was.agrees(&is, &SAME_INPUTS), same_inputs, "{is:?}");
        assert_eq!(was.agrees(&is, &OTHER_ROUNDING), other_rounding, "{is:?}");
    }
    let one = |place: &str| Columns::from([(place.to_owned(), was.clone())]);
    assert!(differences(&one("a"), &one("a"), &SAME_INPUTS).is_empty());
    assert_eq!(
        differences(&one("a"), &one("b"), &OTHER_ROUNDING).len(),
        2,
        "a key of a file was renamed"
    );
}
