//! The embedded TL;DR world: a seeded text generator whose gold reward is exactly known.
//!
//! A forum post describes what somebody did to the poster, how the poster feels and what the poster
//! asks, amid other events, feelings and advice. Authors of a chosen quality summarise it.
//! `datasets/world-tldr.md` is its card, with examples.
//!
//! The parts, from text to gold: `vocabulary` (words, tokenizer), `post` (latents and posts),
//! `author` (summaries), `grammar` and `gold` (the reward), `settings` (every knob of difficulty).
//!
//! ```
//! use touchstone::data::world::Split;
//! use touchstone::data::world::posts::{PostWorld, PostWorldSettings};
//! let world = PostWorld::new(&PostWorldSettings::default())?;
//! let post = world.post(Split::Test, 0, 7);
//! assert_eq!(world.gold(&post.latent, &world.canonical(&post), true), 1.0);
//! # Ok::<(), touchstone::Error>(())
//! ```

mod author;
mod gold;
mod grammar;
mod post;
mod settings;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use gold::GoldParts;
pub use post::{Event, Latent, Other, Post};
pub use settings::{
    AuthorSettings, MAX_PROMPT_WORDS, MAX_RESPONSE_TOKENS, MAX_SUMMARY_WORDS, PostSettings,
    PostWorldSettings,
};

use super::{Place, Slot, Split, World};
use crate::error::Result;
use crate::rng::stream;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The version of the world, which is part of every stage key and rises with any change of text or
/// gold.
pub const VERSION: u32 = 1;

/// The generator. Every method is a pure function of its arguments and the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PostWorld {
    settings: PostWorldSettings,
}

impl PostWorld {
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(settings: &PostWorldSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings: settings.clone(),
        })
    }

    pub fn settings(&self) -> &PostWorldSettings {
        &self.settings
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
    fn slot_words(&self, latent: &Latent) -> Vec<(&'static str, String)> {
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

impl World for PostWorld {
    fn tokenizer(&self) -> Result<tokenizers::Tokenizer> {
        super::word_tokenizer(vocabulary::tokens(), None)
    }

    fn prompt(&self, place: Place) -> String {
        self.post(place.split, place.seed, place.index).prompt
    }

    fn canonical(&self, place: Place) -> String {
        author::canonical(&self.post(place.split, place.seed, place.index).latent)
    }

    fn answer(&self, place: Place, quality: f64, author: &mut ChaCha8Rng) -> String {
        let post = self.post(place.split, place.seed, place.index);
        self.summary(&post, quality, author)
    }

    fn gold(&self, place: Place, response: &str, ended: bool) -> f64 {
        let post = self.post(place.split, place.seed, place.index);
        self.gold_parts(&post.latent, response, ended).gold
    }

    fn slots(&self, place: Place) -> Vec<Slot> {
        let latent = self.post(place.split, place.seed, place.index).latent;
        let canonical = author::canonical(&latent);
        let slot = |(name, word): (&'static str, String)| {
            let position = canonical.split(' ').position(|said| said == word)?;
            Some(Slot {
                name,
                word,
                position,
            })
        };
        self.slot_words(&latent)
            .into_iter()
            .filter_map(slot)
            .collect()
    }

    fn pretraining(
        &self,
        seed: u64,
        index: u64,
        easy: bool,
        author: &mut ChaCha8Rng,
    ) -> (String, String) {
        let (post, quality) = if easy {
            (self.easy_post(seed, index), self.curriculum_quality(author))
        } else {
            let post = self.post(Split::Pretrain, seed, index);
            (post, self.pretraining_quality(author))
        };
        let summary = self.summary(&post, quality, author);
        (post.prompt, summary)
    }
}
