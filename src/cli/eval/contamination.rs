//! `touchstone eval contamination`: prompts that occur in training texts, or twice.

use crate::benchmarks::contamination::{Found, Index, NGRAM};
use crate::cli::aligned::table;
use crate::data::dataset::{Dataset, WholeRow, json_value, no_rows};
use crate::data::rows;
use crate::{Error, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Columns of prompts in the data sets of benchmarks; those that a row has are taken together.
const COLUMNS: [&str; 8] = [
    "prompt",
    "instruction",
    "question",
    "turns",
    "ctx",
    "sentence",
    "messages",
    "post",
];

#[derive(Clone, Debug, Args)]
pub struct ContaminationArgs {
    /// Rows of a benchmark (jsonl, json, csv, tsv or parquet)
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Columns with the prompt, by comma; where absent those of prompt, instruction, question, turns,
    /// ctx, sentence, messages and post that a row has
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    columns: Vec<String>,
    /// Rows that a model was trained on, all texts of which count
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    against: Vec<PathBuf>,
    /// Words in a row that make an overlap
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::new(NGRAM).unwrap_or(NonZeroUsize::MIN))]
    ngram: NonZeroUsize,
    /// Where a line for every prompt goes, with what was found
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A prompt and its traces.
#[derive(Debug, Serialize)]
struct Line<'a> {
    place: &'a str,
    repeats: Option<&'a str>,
    contained: bool,
    overlap: Option<f64>,
}

/// Compares the prompts with the training texts and prints how many are found.
///
/// # Errors
/// A file that cannot be read or has no rows, a row without a prompt.
pub fn run(args: &ContaminationArgs) -> Result<()> {
    if let Some(output) = &args.output {
        crate::cli::output::check_file(output)?;
    }
    let (places, prompts) = prompts(&args.prompts, &args.columns)?;
    let mut index = Index::new(&prompts, args.ngram.get());
    let mut texts = 0;
    for path in &args.against {
        for row in rows_of(path)? {
            let mut text = String::new();
            for (name, cell) in &row.cells {
                collect(&json_value(&row.place, name, cell)?, &mut text);
            }
            index.add(&text);
            texts += 1;
        }
    }
    let found = index.find(&prompts);
    if let Some(output) = &args.output {
        let lines = places.iter().zip(&found).map(|(place, found)| Line {
            place,
            repeats: found.repeats.map(|at| places[at].as_str()),
            contained: found.is_contained,
            overlap: found.overlap,
        });
        crate::cli::output::write(output, |draft| rows::write(draft, lines))?;
    }
    crate::cli::print(&text(&places, &found, texts, args.ngram.get()))
}

fn rows_of(path: &Path) -> Result<Vec<WholeRow>> {
    let rows: Vec<WholeRow> = Dataset::file(path)?.whole_rows()?.collect::<Result<_>>()?;
    match rows.is_empty() {
        true => Err(no_rows(&path.display().to_string())),
        false => Ok(rows),
    }
}

/// The place and the prompt of every row.
fn prompts(path: &Path, columns: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let wanted: Vec<&str> = match columns {
        [] => COLUMNS.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let prompts = rows_of(path)?.into_iter().map(|row| {
        let mut text = String::new();
        for (name, cell) in &row.cells {
            if wanted.contains(&name.as_str()) {
                collect(&json_value(&row.place, name, cell)?, &mut text);
            }
        }
        if text.trim().is_empty() {
            let has: Vec<&str> = row.cells.iter().map(|(name, _)| name.as_str()).collect();
            return Err(
                Error::data(format!("{}: there is no prompt", row.place)).hint(format!(
                    "name its columns with --columns; the row has {}",
                    has.join(", ")
                )),
            );
        }
        Ok((row.place, text))
    });
    prompts
        .collect::<Result<Vec<_>>>()
        .map(|them| them.into_iter().unzip())
}

/// Adds every text inside `value`, but the roles of messages.
fn collect(value: &Value, text: &mut String) {
    match value {
        Value::String(part) => {
            text.push_str(part);
            text.push('\n');
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, text)),
        Value::Object(parts) => parts
            .iter()
            .filter(|(name, _)| *name != "role")
            .for_each(|(_, part)| collect(part, text)),
        _ => {}
    }
}

fn text(places: &[String], found: &[Found], texts: usize, ngram: usize) -> String {
    let count = |counts: fn(&Found) -> bool| found.iter().filter(|it| counts(it)).count();
    let row = |name: String, count: usize| {
        let share = 100.0 * count as f64 / found.len() as f64;
        vec![name, count.to_string(), format!("{share:.1} %")]
    };
    let rows = [
        row(
            "same words as an earlier prompt".to_owned(),
            count(|it| it.repeats.is_some()),
        ),
        row(
            "whole prompt in a training text".to_owned(),
            count(|it| it.is_contained),
        ),
        row(
            format!("{ngram} words in a row, or all, in a training text"),
            count(Found::is_contaminated),
        ),
    ];
    let header = format!("{} prompts, {texts} training texts", found.len());
    let mut text = table(&[&header, "prompts", "share"], rows.into_iter());
    let mut first = places
        .iter()
        .zip(found)
        .filter(|(_, it)| it.is_contaminated());
    if let Some((place, _)) = first.next() {
        text += &format!("first of them: {place}\n");
    }
    text
}
