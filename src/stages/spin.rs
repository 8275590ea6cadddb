//! Stage `spin`: one SPIN iteration from the previous iterate, which is also the opponent.

use super::Stage;
use super::common::{
    Watch, encoder, language_model, save_policy, training_pairs, within_memory, write_json,
};
use super::work::{Precision, Sizes, Work, preference_optimisation};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::spin::{SpinSettings, spin};
use crate::methods::training::Training;
use crate::model::footprint::frozen;
use crate::pipeline::{StageContext, StageKey};
use crate::rng::round;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spin {
    pub generation: GenerationSettings,
    pub spin: SpinSettings,
    pub training: Training,
    /// Iteration, from 0; names the random streams.
    pub round: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpinInputs {
    /// The previous iterate.
    pub policy: StageKey,
    #[serde(default)]
    pub pairs: Vec<StageKey>,
}

impl Stage for Spin {
    const KIND: &'static str = "spin";
    const VERSION: u32 = 1;
    type Inputs = SpinInputs;
    type Sizes<'a> = Sizes<'a>;

    /// Reading the opponent's log-probabilities once, then training.
    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (
            sizes.shapes(&self.generation),
            Precision::from(&self.training),
        );
        // The opponent shares the initial weights of training, unless it is held in another number
        // type.
        let opponent = match precision.halves() {
            true => frozen(
                shapes.config,
                shapes.language_model(),
                precision.reading.bytes,
            ),
            false => 0.0,
        };
        preference_optimisation(
            shapes,
            self.spin.epochs,
            self.spin.batch_size,
            sizes.rows,
            opponent,
            precision,
        )
    }

    fn run(self, inputs: SpinInputs, context: &StageContext) -> Result<()> {
        let seed = round(context.seed()?, self.round);
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let (pairs, identical) = training_pairs(context, &inputs.pairs, &encoder)?;
        let opponent = language_model(context, &inputs.policy)?;
        let training = within_memory(
            context,
            &self.training,
            &self.work(Sizes::new(opponent.config(), pairs.len())),
        )?;
        let (model, losses) = spin(
            opponent,
            &pairs,
            &self.spin,
            &training,
            seed,
            &Watch(context),
        )?;
        let curve = serde_json::json!({ "loss": losses, "pairs": pairs.len(), "identical_share": identical });
        write_json(&context.out().join("curve.json"), &curve)?;
        save_policy(context, &model, &inputs.policy)
    }
}
