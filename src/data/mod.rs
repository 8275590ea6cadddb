//! From files and worlds to token sequences: rows, prompt formats, truncation, tokenisation.

pub mod codec;
pub mod corpus;
pub mod dataset;
pub mod hub;
pub mod rows;
pub mod tldr;
pub mod world;

pub use codec::Codec;
pub use rows::{Demonstration, ResponsePair};
