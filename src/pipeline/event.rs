//! Events that a stage's process sends to its parent, as one JSON object per line on standard
//! output.

use crate::error::ErrorKind;
use serde::{Deserialize, Serialize};
use std::io::Write;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another process is computing the same stage; its artifact will be used.
    Waiting,
    /// `done` of `total` units of the stage's own choosing (steps, prompts, …); `total` is 0 if
    /// unknown.
    Progress {
        done: u64,
        total: u64,
        note: String,
    },
    Finished,
    Failed {
        kind: ErrorKind,
        error: String,
    },
}

impl Event {
    /// Writes the event to standard output. Errors are ignored: if the parent is gone, nobody reads
    /// the event.
    pub(super) fn send(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Parses an event; `None` for any other line, since libraries may print to standard output
    /// too.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_is_what_other_executors_rely_on() {
        let events = [
            (Event::Waiting, r#"{"event":"waiting"}"#),
            (
                Event::Progress {
                    done: 3,
                    total: 10,
                    note: "loss 0.5".into(),
                },
                r#"{"event":"progress","done":3,"total":10,"note":"loss 0.5"}"#,
            ),
            (Event::Finished, r#"{"event":"finished"}"#),
            (
                Event::Failed {
                    kind: ErrorKind::Files,
                    error: "no\nspace".into(),
                },
                r#"{"event":"failed","kind":"files","error":"no\nspace"}"#,
            ),
        ];
        for (event, line) in events {
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            assert_eq!(Event::parse(line), Some(event));
        }
        assert_eq!(Event::parse("running 1 test"), None);
    }
}
