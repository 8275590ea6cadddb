//! The part of a Hugging Face hub that downloads need, on a port of this machine: `GET /api/models/<id>/revision/<revision>`
//! for the commit of a revision, and `HEAD` and `GET /<id>/resolve/<revision>/<file>` for files.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// The only commit; branch `main` is at it.
pub const COMMIT: &str = "8fb2f5c0a1d34e6798bb0a5c7d9e1f2031425364";

/// How the server treats requests for the repository it has.
#[derive(Clone, Copy)]
pub enum Answer {
    Files,
    /// 401 without a token, 403 with another than this.
    Gated {
        token: &'static str,
    },
    /// Announces every file, but sends an error when it is to be downloaded.
    Unreadable,
    /// Hangs up in the middle of every file.
    Half,
}

/// Serves one repository until it is dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    id: String,
    folder: PathBuf,
    answer: Answer,
    requests: Vec<String>,
    stopped: bool,
}

impl Server {
    /// Serves the files of `folder` as the repository `id`.
    pub fn start(id: &str, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (id, folder) = (id.to_owned(), folder.to_owned());
        let state = Arc::new(Mutex::new(State { id, folder, answer: Answer::Files, requests: vec![], stopped: false }));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().unwrap().stopped {
                    return;
                }
                // A client that hangs up has what it wants.
                let _ = serve(&stream.unwrap(), &shared);
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub fn answering(self, answer: Answer) -> Self {
        self.state().answer = answer;
        self
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Request lines since the start or the last [`Server::forget`], as `HEAD /o/n/resolve/…`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    pub fn forget(&self) {
        self.state().requests.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state().stopped = true;
        // Wakes the thread, so that the port is closed when this returns.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An endpoint where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    first.truncate(first.rfind(" HTTP/").unwrap_or(0));
    let mut token = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.strip_prefix("Bearer ").map(str::to_owned);
        }
    }
    let reply = {
        let mut state = state.lock().unwrap();
        state.requests.push(first.clone());
        let (method, path) = first.split_once(' ').unwrap_or_default();
        state.reply(method, path, token.as_deref())
    };
    reply.send(stream, first.starts_with("HEAD"))
}

impl State {
    fn reply(&self, method: &str, path: &str, token: Option<&str>) -> Reply {
        if let Some(rest) = path.strip_prefix(&format!("/api/models/{}/revision/", self.id)) {
            return self.allowed(token).unwrap_or_else(|| match is_here(rest) {
                true => Reply::new(200, format!(r#"{{"id": "{}", "sha": "{COMMIT}"}}"#, self.id)),
                false => Reply::new(404, r#"{"error": "Invalid rev id"}"#).header("X-Error-Code", "RevisionNotFound"),
            });
        }
        let file = path.strip_prefix(&format!("/{}/resolve/", self.id)).and_then(|rest| rest.split_once('/'));
        let Some((revision, name)) = file else {
            return Reply::new(404, r#"{"error": "Repository not found"}"#).header("X-Error-Code", "RepoNotFound");
        };
        if let Some(refusal) = self.allowed(token) {
            return refusal;
        }
        if !is_here(revision) {
            return Reply::new(404, "").header("X-Error-Code", "RevisionNotFound");
        }
        let Ok(bytes) = std::fs::read(self.folder.join(name)) else {
            return Reply::new(404, "").header("X-Error-Code", "EntryNotFound").header("X-Repo-Commit", COMMIT);
        };
        if matches!(self.answer, Answer::Unreadable) && method == "GET" {
            return Reply::new(403, "<Error>request has expired</Error>");
        }
        let etag = format!("\"{}\"", blake3::hash(&bytes).to_hex());
        let sent = if matches!(self.answer, Answer::Half) { bytes.len() / 2 } else { bytes.len() };
        Reply { sent, ..Reply::new(200, bytes).header("ETag", &etag).header("X-Repo-Commit", COMMIT) }
    }

    /// The refusal, if there is one.
    fn allowed(&self, token: Option<&str>) -> Option<Reply> {
        match self.answer {
            Answer::Gated { token: needed } if token != Some(needed) => Some(
                Reply::new(if token.is_some() { 403 } else { 401 }, "")
                    .header("X-Error-Code", "GatedRepo")
                    .header("X-Error-Message", "Access to model o/n is restricted."),
            ),
            _ => None,
        }
    }
}

fn is_here(revision: &str) -> bool {
    [COMMIT, "main"].contains(&revision)
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Bytes of the body before the server hangs up.
    sent: usize,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: String::new(), sent: body.len(), body }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    fn send(&self, mut stream: &TcpStream, head: bool) -> std::io::Result<()> {
        let Self { status, headers, body, sent } = self;
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
        if head { Ok(()) } else { stream.write_all(&body[..*sent]) }
    }
}
