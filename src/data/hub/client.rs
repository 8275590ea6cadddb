//! Repositories of a hub: the commit of a revision, its files' names, and the files themselves,
//! through the cache.

use super::cache::{Known, Shelf, is_file_name};
use super::download::{Download, FIRST_PAUSE, Patience, TRIES};
use super::environment::Environment;
use super::failure::{Answer, Failure, HubRequest};
use super::http::{Announced, Http, address};
use super::progress::say;
use super::{Repository, RepositoryKind, is_commit};
use crate::{Context, Error, Result};
use hf_hub::HFClient;
use hf_hub::repository::RepoSibling;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
/// The possible names of a model's weights, in one file or in shards with their index; the first
/// that a repository has is used.
const LAYOUTS: [(&str, &str); 2] = [
    (WEIGHTS, "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// A hub, with the cache of files downloaded from it.
#[derive(Debug)]
pub struct Hub {
    http: Http,
    client: HFClient,
    environment: Environment,
}

/// Downloaded files of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub commit: String,
    /// The files in the order in which they were chosen: the name in the repository, and the local
    /// path.
    pub files: Vec<(String, PathBuf)>,
}

impl Hub {
    /// The hub that the [environment](Environment) names.
    ///
    /// # Errors
    /// Those of [`Environment::of_process`].
    pub fn from_env() -> Result<Self> {
        Self::new(Environment::of_process()?)
    }

    /// The hub at `endpoint`, cached in the folder `cache`, without network access if `offline`.
    /// All other settings come from the environment.
    ///
    /// # Errors
    /// An endpoint that is not a URL.
    pub fn at(endpoint: &str, cache: &Path, offline: bool) -> Result<Self> {
        let environment = Environment::of_process()?;
        Self::new(Environment {
            endpoint: endpoint.into(),
            cache: cache.into(),
            offline,
            ..environment
        })
    }

    fn new(environment: Environment) -> Result<Self> {
        let http = Http::new(&environment)?;
        let mut builder = HFClient::builder()
            .client(http.client())
            .endpoint(&environment.endpoint)
            .cache_dir(&environment.cache)
            .retry_max_attempts(TRIES as usize - 1)
            .retry_base_delay(FIRST_PAUSE);
        if let Some(token) = &environment.token {
            builder = builder.token(&token.secret);
        }
        let client = builder.build().map_err(|cause| {
            Error::hub("cannot set up the connection to the hub")
                .caused_by(cause)
                .hint("HF_ENDPOINT must be a URL, as https://huggingface.co")
        })?;
        Ok(Self {
            http,
            client,
            environment,
        })
    }

    /// The folder with the `needed` files of a model's repository, and the `optional` ones that it
    /// has; `model.safetensors` may be in shards. All come from one commit.
    ///
    /// # Errors
    /// As [`Source::fetch`](super::Source::fetch).
    pub fn fetch(
        &self,
        repository: &Repository,
        needed: &[&str],
        optional: &[&str],
    ) -> Result<PathBuf> {
        let checkout = self.check_out(repository)?;
        let mut folder = None;
        for name in needed {
            let file = if *name == WEIGHTS {
                checkout.weights()?
            } else {
                checkout.file(name)?
            };
            let file = file.ok_or_else(|| checkout.has_no(name))?;
            folder = file.parent().map(Path::to_owned);
        }
        for name in optional {
            checkout.file(name)?;
        }
        folder.ok_or_else(|| Error::hub(format!("no file of {repository} was asked for")))
    }

    /// The files of a repository that `choose` picks from the names of all. All come from one
    /// commit.
    ///
    /// # Errors
    /// As [`Source::fetch`](super::Source::fetch), and those of `choose`.
    pub fn fetch_chosen(
        &self,
        repository: &Repository,
        choose: impl FnOnce(Vec<String>) -> Result<Vec<String>>,
    ) -> Result<Fetched> {
        let checkout = self.check_out(repository)?;
        let file = |name: String| match checkout.file(&name)? {
            Some(path) => Ok((name, path)),
            None => Err(checkout.has_no(&name)),
        };
        let files = choose(checkout.files()?)?
            .into_iter()
            .map(file)
            .collect::<Result<_>>()?;
        Ok(Fetched {
            commit: checkout.commit,
            files,
        })
    }

    /// Looks up the commit of a branch or tag, so that all files belong together and the user
    /// learns which commit to pin.
    fn check_out<'a>(&'a self, repository: &'a Repository) -> Result<Checkout<'a>> {
        let Environment {
            endpoint,
            cache,
            offline,
            symlinks,
            ..
        } = &self.environment;
        let place = HubRequest {
            endpoint,
            cache,
            repository,
        };
        let shelf = Shelf::new(cache, repository, *symlinks);
        let revision = &repository.revision;
        if *offline || is_commit(revision) {
            let commit = shelf
                .commit(revision)
                .ok_or_else(|| place.not_cached("the commit"))?;
            return Ok(Checkout {
                hub: self,
                place,
                shelf,
                commit,
            });
        }
        let pinned = |commit: &str| Repository {
            revision: commit.to_owned(),
            ..repository.clone()
        };
        let information = match self.information(&place, revision) {
            Ok(information) => information,
            Err(failure) => {
                // As in Python, if the hub does not answer, the commit from the last look-up is
                // used.
                let known = shelf
                    .commit(revision)
                    .filter(|commit| !shelf.files_here(commit).is_empty());
                let Some(commit) = known.filter(|_| failure.may_pass()) else {
                    return Err(place.explain(failure));
                };
                say(&format!(
                    "{endpoint} does not answer ({}); {repository} is read from the cache as {}",
                    failure.detail(),
                    pinned(&commit)
                ));
                return Ok(Checkout {
                    hub: self,
                    place,
                    shelf,
                    commit,
                });
            }
        };
        let commit = information
            .commit
            .filter(|commit| is_commit(commit))
            .ok_or_else(|| {
                Error::hub(format!(
                    "{repository}: the hub did not say which commit that is"
                ))
                .hint("name the commit instead of the branch or tag")
            })?;
        say(&format!(
            "{repository} is now {}; write that to read the same tomorrow",
            pinned(&commit)
        ));
        shelf.remember_commit(revision, &commit)?;
        if !information.files.is_empty() {
            shelf.remember_files(&commit, &information.files)?;
        }
        Ok(Checkout {
            hub: self,
            place,
            shelf,
            commit,
        })
    }

    /// Asks the hub about a revision. The client retries by itself.
    fn information(&self, place: &HubRequest, revision: &str) -> Answer<Information> {
        let (owner, name) = hf_hub::split_id(&place.repository.id);
        let names = |siblings: Option<Vec<RepoSibling>>| -> Vec<String> {
            siblings
                .into_iter()
                .flatten()
                .map(|sibling| sibling.rfilename)
                .collect()
        };
        let asked = match place.repository.kind {
            RepositoryKind::Model => {
                let request = self.client.model(owner, name);
                let asked = self.http.wait(request.info().revision(revision).send());
                asked.map(|info| Information {
                    commit: info.sha,
                    files: names(info.siblings),
                })
            }
            RepositoryKind::Dataset => {
                let request = self.client.dataset(owner, name);
                let asked = self.http.wait(request.info().revision(revision).send());
                asked.map(|info| Information {
                    commit: info.sha,
                    files: names(info.siblings),
                })
            }
        };
        asked.map_err(Failure::from)
    }
}

/// The hub's answer about a revision.
struct Information {
    commit: Option<String>,
    files: Vec<String>,
}

/// A repository at one commit.
struct Checkout<'a> {
    hub: &'a Hub,
    place: HubRequest<'a>,
    shelf: Shelf,
    commit: String,
}

impl Checkout<'_> {
    /// The path of a file; `None` if the repository does not have it. A commit never changes, so
    /// the cache's knowledge of it, including a file's absence, needs no request. Offline, a file
    /// that is in neither the cache nor a list of the commit's files counts as absent, since Python
    /// records absence only for files that were requested one by one.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        match self.shelf.find(&self.commit, name) {
            Known::File(path) => return Ok(Some(path)),
            Known::Absent => return Ok(None),
            Known::Broken(path) if self.hub.environment.offline => {
                return Err(self.place.broken_link(name, &path));
            }
            Known::Nothing if self.hub.environment.offline => {
                let listed = self
                    .shelf
                    .files(&self.commit)
                    .is_some_and(|files| files.iter().any(|file| file == name));
                return if listed {
                    Err(self.place.not_cached(name))
                } else {
                    Ok(None)
                };
            }
            Known::Broken(_) | Known::Nothing => {}
        }
        if !is_file_name(name) {
            return Err(Error::hub(format!(
                "{}: `{name}` is not the name of a file",
                self.place
            ))
            .hint("do not trust this repository"));
        }
        let url = address(
            &format!("{}/resolve/{}", self.place.page(), self.commit),
            name,
        )?;
        let Some(announced) = self.ask(name, &url)? else {
            return Ok(None);
        };
        let (http, place, shelf, announced) = (&self.hub.http, self.place, &self.shelf, &announced);
        let bar = self.hub.environment.progress_bars;
        Download {
            http,
            place,
            shelf,
            name,
            url: &url,
            announced,
            bar,
        }
        .run()?;
        self.shelf
            .link(&self.commit, name, &announced.etag)
            .map(Some)
    }

    /// The error for a needed file that is missing.
    fn has_no(&self, name: &str) -> Error {
        let known = self.shelf.find(&self.commit, name) == Known::Absent
            || self.shelf.files(&self.commit).is_some();
        match self.hub.environment.offline && !known {
            true => self.place.not_cached(name),
            false => self.place.has_no(name),
        }
    }

    /// The hub's description of a file; `None` if it does not have it.
    fn ask(&self, name: &str, url: &reqwest::Url) -> Result<Option<Announced>> {
        let mut patience = Patience::default();
        let announced = loop {
            match self.hub.http.wait(self.hub.http.head(url)) {
                Ok(announced) => break announced,
                Err(failure @ (Failure::NoFile(_) | Failure::NotFound(_))) => {
                    // The answer doesn't tell whether the file is missing or the repository or
                    // revision does not exist at all.
                    if matches!(failure, Failure::NotFound(_))
                        && self.shelf.files_here(&self.commit).is_empty()
                    {
                        self.files()?;
                    }
                    self.shelf.remember_absence(&self.commit, name)?;
                    return Ok(None);
                }
                Err(failure) => {
                    patience
                        .wait(failure, |_, _| ())
                        .map_err(|failure| self.place.explain(failure))?;
                }
            }
        };
        match announced.commit.as_ref().filter(|commit| **commit != self.commit) {
            Some(other) => Err(Error::hub(format!(
                "{} sent {name} of commit {other}, not of {}",
                self.place.endpoint, self.commit
            ))
            .hint("this mirror does not keep to the revision that it is asked for: choose another with HF_ENDPOINT")),
            None => Ok(Some(announced)),
        }
    }

    /// The names of all files of the commit; offline, if the list was never requested, those in the
    /// cache.
    fn files(&self) -> Result<Vec<String>> {
        if let Some(files) = self.shelf.files(&self.commit) {
            return Ok(files);
        }
        if self.hub.environment.offline {
            return match self.shelf.files_here(&self.commit) {
                files if files.is_empty() => Err(self.place.not_cached("the list of files")),
                files => Ok(files),
            };
        }
        let asked = self.hub.information(&self.place, &self.commit);
        let files = asked.map_err(|failure| self.place.explain(failure))?.files;
        if !files.is_empty() {
            self.shelf.remember_files(&self.commit, &files)?;
        }
        Ok(files)
    }

    /// The weights in one file, or the index of their shards once every shard is in the cache.
    fn weights(&self) -> Result<Option<PathBuf>> {
        for (single, index) in LAYOUTS {
            if let Some(single) = self.file(single)? {
                return Ok(Some(single));
            }
            let Some(index) = self.file(index)? else {
                continue;
            };
            for shard in shards(&index)? {
                self.file(&shard)?.ok_or_else(|| self.has_no(&shard))?;
            }
            return Ok(Some(index));
        }
        Ok(None)
    }
}

/// The files that an index names, each once.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text =
        std::fs::read_to_string(index).context(|| format!("cannot read {}", index.display()))?;
    let index_of: Index = serde_json::from_str(&text)
        .context(|| format!("{} is not an index of shards", index.display()))?;
    let names: BTreeSet<String> = index_of.weight_map.into_values().collect();
    // The names become paths in the cache.
    let outside = |name: &&String| {
        !matches!(
            *Path::new(name).components().collect::<Vec<_>>(),
            [Component::Normal(_)]
        )
    };
    match names.iter().find(outside) {
        Some(name) => Err(Error::hub(format!(
            "{}: `{name}` is not the name of a shard",
            index.display()
        ))
        .hint("shards lie beside their index; do not trust this repository")),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_listed_once_and_cannot_lie_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join(LAYOUTS[0].1);
        let read = |text: &str| {
            std::fs::write(&index, text).unwrap();
            shards(&index)
        };
        let names = read(
            r#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["1.safetensors", "2.safetensors"]
        );
        for name in ["../1", "/1", "a/1", "..", "."] {
            let error = read(&format!(r#"{{"weight_map": {{"a": "{name}"}}}}"#)).unwrap_err();
            assert!(
                error.to_string().contains("is not the name of a shard"),
                "{error}"
            );
        }
        assert!(
            read("{}")
                .unwrap_err()
                .to_string()
                .contains("is not an index of shards")
        );
    }
}
