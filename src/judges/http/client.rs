//! The HTTP client of judges: one request with its retries, and many at once.

use super::failure::{Attempt, Failure, FailureKind, start};
use super::key::ApiKey;
use super::reply::{NoReply, Reply};
use super::request::{Finished, Received, Request};
use super::retry::{Patience, retry_after};
use super::settings::ServerSettings;
use crate::net::{certificates, innermost};
use crate::rng::stream;
use crate::{Context, Error, Result};
use rand::Rng;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, redirect};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    address: String,
    key: Option<ApiKey>,
    patience: Patience,
}

impl Client {
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(settings: &ServerSettings, key: Option<ApiKey>, patience: Patience) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &key {
            let value = HeaderValue::from_str(&format!("Bearer {}", key.secret()));
            let mut value =
                value.map_err(|_| Error::configuration("the API key cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("touchstone/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // A redirected POST would become a GET, and would carry the key elsewhere.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(patience.timeout))
            .timeout(patience.timeout);
        let builder = named_certificates()
            .map(|path| certificates(&path))
            .transpose()?
            .into_iter()
            .flatten()
            .fold(builder, ClientBuilder::add_root_certificate);
        let http = builder.build().map_err(|cause| {
            Error::server("cannot set up the HTTP client")
                .caused_by(innermost(&cause))
                .hint("check the certificates (SSL_CERT_FILE, SSL_CERT_DIR) and the proxy (HTTPS_PROXY)")
        })?;
        Ok(Self {
            http,
            address: settings.address(),
            key,
            patience,
        })
    }

    /// Sends a request until it is answered or given up.
    async fn finish(&self, request: Request) -> Finished {
        let mut jitter = stream(request.seed, "judge/jitter", &[]);
        let mut attempts: Vec<Attempt> = Vec::new();
        loop {
            let number = attempts.len() as u32 + 1;
            let begun = Instant::now();
            let (status, result) = self.send(&request.body).await;
            let failure = result.as_ref().err();
            let pause =
                failure.and_then(|failure| self.patience.pause(failure, number, jitter.random()));
            attempts.push(Attempt {
                number,
                status,
                failure: failure.map(|failure| failure.kind),
                detail: failure.map(|failure| failure.detail.clone()),
                seconds: rounded(begun.elapsed()),
                pause: pause.map(rounded),
            });
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    return Finished {
                        index: request.index,
                        attempts,
                        result,
                    };
                }
            }
        }
    }

    /// Sends a request once. No text of the result holds the key.
    async fn send(&self, body: &Value) -> (Option<u16>, std::result::Result<Received, Failure>) {
        let response = match self.http.post(&self.address).json(body).send().await {
            Ok(response) => response,
            Err(cause) => return (None, Err(self.network_failure(&cause))),
        };
        let status = response.status();
        let code = Some(status.as_u16());
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(self.redact(value))
        };
        let request_id = header("x-request-id");
        let moved = header("location");
        let after =
            header(RETRY_AFTER.as_str()).and_then(|value| retry_after(&value, SystemTime::now()));
        let raw = match response.text().await {
            Ok(text) => self.redact(&text),
            Err(cause) => {
                let mut failure = match status.is_success() {
                    true => self.network_failure(&cause),
                    // The status alone says what to do.
                    false => Failure::of_status(status.as_u16(), "", after),
                };
                failure.status = code;
                return (code, Err(failure));
            }
        };
        if !status.is_success() {
            let mut failure = Failure::of_status(status.as_u16(), &raw, after);
            if let Some(place) = moved.filter(|_| status.is_redirection()) {
                failure.detail =
                    format!("the server sends on to {place}; give that as the base URL");
            }
            return (code, Err(failure));
        }
        let received = Reply::parse(&raw).map_err(|why| match why {
            NoReply::NotJson(why) => Failure::new(
                FailureKind::Broken,
                format!("the body is not JSON ({why}): {}", start(&raw)),
            ),
            NoReply::NoChoice => Failure::new(FailureKind::NoChoice, start(&raw)),
        });
        let received = received.map(|reply| Received {
            raw,
            reply,
            request_id,
        });
        (code, received)
    }

    fn network_failure(&self, cause: &reqwest::Error) -> Failure {
        let kind = match () {
            () if cause.is_timeout() && !cause.is_connect() => FailureKind::Late,
            () if cause.is_connect() => FailureKind::Unreachable,
            () if cause.is_builder() => FailureKind::Refused,
            () => FailureKind::Broken,
        };
        let detail = match kind {
            FailureKind::Late => format!("{} s have passed", self.patience.timeout.as_secs_f64()),
            _ => self.redact(&innermost(cause)),
        };
        Failure::new(kind, detail)
    }

    fn redact(&self, text: &str) -> String {
        match &self.key {
            Some(key) => key.redact(text),
            None => text.to_owned(),
        }
    }
}

/// Sends `requests` in order, at most `concurrency` at once. `done` receives each when it has
/// finished, in any order; after it breaks, no further request is sent.
///
/// # Errors
/// Those of `done`, after which the requests under way are dropped.
pub fn send_all(
    client: &Arc<Client>,
    requests: Vec<Request>,
    concurrency: usize,
    mut done: impl FnMut(Finished) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "cannot set up the HTTP client".to_owned())?;
    runtime.block_on(async {
        let mut waiting = requests.into_iter();
        let mut under_way = JoinSet::new();
        let mut open = true;
        loop {
            while open && under_way.len() < concurrency.max(1) {
                let Some(request) = waiting.next() else { break };
                let client = Arc::clone(client);
                under_way.spawn(async move { client.finish(request).await });
            }
            match under_way.join_next().await {
                None => return Ok(()),
                Some(finished) => {
                    let finished = finished
                        .map_err(|cause| Error::internal("a request broke off").caused_by(cause))?;
                    open &= done(finished)?.is_continue();
                }
            }
        }
    })
}

/// Certificates in addition to the system's, by the variables of Python's `requests`.
fn named_certificates() -> Option<PathBuf> {
    ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// Seconds, to the millisecond.
fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}
