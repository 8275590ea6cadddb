//! The folder that holds every artifact, one per stage key.
//!
//! ```text
//! store.json               {"format_version": 1}
//! specs/<key>.json         what is planned: spec, label, cost
//! locks/<key>.lock         locked while a process computes the stage
//! tmp/<key>/               the artifact being written
//! scratch/<key>/           the stage's checkpoints, until it is published
//! artifacts/<2 hex>/<key>/ finished, with manifest.json
//! failures/<key>.log       what the last failed attempt said
//! ```

use super::draft::Draft;
use super::graph::{Graph, PlannedStage};
use super::key::StageKey;
use super::manifest::{FORMAT_VERSION, MANIFEST, Manifest};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
struct Header {
    format_version: u32,
}

/// A folder of artifacts. Any number of processes may use one store at the same time.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The right to compute one stage; given back when dropped, and by the operating system when the process dies.
#[derive(Debug)]
pub struct StageLock {
    key: StageKey,
    _file: File,
}

impl StageLock {
    pub fn key(&self) -> StageKey {
        self.key
    }
}

impl Store {
    /// Opens the store in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// If the folder cannot be written, holds a store of a newer format, or holds something that is no store.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        files::create_dir(dir)?;
        let header = dir.join("store.json");
        if !header.exists() {
            let stranger = files::names_in(dir)?.into_iter().find(|name| !name.starts_with('.'));
            // Looked at once more, since another process may be making the store at this moment.
            if let Some(stranger) = stranger.filter(|_| !header.exists()) {
                return Err(Error::store(format!("{} is not a store: it already holds `{stranger}`", dir.display()))
                    .hint("give --store an empty folder, or one that touchstone made"));
            }
            if !header.exists() {
                files::replace_synced(&header, &files::to_json(&Header { format_version: FORMAT_VERSION }, &header)?)?;
            }
        }
        let store = Self::open_existing(dir)?;
        for folder in ["specs", "locks", "tmp", "scratch", "artifacts", "failures"] {
            files::create_dir(&store.root.join(folder))?;
        }
        Ok(store)
    }

    /// Opens the store in `dir`, which must be one already; creates nothing.
    pub fn open_existing(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let header = dir.join("store.json");
        if !header.exists() {
            return Err(Error::store(format!("there is no store in {}", dir.display()))
                .hint("name the folder with --store, or make one with `touchstone reproduce`"));
        }
        let found = own_json::<Header>(&header)?.format_version;
        if found > FORMAT_VERSION {
            return Err(Error::store(format!(
                "the store in {} has format {found}, and this program knows formats up to {FORMAT_VERSION}",
                dir.display()
            ))
            .hint("use the newer touchstone that wrote it, or another folder with --store"));
        }
        let root = dir.canonicalize().map_err(|cause| files::failed("open", dir, cause))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the artifact of `key` is or would be.
    pub(super) fn artifact_dir(&self, key: &StageKey) -> PathBuf {
        let hex = key.to_string();
        self.root.join("artifacts").join(&hex[..2]).join(hex)
    }

    pub(super) fn tmp_dir(&self, key: &StageKey) -> PathBuf {
        self.root.join("tmp").join(key.to_string())
    }

    pub(super) fn scratch_dir(&self, key: &StageKey) -> PathBuf {
        self.root.join("scratch").join(key.to_string())
    }

    /// What the last failed attempt at `key` said, if there was one since it last succeeded.
    pub fn failure_log(&self, key: &StageKey) -> PathBuf {
        self.root.join("failures").join(format!("{key}.log"))
    }

    /// The artifact's folder, if it is complete.
    pub fn artifact(&self, key: &StageKey) -> Option<PathBuf> {
        self.is_complete(key).then(|| self.artifact_dir(key))
    }

    /// Whether the artifact is there with a valid manifest and files of the right sizes. Cheap; [`Store::verify`]
    /// rehashes.
    pub fn is_complete(&self, key: &StageKey) -> bool {
        self.manifest(key).is_ok()
    }

    /// The manifest of a complete artifact.
    ///
    /// # Errors
    /// If the artifact is not there or not whole; the message says which.
    pub fn manifest(&self, key: &StageKey) -> Result<Manifest> {
        let dir = self.artifact_dir(key);
        let manifest = self.read_manifest(key)?;
        for (name, file) in &manifest.files {
            let path = dir.join(name);
            let found = path.metadata().map_err(|cause| files::failed("read", &path, cause))?.len();
            if found != file.bytes {
                return Err(Error::store(format!("{} has {found} bytes instead of {}", path.display(), file.bytes)));
            }
        }
        Ok(manifest)
    }

    /// The manifest alone, checked against the folder's name and against itself.
    pub(super) fn read_manifest(&self, key: &StageKey) -> Result<Manifest> {
        let path = self.artifact_dir(key).join(MANIFEST);
        let manifest: Manifest = own_json(&path)?;
        if manifest.format_version > FORMAT_VERSION {
            return Err(Error::store(format!("{} has the newer format {}", path.display(), manifest.format_version)));
        }
        if manifest.key != *key || manifest.spec.key() != *key {
            return Err(Error::store(format!("{} belongs to another stage", path.display())));
        }
        Ok(manifest)
    }

    /// Keys of all artifact folders, whole or not, ascending.
    pub(super) fn keys(&self) -> Result<Vec<StageKey>> {
        let artifacts = self.root.join("artifacts");
        let mut keys = Vec::new();
        for shard in files::names_in(&artifacts)? {
            let names = files::names_in(&artifacts.join(&shard))?;
            keys.extend(
                names.iter().filter(|name| name.starts_with(&shard)).filter_map(|name| name.parse::<StageKey>().ok()),
            );
        }
        Ok(keys)
    }

    /// Manifests of all complete artifacts, by label.
    pub fn list(&self) -> Result<Vec<Manifest>> {
        let mut found: Vec<_> = self.keys()?.iter().filter_map(|key| self.manifest(key).ok()).collect();
        found.sort_by(|a, b| (&a.label, a.key).cmp(&(&b.label, b.key)));
        Ok(found)
    }

    /// The one planned or finished stage whose key begins with `prefix`.
    pub fn find(&self, prefix: &str) -> Result<StageKey> {
        let planned = files::names_in(&self.root.join("specs"))?;
        let planned = planned.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        let mut keys: Vec<StageKey> = self.keys()?.into_iter().chain(planned).collect();
        keys.retain(|key| key.to_string().starts_with(&prefix.to_ascii_lowercase()));
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [key] => Ok(*key),
            [] => {
                Err(Error::store(format!("no stage in {} has a key that begins with `{prefix}`", self.root.display()))
                    .hint("`touchstone runs list` shows all keys"))
            }
            [first, second, ..] => Err(Error::store(format!(
                "{} stages have keys that begin with `{prefix}`",
                keys.len()
            ))
            .hint(format!("give more digits: {} and {} are two of them", first.short(), second.short()))),
        }
    }

    /// Writes down every stage of the graph, so that a process needs no more than a key to compute one.
    pub fn plan(&self, graph: &Graph) -> Result<()> {
        graph.iter().try_for_each(|stage| self.plan_stage(stage))
    }

    fn plan_stage(&self, stage: &PlannedStage) -> Result<()> {
        let path = self.spec_path(&stage.key);
        let bytes = files::to_json(stage, &path)?;
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(());
        }
        files::replace(&path, &bytes)
    }

    /// The stage that was planned under `key`.
    pub fn planned(&self, key: &StageKey) -> Result<PlannedStage> {
        let path = self.spec_path(key);
        let stage: PlannedStage = own_json(&path)
            .context(|| format!("stage {} is not planned in the store {}", key.short(), self.root.display()))?;
        if stage.key != *key || stage.spec.key() != *key {
            return Err(Error::store(format!("{} belongs to another stage", path.display()))
                .hint("plan it again by running the experiment's command once more"));
        }
        Ok(stage)
    }

    fn spec_path(&self, key: &StageKey) -> PathBuf {
        self.root.join("specs").join(format!("{key}.json"))
    }

    /// Waits until no other process computes `key`, and keeps others from doing so.
    pub fn lock(&self, key: &StageKey) -> Result<StageLock> {
        let (path, file) = self.lock_file(key)?;
        file.lock().map_err(|cause| files::failed("lock", &path, cause))?;
        Ok(StageLock { key: *key, _file: file })
    }

    /// As [`Store::lock`], or `None` at once if another process holds it.
    pub fn try_lock(&self, key: &StageKey) -> Result<Option<StageLock>> {
        let (path, file) = self.lock_file(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(StageLock { key: *key, _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(files::failed("lock", &path, cause)),
        }
    }

    /// Lock files stay: removing one while another process waits for it would let two processes in.
    fn lock_file(&self, key: &StageKey) -> Result<(PathBuf, File)> {
        let path = self.root.join("locks").join(format!("{key}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|cause| files::failed("open", &path, cause))?;
        Ok((path, file))
    }

    /// An empty folder to write the artifact into. What an earlier attempt left half-written is removed; its
    /// checkpoints in scratch are kept.
    pub fn begin(&self, lock: StageLock) -> Result<Draft> {
        Draft::begin(self.clone(), lock)
    }

    /// Removes half-written artifacts that no living process is writing. Called when a pool starts.
    pub fn clean(&self) -> Result<()> {
        for name in files::names_in(&self.root.join("tmp"))? {
            let Ok(key) = name.parse::<StageKey>() else { continue };
            if let Some(_lock) = self.try_lock(&key)? {
                files::remove_dir(&self.tmp_dir(&key))?;
            }
        }
        Ok(())
    }
}

/// The value in one of the store's own JSON files.
fn own_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    files::read_json(path).map_err(|error| error.of_kind(ErrorKind::Store))
}
