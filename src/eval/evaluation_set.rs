//! The held-out posts on which everything is measured: the same for every method, size and seed of
//! a study. Gold is exact in the embedded world; for real posts, a reward model that no training
//! stage is given may serve as gold.

use crate::Result;
use crate::data::rows::{Demonstration, Response, RowText};
use crate::data::world::{Place, Split, World, WorldAt, WorldSettings};
use crate::judges::gold::Gold;
use crate::judges::{Judge, Prompt, Row};
use crate::rng::stream;
use rand_chacha::ChaCha8Rng;
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
            version: world.version(),
            split,
            posts,
            quality,
        }
    }

    fn open(&self) -> Result<Box<dyn World>> {
        let world = WorldAt {
            settings: self.world.clone(),
            version: self.version,
        };
        world.open()
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
    world: Option<(Box<dyn World>, Split)>,
    /// The judge whose scores are gold; `None` if there is none.
    gold: Option<Box<dyn Judge>>,
}

impl EvaluationSet {
    pub fn of_world(evaluation_set: &WorldEvaluationSet) -> Result<Self> {
        let world = evaluation_set.open()?;
        let posts = (0..evaluation_set.posts as u64).map(|index| {
            let place = Place::new(evaluation_set.split, EVALUATION_SEED, index);
            let mut author = stream(EVALUATION_SEED, "exam/reference", &[index]);
            let reference = world.answer(place, evaluation_set.quality, &mut author);
            EvaluationPost {
                id: place.id(),
                prompt: world.prompt(place).into(),
                reference: reference.into(),
            }
        });
        let posts = posts.collect();
        let gold = Gold {
            world: evaluation_set.open()?,
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

    /// The world, and the place of post `index` in it.
    fn place(&self, index: usize) -> Option<(&dyn World, Place)> {
        let (world, split) = self.world.as_ref()?;
        let place = Place::new(*split, EVALUATION_SEED, index as u64);
        Some((&**world, place))
    }

    /// An answer to post `index` by an author of `quality`; `None` for real text.
    pub fn another_reference(
        &self,
        index: usize,
        quality: f64,
        author: &mut ChaCha8Rng,
    ) -> Option<String> {
        let (world, place) = self.place(index)?;
        Some(world.answer(place, quality, author))
    }

    /// Share of the content slots whose correct word `response` contains; `None` where the right
    /// answer has no slot.
    pub fn copied(&self, index: usize, response: &Response) -> Option<f64> {
        let (world, place) = self.place(index)?;
        let slots = world.slots(place);
        let held = slots
            .iter()
            .filter(|slot| response.text.split(' ').any(|said| said == slot.word))
            .count();
        (!slots.is_empty()).then(|| held as f64 / slots.len() as f64)
    }
}
