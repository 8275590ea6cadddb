//! The way from files and worlds to token sequences: rows, prompt formats, truncation,
//! tokenization.

pub mod contents;
pub mod dataset;
pub mod encoder;
pub mod foreign;
pub mod hub;
pub mod rows;
pub mod split;
pub mod tldr;
pub mod world;

pub use encoder::TextEncoder;
pub use rows::{Demonstration, ResponsePair};
