//! Stage `agreement`: would gold, and would an annotator, prefer the demonstrations to the samples that a reward is taught to
//! tell them from? A measurement: nothing is trained on it.

use super::common::{WorldAt, read_json, write_json};
use super::evaluate::METRICS;
use super::pairs::judge;
use crate::Result;
use crate::data::rows::{self, ResponsePair};
use crate::data::world::{Labeller, Split};
use crate::eval::Items;
use crate::experiment::{GenerationSettings, Metric};
use crate::methods::training::Dtype;
use crate::pipeline::StageContext;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "agreement";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// None for real posts, whose gold is the input `judge`.
    pub world: Option<WorldAt>,
    /// Samples per demonstration.
    pub negatives: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

/// The input `pairs`, as they were drawn; the annotator is that of the input `preferences`, if there is one.
pub fn run(context: &StageContext) -> Result<()> {
    let stage: Stage = context.settings()?;
    let pairs: Vec<ResponsePair> = rows::read(&context.input("pairs")?.join("pairs.jsonl"))?;
    let identical: Vec<f64> = pairs.iter().map(|pair| f64::from(u8::from(pair.is_identical()))).collect();
    let differences: Vec<f64> = match &stage.world {
        Some(world) => {
            let (world, seed) = (world.open()?, context.seed()?);
            let gold = |(index, pair): (usize, &ResponsePair)| {
                let latent = world.post(Split::Demonstrations, seed, (index / stage.negatives) as u64).latent;
                let of = |response: &rows::Response| world.gold(&latent, &response.text, response.ended);
                of(&pair.chosen) - of(&pair.rejected)
            };
            pairs.iter().enumerate().map(gold).collect()
        }
        None => {
            let judge = judge(context, &stage.generation, stage.dtype)?;
            let chosen = pairs.iter().map(|pair| (pair.prompt.as_str(), &pair.chosen));
            let rejected = pairs.iter().map(|pair| (pair.prompt.as_str(), &pair.rejected));
            judge.scores(chosen)?.into_iter().zip(judge.scores(rejected)?).map(|(a, b)| a - b).collect()
        }
    };
    let by = |annotator: &Labeller| differences.iter().map(|gap| annotator.probability_first(*gap, 0.0)).collect();
    let mut measured = Items::default();
    // Without noise the probability is 1, 0, or ½ where gold is equal.
    measured.insert_ranked(Metric::SyntheticGoldAgreement, by(&Labeller::noise_free()));
    measured.insert(Metric::IdenticalShare, identical);
    if stage.world.is_some() && context.spec.inputs.contains_key("preferences") {
        let Annotator { temperature } = read_json(&context.input("preferences")?.join(ANNOTATOR))?;
        measured.insert(Metric::SyntheticHumanAgreement, by(&Labeller::new(temperature)?));
    }
    write_json(&context.out().join(METRICS), &measured.means())
}

/// The file in which a stage of preferences says how noisy its annotators are.
pub const ANNOTATOR: &str = "annotator.json";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotator {
    /// τ of [`Labeller`], in units of gold.
    pub temperature: f64,
}
