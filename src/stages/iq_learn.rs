//! Stage `iq_learn`: fits the SFT policy's logits, as a soft Q-function, to the demonstrations.

use super::Stage;
use super::common::{
    Watch, demonstrated, encoder, language_model, save_policy, within_memory, write_json,
};
use super::tune::{apply_to_iq_learn, chosen};
use super::work::{Precision, Sizes, Work, steps};
use crate::Result;
use crate::experiment::GenerationSettings;
use crate::methods::iq_learn::{IqLearnSettings, iq_learn};
use crate::methods::training::Training;
use crate::model::footprint::{Load, training_flops, training_state};
use crate::pipeline::{StageContext, StageKey};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IqLearn {
    pub generation: GenerationSettings,
    pub iq_learn: IqLearnSettings,
    pub training: Training,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct IqLearnInputs {
    /// The SFT policy.
    pub policy: StageKey,
    pub demonstrations: StageKey,
    /// The chosen epochs, learning rate and λ, if they differ from the settings.
    pub tuning: Option<StageKey>,
}

impl Stage for IqLearn {
    const KIND: &'static str = "iq_learn";
    const VERSION: u32 = 1;
    type Inputs = IqLearnInputs;
    type Sizes<'a> = Sizes<'a>;

    /// Supervised training, which also computes the values of states.
    fn work(&self, sizes: Sizes) -> Work {
        let (shapes, precision) = (
            sizes.shapes(&self.generation),
            Precision::from(&self.training),
        );
        let (epochs, batch_size) = (
            sizes.epochs.unwrap_or(self.iq_learn.epochs),
            self.iq_learn.batch_size,
        );
        // The values of Q at the chosen tokens have their own gradient, as large as the logits.
        let kept = Load {
            outputs: 2.0 * shapes.likelihood().outputs,
            ..shapes.likelihood()
        };
        let rows = (epochs * sizes.rows) as f64;
        Work {
            tokens: rows * shapes.width(),
            flops: training_flops(
                shapes.config,
                &shapes.likelihood().times(rows),
                &precision.training,
            ),
            steps: steps(epochs, sizes.rows, batch_size),
            halves: precision.halves(),
            trained: training_state(shapes.config, shapes.language_model(), &precision.training),
            phases: vec![shapes.train(&[kept], batch_size.min(sizes.rows), precision.training)],
            ..Work::default()
        }
    }

    fn run(mut self, inputs: IqLearnInputs, context: &StageContext) -> Result<()> {
        if let Some(choice) = chosen(context, inputs.tuning.as_ref())? {
            apply_to_iq_learn(&mut self.iq_learn, &choice);
        }
        let encoder = encoder(context, &inputs.policy, &self.generation)?;
        let rows = demonstrated(context, &inputs.demonstrations, &encoder)?;
        let policy = language_model(context, &inputs.policy)?;
        let training = within_memory(
            context,
            &self.training,
            &self.work(Sizes::new(policy.config(), rows.len())),
        )?;
        let (model, losses) = iq_learn(
            policy,
            &rows,
            &self.iq_learn,
            &training,
            context.seed()?,
            &Watch(context),
        )?;
        write_json(
            &context.out().join("curve.json"),
            &serde_json::json!({ "loss": losses }),
        )?;
        save_policy(context, &model, &inputs.policy)
    }
}
