//! What a hub's answers mean to the reader, and what to do about them.

use crate::Error;
use hf_hub::HFError;
use std::fmt;
use std::path::Path;

/// What was asked, and where.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub endpoint: &'a str,
    pub cache: &'a Path,
    pub id: &'a str,
    pub revision: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "hf:{}@{}", self.id, self.revision)
    }
}

impl Place<'_> {
    /// The hub has the revision, but not this file.
    pub fn has_no(&self, name: &str) -> Error {
        Error::new(format!("{self} has no {name}")).hint(format!(
            "{}/{}/tree/{} shows its files; a model needs config.json and its weights as safetensors",
            self.endpoint, self.id, self.revision
        ))
    }

    /// Nobody may be asked, and the cache does not know.
    pub fn not_cached(&self, name: &str) -> Error {
        let hint = if super::is_commit(self.revision) {
            "HF_HUB_OFFLINE is set: run once without it, or point HF_HOME at the cache that has the file"
        } else {
            "HF_HUB_OFFLINE is set, so a branch or tag cannot be looked up: name its commit, or run without it"
        };
        Error::new(format!("{name} of {self} is not in the cache {}", self.cache.display())).hint(hint)
    }

    /// Our words for an error of the client, which stays as the cause.
    pub fn explain(&self, error: HFError) -> Error {
        let Self { endpoint, id, .. } = self;
        let (message, hint) = match &error {
            HFError::AuthRequired { .. } => (
                format!("{endpoint} does not let you read {self} (401)"),
                format!(
                    "check the id; if it is private or gated, accept its licence at {endpoint}/{id} and set HF_TOKEN to \
                     a token of that account"
                ),
            ),
            HFError::Forbidden { .. } => (
                format!("{endpoint} does not let you read {self} (403)"),
                format!(
                    "accept its licence at {endpoint}/{id} with the account of HF_TOKEN, and see that the token may read \
                     gated repositories"
                ),
            ),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => (
                format!("{endpoint} has no {self} (404)"),
                format!(
                    "check id and revision at {endpoint}/{id}/commits/main; a private repository needs HF_TOKEN to be seen"
                ),
            ),
            HFError::RateLimited { .. } => (
                format!("{endpoint} answers no more requests for now (429)"),
                "wait some minutes and run the command again; with HF_TOKEN set, more are allowed".into(),
            ),
            HFError::Request { source, .. } if !source.is_connect() && !source.is_timeout() => (
                format!("the connection to {endpoint} broke while {self} was fetched"),
                "run the command again; a file that came in part is fetched anew".into(),
            ),
            HFError::Request { .. } => (
                format!("cannot reach {endpoint} for {self}"),
                "check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; a commit that is cached needs none of them".into(),
            ),
            HFError::Io(_) => (
                format!("cannot write to the cache {}", self.cache.display()),
                "make room there, or choose another folder with HF_HOME".into(),
            ),
            HFError::CacheLockTimeout { .. } => (
                format!("another process is fetching the same file of {self}"),
                "run the command again when it has finished".into(),
            ),
            _ => (
                format!("cannot fetch {self} from {endpoint}"),
                "run the command again; if that does not help, download the files and give their folder".into(),
            ),
        };
        match error {
            // Its outer layers repeat the URL; the reason is at the bottom.
            HFError::Request { source, .. } => Error::new(message).caused_by(innermost(&source)).hint(hint),
            error => Error::new(message).caused_by(error).hint(hint),
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
