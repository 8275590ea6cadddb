//! Demonstrations: written by an author of the embedded world, or split off a local file of real posts.

use super::common::WorldAt;
use crate::data::rows::{self, Demonstration};
use crate::data::world::Split;
use crate::data::{Codec, corpus, tldr};
use crate::experiment::{DemonstrationSettings, GenerationSettings};
use crate::pipeline::StageContext;
use crate::rng::{permutation, stream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub const WORLD: &str = "demonstrations";
pub const CORPUS: &str = "corpus";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldStage {
    pub world: WorldAt,
    pub demonstrations: DemonstrationSettings,
}

/// One summary by an author of the set quality for each of the seed's own posts.
pub fn world(context: &StageContext) -> Result<()> {
    let stage: WorldStage = context.settings()?;
    let (world, seed) = (stage.world.open()?, context.seed()?);
    let row = |index: u64| {
        let post = world.post(Split::Demonstrations, seed, index);
        let mut author = stream(seed, "demonstrations/author", &[index]);
        let response = world.summary(&post, stage.demonstrations.quality, &mut author);
        Demonstration { id: post.id, prompt: post.prompt, response }
    };
    rows::write(&context.out().join("demonstrations.jsonl"), (0..stage.demonstrations.count as u64).map(row))
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
    let tokenizer = tokenizers::Tokenizer::from_file(stage.tokenizer.join("tokenizer.json"))
        .map_err(|cause| Error::new(format!("cannot read {}", stage.tokenizer.display())).caused_by(cause))?;
    let codec = Codec::new(tokenizer, stage.generation.max_prompt_tokens, stage.generation.max_response_tokens)?;
    let all = corpus::read(&stage.file)?;
    let held_out = (all.len() as f64 * stage.held_out).round() as usize;
    if held_out == 0 || held_out == all.len() {
        return Err(Error::new(format!("{} has {} rows, too few to hold some out", stage.file.display(), all.len())));
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
