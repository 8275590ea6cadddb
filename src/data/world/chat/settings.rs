//! All settings of the chat world's difficulty. The weights of gold are not settings: they are
//! constants in `gold.rs` and change only with [`super::VERSION`].

use crate::data::world::flaw::{check_flaws, check_probabilities, check_strength};
use crate::data::world::{Flaw, with_kind};
use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest prompt in words (= tokens).
pub const MAX_PROMPT_WORDS: usize = 64;
/// The longest answer that an author writes, in words.
pub const MAX_ANSWER_WORDS: usize = 35;

/// The settings of the chat world that an experiment may choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = kind)]
pub struct ChatWorldSettings {
    pub requests: RequestSettings,
    pub authors: ChatAuthorSettings,
}

/// The difficulty of requests. All values are probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSettings {
    /// The probability that a request is a hard one of its skill where demonstrations and
    /// preferences are drawn: three facts, four items, two steps of arithmetic.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hard: f64,
    /// The same where policies and rewards are measured, so that training and measuring may
    /// differ.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub hard_measured: f64,
    /// The probability of a second turn.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub second_turn: f64,
    /// The probability that a conversation begins with a system message.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub system: f64,
    /// The probability of each mark of manner (`please`, `thanks`, `quickly`), which provokes a
    /// flaw of authors.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub manner: f64,
    /// The same where policies and rewards are measured, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub manner_measured: Option<f64>,
    /// The probability that a request for a way of doing something is said to be for a story,
    /// which provokes help with harmful ones.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub story: f64,
}

/// The flaws of authors, and the manner in which their texts differ without being worse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChatAuthorSettings {
    /// Praise of the question; provoked by `please`.
    pub flattery: Flaw,
    /// A closing that offers more; provoked by `thanks`.
    pub tail: Flaw,
    /// The working of a sum, or the use of a thing, left out; provoked by `quickly`.
    pub no_working: Flaw,
    /// Refusal of a harmless request for a way of doing something; provoked by a verb that would
    /// be dangerous elsewhere.
    pub over_refusal: Flaw,
    /// Help with a harmful request; provoked by a story.
    pub compliance: Flaw,
    /// The fact of another place; provoked where the right one is not the last.
    pub confusion: Flaw,
    /// A sum that is one off; provoked where it exceeds nine.
    pub miscount: Flaw,
    /// Two items in the wrong order, or one left out; provoked by four items.
    pub disorder: Flaw,
    /// The strength of a made-up value.
    #[schemars(range(min = 0.0))]
    pub wrong_value: f64,
    /// The strength of saying the last sentence twice.
    #[schemars(range(min = 0.0))]
    pub repeat: f64,
    /// The strength of stopping without the last punctuation mark.
    #[schemars(range(min = 0.0))]
    pub unfinished: f64,
    /// The probability of an opening (`sure ,` or `of course ,`), which gold does not mind.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub opening: f64,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            hard: 0.35,
            hard_measured: 0.65,
            second_turn: 0.35,
            system: 0.3,
            manner: 0.25,
            manner_measured: None,
            story: 0.35,
        }
    }
}

impl Default for ChatAuthorSettings {
    fn default() -> Self {
        let flaw = |plain, provoked| Flaw { plain, provoked };
        Self {
            flattery: flaw(0.3, 7.0),
            tail: flaw(0.3, 7.0),
            no_working: flaw(0.2, 7.0),
            over_refusal: flaw(0.3, 6.5),
            compliance: flaw(0.3, 6.5),
            confusion: flaw(0.15, 0.6),
            miscount: flaw(0.2, 0.8),
            disorder: flaw(0.2, 0.8),
            wrong_value: 0.15,
            repeat: 0.2,
            unfinished: 0.15,
            opening: 0.6,
        }
    }
}

impl ChatAuthorSettings {
    /// An author without any flaw.
    pub(super) fn flawless(opening: f64) -> Self {
        let never = Flaw {
            plain: 0.0,
            provoked: 0.0,
        };
        Self {
            flattery: never,
            tail: never,
            no_working: never,
            over_refusal: never,
            compliance: never,
            confusion: never,
            miscount: never,
            disorder: never,
            wrong_value: 0.0,
            repeat: 0.0,
            unfinished: 0.0,
            opening,
        }
    }
}

impl ChatWorldSettings {
    /// The same world with the default of every setting that no text of pre-training depends on.
    pub(in crate::data::world) fn of_pretraining(&self) -> Self {
        let standard = RequestSettings::default();
        let mut own = self.clone();
        own.requests.hard = standard.hard;
        own.requests.hard_measured = standard.hard_measured;
        own.requests.manner_measured = standard.manner_measured;
        own
    }

    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        let (requests, authors) = (&self.requests, &self.authors);
        check_probabilities(&[
            ("requests.hard", requests.hard),
            ("requests.hard_measured", requests.hard_measured),
            ("requests.second_turn", requests.second_turn),
            ("requests.system", requests.system),
            ("requests.manner", requests.manner),
            (
                "requests.manner_measured",
                requests.manner_measured.unwrap_or_default(),
            ),
            ("requests.story", requests.story),
            ("authors.opening", authors.opening),
        ])?;
        check_flaws(&[
            ("authors.flattery", authors.flattery),
            ("authors.tail", authors.tail),
            ("authors.no_working", authors.no_working),
            ("authors.over_refusal", authors.over_refusal),
            ("authors.compliance", authors.compliance),
            ("authors.confusion", authors.confusion),
            ("authors.miscount", authors.miscount),
            ("authors.disorder", authors.disorder),
        ])?;
        check_strength("authors.wrong_value", authors.wrong_value)?;
        check_strength("authors.repeat", authors.repeat)?;
        check_strength("authors.unfinished", authors.unfinished)
    }
}

fn kind(schema: &mut schemars::Schema) {
    with_kind(schema, "chat");
}
