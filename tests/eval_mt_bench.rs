//! Tests of MT-Bench: FastChat's prompts, scores and means on small files of our own
//! (`fixtures/mt_bench/make.py`), and on FastChat's files and real judgments where they are at hand.

mod common;
#[cfg(feature = "http")]
mod judge_server;

#[path = "mt_bench/answers.rs"]
mod answers;
#[path = "mt_bench/files.rs"]
mod files;
#[path = "mt_bench/judge.rs"]
mod judge;
#[path = "mt_bench/real.rs"]
mod real;
#[path = "mt_bench/score.rs"]
mod score;
