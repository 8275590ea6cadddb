//! The folders that evaluations are written to.

use crate::cli::output;
use crate::folder::{UnpublishedFolder, files_below};
use crate::{Error, Result};
use std::path::Path;

/// The files of an evaluation.
pub const EVALUATION: [&str; 2] = ["evaluation.json", "items.jsonl"];

/// Checks that a folder can be written, and that it is absent, empty, or holds nothing but the
/// `known` files of an earlier run.
///
/// # Errors
/// A folder that holds anything else, or cannot be written.
pub fn check(path: &Path, known: &[&str]) -> Result<()> {
    output::check_folder(path)?;
    let other = files_below(path)
        .into_iter()
        .find(|name| !known.contains(&name.as_str()));
    match other {
        None => Ok(()),
        Some(name) => Err(Error::files(format!(
            "{} holds {name}, which this command does not write",
            path.display()
        ))
        .hint("choose another folder: this one would be replaced")),
    }
}

/// Puts a folder, which `fill` fills, in its place all at once.
///
/// # Errors
/// Those of `fill`, and a folder that cannot be written.
pub fn write(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let draft = UnpublishedFolder::new(path)?;
    fill(&draft.path())?;
    draft.publish()
}
