//! Failures of requests to a judge's server.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// 429: too many requests for now.
    Busy,
    /// 429 with the code `insufficient_quota`: the account has nothing left.
    NoQuota,
    /// 5xx or 408: the server has a problem of its own.
    Down,
    /// No connection.
    Unreachable,
    /// No whole answer in the time that was given.
    Late,
    /// A connection that broke, or a body that is not JSON.
    Broken,
    /// 401 or 403: the key is wrong or may not do this.
    Unauthorised,
    /// 404: no such address or model.
    NotFound,
    /// Any other status: the request itself is refused.
    Refused,
    /// A body without a choice.
    NoChoice,
}

/// A failure of one request, in the server's or the network's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub status: Option<u16>,
    pub detail: String,
    /// The time to wait that the server asks for.
    pub after: Option<Duration>,
}

/// One try of a request, as the log of an answer keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The number of the try, from 1.
    pub number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The failure; `None` for the try that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds that the try took.
    pub seconds: f64,
    /// Seconds of the pause after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<f64>,
}

impl Failure {
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            status: None,
            detail: detail.into(),
            after: None,
        }
    }

    /// The failure that an answer with a status other than 2xx stands for.
    pub fn of_status(status: u16, body: &str, after: Option<Duration>) -> Self {
        let error = serde_json::from_str::<Value>(body).unwrap_or_default();
        let has = |key: &str| error["error"][key] == "insufficient_quota";
        let kind = match status {
            429 if has("code") || has("type") => FailureKind::NoQuota,
            429 => FailureKind::Busy,
            401 | 403 => FailureKind::Unauthorised,
            404 => FailureKind::NotFound,
            408 | 500.. => FailureKind::Down,
            _ => FailureKind::Refused,
        };
        Self {
            kind,
            status: Some(status),
            detail: told(&error, body),
            after,
        }
    }

    /// True if the same request may be answered later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Busy
                | FailureKind::Down
                | FailureKind::Unreachable
                | FailureKind::Late
                | FailureKind::Broken
        )
    }

    /// True if every other request would fail in the same way.
    pub fn concerns_all(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::NoQuota | FailureKind::Unauthorised | FailureKind::NotFound
        )
    }

    /// A remedy.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            FailureKind::Busy => {
                "ask fewer at once with --concurrency, or more patiently with --tries"
            }
            FailureKind::NoQuota => "the account has no quota left: add credit, then run again",
            FailureKind::Down => {
                "the server has a problem of its own: look at its log, then run again"
            }
            FailureKind::Unreachable => {
                "check that the server runs, --base-url, the network and the proxy (HTTPS_PROXY)"
            }
            FailureKind::Late => {
                "give it longer with --timeout, or ask fewer at once with --concurrency"
            }
            FailureKind::Broken => "look for a proxy between here and the server, then run again",
            FailureKind::Unauthorised => "check the key in the variable that --api-key-env names",
            FailureKind::NotFound => {
                "check --base-url and --judge-model: GET <base URL>/models lists the names"
            }
            FailureKind::Refused => {
                "the server's words say why; --max-completion-tokens, --no-temperature and --no-seed leave fields out \
                 that some models refuse"
            }
            FailureKind::NoChoice => {
                "check that the server speaks the chat-completions API at --base-url"
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let what = match self.kind {
            FailureKind::Busy => "too many requests",
            FailureKind::NoQuota => "no quota left",
            FailureKind::Down => "the server failed",
            FailureKind::Unreachable => "no connection",
            FailureKind::Late => "no answer in time",
            FailureKind::Broken => "the answer broke off",
            FailureKind::Unauthorised => "not allowed",
            FailureKind::NotFound => "not found",
            FailureKind::Refused => "the request was refused",
            FailureKind::NoChoice => "an answer without a choice",
        };
        match self.status {
            Some(status) => write!(out, "{what} ({status})")?,
            None => out.write_str(what)?,
        }
        match self.detail.as_str() {
            "" => Ok(()),
            detail => write!(out, ": {detail}"),
        }
    }
}

/// The most characters of a server's words that are shown.
const SHOWN: usize = 300;

/// A server's words about a failure: the message of its error, or the start of the body.
fn told(error: &Value, body: &str) -> String {
    let places = [
        &error["error"]["message"],
        &error["message"],
        &error["error"],
        &error["detail"],
    ];
    let message = places.into_iter().find_map(Value::as_str);
    start(message.unwrap_or(body))
}

/// The start of a text, on one line.
pub(super) fn start(text: &str) -> String {
    let text: Vec<&str> = text.split_whitespace().collect();
    let text = text.join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_ask_again() {
        let of = |status| Failure::of_status(status, "", None);
        for status in [429, 500, 502, 503, 504, 529, 408] {
            assert!(of(status).may_pass(), "{status}");
        }
        for status in [400, 401, 403, 404, 405, 413, 422, 301] {
            assert!(!of(status).may_pass(), "{status}");
        }
        for kind in ["code", "type"] {
            let body =
                format!(r#"{{"error": {{"message": "m", "{kind}": "insufficient_quota"}}}}"#);
            let failure = Failure::of_status(429, &body, None);
            assert!(!failure.may_pass() && failure.concerns_all());
            assert_eq!(failure.to_string(), "no quota left (429): m");
        }
    }

    #[test]
    fn the_servers_words_are_found_where_servers_put_them() {
        for body in [
            r#"{"error": {"message": "too long", "type": "x"}}"#,
            r#"{"object": "error", "message": "too long"}"#,
            r#"{"error": "too long"}"#,
            r#"{"detail": "too long"}"#,
            "too\n long",
        ] {
            assert_eq!(
                Failure::of_status(400, body, None).to_string(),
                "the request was refused (400): too long"
            );
        }
        assert_eq!(start(&"é".repeat(400)).chars().count(), SHOWN + 1);
    }
}
