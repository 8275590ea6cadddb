//! An attempt at a stage: folders that belong to it alone, and the rename that publishes one of
//! them.

use super::claim::Claim;
use super::key::StageKey;
use super::lock::StageLock;
use super::manifest::{MANIFEST, Manifest};
use super::store::{Spare, Store};
use crate::error::{Error, Result};
use crate::files::{self, FileRecord};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The name, inside an attempt's scratch folder, of an earlier attempt's scratch folder while it is
/// emptied.
const TAKEN: &str = ".taken";

/// The folders of one attempt, `tmp/<key>.<attempt>` and `scratch/<key>.<attempt>`. If it is
/// dropped unpublished, the first is removed and the second, with its checkpoints, is left to the
/// next attempt.
#[derive(Debug)]
pub struct Attempt {
    store: Store,
    key: StageKey,
    out: PathBuf,
    scratch: PathBuf,
    // Dropped in this order: the end of the attempt is made known first; then the next one may
    // begin.
    claim: Option<Claim>,
    _lock: StageLock,
}

impl Attempt {
    pub(super) fn begin(store: Store, lock: StageLock, claim: Claim) -> Result<Self> {
        let key = lock.key();
        let name = format!("{key}.{}", claim.attempt());
        let (out, scratch) = (store.tmp().join(&name), store.scratch().join(&name));
        let draft = Self {
            store,
            key,
            out,
            scratch,
            claim: Some(claim),
            _lock: lock,
        };
        // Earlier attempts are over; otherwise this one could not have claimed the stage.
        for left_over in draft.store.attempts(&draft.store.tmp(), &key)? {
            draft.store.discard(&left_over, &key)?;
        }
        files::create_dir(&draft.out)?;
        files::create_dir(&draft.scratch)?;
        draft.take_checkpoints()?;
        Ok(draft)
    }

    /// The folder for the artifact's files.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The folder for checkpoints: kept when the process is killed, removed when the artifact is
    /// published.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// True if others have declared this attempt over.
    pub(super) fn is_given_up(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::is_given_up)
    }

    /// Takes over the newest checkpoints of earlier attempts and removes the others. Their folder
    /// is renamed, which only one process can do, and emptied: an earlier attempt that is
    /// unexpectedly still alive then writes to a folder that is gone, and never into this
    /// attempt's.
    fn take_checkpoints(&self) -> Result<()> {
        let mut earlier = self.store.attempts(&self.store.scratch(), &self.key)?;
        earlier.retain(|folder| *folder != self.scratch);
        earlier.sort_by_key(|folder| {
            std::cmp::Reverse(
                folder
                    .metadata()
                    .and_then(|found| found.modified())
                    .unwrap_or(SystemTime::UNIX_EPOCH),
            )
        });
        let mut taken = false;
        for folder in earlier {
            if taken || files::names_in(&folder)?.is_empty() {
                self.store.discard(&folder, &self.key)?;
                continue;
            }
            let place = self.scratch.join(TAKEN);
            match fs::rename(&folder, &place) {
                Ok(()) => lift(&place, &self.scratch)?,
                Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
                Err(cause) => {
                    return Err(files::failed(
                        "take over the checkpoints in",
                        &folder,
                        cause,
                    ));
                }
            }
            taken = true;
        }
        Ok(())
    }

    /// Syncs and hashes every file, writes the manifest last, and moves the folder to its place;
    /// `manifest.files` is filled here. If another attempt has published already, its artifact is
    /// kept and this one is dropped.
    pub fn publish(&self, mut manifest: Manifest) -> Result<()> {
        if self.out.join(MANIFEST).exists() {
            return Err(Error::store(format!(
                "stage `{}` wrote a file called {MANIFEST}",
                manifest.label
            ))
            .hint("this name is the store's own: choose another one in the stage"));
        }
        let mut folders = BTreeSet::new();
        for (name, path) in plain_files(&self.out)? {
            manifest.files.insert(name, sync_and_hash(&path)?);
            let inside = path
                .ancestors()
                .skip(1)
                .take_while(|folder| *folder != self.out);
            folders.extend(inside.map(Path::to_owned));
        }
        folders
            .iter()
            .try_for_each(|folder| files::sync_dir(folder))?;
        let path = self.out.join(MANIFEST);
        files::write_synced(&path, &files::to_json(&manifest.sealed()?, &path)?)?;
        files::sync_dir(&self.out)?;
        self.put_in_place()
    }

    /// Renames the folder into place. This rename decides between attempts: an incomplete artifact
    /// at the place is removed.
    fn put_in_place(&self) -> Result<()> {
        const TRIES: u32 = 8;
        let target = self.store.artifact_dir(&self.key);
        let shard = target.parent().unwrap_or(self.store.root());
        files::create_dir(shard)?;
        for attempt in 1.. {
            if self.store.is_complete(&self.key) {
                return Ok(());
            }
            match fs::rename(&self.out, &target) {
                Ok(()) => break,
                Err(cause) if attempt == TRIES || !files::is_listed(&target) => {
                    return Err(files::failed("publish the artifact as", &target, cause));
                }
                Err(_) => {
                    files::wait_until_visible(&target);
                    self.store.set_aside(&self.key, Spare::Whole)?;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        files::sync_dir(shard)?;
        files::sync_dir(&self.store.root().join("artifacts"))
    }

    /// Removes what is not needed once the artifact is there.
    pub(super) fn finish(mut self) -> Result<()> {
        files::remove_dir(&self.scratch)?;
        files::remove_file(&self.store.failure_log(&self.key))?;
        if let Some(claim) = self.claim.take() {
            claim.settle();
        }
        Ok(())
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // If this fails, the next attempt or the next cleaning removes it.
        let _ = files::remove_dir(&self.out);
        let _ = fs::remove_dir(&self.scratch);
    }
}

/// Moves everything in `from` to `to`, which must not contain the same names, and removes `from`.
fn lift(from: &Path, to: &Path) -> Result<()> {
    for name in files::names_in(from)? {
        let (old, new) = (from.join(&name), to.join(&name));
        if name == TAKEN {
            lift(&old, to)?;
        } else {
            fs::rename(&old, &new)
                .map_err(|cause| files::failed("take over the checkpoint", &old, cause))?;
        }
    }
    files::remove_dir(from)
}

/// Relative name and path of every file under `dir`, sorted by name.
///
/// # Errors
/// If there is anything but plain files and folders, or a name that is not UTF-8: neither can be
/// moved between machines.
pub(super) fn plain_files(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, folder)) = waiting.pop() {
        let cannot_read = |cause| files::failed("read the folder", &folder, cause);
        for entry in fs::read_dir(&folder).map_err(cannot_read)? {
            let entry = entry.map_err(cannot_read)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(cannot_read)?);
            let Ok(name) = entry.file_name().into_string() else {
                return Err(Error::store(format!(
                    "{} has a name that is not UTF-8",
                    path.display()
                )));
            };
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                waiting.push((format!("{name}/"), path));
            } else if kind.is_file() {
                found.push((name, path));
            } else {
                return Err(Error::store(format!(
                    "{} is neither a file nor a folder",
                    path.display()
                ))
                .hint("an artifact holds plain files only: copy what a link points at"));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn sync_and_hash(path: &Path) -> Result<FileRecord> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|cause| files::failed("sync", path, cause))?;
    files::hash(path)
}
