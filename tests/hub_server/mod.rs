//! The part of a Hugging Face hub that downloads need, on a port of this machine: `GET
//! /api/<kind>/<id>/revision/<revision>` for the commit and the files of a revision, `HEAD` and
//! `GET` of `/<id>/resolve/<commit>/<file>` for small files, and, as on a real hub, a redirection
//! to another host (`localhost` instead of `127.0.0.1`) for large ones. It can imitate the faults
//! of networks and mirrors.
#![allow(dead_code, reason = "every test file uses its own part")]

#[path = "../common/server.rs"]
mod server;

use server::{Head, Listener};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The only commit; `main` and `refs/convert/parquet` point to it.
pub const COMMIT: &str = "8fb2f5c0a1d34e6798bb0a5c7d9e1f2031425364";

/// A fault that the server imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers 401 without a token, and 403 with a token other than this.
    Gated { token: &'static str },
    /// Answers `times` requests with this status.
    Status {
        code: u16,
        retry_after: Option<u64>,
        times: usize,
    },
    /// Closes the connection after `after` bytes of a file, for `times` requests.
    Drop { after: usize, times: usize },
    /// Never sends a file's bytes from `byte` on, no matter how often they are requested.
    CutAt { byte: usize },
    /// Sends `after` bytes of a file and then nothing, until the client leaves.
    Stall { after: usize },
    /// Changes one byte of every file.
    Corrupt,
    /// Ignores ranges and always sends files whole.
    NoRanges,
    /// Announces every file, but answers the download with an error.
    Unreadable,
    /// Leaves out the header with a file's commit, and the header that says what is missing.
    Taciturn,
}

/// A server of repositories, which runs until it is dropped.
pub struct Server {
    state: Arc<Mutex<State>>,
    listener: Listener,
}

struct State {
    /// Folders by the ids of their repositories: `owner/name` of a model, `datasets/owner/name` of a
    /// data set.
    repositories: BTreeMap<String, PathBuf>,
    faults: Vec<Fault>,
    requests: Vec<String>,
    bytes_sent: usize,
}

impl Server {
    /// Serves the files of `folder` as the repository `id`.
    pub fn start(id: &str, folder: &Path) -> Self {
        Self::of([(id.to_owned(), folder.to_owned())])
    }

    /// Serves several repositories by their ids.
    pub fn of(repositories: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let state = State {
            repositories: repositories.into_iter().collect(),
            faults: vec![],
            requests: vec![],
            bytes_sent: 0,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        // A client may hang up as soon as it has what it needs.
        let listener = Listener::start(move |stream| serve(&stream, &shared).unwrap_or_default());
        Self { state, listener }
    }

    /// Adds a fault to all later requests.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    pub fn cure(&self) {
        self.state().faults.clear();
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.listener.address)
    }

    /// Request lines since the start or the last [`Server::forget`], such as `HEAD /o/n/resolve/…`,
    /// with the first byte if it is not 0: `GET /… from 100`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Bytes of files sent since the start or the last [`Server::forget`].
    pub fn bytes_sent(&self) -> usize {
        self.state().bytes_sent
    }

    pub fn forget(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.bytes_sent = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// An endpoint at which no server listens.
pub fn nobody() -> String {
    format!("http://{}", server::nobody())
}

/// The ETag of a file on a hub: the SHA-256 of large files, git's hash of small ones.
pub fn etag(name: &str, bytes: &[u8]) -> String {
    let hexadecimal = |sum: &[u8]| {
        sum.iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    match is_large(name) {
        true => hexadecimal(&Sha256::digest(bytes)),
        false => hexadecimal(
            &Sha1::new_with_prefix(format!("blob {}\0", bytes.len()))
                .chain_update(bytes)
                .finalize(),
        ),
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet")
}

#[derive(Default)]
struct Request {
    method: String,
    path: String,
    token: Option<String>,
    from: usize,
    /// The port at which the request came.
    port: u16,
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let head = Head::read(&mut BufReader::new(stream))?;
        let header = |name: &str, before: &str| head.headers.get(name)?.strip_prefix(before);
        let from = header("range", "bytes=").map(|it| it.trim_end_matches('-').parse().unwrap());
        Ok(Self {
            path: decoded(&head.path),
            token: header("authorization", "Bearer ").map(str::to_owned),
            from: from.unwrap_or(0),
            port: stream.local_addr()?.port(),
            method: head.method,
        })
    }
}

/// A path with its percent escapes decoded, such as `%2F` to a slash.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        text += &part[2..];
    }
    text
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let request = Request::read(stream)?;
    let reply = {
        let mut state = state.lock().unwrap();
        let from = if request.from > 0 {
            format!(" from {}", request.from)
        } else {
            String::new()
        };
        state
            .requests
            .push(format!("{} {}{from}", request.method, request.path));
        let reply = state.reply(&request);
        state.bytes_sent += if reply.is_file { reply.sent } else { 0 };
        reply
    };
    reply.send(stream, request.method == "HEAD")
}

impl State {
    fn reply(&mut self, request: &Request) -> Reply {
        for fault in &mut self.faults {
            if let Fault::Status {
                code,
                retry_after,
                times,
            } = fault
                && *times > 0
            {
                *times -= 1;
                let reply = Reply::new(*code, "");
                return match retry_after {
                    Some(seconds) => reply.header("Retry-After", seconds),
                    None => reply,
                };
            }
        }
        let path = request.path.as_str();
        if let Some(rest) = path.strip_prefix("/cdn/") {
            assert_eq!(request.token, None, "the token is for the hub alone");
            let (_, folder, name) = self.within(rest, "/").unwrap();
            return self.bytes(request, &name, &std::fs::read(folder.join(&name)).unwrap());
        }
        let of_model = path.strip_prefix("/api/models/");
        let api = of_model.or_else(|| path.strip_prefix("/api/"));
        if let Some((id, folder, revision)) = api.and_then(|it| self.within(it, "/revision/")) {
            return self
                .refusal(request)
                .unwrap_or_else(|| match is_here(&revision) {
                    true => Reply::new(200, information(&id, &folder).to_string()),
                    false => self.missing("RevisionNotFound"),
                });
        }
        let Some((id, folder, rest)) = self.within(&path[1..], "/resolve/") else {
            return self.missing("RepoNotFound");
        };
        if let Some(refusal) = self.refusal(request) {
            return refusal;
        }
        let Some(name) = rest
            .strip_prefix(COMMIT)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return self.missing("RevisionNotFound");
        };
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            return self.missing("EntryNotFound");
        };
        if self.faults.contains(&Fault::Unreadable) && request.method == "GET" {
            return Reply::new(403, "<Error>request has expired</Error>");
        }
        let etag = format!("\"{}\"", etag(name, &bytes));
        let reply = match is_large(name) {
            true => Reply::new(302, "Found. Redirecting")
                .header(
                    "Location",
                    format!("http://localhost:{}/cdn/{id}/{name}", request.port),
                )
                .header("ETag", "\"of-the-pointer\"")
                .header("X-Linked-Etag", etag)
                .header("X-Linked-Size", bytes.len()),
            false => self.bytes(request, name, &bytes).header("ETag", etag),
        };
        match self.faults.contains(&Fault::Taciturn) {
            true => reply,
            false => reply.header("X-Repo-Commit", COMMIT),
        }
    }

    /// The reply with a file's bytes, or with the range that is requested.
    fn bytes(&mut self, request: &Request, name: &str, bytes: &[u8]) -> Reply {
        let mut bytes = bytes.to_vec();
        let whole = bytes.len();
        if self.faults.contains(&Fault::Corrupt) && !bytes.is_empty() {
            bytes[whole / 2] ^= 1;
        }
        let from = if self.faults.contains(&Fault::NoRanges) {
            0
        } else {
            request.from
        };
        if from > whole || (from == whole && from > 0) {
            return Reply::new(416, "").header("Content-Range", format!("bytes */{whole}"));
        }
        let mut reply = match from {
            0 => Reply::new(200, bytes),
            _ => Reply::new(206, &bytes[from..]).header(
                "Content-Range",
                format!("bytes {from}-{}/{whole}", whole - 1),
            ),
        };
        reply.is_file = request.method == "GET";
        // Small files are sent whole, so that tests count only the bytes of the large file.
        if !reply.is_file || !is_large(name) {
            return reply;
        }
        let length = reply.body.len();
        for fault in &mut self.faults {
            match fault {
                Fault::Drop { after, times } if *times > 0 => {
                    *times -= 1;
                    reply.sent = length.min(*after);
                }
                Fault::CutAt { byte } => reply.sent = byte.saturating_sub(from).min(length),
                Fault::Stall { after } => {
                    reply.sent = length.min(*after);
                    reply.stalls = reply.sent < length;
                }
                _ => {}
            }
        }
        reply
    }

    /// The repository whose id begins `path`, its folder, and the rest of `path` behind `separator`.
    fn within(&self, path: &str, separator: &str) -> Option<(String, PathBuf, String)> {
        self.repositories.iter().find_map(|(id, folder)| {
            let rest = path.strip_prefix(id.as_str())?.strip_prefix(separator)?;
            Some((id.clone(), folder.clone(), rest.to_owned()))
        })
    }

    fn missing(&self, code: &str) -> Reply {
        let reply = Reply::new(404, "");
        match self.faults.contains(&Fault::Taciturn) {
            true => reply,
            false => reply.header("X-Error-Code", code),
        }
    }

    fn refusal(&self, request: &Request) -> Option<Reply> {
        let needed = self.faults.iter().find_map(|fault| match fault {
            Fault::Gated { token } => Some(*token),
            _ => None,
        })?;
        (request.token.as_deref() != Some(needed)).then(|| {
            Reply::new(if request.token.is_some() { 403 } else { 401 }, "")
                .header("X-Error-Code", "GatedRepo")
                .header("X-Error-Message", "Access to model o/n is restricted.")
        })
    }
}

/// The id of a repository, its commit and its files, as the hub's API gives them.
fn information(id: &str, folder: &Path) -> serde_json::Value {
    let id = id.trim_start_matches("datasets/");
    let mut names = vec![];
    let mut open = vec![folder.to_owned()];
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                    names.push(serde_json::json!({"rfilename": name}));
                }
            }
        }
    }
    serde_json::json!({"id": id, "sha": COMMIT, "siblings": names})
}

fn is_here(revision: &str) -> bool {
    [COMMIT, "main", "refs/convert/parquet"].contains(&revision)
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Number of bytes of the body that are sent before the server hangs up.
    sent: usize,
    /// True if the server then keeps the connection open without sending.
    stalls: bool,
    is_file: bool,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: String::new(),
            sent: body.len(),
            body,
            stalls: false,
            is_file: false,
        }
    }

    fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        write!(self.headers, "{name}: {value}\r\n").unwrap();
        self
    }

    fn send(&self, mut stream: &TcpStream, head: bool) -> std::io::Result<()> {
        let Self {
            status,
            headers,
            body,
            sent,
            ..
        } = self;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        if head {
            return Ok(());
        }
        stream.write_all(&body[..*sent])?;
        if self.stalls {
            // The read ends when the client leaves.
            stream.read_to_end(&mut vec![])?;
        }
        Ok(())
    }
}
