//! Stage `preferences`: simulated human preferences. Two responses to one post, from a mixed pool,
//! are labelled by an annotator who sees gold with noise. Because it simulates human labels, it is
//! the only stage for training data that reads gold.

use super::Stage;
use super::agreement::{ANNOTATOR, AnnotatorRecord};
use super::common::{encoder, language_model, sampling, write_json};
use super::work::{self, Precision, Shapes, Work};
use crate::Result;
use crate::data::rows::{self, Response, ResponsePair};
use crate::data::world::{Annotator, Place, Split, WorldAt};
use crate::experiment::{GenerationSettings, Labels, PreferenceSettings};
use crate::methods::training::Dtype;
use crate::model::DecoderConfig;
use crate::model::generate::generate;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::stream;
use rand::Rng;
use rand::seq::index::sample;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    pub world: WorldAt,
    pub split: Split,
    pub generation: GenerationSettings,
    pub preferences: PreferenceSettings,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PreferencesInputs {
    /// The model whose samples are in the pool.
    pub base: StageKey,
}

/// The author of a response in the pool.
#[derive(Clone, Copy, Debug)]
enum PoolAuthor {
    /// The base model at a temperature.
    Base(f32),
    /// An author of any quality, uniformly.
    AnyAuthor,
    /// An author of this quality.
    Author(f64),
}

const POOL: [PoolAuthor; 4] = [
    PoolAuthor::Base(1.0),
    PoolAuthor::Base(0.5),
    PoolAuthor::AnyAuthor,
    PoolAuthor::Author(0.9),
];

impl Stage for Preferences {
    const KIND: &'static str = "preferences";
    const VERSION: u32 = 2;
    type Inputs = PreferencesInputs;
    /// The base's shape.
    type Sizes<'a> = &'a DecoderConfig;

    fn work(&self, config: &DecoderConfig) -> Work {
        let shapes = Shapes {
            config,
            generation: &self.generation,
        };
        work::sampling(shapes, self.preferences.pairs, Precision::from(Dtype::F32))
    }

    fn run(self, inputs: PreferencesInputs, context: &StageContext) -> Result<()> {
        let (world, seed) = (self.world.open()?, context.seed()?);
        let base = language_model(context, &inputs.base)?;
        let encoder = encoder(context, &inputs.base, &self.generation)?;
        let places: Vec<Place> = (0..self.preferences.pairs as u64)
            .map(|index| Place::new(self.split, seed, index))
            .collect();
        let texts: Vec<String> = places.iter().map(|place| world.prompt(*place)).collect();

        // Two different sources per post, in random order.
        let draws: Vec<(usize, PoolAuthor)> = (0..places.len())
            .flat_map(|post| {
                let mut rng = stream(seed, "preferences/sources", &[post as u64]);
                sample(&mut rng, POOL.len(), 2)
                    .into_iter()
                    .map(move |source| (post, POOL[source]))
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut responses: Vec<Option<Response>> = vec![None; draws.len()];
        for temperature in [1.0, 0.5] {
            let wanted: Vec<usize> = (0..draws.len())
                .filter(|&draw| matches!(draws[draw].1, PoolAuthor::Base(t) if t == temperature))
                .collect();
            let prompts = wanted
                .iter()
                .map(|&draw| encoder.prompt(&texts[draws[draw].0]))
                .collect::<Result<Vec<_>>>()?;
            let stream = |item: usize| stream(seed, "preferences/base", &[wanted[item] as u64]);
            let sampling = sampling(&encoder, &self.generation, temperature);
            let progress =
                |done| context.progress(done as u64, prompts.len() as u64, "sampling the base");
            let generated = generate(&base, &prompts, &sampling, stream, progress)?;
            for (&draw, response) in wanted.iter().zip(generated) {
                responses[draw] = Some(encoder.decoded(response.ids, response.ended)?);
            }
        }
        for (draw, &(post, source)) in draws.iter().enumerate() {
            let mut rng = stream(seed, "preferences/author", &[draw as u64]);
            let quality = match source {
                PoolAuthor::Base(_) => continue,
                PoolAuthor::AnyAuthor => rng.random(),
                PoolAuthor::Author(quality) => quality,
            };
            responses[draw] =
                Some(encoder.response(&world.answer(places[post], quality, &mut rng))?);
        }
        let responses: Vec<Response> = responses.into_iter().flatten().collect();

        let gold = |draw: usize| {
            let response = &responses[draw];
            world.gold(places[draws[draw].0], &response.text, response.ended)
        };
        let differences: Vec<f64> = (0..places.len())
            .map(|post| gold(2 * post) - gold(2 * post + 1))
            .collect();
        let annotator = match self.preferences.labels {
            Labels::Clean => Annotator::noise_free(),
            // A pair of equal gold is a coin toss for every annotator and gives no information
            // about noise.
            Labels::Noisy | Labels::Shuffled => {
                let told_apart: Vec<f64> =
                    differences.iter().copied().filter(|d| *d != 0.0).collect();
                Annotator::for_agreement(&told_apart, self.preferences.agreement)?
            }
        };
        write_json(
            &context.out().join(ANNOTATOR),
            &AnnotatorRecord {
                temperature: annotator.temperature(),
            },
        )?;
        let pairs = places
            .iter()
            .zip(texts)
            .enumerate()
            .map(|(index, (place, text))| {
                let mut draws = stream(seed, "preferences/annotator", &[index as u64]);
                let first = match self.preferences.labels {
                    Labels::Shuffled => draws.random::<f64>() < 0.5,
                    Labels::Noisy | Labels::Clean => {
                        annotator.prefers_first(differences[index], 0.0, &mut draws)
                    }
                };
                let (chosen, rejected) = if first {
                    (2 * index, 2 * index + 1)
                } else {
                    (2 * index + 1, 2 * index)
                };
                ResponsePair {
                    id: place.id(),
                    prompt: text.into(),
                    chosen: responses[chosen].clone(),
                    rejected: responses[rejected].clone(),
                }
            });
        rows::write(
            &context.out().join("pairs.jsonl"),
            pairs.filter(|pair| !pair.is_identical()),
        )
    }
}
