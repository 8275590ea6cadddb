//! The operations a decoder spends its time in, each as one call.
//!
//! [`compose`] says what each operation means, as plain tensor operations that run and differentiate on every backend.

mod cache;
mod compose;

pub use cache::{KvCache, prefill, select_rows, step};
pub use compose::{Rotary, attention, gelu, layer_norm, linear, sample, token_log_probs};

#[cfg(test)]
mod tests;
