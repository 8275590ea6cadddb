//! Tests of the leaderboard's tasks against numbers that lm-evaluation-harness has published or
//! computed, where its data are at hand (`TOUCHSTONE_SHARED_DATA`).

#[path = "leaderboard/goldens.rs"]
mod goldens;
