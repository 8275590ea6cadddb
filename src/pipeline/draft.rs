//! An artifact being written. It becomes visible in one rename, after everything in it is on the disk.

use super::manifest::{MANIFEST, Manifest};
use super::store::{StageLock, Store};
use crate::error::{Error, Result};
use crate::files::{self, FileRecord};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The temporary folder of one stage, owned through the stage's lock.
#[derive(Debug)]
pub struct Draft {
    store: Store,
    lock: StageLock,
    out: PathBuf,
    scratch: PathBuf,
}

impl Draft {
    pub(super) fn begin(store: Store, lock: StageLock) -> Result<Self> {
        let (out, scratch) = (store.tmp_dir(&lock.key()), store.scratch_dir(&lock.key()));
        files::remove_dir(&out)?;
        files::create_dir(&out)?;
        files::create_dir(&scratch)?;
        Ok(Self { store, lock, out, scratch })
    }

    /// Where the artifact's files go.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where checkpoints go: kept when the process is killed, removed when the artifact is published.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Hashes and syncs every file, writes the manifest last, and moves the folder to its place.
    /// `manifest.files` is filled here.
    pub fn publish(self, mut manifest: Manifest) -> Result<Manifest> {
        if self.out.join(MANIFEST).exists() {
            return Err(Error::store(format!("stage `{}` wrote a file called {MANIFEST}", manifest.label))
                .hint("this name is the store's own: choose another one in the stage"));
        }
        let mut folders = BTreeSet::new();
        for (name, path) in plain_files(&self.out)? {
            manifest.files.insert(name, sync_and_hash(&path)?);
            let inside = path.ancestors().skip(1).take_while(|folder| *folder != self.out);
            folders.extend(inside.map(Path::to_owned));
        }
        folders.iter().try_for_each(|folder| files::sync_dir(folder))?;
        let path = self.out.join(MANIFEST);
        files::write_synced(&path, &files::to_json(&manifest, &path)?)?;
        files::sync_dir(&self.out)?;

        let target = self.store.artifact_dir(&self.lock.key());
        let shard = target.parent().unwrap_or(self.store.root());
        files::create_dir(shard)?;
        // Under our lock and not complete, or we would not be here: a folder in the way is damaged.
        files::remove_dir(&target)?;
        fs::rename(&self.out, &target).map_err(|cause| files::failed("publish the artifact as", &target, cause))?;
        files::sync_dir(shard)?;
        files::sync_dir(&self.store.root().join("artifacts"))?;

        files::remove_dir(&self.scratch)?;
        files::remove_file(&self.store.failure_log(&self.lock.key()))?;
        Ok(manifest)
    }
}

/// Relative name and path of every file under `dir`, sorted by name.
///
/// # Errors
/// If there is anything but plain files and folders, or a name that is not UTF-8: neither can be moved between machines.
pub(super) fn plain_files(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, folder)) = waiting.pop() {
        let cannot_read = |cause| files::failed("read the folder", &folder, cause);
        for entry in fs::read_dir(&folder).map_err(cannot_read)? {
            let entry = entry.map_err(cannot_read)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(cannot_read)?);
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::store(format!("{} has a name that is not UTF-8", path.display())));
            };
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                waiting.push((format!("{name}/"), path));
            } else if kind.is_file() {
                found.push((name, path));
            } else {
                return Err(Error::store(format!("{} is neither a file nor a folder", path.display()))
                    .hint("an artifact holds plain files only: copy what a link points at"));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn sync_and_hash(path: &Path) -> Result<FileRecord> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|cause| files::failed("sync", path, cause))?;
    files::hash(path)
}
