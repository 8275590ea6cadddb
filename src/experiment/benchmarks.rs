//! Published benchmarks by which a study of real text is measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The table `[scale.<name>.benchmarks]`: rows of published benchmarks, which take the place of the
/// embedded world's. A path is one of the machine that runs the study. The value `none` removes a
/// key of the experiment that a file extends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkSources {
    /// Pairs in RewardBench's columns, on which rewards are measured:
    /// `hf:datasets/owner/name@revision`, a folder or a file.
    #[serde(default)]
    pub rewardbench: Option<PathBuf>,
    /// Split of `rewardbench` where it is a folder or on a hub; `filtered` if absent.
    #[serde(default)]
    pub rewardbench_split: Option<String>,
    /// Questions in FastChat's `question.jsonl`, which the policies answer.
    #[serde(default)]
    pub mt_bench: Option<PathBuf>,
    /// A folder with a folder for each task of the Open LLM Leaderboard, or `hub` for the published
    /// data sets.
    #[serde(default)]
    pub leaderboard: Option<PathBuf>,
    /// The version of lm-evaluation-harness whose prompts and metrics are computed: `h3`, the
    /// leaderboard's, if absent; else `h4`, `h5` or `v0.3.0`.
    #[serde(default)]
    pub leaderboard_convention: Option<String>,
    /// Few-shot examples of every task but TruthfulQA; the leaderboard's number for each if absent.
    #[serde(default)]
    pub leaderboard_shots: Option<usize>,
    /// Documents of each task and subject, the first ones; all if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub leaderboard_limit: Option<usize>,
}

impl BenchmarkSources {
    /// The benchmarks that are measured, each with its source.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let all = [
            ("rewardbench", &self.rewardbench),
            ("mt_bench", &self.mt_bench),
            ("leaderboard", &self.leaderboard),
        ];
        all.into_iter()
            .filter_map(|(name, source)| Some((name, source.as_ref()?)))
    }
}
