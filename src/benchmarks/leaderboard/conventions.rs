//! The versions of lm-evaluation-harness whose behaviour is reproduced.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of the harness: its order of documents, few-shot draws, prompts, metrics and treatment
/// of tokens. Numbers under different conventions differ by up to tens of points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Convention {
    /// Release v0.3.0 (62ca184), December 2022: the version with published hashes of all requests.
    #[serde(rename = "v0.3.0")]
    V030,
    /// Commit b281b09, June 2023: the harness of the Open LLM Leaderboard v1.
    #[serde(rename = "h3")]
    H3,
    /// Commit 46c7966, December 2023, between v0.4.0 and v0.4.1: the one that SPIN's authors used. It
    /// drops the few-shot examples of Winogrande.
    #[serde(rename = "h4")]
    H4,
    /// Release v0.4.12 (6d64254) with its group `openllm`.
    #[serde(rename = "h5")]
    H5,
}

/// The tokens before a text that starts a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// None.
    Never,
    /// Those that the tokenizer itself adds, such as Mistral's `<s>`.
    AsTokenizer,
}

/// The way a pair of context and continuation becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairEncoding {
    /// Each on its own.
    Apart,
    /// Both as one text, split at the number of tokens that the context has on its own.
    Together,
}

impl Convention {
    pub const ALL: [Self; 4] = [Self::V030, Self::H3, Self::H4, Self::H5];

    /// The name by which it is chosen.
    pub fn name(self) -> &'static str {
        match self {
            Self::V030 => "v0.3.0",
            Self::H3 => "h3",
            Self::H4 => "h4",
            Self::H5 => "h5",
        }
    }

    /// The convention of this name.
    ///
    /// # Errors
    /// Any other name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            Error::configuration(format!("there is no convention `{name}`"))
                .hint("choose one of h3, h4, h5, v0.3.0")
        })
    }

    /// The version of lm-evaluation-harness.
    pub fn harness(self) -> &'static str {
        match self {
            Self::V030 => "v0.3.0 (62ca184)",
            Self::H3 => "b281b09 (v0.3.0-157, Open LLM Leaderboard v1)",
            Self::H4 => "46c7966 (between v0.4.0 and v0.4.1)",
            Self::H5 => "v0.4.12 (6d64254), group openllm",
        }
    }

    /// Whether tasks are classes, as up to v0.3.0, and not YAML files: documents are shuffled, and
    /// examples are drawn by the generator that shuffled them.
    pub fn is_before_yaml(self) -> bool {
        matches!(self, Self::V030 | Self::H3)
    }

    /// Whether the few-shot examples of Winogrande reach its requests. At 46c7966 the loop over the
    /// two options overwrites the context that holds them (`api/task.py` l. 962; repaired in
    /// cf6a832), though they are still drawn.
    pub fn keeps_winogrande_examples(self) -> bool {
        self != Self::H4
    }

    /// Whether an example that equals the query is dropped, even where none is drawn for it.
    pub fn drops_query(self) -> bool {
        self == Self::H4
    }

    /// Whether one more example is drawn where the split that examples come from is not named
    /// (`api/samplers.py` l. 24).
    pub fn draws_one_more(self) -> bool {
        self == Self::H4
    }

    pub fn special_tokens(self) -> SpecialTokens {
        match self {
            Self::V030 | Self::H3 | Self::H4 => SpecialTokens::Never,
            Self::H5 => SpecialTokens::AsTokenizer,
        }
    }

    pub fn pair_encoding(self) -> PairEncoding {
        match self {
            Self::V030 => PairEncoding::Apart,
            Self::H3 | Self::H4 | Self::H5 => PairEncoding::Together,
        }
    }

    /// Whether MMLU's number is the mean of all items, and not of its subjects' accuracies.
    pub fn weights_subjects_by_size(self) -> bool {
        !self.is_before_yaml()
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_are_written() {
        for convention in Convention::ALL {
            let written = serde_json::to_value(convention).unwrap();
            assert_eq!(written, convention.to_string());
            assert_eq!(Convention::named(convention.name()).unwrap(), convention);
        }
        let message = Convention::named("h6").unwrap_err().to_string();
        assert_eq!(message, "there is no convention `h6`");
    }
}
