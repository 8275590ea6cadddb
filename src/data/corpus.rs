//! A local file in the columns of the hub's TL;DR data set (`id`, `subreddit`, `title`, `post`, `summary`).

use crate::data::dataset::{Dataset, SummarisedPost};
use crate::{Error, Result};
use std::path::Path;

/// Every row of `path`, in the file's order.
///
/// # Errors
/// No rows; missing values and columns.
pub fn read(path: &Path) -> Result<Vec<SummarisedPost>> {
    let rows: Vec<SummarisedPost> = Dataset::file(path)?.rows()?.collect::<Result<_>>()?;
    match rows.is_empty() {
        true => Err(Error::data(format!("{} has no rows", path.display()))),
        false => Ok(rows),
    }
}
