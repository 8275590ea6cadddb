//! The stages: each opens its inputs, calls one method or measurement, and writes one artifact.
//! `methods` and `eval` compute; a stage decides where data come from and go to.
//!
//! A kind of stage is a [`Stage`], in the file named after its `KIND`: version, settings, inputs,
//! work and run together. [`STAGES`] lists all kinds, and [`run`] finds one by its name.
//!
//! | kinds | artifact |
//! |---|---|
//! | `pretrain`, `bundled`, `random` | model folder |
//! | `checkpoint` | `source.json`, which names a published model folder |
//! | `dataset` | `dataset.json`, which names commit and files of a data set |
//! | `demonstrations`, `corpus`, `hub_demonstrations` | `demonstrations.jsonl`, `held_out.jsonl` |
//! | `corrupt`, `best_of_n`, `filter` | `demonstrations.jsonl` |
//! | `preferences`, `comparisons`, `local_comparisons`, `pairs`, `judged_pairs` | `pairs.jsonl` |
//! | `heldout_pairs` | `on_policy.jsonl`, `demonstrated.jsonl` |
//! | `sft`, `spin`, `ppo`, `rloo`, `grpo`, `dpo`, `iq_learn` | model folder, `curve.json` |
//! | `tune` | `trace.json`, `chosen.json`; of SFT a model folder beside |
//! | `reward` | model folder with `reward.json`, `curve.json` |
//! | `select` | model folder, `selection.json` |
//! | `evaluate`, `evaluate_reward` | `metrics.json`, `items.json`, `answers.jsonl` |
//! | `agreement` | `metrics.json` |
//! | `likelihood` | `metrics.json`, `deviations.json` |
//!
//! Several kinds share `common` (models and rows), `base` (shapes), `on_policy` (inputs of policy steps), `evaluation_set`, `held_out`
//! (rows excluded from training), `scoring` (scores by a judge) and `work`
//! (estimates). [`plan`](crate::plan) lays a study out as a graph of stages, and
//! [`collect`](crate::collect) reads the finished artifacts into the input of a report.

pub mod agreement;
pub mod base;
pub mod best_of_n;
pub mod bundled;
pub mod checkpoint;
pub(crate) mod common;
pub mod comparisons;
pub mod corpus;
pub mod corrupt;
pub mod dataset;
pub mod demonstrations;
pub mod dpo;
pub mod evaluate;
pub mod evaluate_reward;
pub mod evaluation_set;
pub mod filter;
pub mod grpo;
pub(crate) mod held_out;
pub mod heldout_pairs;
pub mod hub_demonstrations;
pub mod iq_learn;
pub mod judged_pairs;
pub mod leaderboard;
pub mod leaderboard_rows;
pub mod likelihood;
pub mod local_comparisons;
pub mod mt_bench;
pub mod on_policy;
pub mod pairs;
pub mod ppo;
pub mod preferences;
pub mod pretrain;
pub mod random;
mod registry;
pub mod reward;
pub mod rewardbench;
pub mod rloo;
pub mod scoring;
pub mod select;
pub mod sft;
pub mod spin;
pub mod tune;
pub mod work;

pub use registry::{Entry, NoInputs, STAGES, Stage, run};
