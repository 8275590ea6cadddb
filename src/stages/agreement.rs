//! Stage `agreement`: the shares of pairs in which gold, and an annotator, would prefer the
//! demonstration to the sample that a reward is trained to tell from it. This is a measurement:
//! nothing is trained on it.

use super::Stage;
use super::common::{needed, read_json, write_json};
use super::evaluate::METRICS;
use super::evaluation_set::judge;
use super::work::{self, Precision, Work};
use crate::Result;
use crate::data::rows::{self, Response, ResponsePair};
use crate::data::world::{Annotator, Split, WorldAt};
use crate::eval::Items;
use crate::experiment::{GenerationSettings, Metric};
use crate::judges::gold::Gold;
use crate::judges::{Judge, Prompt, Row};
use crate::methods::training::Dtype;
use crate::model::DecoderConfig;
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The embedded world; `None` for real posts, whose gold is the input `judge`.
    pub world: Option<WorldAt>,
    /// Samples per demonstration.
    pub negatives: usize,
    pub generation: GenerationSettings,
    pub dtype: Dtype,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AgreementInputs {
    /// Pairs of a demonstration and a sample, as they were drawn.
    pub pairs: StageKey,
    /// Preferences by the annotator who is asked, if there are any.
    pub preferences: Option<StageKey>,
    /// The reward model that takes the place of gold on real posts.
    pub judge: Option<StageKey>,
}

/// Sizes of a comparison with gold.
pub struct AgreementSizes<'a> {
    /// Demonstrations.
    pub rows: usize,
    /// Shape of the judge of real posts.
    pub judge: Option<&'a DecoderConfig>,
}

impl Stage for Agreement {
    const KIND: &'static str = "agreement";
    const VERSION: u32 = 2;
    type Inputs = AgreementInputs;
    type Sizes<'a> = AgreementSizes<'a>;

    fn work(&self, AgreementSizes { rows, judge }: AgreementSizes) -> Work {
        work::judging(
            judge,
            &self.generation,
            2 * rows,
            Precision::from(self.dtype),
        )
    }

    fn run(self, inputs: AgreementInputs, context: &StageContext) -> Result<()> {
        let pairs: Vec<ResponsePair> =
            rows::read(&context.artifact(&inputs.pairs)?.join("pairs.jsonl"))?;
        let identical: Vec<f64> = pairs
            .iter()
            .map(|pair| f64::from(u8::from(pair.is_identical())))
            .collect();
        let judge: Box<dyn Judge> = match &self.world {
            Some(world) => Box::new(Gold {
                world: world.open()?,
                split: Split::Demonstrations,
                seed: context.seed()?,
                scale: None,
            }),
            None => {
                let input = needed(&inputs.judge, "judge", context)?;
                judge(context, input, &self.generation, self.dtype)?
            }
        };
        let prompts: Vec<Prompt> = pairs
            .iter()
            .enumerate()
            .map(|(index, pair)| Prompt::new(&pair.prompt).of_post(index / self.negatives))
            .collect();
        let scores = |side: fn(&ResponsePair) -> &Response| {
            let rows: Vec<Row> = prompts.iter().zip(pairs.iter().map(side)).collect();
            judge.scores(&rows)
        };
        let differences: Vec<f64> = scores(|pair| &pair.chosen)?
            .into_iter()
            .zip(scores(|pair| &pair.rejected)?)
            .map(|(a, b)| a - b)
            .collect();
        let by = |annotator: &Annotator| {
            differences
                .iter()
                .map(|gap| annotator.probability_first(*gap, 0.0))
                .collect()
        };
        let mut measured = Items::default();
        // Without noise the probability is 1 or 0, and ½ if both have the same gold.
        measured.insert_ranked(Metric::SyntheticGoldAgreement, by(&Annotator::noise_free()));
        measured.insert(Metric::IdenticalShare, identical);
        if let Some(preferences) = inputs.preferences.as_ref().filter(|_| self.world.is_some()) {
            let AnnotatorRecord { temperature } =
                read_json(&context.artifact(preferences)?.join(ANNOTATOR))?;
            measured.insert(
                Metric::SyntheticHumanAgreement,
                by(&Annotator::new(temperature)?),
            );
        }
        write_json(&context.out().join(METRICS), &measured.means())
    }
}

/// The file in which a stage of preferences records how noisy its annotators are.
pub const ANNOTATOR: &str = "annotator.json";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnotatorRecord {
    /// τ of [`Annotator`], in units of gold.
    pub temperature: f64,
}
