//! A local file in the columns of the hub's TL;DR data set (`id`, `subreddit`, `title`, `post`, `summary`), read through
//! polars from jsonl, csv or parquet.

use crate::data::tldr::Post;
use crate::{Context, Error, Result};
use polars::prelude::{CsvReader, DataFrame, JsonFormat, JsonReader, ParquetReader, SerReader};
use std::path::Path;

/// One post with its human summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub post: Post,
    pub summary: String,
}

/// Every row of `path`, in the file's order; missing values and columns are errors.
pub fn read(path: &Path) -> Result<Vec<Row>> {
    let frame = frame(path)?;
    let column = |name: &str| strings(&frame, name, path);
    let (ids, subreddits, titles) = (column("id")?, column("subreddit")?, column("title")?);
    let (posts, summaries) = (column("post")?, column("summary")?);
    if ids.is_empty() {
        return Err(Error::new(format!("{} has no rows", path.display())));
    }
    let rows = ids.into_iter().zip(subreddits).zip(titles).zip(posts).zip(summaries);
    Ok(rows
        .map(|((((id, subreddit), title), post), summary)| Row { id, post: Post { subreddit, title, post }, summary })
        .collect())
}

fn frame(path: &Path) -> Result<DataFrame> {
    let file = std::fs::File::open(path)
        .map_err(|cause| Error::new(format!("cannot open {}", path.display())).caused_by(cause))?;
    let failed = || format!("cannot read {}", path.display());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => JsonReader::new(file)
            .with_json_format(JsonFormat::JsonLines)
            .infer_schema_len(None)
            .finish()
            .context(failed),
        Some("parquet") => ParquetReader::new(file).finish().context(failed),
        Some("csv") => CsvReader::new(file).finish().context(failed),
        _ => Err(Error::new(format!("{} is not .jsonl, .parquet or .csv", path.display()))
            .hint("the file's ending says how it is read")),
    }
}

fn strings(frame: &DataFrame, name: &str, path: &Path) -> Result<Vec<String>> {
    let Ok(column) = frame.column(name) else {
        let columns: Vec<&str> = frame.get_column_names().iter().map(|c| c.as_str()).collect();
        return Err(Error::new(format!("{} has no column `{name}`", path.display()))
            .hint(format!("it has {}; rename the column that holds the {name}", columns.join(", "))));
    };
    let text = column
        .str()
        .map_err(|cause| Error::new(format!("{}: column `{name}` is not text", path.display())).caused_by(cause))?;
    text.iter()
        .enumerate()
        .map(|(row, value)| {
            value.map(str::to_owned).ok_or_else(|| {
                Error::new(format!("{}, row {}: no {name}", path.display(), row + 1)).hint("fill it in or drop the row")
            })
        })
        .collect()
}
