//! The cache on disk, in the layout of Python's `huggingface_hub`, so that each finds what the
//! other fetched:
//!
//! ```text
//! models--owner--name/                       datasets--owner--name/ for data sets
//!   blobs/<etag>                             a file's bytes, under the name that the hub gives them
//!   blobs/<etag>.incomplete                  as much of them as has come
//!   snapshots/<commit>/<path>                a link to the blob
//!   .no_exist/<commit>/<path>                the commit has no such file
//!   refs/<branch or tag>                     the commit that it was at
//!   .files/<commit>.json                     the names of all files of the commit; ours alone
//!   trees/<commit>.json                      the same with lengths and sums, from version 2 of `huggingface_hub`; only read
//! .locks/models--owner--name/<etag>.lock     held while the blob is fetched
//! ```

use super::{Repository, RepositoryKind, is_commit, is_name};
use crate::{Context, Error, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The part of the cache that belongs to one repository.
#[derive(Debug)]
pub struct Shelf {
    cache: PathBuf,
    /// The folder's name: `models--owner--name`.
    name: String,
    /// Whether snapshots link to blobs.
    symlinks: bool,
}

/// The state of a file in the cache.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    File(PathBuf),
    /// The commit does not have the file.
    Absent,
    /// A link without a target: the commit has the file, but its bytes are gone.
    Broken(PathBuf),
    Nothing,
}

impl Shelf {
    pub fn new(cache: &Path, repository: &Repository, symlinks: bool) -> Self {
        let kind = match repository.kind {
            RepositoryKind::Model => "models",
            RepositoryKind::Dataset => "datasets",
        };
        Self {
            cache: cache.to_owned(),
            name: format!("{kind}--{}", repository.id.replace('/', "--")),
            symlinks,
        }
    }

    fn path(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    pub fn blob(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(etag)
    }

    pub fn part(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(format!("{etag}.incomplete"))
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.path().join(".no_exist").join(commit).join(file)
    }

    fn listing(&self, commit: &str) -> PathBuf {
        self.path().join(".files").join(format!("{commit}.json"))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.path().join("refs").join(revision)
    }

    /// The commit of `revision`, as of the last look-up.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.reference(revision))
            .ok()?
            .trim()
            .to_owned();
        is_commit(&commit).then_some(commit)
    }

    pub fn remember_commit(&self, revision: &str, commit: &str) -> Result<()> {
        write(&self.reference(revision), commit)
    }

    pub fn find(&self, commit: &str, file: &str) -> Known {
        let path = self.snapshot(commit).join(file);
        if path.is_file() {
            Known::File(path)
        } else if path.is_symlink() {
            Known::Broken(path)
        } else if self.absence(commit, file).exists() {
            Known::Absent
        } else {
            Known::Nothing
        }
    }

    pub fn remember_absence(&self, commit: &str, file: &str) -> Result<()> {
        write(&self.absence(commit, file), "")
    }

    /// The names of all files of a commit, if this program or Python ever asked for them.
    pub fn files(&self, commit: &str) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Tree {
            format_version: u32,
            files: BTreeMap<String, IgnoredAny>,
        }
        let ours = || serde_json::from_str(&fs::read_to_string(self.listing(commit)).ok()?).ok();
        let pythons = || {
            let path = self.path().join("trees").join(format!("{commit}.json"));
            let tree: Tree = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
            (tree.format_version == 1).then(|| tree.files.into_keys().collect())
        };
        ours().or_else(pythons)
    }

    pub fn remember_files(&self, commit: &str, files: &[String]) -> Result<()> {
        let text =
            serde_json::to_string(files).context(|| "cannot write the names of files".into())?;
        write(&self.listing(commit), &text)
    }

    /// The names of the commit's files that are in the cache.
    pub fn files_here(&self, commit: &str) -> Vec<String> {
        crate::folder::files_below(&self.snapshot(commit))
    }

    /// Links the file `name` of `commit` to the blob `etag`.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(name);
        let failed = || format!("cannot write {}", path.display());
        make_parent(&path)?;
        let point = |path: &Path, blob: &Path| match self.symlinks {
            true => point(path, blob, name),
            false => copy(path, blob),
        };
        let mut linked = point(&path, &self.blob(etag));
        let exists = |linked: &std::io::Result<()>| matches!(linked, Err(cause) if cause.kind() == ErrorKind::AlreadyExists);
        // A link without a target is useless to everybody.
        if exists(&linked) && !path.exists() {
            fs::remove_file(&path).context(failed)?;
            linked = point(&path, &self.blob(etag));
        }
        match linked {
            // Another process was faster.
            linked if exists(&linked) => Ok(path),
            linked => linked.map(|()| path.clone()).context(failed),
        }
    }

    /// Waits until no other process fetches the blob, and prevents others until the lock is
    /// dropped.
    pub fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<File> {
        let path = self
            .cache
            .join(".locks")
            .join(&self.name)
            .join(format!("{etag}.lock"));
        let failed = || format!("cannot lock {}", path.display());
        make_parent(&path)?;
        let file = File::create(&path).context(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().context(failed)?;
            }
            // The file system has no locks: checksums show if two processes interfere.
            Err(TryLockError::Error(cause)) if cause.kind() != ErrorKind::Unsupported => {
                return Err(cause).context(failed);
            }
            _ => {}
        }
        Ok(file)
    }
}

/// Links to a blob, relatively, so that a cache can be moved.
#[cfg(unix)]
fn point(path: &Path, blob: &Path, name: &str) -> std::io::Result<()> {
    let up = "../".repeat(name.split('/').count() + 1);
    let blob = blob.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(blob), path)
}

/// Copies a blob, since links need privileges on this system.
#[cfg(not(unix))]
fn point(path: &Path, blob: &Path, _name: &str) -> std::io::Result<()> {
    copy(path, blob)
}

/// Copies a blob so that it appears as a whole, and a reader never sees half of one.
fn copy(path: &Path, blob: &Path) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut beside = tempfile::Builder::new()
        .prefix(".copy-")
        .tempfile_in(folder)?;
    std::io::copy(&mut File::open(blob)?, beside.as_file_mut())?;
    beside
        .persist_noclobber(path)
        .map(|_| ())
        .map_err(|cause| cause.error)
}

pub fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|cause| {
        Error::hub(format!("cannot make the folder {}", parent.display()))
            .caused_by(cause)
            .hint("choose another folder for the cache with HF_HOME")
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

/// Whether `name` names a file inside a repository, since it becomes a path in the cache.
pub fn is_file_name(name: &str) -> bool {
    let inside = |component| matches!(component, Component::Normal(_));
    !name.is_empty()
        && !name.contains('\\')
        && Path::new(name).components().all(inside)
        && !name.contains("//")
}

/// Whether `etag` can be the name of a blob.
pub fn is_blob_name(etag: &str) -> bool {
    is_name(etag) && !etag.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn shelf(cache: &Path) -> Shelf {
        Shelf::new(
            cache,
            &Repository {
                kind: RepositoryKind::Dataset,
                id: "o/n".into(),
                revision: "main".into(),
            },
            true,
        )
    }

    #[test]
    fn files_are_found_by_commit_and_name_in_pythons_layout() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        for name in ["a.jsonl", "data/b.jsonl", "x/y/c.jsonl"] {
            assert_eq!(shelf.find(COMMIT, name), Known::Nothing);
            write(&shelf.blob("etag"), "text").unwrap();
            let path = shelf.link(COMMIT, name, "etag").unwrap();
            assert_eq!(
                path,
                folder
                    .path()
                    .join("datasets--o--n/snapshots")
                    .join(COMMIT)
                    .join(name)
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), "text");
            assert_eq!(shelf.find(COMMIT, name), Known::File(path));
        }
        assert_eq!(
            shelf.files_here(COMMIT),
            ["a.jsonl", "data/b.jsonl", "x/y/c.jsonl"]
        );
        fs::remove_file(shelf.blob("etag")).unwrap();
        #[cfg(unix)]
        assert!(matches!(shelf.find(COMMIT, "a.jsonl"), Known::Broken(_)));
    }

    #[test]
    fn what_was_learnt_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        assert_eq!(
            (shelf.commit("refs/pr/1"), shelf.files(COMMIT)),
            (None, None)
        );
        shelf.remember_commit("refs/pr/1", COMMIT).unwrap();
        shelf.remember_absence(COMMIT, "data/x").unwrap();
        shelf.remember_files(COMMIT, &["data/b".into()]).unwrap();
        assert_eq!(shelf.commit("refs/pr/1").as_deref(), Some(COMMIT));
        assert_eq!(shelf.commit(COMMIT).as_deref(), Some(COMMIT));
        assert_eq!(shelf.find(COMMIT, "data/x"), Known::Absent);
        assert_eq!(shelf.files(COMMIT).unwrap(), ["data/b"]);
        fs::remove_file(shelf.listing(COMMIT)).unwrap();
        let tree = folder
            .path()
            .join("datasets--o--n/trees")
            .join(format!("{COMMIT}.json"));
        for (version, expected) in [(1, Some(vec!["data/a".to_owned()])), (2, None)] {
            let files = r#"{"data/a": {"size": 3, "blob_id": "abc"}}"#;
            write(
                &tree,
                &format!(r#"{{"format_version": {version}, "files": {files}}}"#),
            )
            .unwrap();
            assert_eq!(shelf.files(COMMIT), expected);
        }
    }

    #[test]
    fn names_cannot_lead_out_of_the_cache() {
        assert!(
            ["a", "a/b-1.parquet", "a b/ü#?"]
                .iter()
                .all(|name| is_file_name(name))
        );
        assert!(
            !["", "/a", "../a", "a/../b", "a\\b", ".", "./a", "a//b"]
                .iter()
                .any(|name| is_file_name(name))
        );
        assert!(
            ["ce013625", "abc-12", "v1.0"]
                .iter()
                .all(|etag| is_blob_name(etag))
        );
        assert!(
            !["", "..", "a/b", ".hidden", "a b"]
                .iter()
                .any(|etag| is_blob_name(etag))
        );
    }
}
