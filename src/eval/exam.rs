//! The held-out posts on which everything is measured: the same for every method, size and seed of a study.

use crate::data::rows::{Demonstration, Response};
use crate::data::world::{Latent, Post, Split, VERSION, World, WorldSettings};
use crate::rng::stream;
use crate::{Error, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The seed of the test posts and of their reference summaries; no study draws training data under it.
const EXAM_SEED: u64 = u64::MAX;

/// Which posts of the embedded world an exam is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldExam {
    pub world: WorldSettings,
    pub version: u32,
    pub split: Split,
    pub posts: usize,
    /// Quality of the author of the reference summaries: the demonstrator's.
    pub quality: f64,
}

impl WorldExam {
    pub fn new(world: &WorldSettings, split: Split, posts: usize, quality: f64) -> Self {
        Self { world: world.clone(), version: VERSION, split, posts, quality }
    }
}

/// A held-out post with the demonstrator's summary.
#[derive(Clone, Debug)]
pub struct ExamPost {
    pub id: String,
    pub prompt: String,
    pub reference: String,
    /// What gold needs; none for real text.
    latent: Option<Latent>,
}

pub struct Exam {
    pub posts: Vec<ExamPost>,
    world: Option<World>,
}

impl Exam {
    pub fn of_world(exam: &WorldExam) -> Result<Self> {
        if exam.version != VERSION {
            return Err(Error::new(format!("this exam is of world {}, the program has world {VERSION}", exam.version)));
        }
        let world = World::new(&exam.world)?;
        let posts = (0..exam.posts as u64).map(|index| {
            let post = world.post(exam.split, EXAM_SEED, index);
            let mut author = stream(EXAM_SEED, "exam/reference", &[index]);
            let reference = world.summary(&post, exam.quality, &mut author);
            ExamPost { id: post.id, prompt: post.prompt, reference, latent: Some(post.latent) }
        });
        Ok(Self { posts: posts.collect(), world: Some(world) })
    }

    /// Real posts: no gold reward exists for them.
    pub fn of_corpus(rows: Vec<Demonstration>) -> Self {
        let post =
            |row: Demonstration| ExamPost { id: row.id, prompt: row.prompt, reference: row.response, latent: None };
        Self { posts: rows.into_iter().map(post).collect(), world: None }
    }

    /// The gold reward of a response to post `index`; none where the world has no gold.
    pub fn gold(&self, index: usize, response: &Response) -> Option<f64> {
        let (world, latent) = (self.world.as_ref()?, self.posts[index].latent.as_ref()?);
        Some(world.gold(latent, &response.text, response.ended))
    }

    /// A summary of post `index` by an author of `quality`; none for real text.
    pub fn another_reference(&self, index: usize, quality: f64, rng: &mut impl Rng) -> Option<String> {
        let (world, post) = (self.world.as_ref()?, &self.posts[index]);
        let post = Post { id: post.id.clone(), prompt: post.prompt.clone(), latent: post.latent.clone()? };
        Some(world.summary(&post, quality, rng))
    }

    /// Share of the content slots whose right word `response` holds.
    pub fn copied(&self, index: usize, response: &Response) -> Option<f64> {
        let (world, latent) = (self.world.as_ref()?, self.posts[index].latent.as_ref()?);
        let slots = world.slots(latent);
        let held = slots.iter().filter(|(_, word)| response.text.split(' ').any(|said| said == word)).count();
        Some(held as f64 / slots.len() as f64)
    }
}
