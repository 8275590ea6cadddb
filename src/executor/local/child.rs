//! One stage's process, seen from its parent.

use crate::error::{ErrorKind, Result};
use crate::executor::Failure;
use crate::files;
use crate::pipeline::{End, Event, SUPERVISED_ENV, StageKey, Store};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a stage's standard error that are kept.
const TAIL_BYTES: usize = 64 * 1024;
/// Lines of the kept standard error that are shown at once.
const TAIL_LINES: usize = 12;
/// How long to read on after a process has ended: a process that it started may hold its pipes.
const DRAIN: Duration = Duration::from_secs(1);

/// A message from a reader thread about the child at a position of the graph.
pub(super) enum Message {
    Event(usize, Event),
    Closed(usize),
}

pub(super) struct Child {
    process: std::process::Child,
    started: Instant,
    tail: Arc<Mutex<VecDeque<u8>>>,
    open_pipes: usize,
    ended: Option<(ExitStatus, Instant)>,
    reported: Option<Failure>,
    /// True if the process found its stage being computed by another process and left.
    left: bool,
}

impl Child {
    /// Starts `command` with pipes on all three streams. The parent's end of its standard input is
    /// kept open but unused: as long as it is open, the child knows that the parent lives.
    pub fn start(
        mut command: Command,
        position: usize,
        messages: &Sender<Message>,
    ) -> Result<Self> {
        command
            .env(SUPERVISED_ENV, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A process group of its own, so that the terminal's Ctrl-C reaches the parent alone, which
        // decides what becomes of the stages.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = PathBuf::from(command.get_program());
        let mut process = command
            .spawn()
            .map_err(|cause| files::failed("start", &program, cause))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let mut open_pipes = 0;
        if let Some(stdout) = process.stdout.take() {
            open_pipes += 1;
            let messages = messages.clone();
            std::thread::spawn(move || {
                forward_events(stdout, position, &messages);
                let _ = messages.send(Message::Closed(position));
            });
        }
        if let Some(stderr) = process.stderr.take() {
            open_pipes += 1;
            let (tail, messages) = (Arc::clone(&tail), messages.clone());
            std::thread::spawn(move || {
                keep_tail(stderr, &tail);
                let _ = messages.send(Message::Closed(position));
            });
        }
        Ok(Self {
            process,
            started: Instant::now(),
            tail,
            open_pipes,
            ended: None,
            reported: None,
            left: false,
        })
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The number of the process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The end of the process, as far as its status tells more than the store does.
    pub fn end(&self) -> End {
        #[cfg(unix)]
        if let Some((status, _)) = self.ended {
            // SIGTERM asks it to leave; SIGKILL is what a system without memory left sends.
            return match std::os::unix::process::ExitStatusExt::signal(&status) {
                Some(15) => End::Released,
                Some(9) => End::Killed,
                _ => End::Failed,
            };
        }
        End::Failed
    }

    pub fn note_failure(&mut self, failure: Failure) {
        self.reported = Some(failure);
    }

    pub fn note_left(&mut self) {
        self.left = true;
    }

    pub fn has_left(&self) -> bool {
        self.left
    }

    pub fn note_closed(&mut self) {
        self.open_pipes = self.open_pipes.saturating_sub(1);
    }

    /// True once the process has ended and all its output has been read.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none() {
            // An error here means that the process no longer exists; the store's verdict covers
            // that.
            self.ended = self
                .process
                .try_wait()
                .unwrap_or(Some(ExitStatus::default()))
                .map(|s| (s, Instant::now()));
        }
        self.ended
            .is_some_and(|(_, when)| self.open_pipes == 0 || when.elapsed() > DRAIN)
    }

    /// The result of the stage. The store decides: a process that was killed after it published has
    /// succeeded. A failure is also written to the store's log of the stage.
    pub fn verdict(&self, store: &Store, key: &StageKey) -> std::result::Result<(), Failure> {
        if store.is_complete(key) {
            return Ok(());
        }
        let tail = String::from_utf8_lossy(
            self.tail
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .make_contiguous(),
        )
        .into_owned();
        let mut failure = match (&self.reported, self.ended) {
            (Some(reported), _) => reported.clone(),
            (None, Some((status, _))) => failure_of(status),
            (None, None) => Failure {
                kind: ErrorKind::Process,
                message: "its process is lost".to_owned(),
            },
        };
        let Failure { kind, message } = &mut failure;
        if self.reported.is_none() {
            append_tail(message, &tail);
        }
        let log = store.failure_log(key);
        match files::replace(
            &log,
            format!("{message}\n\nkind: {kind}\n\nstandard error:\n{tail}").as_bytes(),
        ) {
            Ok(()) => message.push_str(&format!("\nlog: {}", log.display())),
            Err(error) => message.push_str(&format!("\n(no log: {error})")),
        }
        Err(failure)
    }
}

/// Never leaves a process behind, however the parent drops it.
impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

fn forward_events(stdout: impl Read, position: usize, messages: &Sender<Message>) {
    let (mut lines, mut line) = (BufReader::new(stdout), Vec::new());
    while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
        if let Some(event) = std::str::from_utf8(&line).ok().and_then(Event::parse)
            && messages.send(Message::Event(position, event)).is_err()
        {
            return;
        }
        line.clear();
    }
}

fn keep_tail(mut stderr: impl Read, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..read]);
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
    }
}

fn append_tail(message: &mut String, tail: &str) {
    let lines: Vec<&str> = tail.trim_end().lines().collect();
    for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
        message.push_str("\n  | ");
        message.push_str(line);
    }
}

/// The failure of a process that ended with `status` and reported no error.
fn failure_of(status: ExitStatus) -> Failure {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        // SIGKILL and SIGTERM come from outside; the other signals are crashes.
        let kind = if matches!(signal, 9 | 15) {
            ErrorKind::Process
        } else {
            ErrorKind::Internal
        };
        return Failure {
            kind,
            message: describe_signal(signal),
        };
    }
    let message = match status.code() {
        Some(0) => "its process ended well but left no artifact".to_owned(),
        Some(code) => format!("its process ended with exit code {code}"),
        None => "its process ended in an unknown way".to_owned(),
    };
    Failure {
        kind: ErrorKind::Internal,
        message,
    }
}

/// The signals whose numbers are the same on every Unix.
#[cfg(unix)]
fn describe_signal(signal: i32) -> String {
    let (name, remedy) = match signal {
        4 => (
            "SIGILL",
            "the program was built for another processor: build it on this machine",
        ),
        6 => (
            "SIGABRT",
            "a library gave up: its last words are in the log",
        ),
        8 => (
            "SIGFPE",
            "native code crashed: please report this with the log",
        ),
        9 => (
            "SIGKILL",
            "most often the system had no memory left: run fewer stages at once (--jobs) or a smaller micro-batch, \
             then run the same command again",
        ),
        11 => (
            "SIGSEGV",
            "native code crashed: please report this with the log",
        ),
        15 => (
            "SIGTERM",
            "someone ended it: run the same command again to continue",
        ),
        _ => return format!("its process was killed by signal {signal}"),
    };
    format!("its process was killed by signal {signal} ({name})\n{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_standard_error_is_kept() {
        let tail = Mutex::new(VecDeque::new());
        let text: Vec<u8> = (0..200_000_u32).flat_map(|i| i.to_le_bytes()).collect();
        keep_tail(text.as_slice(), &tail);
        let kept: Vec<u8> = tail.into_inner().unwrap().into();
        assert_eq!(kept, text[text.len() - TAIL_BYTES..]);
    }

    #[test]
    fn a_message_ends_with_the_last_lines() {
        let text: String = (0..40).map(|i| format!("line {i}\n")).collect();
        let mut message = "broke".to_owned();
        append_tail(&mut message, "");
        assert_eq!(message, "broke");
        append_tail(&mut message, &text);
        assert!(
            message.starts_with("broke\n  | line 28\n") && message.ends_with("  | line 39"),
            "{message}"
        );
    }
}
