//! Requests to a server and their results, as the client takes and gives them.

use super::failure::{Attempt, Failure};
use super::reply::Reply;
use serde_json::Value;

/// A request to be sent.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "http"), expect(dead_code, reason = "nothing sends it"))]
pub struct Request {
    /// The index under which the caller knows it.
    pub index: usize,
    pub body: Value,
    /// The seed of the jitter of its pauses.
    pub seed: u64,
}

/// An answer with the status 200 and a choice.
#[derive(Clone, Debug)]
pub struct Received {
    /// The body, without the API key.
    pub raw: String,
    pub reply: Reply,
    pub request_id: Option<String>,
}

/// A request's last result, and all its tries.
#[derive(Debug)]
pub struct Finished {
    pub index: usize,
    pub attempts: Vec<Attempt>,
    pub result: std::result::Result<Received, Failure>,
}
