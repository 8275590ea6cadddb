//! Where a scale's data come from when it is not the embedded world: data sets and models of a hub, or folders.

use crate::data::hub::Source;
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// `[scale.<name>.data]`. Data sets are `hf:datasets/owner/name@revision` or folders; models are ids of `[models]` that have
/// a `checkpoint`. Training uses the split `train`; the exam is from `test`, test preferences are from `validation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSources {
    /// Posts with human summaries: `id`, `subreddit`, `title`, `post`, `summary`.
    pub posts: String,
    /// Human comparisons of summaries, for RLHF and for the accuracy of rewards, in the columns of
    /// `openai/summarize_from_feedback`.
    #[serde(default)]
    pub comparisons: Option<String>,
    /// Configuration of `comparisons` that holds them.
    #[serde(default)]
    pub comparisons_config: Option<String>,
    /// The model whose responses are the demonstrations; without it they are the human summaries.
    #[serde(default)]
    pub demonstrator: Option<String>,
    /// Temperature of the demonstrator.
    #[serde(default)]
    pub demonstrator_temperature: f32,
    /// The reward model that stands for gold; without it gold is not measured.
    #[serde(default)]
    pub judge: Option<String>,
}

impl DataSources {
    /// The models that it names, with the key that names each.
    pub fn models(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let named = [("demonstrator", &self.demonstrator), ("judge", &self.judge)];
        named.into_iter().filter_map(|(key, model)| Some((key, model.as_ref()?)))
    }

    /// # Errors
    /// With the key of the first data set that is not well named.
    pub(super) fn check(&self) -> std::result::Result<(), (&'static str, crate::Error)> {
        let named = [("posts", Some(&self.posts)), ("comparisons", self.comparisons.as_ref())];
        for (key, source) in named.into_iter().filter_map(|(key, source)| Some((key, source?))) {
            Source::parse(source).map_err(|error| (key, error))?;
        }
        Ok(())
    }

    pub fn posts(&self) -> Result<Source> {
        Source::parse(&self.posts)
    }
}
