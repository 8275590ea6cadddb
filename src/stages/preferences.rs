//! Preferences as people give them: two responses to one post from a mixed pool, labelled by an annotator who sees gold
//! through noise. This stage stands for human labour, so it alone among training data looks at gold.

use super::agreement::{ANNOTATOR, Annotator};
use super::common::{WorldAt, codec, language_model, sampling, write_json};
use super::dataset::pinned;
use super::demonstrations::{DUPLICATES, PROMPTS, choose, held_out};
use crate::data::dataset::{Comparison, Text};
use crate::data::rows::{self, Response, ResponsePair};
use crate::data::split::{Duplicates, Prompts, groups};
use crate::data::tldr;
use crate::data::world::{Labeller, Split};
use crate::experiment::{GenerationSettings, Labels, PreferenceSettings};
use crate::model::generate::generate;
use crate::pipeline::StageContext;
use crate::rng::{permutation, stream};
use crate::{Error, Result};
use rand::Rng;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub const KIND: &str = "preferences";
pub const COMPARISONS: &str = "comparisons";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub world: WorldAt,
    pub split: Split,
    pub generation: GenerationSettings,
    pub preferences: PreferenceSettings,
}

/// Where a response of the pool comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The base model at a temperature.
    Base(f32),
    /// An author of any quality, uniformly.
    AnyAuthor,
    /// An author of this quality.
    Author(f64),
}

const POOL: [Source; 4] = [Source::Base(1.0), Source::Base(0.5), Source::AnyAuthor, Source::Author(0.9)];

pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let (world, seed) = (stage.world.open()?, context.seed()?);
    let base = language_model(context, "base")?;
    let codec = codec(context, "base", &stage.generation)?;
    let posts: Vec<_> = (0..stage.preferences.pairs as u64).map(|index| world.post(stage.split, seed, index)).collect();

    // Two different sources per post, in random order.
    let draws: Vec<(usize, Source)> = (0..posts.len())
        .flat_map(|post| {
            let mut rng = stream(seed, "preferences/sources", &[post as u64]);
            sample(&mut rng, POOL.len(), 2).into_iter().map(move |source| (post, POOL[source])).collect::<Vec<_>>()
        })
        .collect();
    let mut responses: Vec<Option<Response>> = vec![None; draws.len()];
    for temperature in [1.0, 0.5] {
        let wanted: Vec<usize> =
            (0..draws.len()).filter(|&draw| matches!(draws[draw].1, Source::Base(t) if t == temperature)).collect();
        let prompts =
            wanted.iter().map(|&draw| codec.prompt(&posts[draws[draw].0].prompt)).collect::<Result<Vec<_>>>()?;
        let stream = |item: usize| stream(seed, "preferences/base", &[wanted[item] as u64]);
        let sampling = sampling(&codec, &stage.generation, temperature);
        let progress = |done| context.progress(done as u64, prompts.len() as u64, "sampling the base");
        let generated = generate(&base, &prompts, &sampling, stream, progress);
        for (&draw, response) in wanted.iter().zip(generated) {
            responses[draw] = Some(codec.decoded(response.ids, response.ended)?);
        }
    }
    for (draw, &(post, source)) in draws.iter().enumerate() {
        let mut rng = stream(seed, "preferences/author", &[draw as u64]);
        let quality = match source {
            Source::Base(_) => continue,
            Source::AnyAuthor => rng.random(),
            Source::Author(quality) => quality,
        };
        responses[draw] = Some(codec.response(&world.summary(&posts[post], quality, &mut rng))?);
    }
    let responses: Vec<Response> = responses.into_iter().flatten().collect();

    let gold = |draw: usize| {
        let response = &responses[draw];
        world.gold(&posts[draws[draw].0].latent, &response.text, response.ended)
    };
    let differences: Vec<f64> = (0..posts.len()).map(|post| gold(2 * post) - gold(2 * post + 1)).collect();
    let labeller = match stage.preferences.labels {
        Labels::Clean => Labeller::noise_free(),
        // Pairs of equal gold are a coin toss for anybody and say nothing of an annotator's noise.
        Labels::Noisy | Labels::Shuffled => {
            let told_apart: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
            Labeller::for_agreement(&told_apart, stage.preferences.agreement)?
        }
    };
    write_json(&context.out().join(ANNOTATOR), &Annotator { temperature: labeller.temperature() })?;
    let pairs = posts.iter().enumerate().map(|(index, post)| {
        let mut annotator = stream(seed, "preferences/annotator", &[index as u64]);
        let first = match stage.preferences.labels {
            Labels::Shuffled => annotator.random::<f64>() < 0.5,
            Labels::Noisy | Labels::Clean => labeller.prefers_first(differences[index], 0.0, &mut annotator),
        };
        let (chosen, rejected) = if first { (2 * index, 2 * index + 1) } else { (2 * index + 1, 2 * index) };
        ResponsePair {
            id: post.id.clone(),
            prompt: post.prompt.clone(),
            chosen: responses[chosen].clone(),
            rejected: responses[rejected].clone(),
        }
    });
    rows::write(&context.out().join("pairs.jsonl"), pairs.filter(|pair| !pair.is_identical()))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparisonsStage {
    pub count: usize,
    pub generation: GenerationSettings,
}

/// Human comparisons of two summaries, from the input `comparisons`: a choice of the seed's own without prompts that are held
/// out, or the first where there is no seed, which are held out themselves.
/// Summaries that are longer than a response may be are cut, as everywhere.
pub fn comparisons(context: &StageContext) -> Result<()> {
    let stage: ComparisonsStage = context.settings()?;
    let codec = codec(context, "base", &stage.generation)?;
    let (set, source) = pinned(context, "comparisons")?;
    let available: Vec<usize> = set
        .rows::<Comparison>()?
        .enumerate()
        .filter_map(|(index, row)| match row {
            // Comparisons of news articles stand among those of posts in some splits.
            Ok(row) => matches!(row.text, Text::Post(_)).then_some(Ok(index)),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_>>()?;
    if available.len() < stage.count {
        return Err(Error::data(format!("{source} has {} comparisons of posts, not {}", available.len(), stage.count))
            .hint("lower preferences.pairs or evaluation.preference_pairs"));
    }
    let order: Vec<usize> = match context.spec.seed {
        Some(seed) => {
            let order = permutation(available.len(), seed, "comparisons/choice", 0);
            order.into_iter().map(|position| available[position]).collect()
        }
        None => available.into_iter().take(stage.count).collect(),
    };
    let (held_out, mut prompts) = (held_out(context)?, Prompts::default());
    let take = |wanted: &BTreeSet<usize>| {
        let mut taken = BTreeMap::new();
        for (index, row) in set.placed_rows::<Comparison>()?.enumerate() {
            let (place, row) = row?;
            if let (true, Text::Post(post)) = (wanted.contains(&index), &row.text) {
                let (whole, prompt) = (tldr::prompt(post), tldr::fitted_at(&place, post, &codec)?);
                let forms = [&whole[..], &prompt];
                if held_out.contain(&forms) {
                    continue;
                }
                prompts.insert(&forms);
                let (chosen, rejected) = (tldr::response(&row.chosen.text), tldr::response(&row.rejected.text));
                let (chosen, rejected) = (codec.response(&chosen)?, codec.response(&rejected)?);
                taken.insert(index, ResponsePair { id: row.id, prompt, chosen, rejected });
            }
        }
        Ok(taken)
    };
    let lacking = |left: usize| {
        Error::data(format!(
            "{source} has {left} comparisons of posts whose prompts are not held out, not {}",
            stage.count
        ))
        .hint("lower preferences.pairs")
    };
    let (pairs, passed_over) = choose(order, stage.count, take, lacking)?;
    let forms: Vec<[&str; 2]> = pairs.iter().map(|pair| [&pair.prompt[..]; 2]).collect();
    let counts = Duplicates::count(&groups(&forms), pairs.iter().map(|pair| pair.chosen.text.as_str()));
    write_json(&context.out().join(DUPLICATES), &Duplicates { held_out: passed_over, ..counts })?;
    if context.spec.seed.is_none() {
        write_json(&context.out().join(PROMPTS), &prompts)?;
    }
    rows::write(&context.out().join("pairs.jsonl"), pairs.into_iter().filter(|pair| !pair.is_identical()))
}
