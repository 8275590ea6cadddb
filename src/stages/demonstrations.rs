//! Demonstrations: written by an author of the embedded world, split off a local file of real posts, or a data set of a hub
//! with its human summaries or a demonstrator's responses.

use super::common::{WorldAt, codec, frozen, sample, sampling};
use super::dataset::pinned;
use crate::data::dataset::SummarisedPost;
use crate::data::rows::{self, Demonstration};
use crate::data::world::Split;
use crate::data::{Codec, corpus, tldr};
use crate::eval::exam::EXAM_SEED;
use crate::experiment::{DataSources, GenerationSettings, Hyper};
use crate::methods::training::Dtype;
use crate::pipeline::StageContext;
use crate::rng::{permutation, stream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

pub const WORLD: &str = "demonstrations";
pub const CORPUS: &str = "corpus";
pub const HUB: &str = "hub_demonstrations";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldStage {
    pub world: WorldAt,
    pub count: usize,
    pub quality: f64,
}

/// One summary by an author of the set quality for each of the seed's own posts.
pub fn world(context: &StageContext) -> Result<()> {
    let stage: WorldStage = context.settings()?;
    let (world, seed) = (stage.world.open()?, context.seed()?);
    let row = |index: u64| {
        let post = world.post(Split::Demonstrations, seed, index);
        let mut author = stream(seed, "demonstrations/author", &[index]);
        let response = world.summary(&post, stage.quality, &mut author);
        Demonstration { id: post.id, prompt: post.prompt, response }
    };
    rows::write(&context.out().join("demonstrations.jsonl"), (0..stage.count as u64).map(row))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusStage {
    pub file: PathBuf,
    pub blake3: String,
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
    pub generation: GenerationSettings,
    /// Share of the posts that are held out.
    pub held_out: f64,
}

/// Real posts in the paper's prompt format, fitted to the prompt limit; a fixed part is held out of all training.
pub fn corpus(context: &StageContext) -> Result<()> {
    let stage: CorpusStage = context.settings()?;
    let generation = &stage.generation;
    let codec = Codec::open(&stage.tokenizer, generation.max_prompt_tokens, generation.max_response_tokens)?;
    let all = corpus::read(&stage.file)?;
    let held_out = (all.len() as f64 * stage.held_out).round() as usize;
    if held_out == 0 || held_out == all.len() {
        return Err(Error::data(format!("{} has {} rows, too few to hold some out", stage.file.display(), all.len())));
    }
    let fitted = |&index: &usize| {
        let row = &all[index];
        let prompt = tldr::fitted(&row.post, &codec)?;
        Ok(Demonstration { id: row.id.clone(), prompt, response: tldr::response(&row.summary) })
    };
    // The split is the same for every seed: a post is held out for all or for none.
    let order = permutation(all.len(), 0, "corpus/split", 0);
    for (name, part) in [("held_out.jsonl", &order[..held_out]), ("demonstrations.jsonl", &order[held_out..])] {
        let part = part.iter().map(fitted).collect::<Result<Vec<_>>>()?;
        rows::write(&context.out().join(name), part)?;
    }
    Ok(())
}

/// Which part of a hub's posts an artifact holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The seed's own choice from the split `train`.
    Training,
    /// The first posts of the split `test`, the same for every seed.
    Exam,
}

impl Part {
    pub fn split(self) -> &'static str {
        match self {
            Self::Training => "train",
            Self::Exam => "test",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubStage {
    pub part: Part,
    pub count: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
    /// Of the demonstrator, if there is one.
    pub temperature: f32,
}

impl HubStage {
    pub fn training(sources: &DataSources, hyper: &Hyper) -> Self {
        Self::new(sources, hyper, Part::Training, hyper.demonstrations.count)
    }

    pub fn exam(sources: &DataSources, hyper: &Hyper) -> Self {
        Self::new(sources, hyper, Part::Exam, hyper.evaluation.posts)
    }

    fn new(sources: &DataSources, hyper: &Hyper, part: Part, count: usize) -> Self {
        let (dtype, temperature) = (hyper.training.dtype, sources.demonstrator_temperature);
        Self { part, count, generation: hyper.generation.clone(), dtype, temperature }
    }
}

/// The input `posts` in the paper's prompt format with the response of the model in the input `demonstrator`, or with their
/// human summaries where there is none. The tokenizer of the input `tokenizer` says how long a prompt is.
pub fn hub(context: &StageContext) -> Result<()> {
    let stage: HubStage = context.settings()?;
    let name = match stage.part {
        Part::Training => "demonstrations.jsonl",
        Part::Exam => "held_out.jsonl",
    };
    let codec = codec(context, "tokenizer", &stage.generation)?;
    let (posts, source) = pinned(context, "posts")?;
    let available = posts.len()?;
    if available < stage.count {
        return Err(Error::data(format!(
            "{source} has {available} posts in `{}`, not {}",
            stage.part.split(),
            stage.count
        ))
        .hint("lower demonstrations.count or evaluation.posts"));
    }
    let wanted: BTreeSet<usize> = match stage.part {
        Part::Training => {
            permutation(available, context.seed()?, "hub/posts", 0).into_iter().take(stage.count).collect()
        }
        Part::Exam => (0..stage.count).collect(),
    };
    let mut rows = Vec::with_capacity(stage.count);
    for (index, row) in posts.rows::<SummarisedPost>()?.enumerate() {
        let row = row?;
        if wanted.contains(&index) {
            let prompt = tldr::fitted(&row.post, &codec)?;
            rows.push(Demonstration { id: row.id, prompt, response: tldr::response(&row.summary) });
        }
    }
    if context.spec.inputs.contains_key("demonstrator") {
        demonstrate(context, &stage, &codec, &mut rows)?;
    }
    rows::write(&context.out().join(name), rows)
}

/// Replaces every response by the demonstrator's.
fn demonstrate(context: &StageContext, stage: &HubStage, codec: &Codec, rows: &mut [Demonstration]) -> Result<()> {
    let model = frozen(context, "demonstrator", stage.dtype)?;
    let prompts = rows.iter().map(|row| codec.prompt(&row.prompt)).collect::<Result<Vec<_>>>()?;
    let sampling = sampling(codec, &stage.generation, stage.temperature);
    // The exam's posts are the same for every seed, so are its references.
    let seed = context.spec.seed.unwrap_or(EXAM_SEED);
    let stream = |item: usize| stream(seed, "hub/demonstrator", &[item as u64]);
    let responses = sample(context, &model, &prompts, &sampling, stream)?;
    for (row, response) in rows.iter_mut().zip(responses) {
        row.response = codec.decoded(response.ids, response.ended)?.text;
    }
    Ok(())
}
