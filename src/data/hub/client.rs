//! Fetching from a hub, file by file, into the cache that `huggingface_hub` uses too.

use super::failure::Place;
use super::is_commit;
use crate::{Context, Error, Result};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFClientBuilder, HFClientSync, HFError, HFRepositorySync, RepoTypeModel};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WEIGHTS: &str = "model.safetensors";
/// Which shard holds which tensor, where the weights are split.
const INDEX: &str = "model.safetensors.index.json";

/// A hub and the cache of what came from it.
#[derive(Debug)]
pub struct Hub {
    client: HFClientSync,
    endpoint: String,
    cache: PathBuf,
    offline: bool,
}

impl Hub {
    /// The hub that the environment names: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` (or `HF_HUB_CACHE`), `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// An `HF_ENDPOINT` that is not a URL.
    pub fn from_env() -> Result<Self> {
        let offline = std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_set(&value));
        Self::build(HFClient::builder(), offline)
    }

    /// The hub at `endpoint`, cached in the folder `cache`; asks nobody if `offline`.
    ///
    /// # Errors
    /// An endpoint that is not a URL.
    pub fn at(endpoint: &str, cache: &Path, offline: bool) -> Result<Self> {
        Self::build(HFClient::builder().endpoint(endpoint).cache_dir(cache), offline)
    }

    fn build(builder: HFClientBuilder, offline: bool) -> Result<Self> {
        let client = builder.build().map_err(|cause| {
            Error::new("cannot set up the connection to the hub")
                .caused_by(cause)
                .hint("HF_ENDPOINT must be a URL, as https://huggingface.co")
        })?;
        let (endpoint, cache) = (client.endpoint().to_owned(), client.cache_dir().to_owned());
        let client = HFClientSync::from_inner(client).context(|| "cannot start the hub's client".into())?;
        Ok(Self { client, endpoint, cache, offline })
    }

    /// The folder with the files `needed` of the repository `id`, and those of `optional` that it has; `model.safetensors`
    /// may be in shards. All come from one commit.
    ///
    /// # Errors
    /// As [`Source::fetch`](super::Source::fetch).
    pub fn fetch(&self, id: &str, revision: &str, needed: &[&str], optional: &[&str]) -> Result<PathBuf> {
        let (owner, name) = hf_hub::split_id(id);
        let mut repository = Repository {
            files: self.client.model(owner, name),
            place: Place { endpoint: &self.endpoint, cache: &self.cache, id, revision },
            commit: revision.to_owned(),
            offline: self.offline,
        };
        repository.pin()?;
        let mut folder = None;
        for name in needed {
            let file = if *name == WEIGHTS { repository.weights()? } else { repository.file(name)? };
            let file = file.ok_or_else(|| repository.place.has_no(name))?;
            folder = file.parent().map(Path::to_owned);
        }
        for name in optional {
            repository.file(name)?;
        }
        folder.ok_or_else(|| Error::new(format!("no file of {} was asked for", repository.place)))
    }
}

/// What `huggingface_hub` takes for yes.
fn is_set(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

/// One repository at one revision.
struct Repository<'a> {
    files: HFRepositorySync<RepoTypeModel>,
    place: Place<'a>,
    /// What files are asked for by. A branch or tag only while offline, where the cache remembers what it was.
    commit: String,
    offline: bool,
}

impl Repository<'_> {
    /// Looks up the commit of a branch or tag, so that all files belong together and the reader learns what to pin.
    fn pin(&mut self) -> Result<()> {
        if is_commit(&self.commit) || self.offline {
            return Ok(());
        }
        let info = self.files.info().revision(self.place.revision).send();
        let sha = info.map_err(|error| self.place.explain(error))?.sha;
        self.commit = sha.filter(|sha| is_commit(sha)).ok_or_else(|| {
            Error::new(format!("{}: the hub did not say which commit that is", self.place))
                .hint("name the commit instead of the branch or tag")
        })?;
        let Place { id, .. } = self.place;
        eprintln!("hub: {} is now hf:{id}@{}; write that to read the same tomorrow", self.place, self.commit);
        Ok(())
    }

    /// The path of a file, or none if the repository does not have it.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let request = || self.files.download_file().filename(name).revision(&self.commit);
        match request().local_files_only(true).send() {
            // A commit is what it is, so what the cache knows about it, also that a file is absent, needs no asking.
            Ok(path) => return Ok(Some(path)),
            Err(HFError::EntryNotFound { .. }) => return Ok(None),
            Err(HFError::LocalEntryNotFound { .. }) if self.offline => return Err(self.place.not_cached(name)),
            Err(HFError::LocalEntryNotFound { .. }) => {}
            Err(error) => return Err(self.place.explain(error)),
        }
        let announced = Arc::new(Announced { name: format!("{name} of {}", self.place), bytes: AtomicU64::new(0) });
        match request().progress(Arc::clone(&announced)).send() {
            Ok(path) => self.whole(name, path, announced.bytes.load(Ordering::Relaxed)).map(Some),
            Err(HFError::EntryNotFound { .. }) => self.absent().map(|()| None),
            Err(error) => Err(self.place.explain(error)),
        }
    }

    /// A file is not there: is that the file, or are there no such repository and revision at all?
    fn absent(&self) -> Result<()> {
        match self.files.info().revision(&self.commit).send() {
            Err(error @ (HFError::RevisionNotFound { .. } | HFError::AuthRequired { .. })) => {
                Err(self.place.explain(error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a download only if it is as long as the hub announced (0: it did not say). The client stores whatever answers
    /// the download, also the text of an error, and would return it from the cache ever after.
    fn whole(&self, name: &str, path: PathBuf, announced: u64) -> Result<PathBuf> {
        let failed = || format!("cannot read {}", path.display());
        let found = std::fs::metadata(&path).context(failed)?.len();
        if announced == 0 || found == announced {
            return Ok(path);
        }
        let blob = std::fs::canonicalize(&path).context(failed)?;
        for file in [&path, &blob] {
            if let Err(cause) = std::fs::remove_file(file)
                && cause.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::new(format!("cannot remove the broken {}", file.display())).caused_by(cause));
            }
        }
        Err(Error::new(format!("{name} of {} came with {found} bytes instead of {announced}", self.place))
            .hint("nothing of it was kept: run the command again"))
    }

    /// The weights in one file, or the index of their shards once every shard is there.
    fn weights(&self) -> Result<Option<PathBuf>> {
        if let Some(single) = self.file(WEIGHTS)? {
            return Ok(Some(single));
        }
        let Some(index) = self.file(INDEX)? else { return Ok(None) };
        for shard in shards(&index)? {
            self.file(&shard)?.ok_or_else(|| self.place.has_no(&shard))?;
        }
        Ok(Some(index))
    }
}

/// The files that an index names, each once.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).context(|| format!("cannot read {}", index.display()))?;
    let index_of: Index =
        serde_json::from_str(&text).context(|| format!("{} is not an index of shards", index.display()))?;
    let names: BTreeSet<String> = index_of.weight_map.into_values().collect();
    // The names become paths in the cache.
    let outside = |name: &&String| !matches!(*Path::new(name).components().collect::<Vec<_>>(), [Component::Normal(_)]);
    match names.iter().find(outside) {
        Some(name) => Err(Error::new(format!("{}: `{name}` is not the name of a shard", index.display()))
            .hint("shards lie beside their index; do not trust this repository")),
        None => Ok(names),
    }
}

/// Says that a download begins, and remembers its size.
struct Announced {
    name: String,
    bytes: AtomicU64,
}

impl ProgressHandler for Announced {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Download(DownloadEvent::Start { total_bytes, .. }) = event {
            self.bytes.store(*total_bytes, Ordering::Relaxed);
            eprintln!("hub: fetching {} ({:.1} MB)", self.name, *total_bytes as f64 / 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_is_what_python_takes_for_yes() {
        assert!(["1", "true", "True", "YES", "on"].iter().all(|value| is_set(value)));
        assert!(!["", "0", "false", "no"].iter().any(|value| is_set(value)));
    }

    #[test]
    fn shards_are_listed_once_and_cannot_lie_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join(INDEX);
        let read = |text: &str| {
            std::fs::write(&index, text).unwrap();
            shards(&index)
        };
        let names =
            read(r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#).unwrap();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["1.safetensors", "2.safetensors"]);
        for name in ["../1", "/1", "a/1", "..", "."] {
            let error = read(&format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#)).unwrap_err();
            assert!(error.to_string().contains("is not the name of a shard"), "{error}");
        }
        assert!(read("{}").unwrap_err().to_string().contains("is not an index of shards"));
    }
}
