//! The folder that holds every artifact, one per stage key.
//!
//! ```text
//! store.json                 {"format_version": 1}
//! specs/<key>.json           the planned stage: spec, label, cost
//! locks/<key>.lock           locked by the process that computes the stage, for those of its machine
//! claims/<key>.<number>      rewritten by the process that computes the stage, for other nodes
//! tmp/<key>.<attempt>/       the artifact being written
//! scratch/<key>.<attempt>/   the stage's checkpoints, until it is published
//! artifacts/<2 hex>/<key>/   finished, with manifest.json
//! failures/<key>.log         the error of the last failed attempt
//! plans/<id>.json            the stages that workers compute together
//! workers/<job>.out          what the worker of a Slurm job printed
//! ```
//!
//! A name is looked up by listing its folder: where nodes share a file system, a direct lookup that
//! finds nothing may keep finding nothing long after another node has created the name; a listing
//! does not.

use super::attempt::Attempt;
use super::claim::Claim;
use super::graph::{Graph, PlannedStage};
use super::key::StageKey;
use super::lock::StageLock;
use super::manifest::{FORMAT_VERSION, MANIFEST, Manifest};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: &str = "store.json";

#[derive(Serialize, Deserialize)]
struct Header {
    format_version: u32,
}

/// A folder of artifacts. Any number of processes on any number of nodes may use one store at the
/// same time.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The part that is kept of whatever lies at an artifact's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    Nothing,
    /// An artifact that turns out to be whole because another attempt has published it meanwhile.
    Whole,
}

impl Store {
    /// Opens the store in `dir`, creating it if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be written, holds a store of a newer format, or holds something else.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        files::create_dir(dir)?;
        let (header, names) = (dir.join(HEADER), files::names_in(dir)?);
        if !names.iter().any(|name| name == HEADER) {
            let stranger = names.into_iter().find(|name| !name.starts_with('.'));
            // Listed once more, since another process may be creating the store at this moment: it
            // writes the header first.
            if let Some(stranger) = stranger.filter(|_| !files::is_listed(&header)) {
                return Err(Error::store(format!(
                    "{} is not a store: it already holds `{stranger}`",
                    dir.display()
                ))
                .hint("give --store an empty folder, or one that touchstone made"));
            }
            files::replace_synced(
                &header,
                &files::to_json(
                    &Header {
                        format_version: FORMAT_VERSION,
                    },
                    &header,
                )?,
            )?;
        }
        let store = Self::open_existing(dir)?;
        store.furnish()?;
        Ok(store)
    }

    /// Creates the missing folders, including those of the artifacts, so that no folder is created
    /// while two nodes look for it.
    fn furnish(&self) -> Result<()> {
        let folders = [
            "specs",
            "locks",
            "claims",
            "tmp",
            "scratch",
            "artifacts",
            "failures",
            "plans",
            "workers",
        ];
        self.make_folders(&self.root, folders.map(str::to_owned))?;
        self.make_folders(
            &self.root.join("artifacts"),
            (0..=u8::MAX).map(|shard| format!("{shard:02x}")),
        )
    }

    fn make_folders(&self, within: &Path, names: impl IntoIterator<Item = String>) -> Result<()> {
        let there: BTreeSet<String> = files::names_in(within)?.into_iter().collect();
        let missing: Vec<String> = names
            .into_iter()
            .filter(|name| !there.contains(name))
            .collect();
        missing
            .iter()
            .try_for_each(|name| files::create_dir(&within.join(name)))?;
        if missing.is_empty() {
            Ok(())
        } else {
            files::sync_dir(within)
        }
    }

    /// Opens the store in `dir`, which must exist; creates nothing.
    pub fn open_existing(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let header = dir.join(HEADER);
        if !files::names_in(dir)?.iter().any(|name| name == HEADER) {
            return Err(
                Error::store(format!("there is no store in {}", dir.display()))
                    .hint("name the folder with --store, or make one with `touchstone reproduce`"),
            );
        }
        files::wait_until_visible(&header);
        let found = own_json::<Header>(&header)
            .map_err(|error| {
                error.hint(format!("if this is a store, write {{\"format_version\": {FORMAT_VERSION}}} into this file"))
            })?
            .format_version;
        if found > FORMAT_VERSION {
            return Err(Error::store(format!(
                "the store in {} has format {found}, and this program knows formats up to {FORMAT_VERSION}",
                dir.display()
            ))
            .hint("use the newer touchstone that wrote it, or another folder with --store"));
        }
        let root = dir
            .canonicalize()
            .map_err(|cause| files::failed("open", dir, cause))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the artifact of `key`, which need not exist.
    pub(super) fn artifact_dir(&self, key: &StageKey) -> PathBuf {
        let hex = key.to_string();
        self.root.join("artifacts").join(&hex[..2]).join(hex)
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The folder of stored plans.
    pub fn plans(&self) -> PathBuf {
        self.root.join("plans")
    }

    /// The folder of what workers print.
    pub fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// Writes as much as a small stage does, and removes it.
    ///
    /// # Errors
    /// A file system that is read-only, full or over its quota.
    pub fn probe(&self) -> Result<()> {
        const BYTES: usize = 1 << 20;
        let folder = self.tmp();
        let mut file = tempfile::Builder::new()
            .prefix(".probe-")
            .tempfile_in(&folder)
            .map_err(|cause| files::failed("create a file in", &folder, cause))?;
        std::io::Write::write_all(&mut file, &vec![1; BYTES])
            .and_then(|()| file.as_file().sync_all())
            .map_err(|cause| files::failed("write to", &folder, cause))
    }

    /// The folders in `within` that belong to attempts at `key`. Older programs, whose attempts had
    /// no names, named theirs by the key alone.
    pub(super) fn attempts(&self, within: &Path, key: &StageKey) -> Result<Vec<PathBuf>> {
        let names = files::names_in(within)?
            .into_iter()
            .filter(|name| attempt_at(name) == Some(*key));
        Ok(names.map(|name| within.join(name)).collect())
    }

    /// Path of the log with the error of the last failed attempt at `key`, if one failed since the
    /// stage last succeeded.
    pub fn failure_log(&self, key: &StageKey) -> PathBuf {
        self.root.join("failures").join(format!("{key}.log"))
    }

    /// The artifact's folder, if it is complete.
    pub fn artifact(&self, key: &StageKey) -> Option<PathBuf> {
        self.is_complete(key).then(|| self.artifact_dir(key))
    }

    /// The path of the file `name` in a complete artifact, if both exist.
    ///
    /// # Errors
    /// If its bytes are not those that were written.
    pub fn file(&self, key: &StageKey, name: &str) -> Result<Option<PathBuf>> {
        let Ok(manifest) = self.manifest(key) else {
            return Ok(None);
        };
        let path = self.artifact_dir(key).join(name);
        manifest
            .files
            .get(name)
            .map(|record| check(&path, record).map(|()| path.clone()))
            .transpose()
    }

    /// The artifact's folder, if it is complete.
    ///
    /// # Errors
    /// If the bytes of a file are not those that were written.
    pub fn intact(&self, key: &StageKey) -> Result<Option<PathBuf>> {
        let Ok(manifest) = self.manifest(key) else {
            return Ok(None);
        };
        let dir = self.artifact_dir(key);
        manifest
            .files
            .iter()
            .try_for_each(|(name, record)| check(&dir.join(name), record))?;
        Ok(Some(dir))
    }

    /// True if the artifact is there with a valid manifest and files of the right sizes. This check
    /// is cheap; [`Store::intact`] and [`Store::verify`] rehash.
    pub fn is_complete(&self, key: &StageKey) -> bool {
        self.manifest(key).is_ok()
    }

    /// The manifest of a complete artifact.
    ///
    /// # Errors
    /// If the artifact is missing or incomplete; the message says which.
    pub fn manifest(&self, key: &StageKey) -> Result<Manifest> {
        let dir = self.artifact_dir(key);
        if !files::is_listed(&dir) {
            return Err(Error::store(format!("{} is not there", dir.display())));
        }
        manifest_of_whole(&dir, key)
    }

    /// The manifest, checked only against the folder's name and its own seal.
    pub(super) fn read_manifest(&self, key: &StageKey) -> Result<Manifest> {
        manifest_in(&self.artifact_dir(key), key)
    }

    /// Keys of all artifact folders, whole or not, ascending.
    pub(super) fn keys(&self) -> Result<Vec<StageKey>> {
        let artifacts = self.root.join("artifacts");
        let mut keys = Vec::new();
        for shard in files::names_in(&artifacts)? {
            let names = files::names_in(&artifacts.join(&shard))?;
            keys.extend(
                names
                    .iter()
                    .filter(|name| name.starts_with(&shard))
                    .filter_map(|name| name.parse::<StageKey>().ok()),
            );
        }
        Ok(keys)
    }

    /// Manifests of all complete artifacts, by label.
    pub fn list(&self) -> Result<Vec<Manifest>> {
        let mut found: Vec<_> = self
            .keys()?
            .iter()
            .filter_map(|key| manifest_of_whole(&self.artifact_dir(key), key).ok())
            .collect();
        found.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        Ok(found)
    }

    /// The only planned or finished stage whose key begins with `prefix`.
    pub fn find(&self, prefix: &str) -> Result<StageKey> {
        let planned = files::names_in(&self.specs())?;
        let planned = planned
            .iter()
            .filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        let mut keys: Vec<StageKey> = self.keys()?.into_iter().chain(planned).collect();
        keys.retain(|key| key.to_string().starts_with(&prefix.to_ascii_lowercase()));
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [key] => Ok(*key),
            [] => Err(Error::store(format!(
                "no stage in {} has a key that begins with `{prefix}`",
                self.root.display()
            ))
            .hint("`touchstone runs list` shows all keys")),
            [first, second, ..] => Err(Error::store(format!(
                "{} stages have keys that begin with `{prefix}`",
                keys.len()
            ))
            .hint(format!(
                "give more digits: {} and {} are two of them",
                first.short(),
                second.short()
            ))),
        }
    }

    /// Records every stage of the graph, so that a process needs only a key to compute one.
    pub fn plan(&self, graph: &Graph) -> Result<()> {
        let planned = files::names_in(&self.specs())?.into_iter().collect();
        graph
            .iter()
            .try_for_each(|stage| self.plan_stage(stage, &planned))
    }

    fn plan_stage(&self, stage: &PlannedStage, planned: &BTreeSet<String>) -> Result<()> {
        let path = self.spec_path(&stage.key);
        let bytes = files::to_json(stage, &path)?;
        if planned.contains(&format!("{}.json", stage.key))
            && fs::read(&path).is_ok_and(|found| found == bytes)
        {
            return Ok(());
        }
        files::replace(&path, &bytes)
    }

    /// The stage that was planned under `key`.
    pub fn planned(&self, key: &StageKey) -> Result<PlannedStage> {
        let path = self.spec_path(key);
        let stage: PlannedStage = own_json(&path).context(|| {
            format!(
                "stage {} is not planned in the store {}",
                key.short(),
                self.root.display()
            )
        })?;
        if stage.key != *key || stage.spec.key() != *key {
            return Err(
                Error::store(format!("{} belongs to another stage", path.display()))
                    .hint("plan it again by running the experiment's command once more"),
            );
        }
        Ok(stage)
    }

    pub(super) fn specs(&self) -> PathBuf {
        self.root.join("specs")
    }

    pub(super) fn spec_path(&self, key: &StageKey) -> PathBuf {
        self.specs().join(format!("{key}.json"))
    }

    /// Creates an empty folder for the artifact, and one with the checkpoints of earlier attempts,
    /// which are over.
    pub(super) fn begin(&self, lock: StageLock, claim: Claim) -> Result<Attempt> {
        Attempt::begin(self.clone(), lock, claim)
    }

    /// Removes the artifact of `key`, or whatever lies at its place.
    pub(super) fn set_aside(&self, key: &StageKey, spare: Spare) -> Result<()> {
        let place = self.artifact_dir(key);
        self.take_away(&place, key, |aside| {
            if spare == Spare::Whole && manifest_of_whole(aside, key).is_ok() {
                // An artifact that was published meanwhile is just as good.
                let _ = fs::rename(aside, &place);
            }
        })
    }

    /// Removes a folder of an attempt at `key` that is over.
    pub(super) fn discard(&self, folder: &Path, key: &StageKey) -> Result<()> {
        self.take_away(folder, key, |_| ())
    }

    /// Removes a file or folder after renaming it: nobody sees a half-removed one, and an attempt
    /// that is unexpectedly still alive cannot publish the rest of its folder.
    fn take_away(&self, path: &Path, key: &StageKey, before: impl FnOnce(&Path)) -> Result<()> {
        let tmp = self.tmp();
        let beside = tempfile::Builder::new()
            .prefix(&format!("{key}."))
            .tempdir_in(&tmp)
            .map_err(|cause| files::failed("create a folder in", &tmp, cause))?
            .keep();
        let aside = beside.join("aside");
        match fs::rename(path, &aside) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                let _ = fs::remove_dir(&beside);
                return Err(files::failed("remove", path, cause));
            }
            Ok(()) => before(&aside),
            Err(_) => {}
        }
        files::remove_dir(&beside)
    }
}

/// The stage to which an attempt's folder belongs.
pub(super) fn attempt_at(name: &str) -> Option<StageKey> {
    name.split('.').next()?.parse().ok()
}

fn manifest_in(dir: &Path, key: &StageKey) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let manifest = Manifest::read(&path)?;
    if manifest.key != *key || manifest.spec.key() != *key {
        return Err(Error::store(format!(
            "{} belongs to another stage",
            path.display()
        )));
    }
    Ok(manifest)
}

/// The manifest as read by [`manifest_in`], if all files are there with the sizes that it records.
pub(super) fn manifest_of_whole(dir: &Path, key: &StageKey) -> Result<Manifest> {
    let manifest = manifest_in(dir, key)?;
    for (name, file) in &manifest.files {
        let path = dir.join(name);
        let found = path
            .metadata()
            .map_err(|cause| files::failed("read", &path, cause))?
            .len();
        if found != file.bytes {
            return Err(Error::store(format!(
                "{} has {found} bytes instead of {}",
                path.display(),
                file.bytes
            )));
        }
    }
    Ok(manifest)
}

/// Compares a file with the record made when it was written.
fn check(path: &Path, record: &files::FileRecord) -> Result<()> {
    if files::hash(path)? == *record {
        return Ok(());
    }
    Err(Error::store(format!("{} was changed since it was written", path.display())).hint(
        "`touchstone runs verify --repair` removes what is damaged; the same command again then computes it anew",
    ))
}

/// The value in one of the store's own JSON files.
pub(super) fn own_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    files::read_json(path).map_err(|error| error.of_kind(ErrorKind::Store))
}
