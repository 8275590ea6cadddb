//! The sources of a scale's data other than the embedded world: data sets and models of a hub, or
//! folders.

use crate::data::hub::Source;
use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[scale.<name>.data]`. Data sets are `hf:datasets/owner/name@revision` or folders;
/// models are ids of `[models]` that have a `checkpoint`. Training uses the split `train`,
/// evaluation posts come from `test`, and test preferences from `validation`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSources {
    /// Posts with human summaries: `id`, `subreddit`, `title`, `post`, `summary`.
    pub posts: String,
    /// Human comparisons of summaries, for RLHF and for the accuracy of rewards, in the columns of
    /// `openai/summarize_from_feedback`.
    #[serde(default)]
    pub comparisons: Option<String>,
    /// The configuration of `comparisons` that holds the comparisons.
    #[serde(default)]
    pub comparisons_config: Option<String>,
    /// The model whose responses are the demonstrations; if absent, the demonstrations are the
    /// human summaries.
    #[serde(default)]
    pub demonstrator: Option<String>,
    /// Temperature of the demonstrator.
    #[serde(default)]
    pub demonstrator_temperature: f32,
    /// The reward model that serves as gold; if absent, gold is not measured.
    #[serde(default)]
    pub judge: Option<String>,
}

impl DataSources {
    /// The named models, each with the key that names it.
    pub fn models(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let named = [("demonstrator", &self.demonstrator), ("judge", &self.judge)];
        named
            .into_iter()
            .filter_map(|(key, model)| Some((key, model.as_ref()?)))
    }

    /// # Errors
    /// An invalid name of a data set, as the first such key and its error.
    pub(super) fn check(&self) -> std::result::Result<(), (&'static str, crate::Error)> {
        let named = [
            ("posts", Some(&self.posts)),
            ("comparisons", self.comparisons.as_ref()),
        ];
        for (key, source) in named
            .into_iter()
            .filter_map(|(key, source)| Some((key, source?)))
        {
            Source::parse(source).map_err(|error| (key, error))?;
        }
        Ok(())
    }

    pub fn posts(&self) -> Result<Source> {
        Source::parse(&self.posts)
    }
}
