//! Tasks: the form of a row of data, and the prompt and response that it becomes. A task is a file
//! here that implements [`Task`], and a variant of [`TaskSettings`].

pub mod chat;
mod conversations;
mod summarization;
mod tokenizer_config;

pub use conversations::{ChatTask, Conversations, LongAnswer, WhichAnswer};
pub use summarization::Summarization;
pub use tokenizer_config::TokenizerConfig;

use crate::Result;
use crate::data::TextEncoder;
use crate::data::dataset::Dataset;
use crate::data::rows::{Demonstration, ResponsePair, RowText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The task of an experiment, as `[task]` declares it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskSettings {
    /// Summaries of Reddit posts (section 6.1 of the paper): rows with `subreddit`, `title`, `post`
    /// and `summary`.
    #[default]
    Summarization,
    /// Answers in conversations (section 6.2): rows with `messages`.
    Chat(ChatTask),
}

/// A row in the form in which models read it.
#[derive(Clone, Debug)]
pub struct Example<T> {
    /// Position of the row in its data set.
    pub index: usize,
    /// The prompt as it was written, before it was fitted to a limit.
    pub whole: String,
    pub row: T,
}

/// The rows of a file that can be read.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The prompts as they were written.
    pub whole: Vec<String>,
    /// The number of responses that are cut to the limit.
    pub cut: usize,
}

/// The conversion of a data set's rows to prompts and responses.
pub trait Task {
    /// The rows at the positions that `wanted` accepts, with prompts that fit the limit.
    ///
    /// # Errors
    /// A file that cannot be read; a row without a prompt and a response, or whose prompt cannot be
    /// fitted.
    fn demonstrations(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<Demonstration>>>;

    /// The compared responses at the positions that `wanted` accepts, preferred ones first. Rows of
    /// other tasks are passed over.
    ///
    /// # Errors
    /// As [`demonstrations`](Self::demonstrations).
    fn comparisons(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<ResponsePair>>>;

    /// The positions of the rows that can be demonstrations. Published data sets have rows that cannot,
    /// such as conversations with an empty turn.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn usable_demonstrations(&self, set: &Dataset) -> Result<Vec<usize>> {
        Ok((0..set.len()?).collect())
    }

    /// The positions of the rows that can be labelled pairs, as
    /// [`usable_demonstrations`](Self::usable_demonstrations).
    ///
    /// # Errors
    /// A file that cannot be read.
    fn usable_comparisons(&self, set: &Dataset) -> Result<Vec<usize>>;

    /// The prompt of messages of user and assistant in turn, which begin and end with the user's,
    /// fitted to the limit.
    ///
    /// # Errors
    /// A task without conversations, and a prompt that cannot be fitted.
    fn asked(&self, place: &str, turns: &[String]) -> Result<RowText>;

    /// Two responses to such a prompt, the preferred one first. Neither may be empty in training, but
    /// benchmarks have such pairs.
    ///
    /// # Errors
    /// As [`asked`](Self::asked).
    fn answered(&self, place: &str, turns: &[String], responses: [&str; 2])
    -> Result<ResponsePair>;

    /// The prompts of all rows as they were written, after a check that each can be fitted.
    ///
    /// # Errors
    /// As [`demonstrations`](Self::demonstrations).
    fn check(&self, set: &Dataset) -> Result<Checked>;
}

impl TaskSettings {
    /// The task with the tokenizer in `folder`, which `encoder` has opened with a study's limits.
    ///
    /// # Errors
    /// A folder that lacks what the task reads beside a tokenizer, such as a chat template.
    pub fn open(&self, folder: &Path, encoder: TextEncoder) -> Result<Box<dyn Task>> {
        match self {
            Self::Summarization => Ok(Box::new(Summarization { encoder })),
            Self::Chat(settings) => Ok(Box::new(Conversations::open(folder, encoder, settings)?)),
        }
    }

    /// Special tokens and chat template that the task states for the tokenizer, beside its files.
    pub fn tokenizer(&self) -> TokenizerConfig {
        match self {
            Self::Summarization => TokenizerConfig::default(),
            Self::Chat(settings) => settings.tokenizer.clone(),
        }
    }

    /// The rows that the task reads, as errors call them.
    pub fn rows(&self) -> &'static str {
        match self {
            Self::Summarization => "posts",
            Self::Chat(_) => "conversations",
        }
    }

    /// True if a study may ask for all rows of a published split and gets those that are left after
    /// the held-out prompts and the rows that cannot be used; false if it then lacks rows.
    pub fn takes_what_is_left(&self) -> bool {
        matches!(self, Self::Chat(_))
    }

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
