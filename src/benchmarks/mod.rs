//! Benchmarks: evaluations whose items, prompts and scores a reference implementation defines, with
//! intervals and paired comparisons beside its numbers. Each benchmark has a folder of its own; all
//! of them end in an [`Evaluation`], which has the score of every item.

pub mod alpaca_eval;
pub mod evaluation;
pub mod mt_bench;

pub use evaluation::{Aggregate, Evaluation, ItemScore, MODEL, Part};
