//! Folders that appear all at once or not at all, and lists of the files in them.

use crate::{Context, Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that is filled beside its final place. Unless it is published, nothing of it remains.
#[derive(Debug)]
pub struct UnpublishedFolder {
    /// Holds the draft, and the folder it replaces while the two change places.
    beside: TempDir,
    place: PathBuf,
}

impl UnpublishedFolder {
    /// Creates an empty folder that is to appear at `place`. Missing parent folders are created.
    pub fn new(place: &Path) -> Result<Self> {
        let made = |path: &Path| format!("cannot create the folder {}", path.display());
        if place.file_name().is_none() {
            return Err(Error::files(format!(
                "{} is not the name of a folder",
                place.display()
            )));
        }
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).context(|| made(parent))?;
        let beside = tempfile::Builder::new()
            .prefix(".draft-")
            .tempdir_in(parent)
            .context(|| made(parent))?;
        let draft = Self {
            beside,
            place: place.to_owned(),
        };
        fs::create_dir(draft.path()).context(|| made(&draft.path()))?;
        Ok(draft)
    }

    /// The folder to fill.
    pub fn path(&self) -> PathBuf {
        self.beside.path().join("new")
    }

    /// Puts the folder in its place. A folder that was there is set aside first, put back if that
    /// fails, and removed otherwise.
    pub fn publish(self) -> Result<()> {
        let failed = || {
            format!(
                "cannot put the new folder in its place {}",
                self.place.display()
            )
        };
        let aside = self.beside.path().join("earlier");
        let earlier = self.place.try_exists().context(failed)?;
        if earlier {
            fs::rename(&self.place, &aside).context(failed)?;
        }
        let placed = fs::rename(self.path(), &self.place);
        if placed.is_err() && earlier {
            fs::rename(&aside, &self.place).context(failed)?;
        }
        placed.context(failed)
    }
}

/// The files below `folder`, by their path in it, with `/` between names, sorted. Hidden files are
/// left out.
pub fn files_below(folder: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![(folder.to_owned(), String::new())]);
    while let Some((folder, prefix)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            match name.starts_with('.') {
                true => {}
                false if path.is_dir() => open.push((path, format!("{prefix}{name}/"))),
                // A link that leads nowhere does not count as a file.
                false if path.exists() => found.push(format!("{prefix}{name}")),
                false => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_draft_replaces_its_place_whole_or_leaves_it() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("a/b");
        for (file, publish, left) in [
            ("one", true, "one"),
            ("two", false, "one"),
            ("three", true, "three"),
        ] {
            let draft = UnpublishedFolder::new(&place).unwrap();
            fs::write(draft.path().join(file), file).unwrap();
            if publish {
                draft.publish().unwrap();
            } else {
                drop(draft);
            }
            assert_eq!(names(&place), [left]);
            assert_eq!(
                names(&parent.path().join("a")),
                ["b"],
                "nothing else is left behind"
            );
        }
    }

    #[test]
    fn a_place_without_a_name_is_refused() {
        assert!(UnpublishedFolder::new(Path::new("/")).is_err());
        assert!(UnpublishedFolder::new(Path::new("..")).is_err());
    }

    #[test]
    fn files_are_found_in_folders_but_not_hidden_ones() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "data/a.csv", ".git/c.csv"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(files_below(folder.path()), ["b.csv", "data/a.csv"]);
        assert_eq!(files_below(&folder.path().join("absent")), [""; 0]);
    }
}
