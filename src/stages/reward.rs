//! Stage `reward`: trains a fresh head on the SFT policy, or an earlier reward, on pairs (eq. 11,
//! 10, or 2 when the pairs are preferences).

use super::Stage;
use super::common::{
    Watch, checkpoint, device, encoder, language_model, training_pairs, within_memory, write_json,
};
use super::work::{Precision, Sizes, Work, steps};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::reward::{ReadOut, RewardSettings, RewardStart, train_reward};
use crate::methods::training::Training;
use crate::model::checkpoint::Checkpoint;
use crate::model::footprint::{forward_flops, training_flops, training_state};
use crate::pipeline::{StageContext, StageKey};
use crate::rng::round;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reward {
    pub generation: GenerationSettings,
    pub reward: RewardSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RewardInputs {
    #[serde(flatten)]
    pub start: RewardFrom,
    #[serde(default)]
    pub pairs: Vec<StageKey>,
}

/// The model that training starts from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardFrom {
    /// A policy, which gets a fresh head.
    Policy(StageKey),
    /// An earlier reward.
    Reward(StageKey),
}

impl Stage for Reward {
    const KIND: &'static str = "reward";
    const VERSION: u32 = 3;
    type Inputs = RewardInputs;
    type Sizes<'a> = Sizes<'a>;

    /// Training, and scoring for the normalisation.
    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (
            sizes.shapes(&self.generation),
            Precision::from(&self.training),
        );
        let (settings, pairs) = (&self.reward, sizes.rows);
        let rows = 2.0 * pairs as f64;
        let pair = match settings.read_out {
            ReadOut::LastToken => shapes.scored_pair(),
            ReadOut::LastSlot => shapes.score().times(2.0),
        };
        let trained_rows = settings.epochs as f64 * rows;
        let scored_rows = rows * settings.normalise.times() as f64;
        Work {
            tokens: (trained_rows + scored_rows) * shapes.width(),
            flops: training_flops(
                shapes.config,
                &shapes.score().times(trained_rows),
                &precision.training,
            ) + forward_flops(shapes.config, &shapes.score().times(scored_rows)),
            steps: steps(settings.epochs, pairs, settings.batch_size),
            halves: precision.halves(),
            trained: training_state(shapes.config, 1, &precision.training),
            phases: vec![
                shapes.train(&[pair], settings.batch_size.min(pairs), precision.training),
                shapes.read(shapes.score(), 2 * pairs, precision.reading),
            ],
            ..Work::default()
        }
    }

    fn run(self, inputs: RewardInputs, context: &StageContext) -> Result<()> {
        let seed = round(context.seed()?, self.round);
        let (RewardFrom::Policy(from) | RewardFrom::Reward(from)) = &inputs.start;
        let encoder = encoder(context, from, &self.generation)?;
        let (pairs, identical) = training_pairs(context, &inputs.pairs, &encoder)?;
        let checkpoint = checkpoint(context, from)?;
        let start = match inputs.start {
            RewardFrom::Reward(_) => {
                RewardStart::Reward(checkpoint.reward_model(&device(context)?)?.0)
            }
            RewardFrom::Policy(_) => RewardStart::Policy(language_model(context, from)?),
        };
        let work = self.work(Sizes::new(&checkpoint.config()?, pairs.len()));
        let training = within_memory(context, &self.training, &work)?;
        let (model, normalisation, curve) = train_reward(
            start,
            &pairs,
            &self.reward,
            &training,
            seed,
            &Watch(context),
        )?;
        let mut seen = serde_json::json!(curve);
        seen["pairs"] = pairs.len().into();
        seen["identical_share"] = identical.into();
        write_json(&context.out().join("curve.json"), &seen)?;
        let tokenizer = checkpoint.folder().join("tokenizer.json");
        Checkpoint::save_reward_model(context.out(), &model, &normalisation, &tokenizer)
    }
}
