//! The folder of a result: checked before anything is computed, replaced whole at the end, for an
//! evaluation with a folder beside it for work that was interrupted.

use crate::benchmarks::Evaluation;
use crate::benchmarks::evaluation::FILES;
use crate::cli::output;
use crate::folder::{UnpublishedFolder, files_below};
use crate::{Context, Error, Result, files};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// File of a work folder with what its contents were computed from.
const IDENTITY: &str = "identity.json";

/// A folder that an evaluation of one benchmark is written to.
pub struct EvaluationFolder {
    place: PathBuf,
    /// The folder for work in progress, once there is one.
    work: Option<PathBuf>,
}

impl EvaluationFolder {
    /// The folder `place`, which is absent, empty, or holds an earlier evaluation of `benchmark` with
    /// no other files than those and the `own` ones of the benchmark, where a `*` stands for any text.
    ///
    /// # Errors
    /// A folder with anything else in it, and a place that cannot be written.
    pub fn new(place: &Path, benchmark: &str, own: &[&str]) -> Result<Self> {
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
                Ok(_) => check(place, &[&FILES, own].concat())?,
            }
        }
        Ok(Self {
            place: place.to_owned(),
            work: None,
        })
    }

    /// A folder beside the place for work in progress. What is in it stays if it was made from
    /// `identity`, and is removed otherwise.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn work(&mut self, identity: &Value) -> Result<PathBuf> {
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
        self.work = Some(folder.clone());
        Ok(folder)
    }

    /// Fills the folder through `fill`, puts it in its place, and removes the work folder.
    ///
    /// # Errors
    /// Those of `fill`, and a place that cannot be written.
    pub fn publish(self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        write(&self.place, fill)?;
        self.work.as_deref().map_or(Ok(()), files::remove_dir)
    }
}

/// Checks that a folder can be written, and that it is absent, empty, or holds nothing but the
/// `known` files of an earlier run, where a `*` stands for any text.
///
/// # Errors
/// A folder that holds anything else, or cannot be written.
pub fn check(path: &Path, known: &[&str]) -> Result<()> {
    output::check_folder(path)?;
    let is_known = |name: &String| known.iter().any(|known| fits(known, name));
    let other = files_below(path).into_iter().find(|name| !is_known(name));
    match other {
        None => Ok(()),
        Some(name) => Err(Error::files(format!(
            "{} holds {name}, which this command does not write",
            path.display()
        ))
        .hint("choose another folder: this one would be replaced")),
    }
}

/// True if `name` is `pattern`, in which a `*` stands for any text without a slash.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            let rest = name
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(end));
            rest.is_some_and(|any| !any.contains('/'))
        }
    }
}

/// Puts a folder, which `fill` fills, in its place all at once.
///
/// # Errors
/// Those of `fill`, and a folder that cannot be written.
pub fn write(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let draft = UnpublishedFolder::new(path)?;
    fill(&draft.path()).context(|| format!("cannot write {}", path.display()))?;
    draft.publish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::Summary;
    use serde_json::json;

    #[test]
    fn work_is_kept_for_the_same_identity_and_removed_for_another() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("out");
        let mut folder = EvaluationFolder::new(&place, "b", &[]).unwrap();
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
        folder.publish(fill).unwrap();
        assert!(place.join("x").is_file() && !work.exists());
    }

    #[test]
    fn files_beside_an_evaluation_are_left_alone() {
        let summary = Summary {
            benchmark: "b".to_owned(),
            convention: "c".to_owned(),
            model: "m".to_owned(),
            identity: json!(null),
            aggregates: Vec::new(),
        };
        let earlier = Evaluation {
            summary,
            items: Vec::new(),
        };
        let place = tempfile::tempdir().unwrap();
        earlier.write(place.path()).unwrap();
        let open = || EvaluationFolder::new(place.path(), "b", &["samples_*.jsonl"]);
        std::fs::write(place.path().join("samples_arc.jsonl"), "").unwrap();
        assert!(open().is_ok());
        std::fs::write(place.path().join("notes.txt"), "").unwrap();
        let error = open().err().unwrap().to_string();
        assert!(
            error.ends_with("holds notes.txt, which this command does not write"),
            "{error}"
        );
        assert!(EvaluationFolder::new(place.path(), "other", &[]).is_err());
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        assert!(EvaluationFolder::new(place.path(), "b", &[]).is_ok());
        std::fs::write(place.path().join("thesis.tex"), "").unwrap();
        let error = EvaluationFolder::new(place.path(), "b", &[]).err().unwrap();
        assert!(
            error
                .to_string()
                .ends_with("is not empty and holds no evaluation")
        );
    }
}
