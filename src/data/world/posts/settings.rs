//! All settings of the world's difficulty. The weights of gold are not settings: they are constants
//! in `gold.rs` and change only with [`super::VERSION`].

use crate::data::world::flaw::{check_flaws, check_probabilities, check_strength};
use crate::data::world::{Flaw, with_kind};
use crate::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest prompt in words (= tokens).
pub const MAX_PROMPT_WORDS: usize = 48;
/// The longest summary that an author writes, in words; with the end of text a response then has 30
/// tokens.
pub const MAX_SUMMARY_WORDS: usize = 29;
/// The number of tokens that a model may generate, including the end of text.
pub const MAX_RESPONSE_TOKENS: usize = MAX_SUMMARY_WORDS + 1;

/// The settings of the world that an experiment may choose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(transform = kind)]
pub struct PostWorldSettings {
    pub posts: PostSettings,
    pub authors: AuthorSettings,
}

/// The difficulty of reading posts. All values are probabilities except `max_off_topic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostSettings {
    /// The probability of a former event with another verb and object, which a summary can mistake
    /// for the main one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub other_event: f64,
    /// The probability of somebody else's or a former feeling.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub other_feeling: f64,
    /// The probability of advice by others, or of a course that the poster has ruled out.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub other_ask: f64,
    /// The probability that the other event, feeling or ask stands before the main one (drawn for
    /// each).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub other_first: f64,
    /// The probability that the other event is about the same person, so that the person no longer
    /// distinguishes the two events.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub same_relation: f64,
    /// The probability that an event's time word, which alone distinguishes main from former,
    /// stands at the end of its sentence.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub late_time: f64,
    /// The probability that the title names the person of the main event instead of being neutral.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub telling_title: f64,
    /// The largest number of off-topic sentences in a post; each is there with probability
    /// `off_topic`.
    pub max_off_topic: usize,
    #[schemars(range(min = 0.0, max = 1.0))]
    pub off_topic: f64,
}

/// The flaws of authors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorSettings {
    /// A filler word before a clause (drawn for each clause).
    pub filler: Flaw,
    /// An off-topic sentence: the post's own if it has one.
    pub off_topic: Flaw,
    /// The feeling left out.
    pub no_feeling: Flaw,
    /// The question left out.
    pub no_question: Flaw,
    /// A rude closing.
    pub rude: Flaw,
    /// A rambling tail.
    pub tail: Flaw,
    /// A needless time word at the start.
    pub time: Flaw,
    /// The other event, feeling or ask stated as the main one; provoked if it comes first in the
    /// post.
    pub confusion: Flaw,
    /// The share of confused events that are adopted as a whole; the others mix one word of the
    /// other event into the main event.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub whole_event: f64,
    /// The strength of a made-up value (drawn for each slot).
    #[schemars(range(min = 0.0))]
    pub wrong_value: f64,
    /// The strength of telling the event twice.
    #[schemars(range(min = 0.0))]
    pub repeat: f64,
    /// The strength of dropping one grammatical word.
    #[schemars(range(min = 0.0))]
    pub slip: f64,
    /// The strength of stopping without the last punctuation mark.
    #[schemars(range(min = 0.0))]
    pub unfinished: f64,
}

impl Default for PostSettings {
    fn default() -> Self {
        Self {
            other_event: 0.5,
            other_feeling: 0.45,
            other_ask: 0.5,
            other_first: 0.4,
            same_relation: 0.2,
            late_time: 0.2,
            telling_title: 0.5,
            max_off_topic: 1,
            off_topic: 0.5,
        }
    }
}

impl Default for AuthorSettings {
    fn default() -> Self {
        Self {
            filler: Flaw {
                plain: 0.65,
                provoked: 1.8,
            },
            off_topic: Flaw {
                plain: 0.4,
                provoked: 1.7,
            },
            no_feeling: Flaw {
                plain: 0.3,
                provoked: 1.4,
            },
            no_question: Flaw {
                plain: 0.3,
                provoked: 1.4,
            },
            rude: Flaw {
                plain: 0.3,
                provoked: 1.4,
            },
            tail: Flaw {
                plain: 0.75,
                provoked: 1.8,
            },
            time: Flaw {
                plain: 0.7,
                provoked: 1.8,
            },
            confusion: Flaw {
                plain: 0.15,
                provoked: 0.55,
            },
            whole_event: 0.7,
            wrong_value: 0.2,
            repeat: 0.15,
            slip: 0.15,
            unfinished: 0.15,
        }
    }
}

impl PostWorldSettings {
    /// # Errors
    /// The first value out of its range.
    pub fn validate(&self) -> Result<()> {
        let (posts, authors) = (&self.posts, &self.authors);
        check_probabilities(&[
            ("posts.other_event", posts.other_event),
            ("posts.other_feeling", posts.other_feeling),
            ("posts.other_ask", posts.other_ask),
            ("posts.other_first", posts.other_first),
            ("posts.same_relation", posts.same_relation),
            ("posts.late_time", posts.late_time),
            ("posts.telling_title", posts.telling_title),
            ("posts.off_topic", posts.off_topic),
            ("authors.whole_event", authors.whole_event),
        ])?;
        check_flaws(&[
            ("authors.filler", authors.filler),
            ("authors.off_topic", authors.off_topic),
            ("authors.no_feeling", authors.no_feeling),
            ("authors.no_question", authors.no_question),
            ("authors.rude", authors.rude),
            ("authors.tail", authors.tail),
            ("authors.time", authors.time),
            ("authors.confusion", authors.confusion),
        ])?;
        check_strength("authors.wrong_value", authors.wrong_value)?;
        check_strength("authors.repeat", authors.repeat)?;
        check_strength("authors.slip", authors.slip)?;
        check_strength("authors.unfinished", authors.unfinished)
    }
}

fn kind(schema: &mut schemars::Schema) {
    with_kind(schema, "posts");
}
