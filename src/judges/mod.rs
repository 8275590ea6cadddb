//! Judges: scores of responses to prompts, where the better of two responses to one prompt has the
//! higher score. Each file has one judge, or several of one kind: a [`Judge`], which scores, and
//! its [`Identity`], which says what it reads and opens it.
//!
//! [`JudgeId`] lists the identities. It stands in the settings of stages and so in their keys. A
//! new judge is a file and a line of that list.

pub mod gold;
pub mod heuristics;
pub mod http;
pub mod implicit_reward;
pub mod log_probability;
pub mod reward_model;

use crate::data::rows::{Encodable, Response};
use crate::experiment::Heuristic;
use crate::model::checkpoint::Normalisation;
use crate::model::layout::Head;
use crate::model::{LanguageModel, Passes, RewardModel, Sequence};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A response, and the prompt that it answers.
pub type Row<'a> = (&'a Prompt<'a>, &'a Response);

/// A score, or the reason for which there is none.
pub type Grade = std::result::Result<f64, String>;

/// A source of scores for responses.
pub trait Judge {
    /// A finite score for each of `rows`.
    ///
    /// # Errors
    /// A prompt that lacks what the judge reads, a score that is not finite, or a device failure.
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>>;

    /// The score of each of `rows` where the judge has one. Only hosted judges lack any.
    ///
    /// # Errors
    /// Those of [`scores`](Self::scores), and more missing scores than were declared.
    fn grades(&self, rows: &[Row]) -> Result<Vec<Grade>> {
        Ok(self.scores(rows)?.into_iter().map(Ok).collect())
    }

    /// Tokens and operations of [`scores`](Self::scores).
    ///
    /// # Errors
    /// Those of [`scores`](Self::scores) that concern a prompt.
    fn passes(&self, _rows: &[Row]) -> Result<Passes> {
        Ok(Passes::default())
    }

    /// The low mark of the scores: in training, a response without an end gets one less. `None` if
    /// the judge does not know the scale of its scores.
    fn low(&self) -> Option<f32> {
        None
    }

    /// True if a response without an end already has a lower score for it.
    fn counts_ends(&self) -> bool {
        false
    }

    /// True if the score of a response can be divided by its tokens to remove the effect of length.
    fn divides_by_tokens(&self) -> bool {
        true
    }
}

/// The models and the seed from which a judge is opened.
pub trait Sources {
    /// The reward model, and the constants that normalise its scores.
    fn reward_model(&self) -> Result<(RewardModel, Normalisation)>;
    /// The policy π under study.
    fn policy(&self) -> Result<LanguageModel>;
    /// The reference policy π_ref.
    fn reference(&self) -> Result<LanguageModel>;
    /// The seed of the stage that asks.
    fn seed(&self) -> Result<u64>;
}

/// The settings of a judge.
pub trait Identity {
    /// The heads of the models that read every response; none if the judge needs no model.
    fn reads(&self) -> &'static [Head];

    /// Opens the judge.
    ///
    /// # Errors
    /// A source that is absent or cannot be read.
    fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>>;
}

/// Declares [`JudgeId`]: each line has a variant and the [`Identity`] that it stands for.
macro_rules! judges {
    ($($(#[$doc:meta])* $variant:ident $(($settings:ident: $type:ty))? => $identity:expr,)+) => {
        /// The identity of a judge: all that moves its scores except the models that it reads.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        pub enum JudgeId {
            $($(#[$doc])* $variant $(($type))?,)+
        }

        impl JudgeId {
            fn identity(&self) -> &dyn Identity {
                match self {
                    $(Self::$variant $(($settings))? => $identity,)+
                }
            }
        }
    };
}

judges! {
    /// The gold reward of the seed's own demonstration posts, centred and scaled: a privileged
    /// control.
    Gold(gold: gold::ScaledGold) => gold,
    /// r(x, y) of a reward model, normalised over its own training responses.
    Learned => &reward_model::Learned,
    /// r(x, y) of a reward model.
    Explicit => &reward_model::Explicit,
    /// log π(y|x) − log π_ref(y|x): the implicit reward of SPIN and DPO.
    Implicit => &implicit_reward::Implicit,
    /// log π(y|x), which ranks responses like the reward that IQ-Learn recovers.
    Likelihood => &log_probability::Likelihood,
    /// A ranking that needs no learning.
    Heuristic(heuristic: Heuristic) => heuristic,
    /// A grade from 1 to 10 by a model that a server hosts.
    Http(http: http::HttpJudge) => http,
}

impl JudgeId {
    /// The heads of the models that read every response.
    pub fn reads(&self) -> &'static [Head] {
        self.identity().reads()
    }

    /// True if a reward model reads every response.
    pub fn reads_reward_model(&self) -> bool {
        self.reads().contains(&Head::Reward)
    }

    /// Opens the judge.
    ///
    /// # Errors
    /// A source that is absent or cannot be read.
    pub fn open(&self, from: &dyn Sources) -> Result<Box<dyn Judge>> {
        self.identity().open(from)
    }
}

/// A prompt in the forms that judges read.
pub struct Prompt<'a> {
    text: &'a str,
    /// True if the text alone does not determine the prompt's tokens.
    is_encoded: bool,
    /// Index of the post in its split of the embedded world; `None` for any other prompt.
    post: Option<u64>,
    /// Tokens of the policy under study; `None` if no policy is involved.
    tokens: Option<Vec<u32>>,
}

impl<'a> Prompt<'a> {
    /// A prompt without tokens of the policy under study.
    pub fn new(text: &'a (impl Encodable + ?Sized)) -> Self {
        Self {
            text: text.text(),
            is_encoded: text.ids().is_some(),
            post: None,
            tokens: None,
        }
    }

    /// The prompt as that of post `index` of the embedded world.
    pub fn of_post(self, index: usize) -> Self {
        Self {
            post: Some(index as u64),
            ..self
        }
    }

    /// The prompt with its tokens for the policy under study.
    pub fn with_tokens(self, tokens: Vec<u32>) -> Self {
        Self {
            tokens: Some(tokens),
            ..self
        }
    }
}

/// `rows` as tokens of the policy under study.
///
/// # Errors
/// A prompt without tokens.
fn sequences(rows: &[Row]) -> Result<Vec<Sequence>> {
    rows.iter()
        .map(|(prompt, response)| {
            let tokens = prompt.tokens.clone().ok_or_else(|| {
                Error::data("a judge that reads a policy's tokens was given a prompt as text alone")
            })?;
            Ok(Sequence::new(tokens, response.ids.clone()))
        })
        .collect()
}

fn widened(scores: Vec<f32>) -> Vec<f64> {
    scores.into_iter().map(f64::from).collect()
}

#[cfg(test)]
mod tests;
