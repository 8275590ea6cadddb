//! Rows with the columns of data sets on the hub.

use super::row::Row;
use crate::Result;
use crate::data::tldr::Post;
use serde::{Deserialize, Serialize};

/// A row type of a data set, read from its columns.
pub trait Record: Sized {
    /// The required columns.
    const COLUMNS: &'static [&'static str];
    /// The columns that are read if they exist.
    const OPTIONAL: &'static [&'static str] = &[];

    /// # Errors
    /// A cell that is null or of another type than the record's, which names its row.
    fn read(row: Row) -> Result<Self>;
}

/// A Reddit post with its human summary: `vwxyzjn/summarize_from_feedback_tldr_3_filtered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummarisedPost {
    pub id: String,
    pub post: Post,
    pub summary: String,
}

impl Record for SummarisedPost {
    const COLUMNS: &'static [&'static str] = &["id", "subreddit", "title", "post", "summary"];

    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id("id")?,
            post: post(&mut row)?,
            summary: row.text("summary")?,
        })
    }
}

fn post(row: &mut Row) -> Result<Post> {
    Ok(Post {
        subreddit: row.text("subreddit")?,
        title: row.text("title")?,
        post: row.text("post")?,
    })
}

/// Two summaries of one text, the first preferred by a person: `openai/summarize_from_feedback`,
/// config `comparisons`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub id: String,
    pub text: Text,
    pub chosen: Summary,
    pub rejected: Summary,
    pub worker: String,
    /// The collection that the comparison belongs to, such as `batch22`.
    pub batch: String,
    /// The split that the authors put it in, such as `train` or `valid1`.
    pub split: String,
    /// The person's confidence, 1 to 9, if they were asked.
    pub confidence: Option<i64>,
}

/// The text that was summarised. The null members of `info` decide between the two kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Post(Post),
    /// A news article, in some batches of the validation split.
    Article {
        title: Option<String>,
        article: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub text: String,
    /// The author of the summary, such as `ref` or `sup2`.
    pub policy: String,
}

impl Record for Comparison {
    const COLUMNS: &'static [&'static str] =
        &["info", "summaries", "choice", "worker", "batch", "split"];
    const OPTIONAL: &'static [&'static str] = &["extra"];

    fn read(mut row: Row) -> Result<Self> {
        let mut info = row.part("info")?;
        let id = info.text("id")?;
        let text = match info.optional_text("article")? {
            Some(article) => Text::Article {
                title: info.optional_text("title")?,
                article,
            },
            None => Text::Post(post(&mut info)?),
        };
        let summaries = row.parts("summaries")?;
        let [first, second] = <[Row; 2]>::try_from(summaries).map_err(|summaries| {
            row.error(&format!("{} summaries to compare, not 2", summaries.len()))
        })?;
        let (chosen, rejected) = match row.integer("choice")? {
            0 => (first, second),
            1 => (second, first),
            other => {
                return Err(row.error(&format!(
                    "`choice` is {other}, but the summaries are numbers 0 and 1"
                )));
            }
        };
        let summary = |mut row: Row| {
            Ok(Summary {
                text: row.text("text")?,
                policy: row.text("policy")?,
            })
        };
        // A comparison without extra information has no such struct.
        let confidence = match row.optional_part("extra")? {
            Some(mut extra) => extra.optional_integer("confidence")?,
            None => None,
        };
        Ok(Self {
            id,
            text,
            chosen: summary(chosen)?,
            rejected: summary(rejected)?,
            worker: row.text("worker")?,
            batch: row.text("batch")?,
            split: row.text("split")?,
            confidence,
        })
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

fn messages(row: &mut Row, name: &str) -> Result<Vec<Message>> {
    let turns = row.parts(name)?;
    if turns.is_empty() {
        return Err(row.error(&format!("no message in {name}")));
    }
    let message = |mut turn: Row| {
        Ok(Message {
            role: turn.text("role")?,
            content: turn.text("content")?,
        })
    };
    turns.into_iter().map(message).collect()
}

/// A conversation: `HuggingFaceH4/ultrachat_200k`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    pub prompt: Option<String>,
    pub prompt_id: Option<String>,
    pub messages: Vec<Message>,
}

impl Record for Chat {
    const COLUMNS: &'static [&'static str] = &["messages"];
    const OPTIONAL: &'static [&'static str] = &["prompt", "prompt_id"];

    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            prompt: row.optional_text("prompt")?,
            prompt_id: row.optional_text("prompt_id")?,
            messages: messages(&mut row, "messages")?,
        })
    }
}

/// Two conversations with the same prompt, the first preferred:
/// `HuggingFaceH4/ultrafeedback_binarized`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatPreference {
    pub prompt: Option<String>,
    pub prompt_id: Option<String>,
    pub chosen: Vec<Message>,
    pub rejected: Vec<Message>,
    pub score_chosen: Option<f64>,
    pub score_rejected: Option<f64>,
}

impl Record for ChatPreference {
    const COLUMNS: &'static [&'static str] = &["chosen", "rejected"];
    const OPTIONAL: &'static [&'static str] =
        &["prompt", "prompt_id", "score_chosen", "score_rejected"];

    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            prompt: row.optional_text("prompt")?,
            prompt_id: row.optional_text("prompt_id")?,
            chosen: messages(&mut row, "chosen")?,
            rejected: messages(&mut row, "rejected")?,
            score_chosen: row.optional_number("score_chosen")?,
            score_rejected: row.optional_number("score_rejected")?,
        })
    }
}

/// Two answers as plain text, the first preferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
}

impl Record for Preference {
    const COLUMNS: &'static [&'static str] = &["prompt", "chosen", "rejected"];

    fn read(mut row: Row) -> Result<Self> {
        preference(&mut row)
    }
}

fn preference(row: &mut Row) -> Result<Preference> {
    Ok(Preference {
        prompt: row.text("prompt")?,
        chosen: row.text("chosen")?,
        rejected: row.text("rejected")?,
    })
}

/// A pair for testing a reward: `allenai/reward-bench`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchmarkPair {
    pub id: Option<i64>,
    pub preference: Preference,
    /// The subset by which accuracies are counted, such as `alpacaeval-easy`.
    pub subset: String,
    pub chosen_model: Option<String>,
    pub rejected_model: Option<String>,
}

impl Record for BenchmarkPair {
    const COLUMNS: &'static [&'static str] = &["prompt", "chosen", "rejected", "subset"];
    const OPTIONAL: &'static [&'static str] = &["id", "chosen_model", "rejected_model"];

    fn read(mut row: Row) -> Result<Self> {
        Ok(Self {
            id: row.optional_integer("id")?,
            preference: preference(&mut row)?,
            subset: row.text("subset")?,
            chosen_model: row.optional_text("chosen_model")?,
            rejected_model: row.optional_text("rejected_model")?,
        })
    }
}
