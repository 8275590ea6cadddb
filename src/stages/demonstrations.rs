//! Demonstrations: written by an author of the embedded world, split off a local file of real posts, or a data set of a hub
//! with its human summaries or a demonstrator's responses.

use super::common::{WorldAt, codec, frozen, read_json, sample, sampling, tokenizer_folder, write_json};
use super::dataset::pinned;
use crate::data::codec::tokenizer;
use crate::data::contents::changed;
use crate::data::corpus::Corpus;
use crate::data::dataset::SummarisedPost;
use crate::data::rows::{self, Demonstration};
use crate::data::split::{self, Duplicates, Prompts};
use crate::data::world::Split;
use crate::data::{Codec, tldr};
use crate::eval::exam::EXAM_SEED;
use crate::experiment::{DataSources, GenerationSettings, Hyper};
use crate::methods::training::Dtype;
use crate::pipeline::StageContext;
use crate::rng::{permutation, stream};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// Prompts of an artifact whose rows are held out: no training stage may have one of them.
pub const PROMPTS: &str = "prompts.json";
/// Counts of rows that say the same.
pub const DUPLICATES: &str = "duplicates.json";

/// Real posts in the paper's prompt format, fitted to the prompt limit; a fixed part is held out of all training, and posts
/// that make the same prompt are on one side.
pub fn corpus(context: &StageContext) -> Result<()> {
    let stage: CorpusStage = context.settings()?;
    let folder = tokenizer_folder(context, &stage.tokenizer, &stage.tokenizer_blake3)?;
    let tokenizer = tokenizer(&folder.join("tokenizer.json"))?;
    let codec = Codec::new(tokenizer, stage.generation.max_prompt_tokens, stage.generation.max_response_tokens)?;
    let Corpus { posts, places, source } = Corpus::open(&stage.file)?;
    if source.blake3 != stage.blake3 {
        return Err(changed(&stage.file.display().to_string(), &stage.blake3, &source.blake3));
    }
    context.add_source(&source)?;
    let rows = posts.iter().zip(&places).map(|(row, place)| {
        let prompt = tldr::fitted_at(place, &row.post, &codec)?;
        Ok(Demonstration { id: row.id.clone(), prompt, response: tldr::response(&row.summary) })
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let whole: Vec<String> = posts.iter().map(|row| tldr::prompt(&row.post)).collect();
    let forms: Vec<[&str; 2]> = whole.iter().zip(&rows).map(|(whole, row)| [&whole[..], &row.prompt]).collect();
    let groups = split::groups(&forms);
    let Some((held_out, trained)) = split::hold_out(&groups, stage.held_out) else {
        return Err(too_few(&stage.file, &forms));
    };
    for (name, part) in [("held_out.jsonl", held_out), ("demonstrations.jsonl", trained)] {
        rows::write(&context.out().join(name), part.iter().map(|row| &rows[*row]))?;
    }
    write_duplicates(context, &groups, &rows, 0)
}

fn too_few(file: &Path, forms: &[[&str; 2]]) -> Error {
    let prompts = Duplicates::count(&split::groups(forms), []).prompts;
    let plural = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    Error::data(format!(
        "{} has {} of {}, too few to hold some out",
        file.display(),
        plural(forms.len(), "row"),
        plural(prompts, "different prompt")
    ))
    .hint("a fifth of the rows is held out, and rows of one prompt stay together: give more posts")
}

/// Whether some rows can be held out of `posts`, as far as can be told without their tokens.
///
/// # Errors
/// Too few rows, or too few different ones.
pub fn check_splits(file: &Path, posts: &[SummarisedPost], share: f64) -> Result<()> {
    let whole: Vec<String> = posts.iter().map(|row| tldr::prompt(&row.post)).collect();
    let forms: Vec<[&str; 2]> = whole.iter().map(|whole| [&whole[..]; 2]).collect();
    split::hold_out(&split::groups(&forms), share).map(|_| ()).ok_or_else(|| too_few(file, &forms))
}

fn write_duplicates(context: &StageContext, groups: &[usize], rows: &[Demonstration], held_out: usize) -> Result<()> {
    let counts = Duplicates::count(groups, rows.iter().map(|row| row.response.as_str()));
    write_json(&context.out().join(DUPLICATES), &Duplicates { held_out, ..counts })
}

/// The prompts of all inputs that are held out, whose roles begin with `held_out/`.
pub fn held_out(context: &StageContext) -> Result<Prompts> {
    let folders = context.inputs_named("held_out/")?;
    folders.iter().try_fold(Prompts::default(), |all, folder| Ok(all.union(read_json(&folder.join(PROMPTS))?)))
}

/// `count` rows at the positions that come first in `order`, without those that `take` passes over, in the order of their
/// positions, and how many were passed over. `take` is asked for rows at some positions and gives those that may be taken.
///
/// # Errors
/// Too few rows, as `lacking` says, which is given the number of those that there are.
pub fn choose<T>(
    order: Vec<usize>,
    count: usize,
    mut take: impl FnMut(&BTreeSet<usize>) -> Result<BTreeMap<usize, T>>,
    lacking: impl FnOnce(usize) -> Error,
) -> Result<(Vec<T>, usize)> {
    let (mut order, mut chosen, mut passed_over) = (order.into_iter(), BTreeMap::new(), 0);
    while chosen.len() < count {
        let wanted: BTreeSet<usize> = order.by_ref().take(count - chosen.len()).collect();
        if wanted.is_empty() {
            return Err(lacking(chosen.len()));
        }
        let taken = take(&wanted)?;
        passed_over += wanted.len() - taken.len();
        chosen.extend(taken);
    }
    Ok((chosen.into_values().collect(), passed_over))
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

/// The input `posts` in the paper's prompt format, without prompts that are held out, with the response of the model in the input `demonstrator`, or with their
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
    let order: Vec<usize> = match stage.part {
        Part::Training => permutation(available, context.seed()?, "hub/posts", 0),
        Part::Exam => (0..stage.count).collect(),
    };
    let (held_out, mut prompts) = (held_out(context)?, Prompts::default());
    let take = |wanted: &BTreeSet<usize>| {
        let mut taken = BTreeMap::new();
        for (index, row) in posts.placed_rows::<SummarisedPost>()?.enumerate() {
            let (place, row) = row?;
            if wanted.contains(&index) {
                let (whole, prompt) = (tldr::prompt(&row.post), tldr::fitted_at(&place, &row.post, &codec)?);
                let forms = [&whole[..], &prompt];
                if !held_out.contain(&forms) {
                    prompts.insert(&forms);
                    taken.insert(index, Demonstration { id: row.id, prompt, response: tldr::response(&row.summary) });
                }
            }
        }
        Ok(taken)
    };
    let lacking = |left: usize| {
        Error::data(format!("{source} has {left} posts in `train` whose prompts are not held out, not {}", stage.count))
            .hint("lower demonstrations.count")
    };
    let (mut rows, passed_over) = choose(order, stage.count, take, lacking)?;
    let forms: Vec<[&str; 2]> = rows.iter().map(|row| [&row.prompt[..]; 2]).collect();
    write_duplicates(context, &split::groups(&forms), &rows, passed_over)?;
    if stage.part == Part::Exam {
        write_json(&context.out().join(PROMPTS), &prompts)?;
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
