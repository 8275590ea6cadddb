//! Local files with the columns of the hub's TL;DR data set (`id`, `subreddit`, `title`, `post`,
//! `summary`).

use crate::Result;
use crate::data::contents::FileRead;
use crate::data::dataset::{Dataset, SummarisedPost, no_rows};
use crate::data::{TextEncoder, tldr};
use rayon::prelude::*;
use std::path::Path;

/// The posts of a file, with the record of the bytes that they were parsed from.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The posts in the file's order.
    pub posts: Vec<SummarisedPost>,
    /// The places of the posts, as errors name them.
    pub places: Vec<String>,
    pub source: FileRead,
}

impl Corpus {
    /// Reads `path` once.
    ///
    /// # Errors
    /// No rows; missing values and columns.
    pub fn open(path: &Path) -> Result<Self> {
        let set = Dataset::file(path)?;
        let rows = set
            .placed_rows::<SummarisedPost>()?
            .collect::<Result<Vec<_>>>()?;
        let (places, posts): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        match set.files_read()?.pop() {
            Some(source) if !posts.is_empty() => Ok(Self {
                posts,
                places,
                source,
            }),
            _ => Err(no_rows(&path.display().to_string())),
        }
    }

    /// # Errors
    /// The first post whose subreddit and title alone exceed the length of a prompt.
    pub fn check_lengths(&self, encoder: &TextEncoder) -> Result<()> {
        let rows = self.posts.par_iter().zip(&self.places);
        let fault = rows
            .map(|(row, place)| tldr::check(place, &row.post, encoder))
            .find_first(Result::is_err);
        fault.unwrap_or(Ok(()))
    }
}

/// The posts of `path`.
///
/// # Errors
/// As [`Corpus::open`].
pub fn read(path: &Path) -> Result<Vec<SummarisedPost>> {
    Ok(Corpus::open(path)?.posts)
}
