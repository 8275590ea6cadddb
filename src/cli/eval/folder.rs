//! The folder of an evaluation: checked before anything is computed, replaced whole at the end,
//! with a folder beside it for work that was interrupted.

use crate::benchmarks::Evaluation;
use crate::cli::output;
use crate::folder::UnpublishedFolder;
use crate::{Context, Error, Result, files};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// File of a work folder with what its contents were computed from.
const IDENTITY: &str = "identity.json";

/// A folder that an evaluation of one benchmark is written to.
pub struct EvaluationFolder {
    place: PathBuf,
}

impl EvaluationFolder {
    /// The folder `place`, which is absent, empty, or holds an earlier evaluation of `benchmark`.
    ///
    /// # Errors
    /// A folder with anything else in it, and a place that cannot be written.
    pub fn new(place: &Path, benchmark: &str) -> Result<Self> {
        output::check_folder(place)?;
        if place.is_dir() && !files::names_in(place)?.is_empty() {
            let other = |what: String| {
                Err(Error::files(format!("{} {what}", place.display()))
                    .hint("choose an empty or a new folder"))
            };
            match Evaluation::read(place) {
                Err(_) => return other("is not empty and holds no evaluation".into()),
                Ok(found) if found.summary.benchmark != benchmark => {
                    return other(format!(
                        "holds an evaluation of {}",
                        found.summary.benchmark
                    ));
                }
                Ok(_) => {}
            }
        }
        Ok(Self {
            place: place.to_owned(),
        })
    }

    /// A folder beside the place for work in progress. What is in it stays if it was made from
    /// `identity`, and is removed otherwise.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn work(&self, identity: &Value) -> Result<PathBuf> {
        let name = self.place.file_name().map(|name| name.to_string_lossy());
        let folder = self
            .place
            .with_file_name(format!("{}.unfinished", name.unwrap_or_default()));
        let path = folder.join(IDENTITY);
        let same = files::read_json::<Value>(&path).is_ok_and(|found| found == *identity);
        if !same {
            files::remove_dir(&folder)?;
            files::create_dir(&folder)?;
            files::replace(&path, &files::to_json(identity, &path)?)?;
        }
        Ok(folder)
    }

    /// Fills the folder through `fill`, puts it in its place, and removes the work folder.
    ///
    /// # Errors
    /// Those of `fill`, and a place that cannot be written.
    pub fn publish(self, fill: impl FnOnce(&Path) -> Result<()>, work: &Path) -> Result<()> {
        let draft = UnpublishedFolder::new(&self.place)?;
        fill(&draft.path()).context(|| format!("cannot write {}", self.place.display()))?;
        draft.publish()?;
        files::remove_dir(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn work_is_kept_for_the_same_identity_and_removed_for_another() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("out");
        let folder = EvaluationFolder::new(&place, "b").unwrap();
        let work = folder.work(&json!({"model": 1})).unwrap();
        std::fs::write(work.join("rows"), "1").unwrap();
        folder.work(&json!({"model": 1})).unwrap();
        assert!(work.join("rows").is_file());
        folder.work(&json!({"model": 2})).unwrap();
        assert!(!work.join("rows").exists());
        let fill = |draft: &Path| {
            std::fs::write(draft.join("x"), "").unwrap();
            Ok(())
        };
        folder.publish(fill, &work).unwrap();
        assert!(place.join("x").is_file() && !work.exists());
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        assert!(EvaluationFolder::new(place.path(), "b").is_ok());
        std::fs::write(place.path().join("thesis.tex"), "").unwrap();
        let error = EvaluationFolder::new(place.path(), "b").err().unwrap();
        assert!(
            error
                .to_string()
                .ends_with("is not empty and holds no evaluation")
        );
    }
}
