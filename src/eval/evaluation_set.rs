//! The held-out posts on which everything is measured: the same for every method, size and seed of
//! a study. Gold is exact in the embedded world; for real posts, a reward model that no training
//! stage is given may serve as gold.

use crate::data::rows::{Demonstration, Response, RowText};
use crate::data::world::{Post, Split, VERSION, World, WorldSettings};
use crate::judges::gold::Gold;
use crate::judges::{Judge, Prompt, Row};
use crate::rng::stream;
use crate::{Error, Result};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// The seed of the test posts and of their reference summaries; no study draws training data with
/// it.
pub const EVALUATION_SEED: u64 = u64::MAX;

/// The posts of the embedded world that form an evaluation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldEvaluationSet {
    pub world: WorldSettings,
    pub version: u32,
    pub split: Split,
    pub posts: usize,
    /// Quality of the author of the reference summaries, which is the demonstrator's.
    pub quality: f64,
}

impl WorldEvaluationSet {
    pub fn new(world: &WorldSettings, split: Split, posts: usize, quality: f64) -> Self {
        Self {
            world: world.clone(),
            version: VERSION,
            split,
            posts,
            quality,
        }
    }
}

/// A held-out post with the demonstrator's summary.
#[derive(Clone, Debug)]
pub struct EvaluationPost {
    pub id: String,
    pub prompt: RowText,
    pub reference: RowText,
}

pub struct EvaluationSet {
    pub posts: Vec<EvaluationPost>,
    /// The world that the posts are of, and their split; `None` for real text.
    world: Option<(World, Split)>,
    /// The judge whose scores are gold; `None` if there is none.
    gold: Option<Box<dyn Judge>>,
}

impl EvaluationSet {
    pub fn of_world(evaluation_set: &WorldEvaluationSet) -> Result<Self> {
        if evaluation_set.version != VERSION {
            return Err(Error::data(format!(
                "this evaluation set is of world {}, the program has world {VERSION}",
                evaluation_set.version
            )));
        }
        let world = World::new(&evaluation_set.world)?;
        let posts = (0..evaluation_set.posts as u64).map(|index| {
            let post = world.post(evaluation_set.split, EVALUATION_SEED, index);
            let mut author = stream(EVALUATION_SEED, "exam/reference", &[index]);
            let reference = world.summary(&post, evaluation_set.quality, &mut author);
            EvaluationPost {
                id: post.id,
                prompt: post.prompt.into(),
                reference: reference.into(),
            }
        });
        let posts = posts.collect();
        let gold = Gold {
            world: world.clone(),
            split: evaluation_set.split,
            seed: EVALUATION_SEED,
            scale: None,
        };
        Ok(Self {
            posts,
            world: Some((world, evaluation_set.split)),
            gold: Some(Box::new(gold)),
        })
    }

    /// An evaluation set of real posts, whose only gold reward is the score of `judge`.
    pub fn of_corpus(rows: Vec<Demonstration>, judge: Option<Box<dyn Judge>>) -> Self {
        let post = |row: Demonstration| EvaluationPost {
            id: row.id,
            prompt: row.prompt,
            reference: row.response,
        };
        Self {
            posts: rows.into_iter().map(post).collect(),
            world: None,
            gold: judge,
        }
    }

    /// The first `count` posts.
    pub fn first(mut self, count: usize) -> Self {
        self.posts.truncate(count);
        self
    }

    /// The gold reward of one response to every post; `None` if there is no source of gold.
    ///
    /// # Errors
    /// A text that the judge's tokenizer cannot encode within its limits.
    pub fn golds(&self, responses: &[Response]) -> Result<Vec<Option<f64>>> {
        let Some(judge) = &self.gold else {
            return Ok(vec![None; responses.len()]);
        };
        let prompts: Vec<Prompt> = self
            .posts
            .iter()
            .enumerate()
            .map(|(index, post)| match self.world {
                Some(_) => Prompt::new(&post.prompt).of_post(index),
                None => Prompt::new(&post.prompt),
            })
            .collect();
        let rows: Vec<Row> = prompts.iter().zip(responses).collect();
        Ok(judge.scores(&rows)?.into_iter().map(Some).collect())
    }

    /// The world, and post `index` in it.
    fn post(&self, index: usize) -> Option<(&World, Post)> {
        let (world, split) = self.world.as_ref()?;
        Some((world, world.post(*split, EVALUATION_SEED, index as u64)))
    }

    /// A summary of post `index` by an author of `quality`; `None` for real text.
    pub fn another_reference(
        &self,
        index: usize,
        quality: f64,
        rng: &mut impl Rng,
    ) -> Option<String> {
        let (world, post) = self.post(index)?;
        Some(world.summary(&post, quality, rng))
    }

    /// Share of the content slots whose correct word `response` contains.
    pub fn copied(&self, index: usize, response: &Response) -> Option<f64> {
        let (world, post) = self.post(index)?;
        let slots = world.slots(&post.latent);
        let held = slots
            .iter()
            .filter(|(_, word)| response.text.split(' ').any(|said| said == word))
            .count();
        Some(held as f64 / slots.len() as f64)
    }
}
