//! The embedded TL;DR world: a seeded text generator whose gold reward is exactly known.
//!
//! A forum post describes what somebody did to the poster, how the poster feels and what the poster
//! asks, amid other events, feelings and advice. Authors of a chosen quality summarise it.
//! `datasets/world-tldr.md` is its card, with examples.
//!
//! The parts, from text to labels: `vocabulary` (words, tokenizer), `post` (latents and posts),
//! `author` (summaries), `grammar` and `gold` (the reward), `labels` (preferences), `settings`
//! (every knob of difficulty).
//!
//! ```
//! use touchstone::data::world::{Split, World, WorldSettings};
//! let world = World::new(&WorldSettings::default())?;
//! let post = world.post(Split::Test, 0, 7);
//! assert_eq!(world.gold(&post.latent, &world.canonical(&post), true), 1.0);
//! # Ok::<(), touchstone::Error>(())
//! ```

mod author;
mod gold;
mod grammar;
mod labels;
mod post;
mod settings;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use gold::GoldParts;
pub use labels::{Annotator, temperature_for_agreement};
pub use post::{Event, Latent, Other, Post};
pub use settings::{
    AuthorSettings, Flaw, MAX_PROMPT_WORDS, MAX_RESPONSE_TOKENS, MAX_SUMMARY_WORDS, PostSettings,
    WorldSettings,
};
pub use vocabulary::{END_OF_TEXT, PADDING};

use crate::error::{Error, Result};
use crate::rng::stream;
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The version of the world, which is part of every stage key and rises with any change of text or
/// gold.
pub const VERSION: u32 = 1;

/// The purpose that a post may be used for. A main story belongs to exactly one split (see
/// [`Latent::split`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Language-model pre-training of the base.
    Pretrain,
    /// Demonstrations: supervised fine-tuning, imitation, reward learning and its rollouts.
    Demonstrations,
    /// Pairs labelled by annotators.
    Preferences,
    /// Choices made while developing a method.
    Validation,
    /// Reported numbers only.
    Test,
    /// Acceptance of the world itself, so that calibrating it never touches the test posts.
    Controls,
}

impl Split {
    pub const ALL: [Self; 6] = [
        Self::Pretrain,
        Self::Demonstrations,
        Self::Preferences,
        Self::Validation,
        Self::Test,
        Self::Controls,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Demonstrations => "demonstrations",
            Self::Preferences => "preferences",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Controls => "controls",
        }
    }
}

/// The embedded world of a study, and the version of the world for which the study was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldAt {
    pub settings: WorldSettings,
    pub version: u32,
}

impl WorldAt {
    pub fn new(settings: &WorldSettings) -> Self {
        Self {
            settings: settings.clone(),
            version: VERSION,
        }
    }

    /// The world.
    ///
    /// # Errors
    /// A version that the program does not have, or a setting out of its range.
    pub fn open(&self) -> Result<World> {
        if self.version != VERSION {
            return Err(Error::store(format!(
                "planned for world {}, the program has world {VERSION}",
                self.version
            ))
            .hint("run `touchstone reproduce` again: it plans anew"));
        }
        World::new(&self.settings)
    }
}

/// The generator. Every method is a pure function of its arguments and the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    settings: WorldSettings,
}

impl World {
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(settings: &WorldSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings: settings.clone(),
        })
    }

    pub fn settings(&self) -> &WorldSettings {
        &self.settings
    }

    /// The word-level tokenizer: [`END_OF_TEXT`] is id 0, [`PADDING`] id 1. It depends on no
    /// setting. Encoding a word from outside the world is an error; decoding joins words with
    /// single spaces.
    ///
    /// # Errors
    /// Only if the tokenizer library refuses the fixed vocabulary.
    pub fn tokenizer(&self) -> Result<tokenizers::Tokenizer> {
        vocabulary::tokenizer()
    }

    /// Post number `index` of `split` under `seed`.
    pub fn post(&self, split: Split, seed: u64, index: u64) -> Post {
        let mut rng = stream(seed, &format!("world/post/{}", split.name()), &[index]);
        let mut latent = post::draw_simple(split, &mut rng);
        post::complicate(&mut latent, &self.settings.posts, &mut rng);
        let prompt = post::render(&mut latent, &self.settings.posts, &mut rng);
        Post {
            id: format!("{}-{seed}-{index}", split.name()),
            prompt,
            latent,
        }
    }

    /// A short post of the pre-training split without distractors, for the beginning of
    /// pre-training.
    pub fn easy_post(&self, seed: u64, index: u64) -> Post {
        let mut rng = stream(seed, "world/post/easy", &[index]);
        let mut latent = post::draw_simple(Split::Pretrain, &mut rng);
        let prompt = post::render(&mut latent, &self.settings.posts, &mut rng);
        Post {
            id: format!("easy-{seed}-{index}"),
            prompt,
            latent,
        }
    }

    /// A summary by an author of `quality` in [0, 1] (clamped); quality 1 gives the
    /// [canonical](Self::canonical) one.
    pub fn summary(&self, post: &Post, quality: f64, rng: &mut impl Rng) -> String {
        author::summary(&self.settings.authors, &post.latent, quality, rng)
    }

    /// The summary of a perfect author, with gold 1: everything that matters and nothing else.
    pub fn canonical(&self, post: &Post) -> String {
        author::canonical(&post.latent)
    }

    /// The quality of an author of pre-training texts: Beta(1, 2), by inverting its distribution
    /// function 1 − (1 − q)².
    pub fn pretraining_quality(&self, rng: &mut impl Rng) -> f64 {
        1.0 - (1.0 - rng.random::<f64>()).sqrt()
    }

    /// The quality of an author of the curriculum's near-complete summaries: Beta(8, 1), mean 8/9.
    pub fn curriculum_quality(&self, rng: &mut impl Rng) -> f64 {
        rng.random::<f64>().powf(1.0 / 8.0)
    }

    /// The exact reward of `response`, in [0, 1]; `ended` states whether the end of text followed
    /// it.
    pub fn gold(&self, latent: &Latent, response: &str, ended: bool) -> f64 {
        self.gold_parts(latent, response, ended).gold
    }

    /// The parts of [`gold`](Self::gold).
    pub fn gold_parts(&self, latent: &Latent, response: &str, ended: bool) -> GoldParts {
        gold::parts(latent, response, ended)
    }

    /// The content slots that gold scores, by name and right word, in the order of the canonical
    /// summary, which holds each word once: a model that copies generates this word next, given the
    /// post and the canonical summary up to it.
    pub fn slots(&self, latent: &Latent) -> Vec<(&'static str, String)> {
        let Event {
            relation,
            verb,
            object,
        } = latent.event.clone();
        vec![
            ("relation", relation),
            ("verb", verb),
            ("object", object),
            ("feeling", latent.feeling.clone()),
            ("ask", latent.ask.clone()),
        ]
    }
}
