//! Benchmarks: evaluations whose items, prompts and scores a reference implementation defines, with
//! intervals and paired comparisons beside its numbers. Each benchmark has a folder of its own; all
//! of them end in an [`Evaluation`], which has the score of every item.

pub mod compare;
pub mod contamination;
pub mod evaluation;
pub mod fastchat;
pub mod import;
pub mod leaderboard;
pub mod mt_bench;
pub mod rewardbench;

pub use compare::{Entrant, Number, difference};
pub use evaluation::{Aggregate, Evaluation, ItemScore, MODEL, Part, Summary};
