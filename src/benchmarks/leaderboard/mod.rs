//! The Open LLM Leaderboard v1: six tasks, as lm-evaluation-harness computes them at four versions of
//! its history.
//!
//! The way of a number: rows of a data set → [`Document`] ([`tasks`]) → [`Item`] with its requests
//! ([`Prompting`]) → a model's [`Response`] → [`scores`] → means and groups. Each step is a function of
//! values, so that each can be compared with the reference alone.

pub mod answers;
mod conventions;
pub mod data;
mod document;
pub mod encode;
pub mod evaluate;
pub mod groups;
pub mod metrics;
mod prompts;
mod python_random;
pub mod request;
mod respond;
pub mod results;
mod rivals;
pub mod tasks;

pub use conventions::{Convention, PairEncoding, SpecialTokens};
pub use data::{Data, SplitRows};
pub use document::{Answer, Document, Row, Targets};
pub use metrics::{Likelihood, Response, Score, scores};
pub use prompts::{Item, Prompting, Sampler, labelled};
pub use python_random::PythonRandom;
pub use request::{Request, Requests};
pub use respond::{Responder, Responses};
pub use tasks::{Shots, Split, Task};
