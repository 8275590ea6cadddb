//! The sources of a scale's data other than the embedded world: data sets and models of a hub, or
//! folders.

use crate::data::hub::Source;
use crate::error::{Error, Result};
use crate::tasks::TaskSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `[scale.<name>.data]`. Data sets are `hf:datasets/owner/name@revision` or folders;
/// models are ids of `[models]` that have a `checkpoint`. Of posts and comparisons, training uses
/// the split `train`, evaluation posts come from `test`, and test preferences from `validation`; of
/// conversations and preferences between them, these are `train_sft`, `test_sft`, `train_prefs` and
/// `test_prefs`. The value `none` removes a key of the experiment that a file extends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSources {
    /// Posts with human summaries: `id`, `subreddit`, `title`, `post`, `summary`.
    #[serde(default)]
    pub posts: Option<String>,
    /// Human comparisons of summaries, for RLHF and for the accuracy of rewards, in the columns of
    /// `openai/summarize_from_feedback`.
    #[serde(default)]
    pub comparisons: Option<String>,
    /// The configuration of `comparisons` that holds the comparisons.
    #[serde(default)]
    pub comparisons_config: Option<String>,
    /// Conversations, in place of posts where the task is `chat`: `messages`.
    #[serde(default)]
    pub conversations: Option<String>,
    /// Preferences between conversations, in place of comparisons where the task is `chat`:
    /// `chosen`, `rejected`.
    #[serde(default)]
    pub preferences: Option<String>,
    /// The model whose responses are the demonstrations; if absent, the demonstrations are the
    /// human summaries, or the answers of the conversations.
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

    /// The data sets, each with the key that names it.
    pub fn data_sets(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let named = [
            ("posts", &self.posts),
            ("comparisons", &self.comparisons),
            ("conversations", &self.conversations),
            ("preferences", &self.preferences),
        ];
        named
            .into_iter()
            .filter_map(|(key, source)| Some((key, source.as_ref()?)))
    }

    /// # Errors
    /// An invalid name of a data set, as the first such key and its error.
    pub(super) fn check(&self) -> std::result::Result<(), (&'static str, Error)> {
        self.data_sets()
            .try_for_each(|(key, source)| match Source::parse(source) {
                Ok(_) => Ok(()),
                Err(error) => Err((key, error)),
            })
    }

    /// # Errors
    /// A data set that `task` does not read, and the lack of one that it does; `scale` is named.
    pub fn check_task(&self, task: &TaskSettings, scale: &str) -> Result<()> {
        let (read, rows) = match task {
            TaskSettings::Summarization => (["posts", "comparisons"], &self.posts),
            TaskSettings::Chat(_) => (["conversations", "preferences"], &self.conversations),
        };
        if let Some((key, _)) = self.data_sets().find(|(key, _)| !read.contains(key)) {
            return Err(Error::configuration(format!(
                "scale `{scale}` names `{key}`, which the task of this experiment does not read"
            ))
            .hint(format!(
                "name `{}` and `{}` in [scale.{scale}.data]; {key} = \"none\" removes what another file says there",
                read[0], read[1]
            )));
        }
        match rows {
            Some(_) => Ok(()),
            None => Err(Error::configuration(format!(
                "the data of scale `{scale}` name no `{}`",
                read[0]
            ))
            .hint("write hf:datasets/owner/name@revision, or a folder")),
        }
    }

    /// The data set of demonstrations, with the key that names it.
    ///
    /// # Errors
    /// Sources without one, which a check of the experiment refuses.
    pub fn rows(&self) -> Result<(&'static str, &str)> {
        let named = [
            ("posts", &self.posts),
            ("conversations", &self.conversations),
        ];
        let found = named
            .into_iter()
            .find_map(|(key, source)| Some((key, source.as_deref()?)));
        found.ok_or_else(|| Error::internal("a scale's data have no rows"))
    }

    /// The data set of labelled pairs, with the key that names it; `None` if there is none.
    pub fn pairs(&self) -> Option<(&'static str, &str)> {
        let named = [
            ("comparisons", &self.comparisons),
            ("preferences", &self.preferences),
        ];
        named
            .into_iter()
            .find_map(|(key, source)| Some((key, source.as_deref()?)))
    }
}
