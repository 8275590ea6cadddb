//! The part of a chat-completions server that judges need, on a port of this machine, with the
//! faults of servers and networks. Every connection has a thread of its own and is closed after one
//! answer.
#![allow(dead_code, reason = "every test file uses its own part")]

#[path = "../common/server.rs"]
mod server;

use serde_json::{Value, json};
use server::{Head, Listener};
use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A reply to one request, or a fault.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Status 200 with this text as the answer.
    Say(String),
    /// Status 200 with this body.
    Body(String),
    /// A status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Status 200, whose body is announced longer than what is sent.
    CutOff(String),
    /// Nothing at all for this long.
    Silence(Duration),
    /// The head of an answer, and then nothing for this long.
    SlowBody(Duration),
    /// Closes the connection without an answer.
    HangUp,
    /// Answers with the request's authorization as its text.
    EchoKey,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
}

/// A server that runs until it is dropped.
pub struct Server {
    state: Arc<Mutex<State>>,
    listener: Listener,
}

/// The answer to a request that no turn is planned for.
type Answering = Box<dyn Fn(&Value) -> Turn + Send>;

struct State {
    turns: VecDeque<Turn>,
    otherwise: Answering,
    seen: Vec<Seen>,
    under_way: usize,
    most_under_way: usize,
}

impl Server {
    /// A server that plays `turns` in order, then answers with `otherwise`.
    pub fn start(
        turns: impl IntoIterator<Item = Turn>,
        otherwise: impl Fn(&Value) -> Turn + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State {
            turns: turns.into_iter().collect(),
            otherwise: Box::new(otherwise),
            seen: vec![],
            under_way: 0,
            most_under_way: 0,
        }));
        let shared = Arc::clone(&state);
        let listener = Listener::start(move |stream| {
            let shared = Arc::clone(&shared);
            // A client may hang up when its time is over.
            std::thread::spawn(move || serve(&stream, &shared).unwrap_or_default());
        });
        Self { state, listener }
    }

    /// A server that always answers with this text.
    pub fn saying(text: &str) -> Self {
        let text = text.to_owned();
        Self::start([], move |_| Turn::Say(text.clone()))
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.listener.address)
    }

    pub fn plan(&self, turns: impl IntoIterator<Item = Turn>) {
        self.state().turns.extend(turns);
    }

    /// Drops the turns that have not been played.
    pub fn forget_turns(&self) {
        self.state().turns.clear();
    }

    /// The requests since the start.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The most requests that were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.state().most_under_way
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A base URL at which no server listens.
pub fn nobody() -> String {
    format!("http://{}/v1", server::nobody())
}

/// The body of an answer.
pub fn completion(content: Value, finish_reason: &str) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "resolved-name",
        "system_fingerprint": "fp_1", "a_new_field": {"x": [1, 2]},
        "choices": [{"index": 0, "finish_reason": finish_reason,
                     "message": {"role": "assistant", "content": content, "refusal": null}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    })
    .to_string()
}

fn read(stream: &TcpStream) -> std::io::Result<Seen> {
    let mut reader = BufReader::new(stream);
    let head = Head::read(&mut reader)?;
    let length = head.headers.get("content-length");
    let mut body = vec![0; length.and_then(|it| it.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Seen {
        path: head.path,
        authorization: head.headers.get("authorization").cloned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let seen = read(stream)?;
    let turn = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        state.under_way += 1;
        state.most_under_way = state.most_under_way.max(state.under_way);
        match state.turns.pop_front() {
            Some(turn) => turn,
            None => (state.otherwise)(&seen.body),
        }
    };
    // Requests that come together overlap.
    std::thread::sleep(Duration::from_millis(20));
    state.lock().unwrap().under_way -= 1;
    match turn {
        Turn::Say(text) => send(stream, 200, &[], &completion(json!(text), "stop"), 0),
        Turn::Body(body) => send(stream, 200, &[], &body, 0),
        Turn::Status(code, headers, body) => send(stream, code, &headers, &body, 0),
        Turn::CutOff(body) => send(stream, 200, &[], &body, 50),
        Turn::Silence(time) => {
            std::thread::sleep(time);
            Ok(())
        }
        Turn::SlowBody(time) => {
            send(stream, 200, &[], "{", 50)?;
            std::thread::sleep(time);
            Ok(())
        }
        Turn::HangUp => Ok(()),
        Turn::EchoKey => {
            let text = seen.authorization.unwrap_or_default();
            send(
                stream,
                200,
                &[("x-request-id", text.clone())],
                &completion(json!(text), "stop"),
                0,
            )
        }
    }
}

/// Sends an answer that announces `more` bytes than it has.
fn send(
    mut stream: &TcpStream,
    code: u16,
    headers: &[(&str, String)],
    body: &str,
    more: usize,
) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len() + more
    );
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n" + body).as_bytes())?;
    stream.flush()
}
