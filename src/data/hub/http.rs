//! Requests for files. hf-hub 1.0 fetches files too, but starts from the beginning whenever a
//! connection breaks, and its streams show neither whether the server continued from the requested
//! byte nor the announced checksum. The bytes are therefore requested here, in the same way as by
//! Python's `huggingface_hub`; questions about a repository are left to hf-hub.

use super::cache::is_blob_name;
use super::environment::Environment;
use super::failure::{Answer, Failure};
use super::is_commit;
use crate::net::certificates;
use crate::{Context, Error, Result};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE,
};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url, redirect};
use std::time::Duration;
use tokio::runtime::Runtime;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most redirects that are followed: a renamed repository redirects to its new name.
const MOST_REDIRECTS: usize = 10;

/// A client for files, with the token that opens them.
#[derive(Debug)]
pub struct Http {
    runtime: Runtime,
    client: Client,
    /// A client that doesn't follow redirects: the answer that redirects holds the hub's
    /// description of the file.
    staying: Client,
    token: Option<String>,
}

/// A server's description of a file before it sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    pub etag: String,
    /// The size in bytes, if the server states it.
    pub size: Option<u64>,
    pub commit: Option<String>,
}

/// The bytes of a file that are being received.
pub struct Incoming {
    /// The position in the file at which the bytes begin: the requested one, or 0.
    pub from: u64,
    response: Response,
}

impl Http {
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(environment: &Environment) -> Result<Self> {
        let failed = || "cannot set up the HTTP client".to_owned();
        let Environment {
            etag_timeout,
            download_timeout,
            user_agent_origin,
            ..
        } = environment;
        let mut user_agent = concat!("touchstone/", env!("CARGO_PKG_VERSION")).to_owned();
        if let Some(origin) = user_agent_origin {
            user_agent += &format!("; {origin}");
        }
        let certificates = environment
            .certificates
            .as_deref()
            .map(certificates)
            .transpose()?
            .unwrap_or_default();
        let builder = |timeout: Duration| {
            let builder = Client::builder()
                .user_agent(user_agent.clone())
                .connect_timeout(CONNECT_TIMEOUT.max(timeout))
                .read_timeout(timeout);
            certificates
                .iter()
                .cloned()
                .fold(builder, ClientBuilder::add_root_certificate)
        };
        let client = |builder: ClientBuilder| {
            builder.build().map_err(|cause| {
                Error::hub(failed()).caused_by(cause).hint(
                    "check the certificates (SSL_CERT_FILE, SSL_CERT_DIR), the proxy (HTTPS_PROXY) and \
                 HF_HUB_USER_AGENT_ORIGIN",
                )
            })
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context(failed)?,
            client: client(builder(*download_timeout))?,
            staying: client(builder(*etag_timeout).redirect(redirect::Policy::none()))?,
            token: environment.token.as_ref().map(|token| token.secret.clone()),
        })
    }

    /// The client that hf-hub shares, so that both have the same timeouts.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Requests the description of the file at `url`.
    pub async fn head(&self, url: &Url) -> Answer<Announced> {
        let mut url = url.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = self
                .authorised(self.staying.head(url.clone()))
                .send()
                .await?;
            let headers = response.headers();
            let moved = response.status().is_redirection();
            match headers
                .get(LOCATION)
                .and_then(|location| location.to_str().ok())
            {
                Some(location) if moved && is_relative(location) => {
                    url = url
                        .join(location)
                        .map_err(|_| Failure::Other(format!("sends on to {location}")))?;
                }
                _ if moved || response.status().is_success() => return announced(headers, moved),
                _ => return Err(Failure::from_response(response).await),
            }
        }
        Err(Failure::Other(format!(
            "sends on from one address to another, at last to {url}"
        )))
    }

    /// Requests the bytes of the file at `url` from `from` on; `None` if the server says that there
    /// are none. A server may send the whole file instead.
    pub async fn get(&self, url: &Url, from: u64) -> Answer<Option<Incoming>> {
        let mut request = self.authorised(self.client.get(url.clone()));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = request.send().await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => match range_start(response.headers()) {
                Some(other) if other != from => Err(Failure::Broken(format!(
                    "bytes from {other} came, not from {from}"
                ))),
                _ => Ok(Some(Incoming { from, response })),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(None),
            status if status.is_success() => Ok(Some(Incoming { from: 0, response })),
            _ => Err(match Failure::from_response(response).await {
                // The hub has announced the file, so the storage behind it refuses, for example
                // because an address that is valid for an hour has expired.
                Failure::Unauthorised(detail) | Failure::Forbidden(detail) => Failure::Down(detail),
                failure => failure,
            }),
        }
    }

    /// Adds the token, and asks for uncompressed bytes, since only their lengths are those of the
    /// file.
    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        let request = request.header(ACCEPT_ENCODING, "identity");
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Incoming {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Answer<Option<impl AsRef<[u8]> + use<>>> {
        self.response.chunk().await.map_err(Failure::broken)
    }
}

/// The address of a file of a repository: `at` is `<endpoint>/<id>/resolve/<commit>`.
pub fn address(at: &str, name: &str) -> Result<Url> {
    let failed = || Error::hub(format!("{at}/{name} is no address"));
    let mut url = Url::parse(at).map_err(|cause| failed().caused_by(cause))?;
    url.path_segments_mut()
        .map_err(|()| failed())?
        .extend(name.split('/'));
    Ok(url)
}

fn is_relative(location: &str) -> bool {
    !location.starts_with("//") && Url::parse(location).is_err()
}

/// The description of a file in the answer to HEAD. If `moved`, the file is elsewhere, and lengths
/// that are not linked are those of the redirect itself.
fn announced(headers: &HeaderMap, moved: bool) -> Answer<Announced> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let etag = text("x-linked-etag").or_else(|| text(ETAG.as_str()));
    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
    let etag = etag
        .ok_or_else(|| Failure::Other("the answer has no ETag, so the file has no name".into()))?;
    if !is_blob_name(&etag) {
        return Err(Failure::Other(format!(
            "the ETag `{etag}` cannot be a file's name"
        )));
    }
    let length = || (!moved).then(|| text(CONTENT_LENGTH.as_str())).flatten();
    let size = text("x-linked-size")
        .or_else(length)
        .and_then(|size| size.parse().ok());
    let commit = text("x-repo-commit")
        .map(str::to_ascii_lowercase)
        .filter(|commit| is_commit(commit));
    Ok(Announced { etag, size, commit })
}

/// The first byte of a range: 100 for `bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(CONTENT_RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn what_is_linked_counts_before_what_is_sent() {
        let commit = "8FB2F5C0A1D34E6798BB0A5C7D9E1F2031425364";
        let small = headers(&[
            ("etag", "W/\"abc\""),
            ("content-length", "7"),
            ("x-repo-commit", commit),
        ]);
        let expected = Announced {
            etag: "abc".into(),
            size: Some(7),
            commit: Some(commit.to_lowercase()),
        };
        assert_eq!(announced(&small, false).unwrap(), expected);
        let large = headers(&[
            ("etag", "\"pointer\""),
            ("content-length", "134"),
            ("x-linked-etag", "\"sum\""),
            ("x-linked-size", "9000"),
        ]);
        assert_eq!(
            announced(&large, true).unwrap(),
            Announced {
                etag: "sum".into(),
                size: Some(9000),
                commit: None
            }
        );
        assert_eq!(announced(&small, true).unwrap().size, None);
    }

    #[test]
    fn an_etag_that_leads_out_of_the_cache_is_refused() {
        for etag in ["\"../../x\"", "\"\"", "\"a/b\""] {
            let error = announced(&headers(&[("etag", etag)]), false).unwrap_err();
            assert!(
                error.detail().contains("cannot be a file's name"),
                "{error:?}"
            );
        }
        assert!(
            announced(&headers(&[]), false)
                .unwrap_err()
                .detail()
                .contains("no ETag")
        );
    }

    #[test]
    fn addresses_escape_what_names_may_hold() {
        let url = address("http://h/o/n/resolve/c", "data/a b#1?.parquet").unwrap();
        assert_eq!(
            url.as_str(),
            "http://h/o/n/resolve/c/data/a%20b%231%3F.parquet"
        );
        assert!(
            is_relative("/new/n/resolve/c/x")
                && !is_relative("https://cdn/x")
                && !is_relative("//cdn/x")
        );
    }

    #[test]
    fn a_part_says_where_it_begins() {
        let start = |range| range_start(&headers(&[("content-range", range)]));
        assert_eq!(
            (
                start("bytes 100-199/200"),
                start("bytes */200"),
                start("100")
            ),
            (Some(100), None, None)
        );
        assert_eq!(range_start(&headers(&[])), None);
    }
}
