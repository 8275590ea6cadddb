//! Failures of requests to a hub, with explanations and remedies for the user.

use super::{Repository, RepositoryKind, is_commit};
use crate::Error;
use crate::net::innermost;
use hf_hub::HFError;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// The reason why a request failed. Each variant holds the details in the server's or the network's
/// own words.
#[derive(Debug)]
pub enum Failure {
    /// 401: the requester is unknown.
    Unauthorised(String),
    /// 403: the requester has no access.
    Forbidden(String),
    /// 404: no such repository or revision.
    NoRevision(String),
    /// 404: the revision has no such file.
    NoFile(String),
    /// 404, and the server does not say which part is missing.
    NotFound(String),
    /// 429, with the time to wait if the server states it.
    Busy {
        after: Option<Duration>,
        detail: String,
    },
    /// 5xx: the server itself has a problem.
    Down(String),
    /// No connection.
    Unreachable(String),
    /// The connection broke.
    Broken(String),
    Other(String),
}

/// The result of a request.
pub type Answer<T> = std::result::Result<T, Failure>;

impl Failure {
    pub async fn from_response(response: Response) -> Self {
        let (status, url) = (response.status(), response.url().clone());
        let headers = response.headers().clone();
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        // The body is an explanation at best, so failing to read it isn't a failure of its own.
        let body = || async {
            serde_json::from_str::<serde_json::Value>(&response.text().await.ok()?).ok()
        };
        let message = match text("x-error-message") {
            Some(message) => Some(message),
            None => body()
                .await
                .and_then(|body| Some(body.get("error")?.as_str()?.to_owned())),
        };
        let message = message.unwrap_or_else(|| status.to_string());
        let detail = format!("{} ({url})", message.trim_end_matches('.'));
        match text("x-error-code").as_deref() {
            Some("RepoNotFound" | "RevisionNotFound") if status == StatusCode::NOT_FOUND => {
                Self::NoRevision(detail)
            }
            Some("EntryNotFound") if status == StatusCode::NOT_FOUND => Self::NoFile(detail),
            _ => Self::from_status(status, retry_after(&headers), detail),
        }
    }

    fn from_status(status: StatusCode, after: Option<Duration>, detail: String) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorised(detail),
            StatusCode::FORBIDDEN => Self::Forbidden(detail),
            StatusCode::NOT_FOUND => Self::NotFound(detail),
            StatusCode::TOO_MANY_REQUESTS => Self::Busy { after, detail },
            StatusCode::REQUEST_TIMEOUT => Self::Down(detail),
            _ if status.is_server_error() => Self::Down(detail),
            _ => Self::Other(detail),
        }
    }

    /// The failure of an error that came after the answer had begun.
    pub fn broken(error: reqwest::Error) -> Self {
        Self::Broken(innermost(&error))
    }

    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. } | Self::Down(_) | Self::Unreachable(_) | Self::Broken(_)
        )
    }

    pub fn detail(&self) -> &str {
        match self {
            Self::Unauthorised(detail)
            | Self::Forbidden(detail)
            | Self::NoRevision(detail)
            | Self::NoFile(detail)
            | Self::NotFound(detail)
            | Self::Busy { detail, .. }
            | Self::Down(detail)
            | Self::Unreachable(detail)
            | Self::Broken(detail)
            | Self::Other(detail) => detail,
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let detail = innermost(&error);
        match error.status() {
            _ if error.is_connect() => Self::Unreachable(detail),
            _ if error.is_timeout() => Self::Unreachable(format!("no answer in time ({detail})")),
            _ if error.is_builder() || error.is_redirect() => Self::Other(detail),
            _ => Self::Broken(detail),
        }
    }
}

impl From<HFError> for Failure {
    fn from(error: HFError) -> Self {
        let detail = error.to_string();
        match error {
            HFError::AuthRequired { .. } => Self::Unauthorised(detail),
            HFError::Forbidden { .. } => Self::Forbidden(detail),
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                Self::NoRevision(detail)
            }
            HFError::RateLimited {
                retry_after: after, ..
            } => Self::Busy { after, detail },
            HFError::Http { context } => Self::from_status(context.status, None, detail),
            HFError::Request { source, .. } => source.into(),
            _ => Self::Other(detail),
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    Some(Duration::from_secs(
        headers
            .get(RETRY_AFTER)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()?,
    ))
}

/// The hub, cache and repository of a request.
#[derive(Clone, Copy)]
pub struct HubRequest<'a> {
    pub endpoint: &'a str,
    pub cache: &'a Path,
    pub repository: &'a Repository,
}

impl fmt::Display for HubRequest<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        self.repository.fmt(out)
    }
}

impl HubRequest<'_> {
    /// The address of the repository's web page.
    pub fn page(&self) -> String {
        format!(
            "{}/{}{}",
            self.endpoint,
            self.repository.kind.prefix(),
            self.repository.id
        )
    }

    /// The error that the hub has the revision, but not this file.
    pub fn has_no(&self, name: &str) -> Error {
        let needs = match self.repository.kind {
            RepositoryKind::Model => "; a model needs config.json and its weights as safetensors",
            RepositoryKind::Dataset => "",
        };
        Error::hub(format!("{self} has no {name}")).hint(format!(
            "{}/tree/{} shows its files{needs}",
            self.page(),
            self.repository.revision
        ))
    }

    /// The error that the cache does not have `what` while the hub may not be asked.
    pub fn not_cached(&self, what: &str) -> Error {
        let hint = if is_commit(&self.repository.revision) {
            "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set: run once without it, or point HF_HOME at the cache that has the file"
        } else {
            "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so a branch or tag cannot be looked up: name its commit, or run without it"
        };
        Error::hub(format!(
            "{what} of {self} is not in the cache {}",
            self.cache.display()
        ))
        .hint(hint)
    }

    /// The error that a snapshot names a file whose bytes are gone while the hub may not be asked
    /// for them.
    pub fn broken_link(&self, name: &str, path: &Path) -> Error {
        Error::hub(format!(
            "{name} of {self} is a link in the cache that leads nowhere: {}",
            path.display()
        ))
        .hint(
            "run once without HF_HUB_OFFLINE to fetch it again, or point HF_HOME at a whole cache",
        )
    }

    /// The error that a file differed from its announcement and was removed.
    pub fn damaged(&self, name: &str, how: &str) -> Error {
        Error::hub(format!("{name} of {self} {how}")).hint(format!(
            "nothing of it was kept: run the command again; if that does not help, {} serves a damaged file, so choose \
             another mirror with HF_ENDPOINT",
            self.endpoint
        ))
    }

    /// The error for a file of the cache that cannot be written.
    pub fn unwritable(&self, path: &Path, cause: std::io::Error) -> Error {
        let what = match cause.kind() {
            std::io::ErrorKind::StorageFull => "the disk is full: cannot write",
            _ => "cannot write",
        };
        Error::hub(format!("{what} {}", path.display())).caused_by(cause).hint(format!(
            "make room or rights in {}, or choose another folder with HF_HOME, and run the command again: it goes on \
             with what has come",
            self.cache.display()
        ))
    }

    /// The error that explains a failure, with the failure as its cause.
    pub fn explain(&self, failure: Failure) -> Error {
        let (endpoint, page) = (self.endpoint, self.page());
        let (message, hint) = match &failure {
            Failure::Unauthorised(_) => (
                format!("{endpoint} does not let you read {self} (401)"),
                format!(
                    "check the id; if it is private or gated, accept its licence at {page} and set HF_TOKEN to a token of \
                     that account"
                ),
            ),
            Failure::Forbidden(_) => (
                format!("{endpoint} does not let you read {self} (403)"),
                format!(
                    "accept its licence at {page} with the account of HF_TOKEN, and see that the token may read gated \
                     repositories"
                ),
            ),
            Failure::NoRevision(_) | Failure::NoFile(_) | Failure::NotFound(_) => (
                format!("{endpoint} has no {self} (404)"),
                format!(
                    "check id and revision at {page}/commits/main; a private repository needs HF_TOKEN to be seen"
                ),
            ),
            Failure::Busy { after, .. } => (
                format!("{endpoint} answers no more requests for now (429)"),
                match after {
                    Some(after) => format!("it asks to wait {} s; run the command again then", after.as_secs()),
                    None => "wait some minutes and run the command again; with HF_TOKEN set, more are allowed".into(),
                },
            ),
            Failure::Down(_) => (
                format!("{endpoint} is out of order: it answered for {self} with an error of its own"),
                "run the command again later; it goes on with what has come".into(),
            ),
            Failure::Unreachable(_) => (
                format!("cannot reach {endpoint} for {self}"),
                "check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT; a commit that is cached needs none of them, and \
                 HF_HUB_OFFLINE=1 takes what is cached for all there is".into(),
            ),
            Failure::Broken(_) => (
                format!("the connection to {endpoint} broke again and again while {self} was fetched"),
                "run the command again: it goes on with what has come".into(),
            ),
            Failure::Other(_) => (
                format!("cannot fetch {self} from {endpoint}"),
                "run the command again; if that does not help, download the files and give their folder".into(),
            ),
        };
        Error::hub(message)
            .caused_by(failure.detail().to_owned())
            .hint(hint)
    }
}
