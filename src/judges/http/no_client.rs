//! The place of the HTTP client in a build without it.

use super::failure::{Attempt, Failure};
use super::key::ApiKey;
use super::reply::Reply;
use super::retry::Patience;
use super::settings::ServerSettings;
use crate::{Error, Result};
use serde_json::Value;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A client that cannot be made.
#[derive(Debug)]
pub enum Client {}

/// A request to be sent.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "nothing sends it")]
pub struct Request {
    pub index: usize,
    pub body: Value,
    pub seed: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Received {
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

impl Client {
    /// # Errors
    /// Always: this build has no HTTP client.
    pub fn new(_: &ServerSettings, _: Option<ApiKey>, _: Patience) -> Result<Self> {
        Err(
            Error::configuration("this build cannot ask a judge on a server")
                .hint("build it with the feature `http`: cargo build --release --features http"),
        )
    }
}

pub fn send_all(
    client: &Arc<Client>,
    _: Vec<Request>,
    _: usize,
    _: impl FnMut(Finished) -> Result<ControlFlow<()>>,
) -> Result<()> {
    match **client {}
}
