//! A listener on a port of this machine for servers that tests imitate: its loop of connections, and
//! the heads of requests.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A listener that runs until it is dropped.
pub struct Listener {
    pub address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Gives every connection to `serve`, one after the other.
    pub fn start(serve: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.unwrap());
            }
        });
        Self {
            address,
            stopped,
            thread: Some(thread),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // This connection wakes the thread, so that the port is closed when `drop` returns.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An address at which no server listens.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The head of a request.
#[derive(Debug, Default)]
pub struct Head {
    pub method: String,
    pub path: String,
    /// The headers by their names in small letters.
    pub headers: BTreeMap<String, String>,
}

impl Head {
    /// Reads a head up to the blank line behind it.
    pub fn read(reader: &mut impl BufRead) -> std::io::Result<Self> {
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut words = first.trim_end().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let mut head = Self {
            method: word(),
            path: word(),
            ..Self::default()
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                return Ok(head);
            };
            head.headers
                .insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
}
