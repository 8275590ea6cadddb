//! The held-out posts on which everything is measured: the same for every method, size and seed of
//! a study. Gold is exact in the embedded world; for real posts, a reward model that no training
//! stage is given may serve as gold.

use super::check_finite;
use crate::data::TextEncoder;
use crate::data::rows::{Demonstration, Encodable, Response, RowText};
use crate::data::world::{Latent, Post, Split, VERSION, World, WorldSettings};
use crate::methods::reward::score;
use crate::model::checkpoint::Normalisation;
use crate::model::{RewardModel, Sequence};
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
    /// Data from which gold is computed; `None` for real text.
    latent: Option<Latent>,
}

pub struct EvaluationSet {
    pub posts: Vec<EvaluationPost>,
    gold: Gold,
}

/// The source of a response's gold reward.
enum Gold {
    Unknown,
    World(Box<World>),
    Judge(Box<Judge>),
}

/// A reward model that serves as gold.
pub struct Judge {
    pub model: RewardModel,
    pub normalisation: Normalisation,
    /// TextEncoder of the judge's own tokenizer.
    pub encoder: TextEncoder,
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
                latent: Some(post.latent),
            }
        });
        Ok(Self {
            posts: posts.collect(),
            gold: Gold::World(Box::new(world)),
        })
    }

    /// An evaluation set of real posts, whose only gold reward is the score of `judge`.
    pub fn of_corpus(rows: Vec<Demonstration>, judge: Option<Judge>) -> Self {
        let post = |row: Demonstration| EvaluationPost {
            id: row.id,
            prompt: row.prompt,
            reference: row.response,
            latent: None,
        };
        let gold = judge.map_or(Gold::Unknown, |judge| Gold::Judge(Box::new(judge)));
        Self {
            posts: rows.into_iter().map(post).collect(),
            gold,
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
        match &self.gold {
            Gold::Unknown => Ok(vec![None; responses.len()]),
            Gold::World(world) => Ok(self
                .posts
                .iter()
                .zip(responses)
                .map(|(post, response)| {
                    Some(world.gold(post.latent.as_ref()?, &response.text, response.ended))
                })
                .collect()),
            Gold::Judge(judge) => {
                let rows = self.posts.iter().map(|post| &post.prompt).zip(responses);
                Ok(judge.scores(rows)?.into_iter().map(Some).collect())
            }
        }
    }

    fn world(&self) -> Option<&World> {
        match &self.gold {
            Gold::World(world) => Some(world),
            Gold::Unknown | Gold::Judge(_) => None,
        }
    }

    /// A summary of post `index` by an author of `quality`; `None` for real text.
    pub fn another_reference(
        &self,
        index: usize,
        quality: f64,
        rng: &mut impl Rng,
    ) -> Option<String> {
        let (world, post) = (self.world()?, &self.posts[index]);
        let post = Post {
            id: post.id.clone(),
            prompt: post.prompt.as_str().to_owned(),
            latent: post.latent.clone()?,
        };
        Some(world.summary(&post, quality, rng))
    }

    /// Share of the content slots whose correct word `response` contains.
    pub fn copied(&self, index: usize, response: &Response) -> Option<f64> {
        let (world, latent) = (self.world()?, self.posts[index].latent.as_ref()?);
        let slots = world.slots(latent);
        let held = slots
            .iter()
            .filter(|(_, word)| response.text.split(' ').any(|said| said == word))
            .count();
        Some(held as f64 / slots.len() as f64)
    }
}

impl Judge {
    /// Scores of responses to prompts, in deviations over the judge's own training responses.
    ///
    /// # Errors
    /// A text that the judge's tokenizer cannot encode within its limits.
    pub fn scores<'a>(
        &self,
        rows: impl IntoIterator<Item = (&'a RowText, &'a Response)>,
    ) -> Result<Vec<f64>> {
        let rows = rows.into_iter().map(|(prompt, response)| {
            if prompt.ids().is_some() {
                return Err(Error::internal(
                    "a judge was given another tokenizer's tokens",
                ));
            }
            // A response that did not end is scored without an end token.
            let mut ids = self.encoder.response(&response.text)?.ids;
            if !response.ended
                && ids
                    .last()
                    .is_some_and(|id| self.encoder.ends().contains(*id))
            {
                ids.pop();
            }
            Ok(Sequence::new(self.encoder.prompt(prompt)?, ids))
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let scores = score(&self.model, &rows.iter().collect::<Vec<_>>())?;
        let rewards: Vec<f64> = self
            .normalisation
            .rewards(&scores)?
            .into_iter()
            .map(f64::from)
            .collect();
        check_finite(&rewards, |at| format!("response {} by the judge", at + 1))?;
        Ok(rewards)
    }
}
