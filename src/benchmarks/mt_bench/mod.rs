//! MT-Bench by FastChat's rules (`fastchat/llm_judge` at 0e6d3e4): 80 questions with two turns,
//! answers, judge prompts, the reading of scores and verdicts, and the means.
//!
//! ```text
//! Question ─▶ answers ─▶ Answers ─▶ Match ─▶ judge ─▶ rows of judgments ─▶ summary ─▶ Evaluation
//!              model                 prompt   server
//! ```
//!
//! Questions, reference answers and judge prompts are FastChat's own files, which the user gives.

pub mod answers;
pub mod judge;
pub mod pairwise;
pub mod parse;
pub mod questions;
pub mod repeats;
pub mod summary;
pub mod templates;

/// The name of the benchmark in evaluations.
pub const NAME: &str = "mt-bench";

/// The address of FastChat's files, for hints.
pub(crate) const FILES: &str =
    "FastChat has it: https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge/data";
