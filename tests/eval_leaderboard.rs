//! Tests of the leaderboard's tasks: against hashes and numbers that lm-evaluation-harness has
//! published or computed, where they are at hand (`TOUCHSTONE_SHARED_DATA`), and on miniature data.

mod common;
#[cfg(feature = "hub")]
mod hub_server;

#[path = "leaderboard/command.rs"]
mod command;
#[path = "leaderboard/encoding.rs"]
mod encoding;
#[path = "leaderboard/goldens.rs"]
mod goldens;
#[cfg(feature = "hub")]
#[path = "leaderboard/hub.rs"]
mod hub;
