//! Requests to a model for one document: likelihoods of continuations, or a completion.

use crate::python::json::string;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A question for the likelihood of `continuation` after `context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub context: Arc<str>,
    pub continuation: String,
}

/// The questions for one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requests {
    Likelihoods(Vec<Request>),
    /// A greedy completion of `context`, cut before each of `until`.
    Completion {
        context: Arc<str>,
        until: &'static [&'static str],
    },
}

impl Requests {
    /// The text of the first context, up to the answer.
    pub fn context(&self) -> &str {
        match self {
            Self::Likelihoods(requests) => requests.first().map_or("", |it| &it.context),
            Self::Completion { context, .. } => context,
        }
    }

    /// The number of requests.
    pub fn len(&self) -> usize {
        match self {
            Self::Likelihoods(requests) => requests.len(),
            Self::Completion { .. } => 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The arguments of each request as `json.dumps` writes them: `["context", "continuation"]`, or
    /// `["context", ["stop", …]]`.
    fn arguments(&self) -> Vec<String> {
        let pair = |context: &str, other: String| format!("[{}, {other}]", string(context));
        match self {
            Self::Likelihoods(requests) => requests
                .iter()
                .map(|it| pair(&it.context, string(&it.continuation)))
                .collect(),
            Self::Completion { context, until } => {
                let stops: Vec<String> = until.iter().map(|stop| string(stop)).collect();
                vec![pair(context, format!("[{}]", stops.join(", ")))]
            }
        }
    }
}

/// The SHA-256 of all requests, as the harness's own regression test computes it: of
/// `json.dumps([[context, continuation], …])`.
pub fn hash_of_requests<'a>(all: impl IntoIterator<Item = &'a Requests>) -> String {
    let arguments: Vec<String> = all.into_iter().flat_map(Requests::arguments).collect();
    sha256(&format!("[{}]", arguments.join(", ")))
}

/// The SHA-256 of `json.dumps(texts)`.
pub fn hash_of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let texts: Vec<String> = texts.into_iter().map(string).collect();
    sha256(&format!("[{}]", texts.join(", ")))
}

/// The SHA-256 of a text's UTF-8, in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_python() {
        // hashlib.sha256(json.dumps([["é", " a\n"], ["", " b"], ["q", ["\n\n", "Q:"]]]).encode())
        let request = |context: &str, continuation: &str| Request {
            context: context.into(),
            continuation: continuation.into(),
        };
        let all = [
            Requests::Likelihoods(vec![request("é", " a\n"), request("", " b")]),
            Requests::Completion {
                context: "q".into(),
                until: &["\n\n", "Q:"],
            },
        ];
        assert_eq!(
            hash_of_requests(&all),
            "6d0ae3de47ea6bf7fe9188ee7251245761fbd53cb2ac515393b74223b221ac60"
        );
        assert_eq!(
            hash_of_texts(["é", "b"]),
            "dd91b4c472b1a98d2c6b5dc67302f5ac4d90bee64359ebe99cf35a71e35fccaa"
        );
    }
}
