//! Sources of models, tokenizers and data sets: this machine, or a repository on a Hugging Face hub
//! at a pinned revision. Downloads go through the hub's own cache, which Python shares, and are
//! read from there ever after.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod checksum;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod environment;
#[cfg(feature = "hub")]
mod failure;
#[cfg(feature = "hub")]
mod http;
#[cfg(feature = "hub")]
mod progress;

#[cfg(feature = "hub")]
pub use client::Hub;
#[cfg(feature = "hub")]
pub use environment::Environment;

use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// The prefix of a repository on a hub; everything else is a path.
const PREFIX: &str = "hf:";

/// A model folder or a data set, here or on a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Local(PathBuf),
    Hub(Repository),
}

/// A repository on a hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    pub kind: RepositoryKind,
    /// `owner/name`.
    pub id: String,
    /// A commit, or a branch or tag whose commit is looked up when it is fetched.
    pub revision: String,
}

/// The kind of a repository. Models and data sets may have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryKind {
    Model,
    Dataset,
}

impl RepositoryKind {
    /// The prefix of the id, in sources and in a hub's addresses alike.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

impl Source {
    /// Reads `hf:owner/name@revision` (a model or tokenizer), `hf:datasets/owner/name@revision`, or
    /// a path (`./hf:x` for a path that begins with `hf:`).
    ///
    /// # Errors
    /// A hub source without a revision, or with an id or revision that no repository can have.
    pub fn parse(text: impl AsRef<Path>) -> Result<Self> {
        let path = text.as_ref();
        let Some(name) = path.to_str().and_then(|text| text.strip_prefix(PREFIX)) else {
            return Ok(Self::Local(path.to_owned()));
        };
        let (kind, rest) = match name.strip_prefix(RepositoryKind::Dataset.prefix()) {
            Some(rest) => (RepositoryKind::Dataset, rest),
            None => (RepositoryKind::Model, name),
        };
        let (id, revision) = rest.split_once('@').unwrap_or((rest, ""));
        let (prefix, whole) = (kind.prefix(), format!("{PREFIX}{name}"));
        if !is_id(id) {
            let example = match kind {
                RepositoryKind::Model => {
                    "hf:owner/name@revision, as hf:EleutherAI/pythia-70m@<commit>"
                }
                RepositoryKind::Dataset => {
                    "hf:datasets/owner/name@revision, as hf:datasets/openai/gsm8k@<commit>"
                }
            };
            return Err(Error::configuration(format!(
                "{whole}: `{id}` is not the id of a repository"
            ))
            .hint(format!("write {example}")));
        }
        if revision.is_empty() {
            let contents = match kind {
                RepositoryKind::Model => "weights",
                RepositoryKind::Dataset => "rows",
            };
            return Err(Error::configuration(format!("{PREFIX}{prefix}{id} names no revision")).hint(format!(
                "write {PREFIX}{prefix}{id}@<commit>: a repository changes, and without its commit the same command may \
                 read other {contents} tomorrow, so that nobody could reproduce its numbers"
            )));
        }
        if !is_revision(revision) {
            return Err(
                Error::configuration(format!("{whole}: `{revision}` is not a revision"))
                    .hint("give a commit (40 hexadecimal digits), a branch or a tag"),
            );
        }
        // Hubs and caches write commits in lower case.
        let revision = if is_commit(revision) {
            revision.to_ascii_lowercase()
        } else {
            revision.to_owned()
        };
        Ok(Self::Hub(Repository {
            kind,
            id: id.to_owned(),
            revision,
        }))
    }

    /// The folder that holds the files `needed` of a model, and those of `optional` that exist. A
    /// folder is returned as it is; files on a hub are downloaded unless they are cached. If
    /// `model.safetensors` is needed and the repository splits it, its index and all its shards are
    /// fetched.
    ///
    /// # Errors
    /// A data set; a hub that cannot be reached, refuses, or lacks the repository, the revision or
    /// a needed file; a file that does not arrive whole and as announced; a file that is not cached
    /// while `HF_HUB_OFFLINE` is set; a program built without the feature `hub`.
    pub fn fetch(&self, needed: &[&str], optional: &[&str]) -> Result<PathBuf> {
        match self {
            Self::Local(folder) => Ok(folder.clone()),
            Self::Hub(repository) if repository.kind == RepositoryKind::Dataset => {
                Err(Error::configuration(format!(
                    "{repository} is a data set, and a model or tokenizer is needed here"
                ))
                .hint("a model is written hf:owner/name@revision"))
            }
            Self::Hub(repository) => download(repository, needed, optional),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(out),
            Self::Hub(repository) => repository.fmt(out),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(
            out,
            "{PREFIX}{}{}@{}",
            self.kind.prefix(),
            self.id,
            self.revision
        )
    }
}

#[cfg(feature = "hub")]
fn download(repository: &Repository, needed: &[&str], optional: &[&str]) -> Result<PathBuf> {
    Hub::from_env()?.fetch(repository, needed, optional)
}

#[cfg(not(feature = "hub"))]
fn download(repository: &Repository, needed: &[&str], _optional: &[&str]) -> Result<PathBuf> {
    Err(not_built_in(repository, &needed.join(", ")))
}

/// The error for a repository that this program is built without support for.
#[cfg(not(feature = "hub"))]
pub(super) fn not_built_in(repository: &Repository, files: &str) -> Error {
    Error::configuration(format!("{repository}: this touchstone is built without the feature `hub`")).hint(format!(
        "build it with `cargo build --release --features hub`, or download {files} and give their folder"
    ))
}

/// Whether `revision` is a commit, whose meaning never changes.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text is a valid id. Ids and revisions become parts of paths in the cache, so nothing
/// in them may lead out of it.
fn is_id(id: &str) -> bool {
    id.split('/').count() == 2 && id.split('/').all(is_name)
}

fn is_revision(revision: &str) -> bool {
    revision.split('/').all(is_name)
}

fn is_name(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    !part.is_empty() && !part.contains("..") && part != "." && part.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn source(kind: RepositoryKind, id: &str, revision: &str) -> Source {
        Source::Hub(Repository {
            kind,
            id: id.into(),
            revision: revision.into(),
        })
    }

    fn hub(id: &str, revision: &str) -> Source {
        source(RepositoryKind::Model, id, revision)
    }

    #[test]
    fn a_hub_source_has_an_id_and_a_revision() {
        let parse = |text: &str| Source::parse(text).unwrap();
        assert_eq!(parse(&format!("hf:o/n@{COMMIT}")), hub("o/n", COMMIT));
        assert_eq!(
            parse(&format!("hf:o/n@{}", COMMIT.to_uppercase())),
            hub("o/n", COMMIT)
        );
        assert_eq!(
            parse("hf:EleutherAI/pythia-1.4b@step143000"),
            hub("EleutherAI/pythia-1.4b", "step143000")
        );
        assert_eq!(parse("hf:o/n@refs/pr/1"), hub("o/n", "refs/pr/1"));
        assert_eq!(
            parse("hf:datasets/o/n@main"),
            source(RepositoryKind::Dataset, "o/n", "main")
        );
        assert_eq!(
            parse("hf:datasets/o/n@refs/convert/parquet"),
            source(RepositoryKind::Dataset, "o/n", "refs/convert/parquet")
        );
        for text in ["hf:o/n@v1.0", "hf:datasets/o/n@refs/convert/parquet"] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn a_data_set_is_no_model() {
        let error = source(RepositoryKind::Dataset, "o/n", "main")
            .fetch(&["config.json"], &[])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "hf:datasets/o/n@main is a data set, and a model or tokenizer is needed here"
        );
    }

    #[test]
    fn everything_else_is_a_path_and_needs_no_fetching() {
        for text in [
            "models/mini",
            "./hf:o/n@main",
            "o/n@main",
            "/x",
            "datasets/o/n@main",
        ] {
            let source = Source::parse(text).unwrap();
            assert_eq!(source, Source::Local(text.into()));
            assert_eq!(
                source.fetch(&["config.json"], &[]).unwrap(),
                PathBuf::from(text)
            );
        }
    }

    #[test]
    fn what_no_repository_can_be_called_is_an_error_with_a_hint() {
        for (text, message) in [
            ("hf:o/n", "hf:o/n names no revision"),
            ("hf:o/n@", "hf:o/n names no revision"),
            (
                "hf:gpt2@main",
                "hf:gpt2@main: `gpt2` is not the id of a repository",
            ),
            ("hf:@main", "hf:@main: `` is not the id of a repository"),
            (
                "hf:o/n/m@main",
                "hf:o/n/m@main: `o/n/m` is not the id of a repository",
            ),
            ("hf:datasets/o/n", "hf:datasets/o/n names no revision"),
            (
                "hf:datasets/gsm8k@main",
                "hf:datasets/gsm8k@main: `gsm8k` is not the id of a repository",
            ),
            (
                "hf:../..@main",
                "hf:../..@main: `../..` is not the id of a repository",
            ),
            (
                "hf:o/n@../../../etc",
                "hf:o/n@../../../etc: `../../../etc` is not a revision",
            ),
            ("hf:o/n@/etc", "hf:o/n@/etc: `/etc` is not a revision"),
            ("hf:o/n@a b", "hf:o/n@a b: `a b` is not a revision"),
        ] {
            let error = Source::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(miette::Diagnostic::help(&error).is_some(), "{text}");
            assert!(error.source().is_none());
        }
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn without_the_feature_the_reader_learns_how_to_build_it_in() {
        let error = hub("o/n", COMMIT).fetch(&["config.json"], &[]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("built without the feature `hub`")
        );
        assert!(
            miette::Diagnostic::help(&error)
                .is_some_and(|help| help.to_string().contains("--features hub"))
        );
    }
}
