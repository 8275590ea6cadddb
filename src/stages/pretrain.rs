//! Stage `pretrain`: a base trained on posts of the embedded world with summaries by authors of
//! every quality.

use super::base::{config_for, encoder};
use super::common::{Watch, device, within_memory, write_json};
use super::work::{Precision, Shapes, Work, supervised};
use super::{NoInputs, Stage};
use crate::data::world::WorldAt;
use crate::eval::copying::slot_accuracy;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::methods::pretrain::{PretrainSettings, pretrain};
use crate::methods::sft::SftSettings;
use crate::methods::training::Training;
use crate::model::checkpoint::Checkpoint;
use crate::model::tokenizer::CHAT_TEMPLATE;
use crate::model::weights::StoredAs;
use crate::model::{DecoderConfig, LanguageModel, Sequence};
use crate::pipeline::StageContext;
use crate::rng::stream;
use crate::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    pub world: WorldAt,
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    pub pretrain: PretrainSettings,
}

impl Stage for Pretrain {
    const KIND: &'static str = "pretrain";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    /// The model's shape.
    type Sizes<'a> = &'a DecoderConfig;

    /// Supervised fine-tuning on texts each of which is seen once.
    fn work(&self, config: &DecoderConfig) -> Work {
        let PretrainSettings {
            steps,
            batch_size,
            prompt_weight,
            ref optimiser,
            ..
        } = self.pretrain;
        let settings = SftSettings {
            epochs: 1,
            batch_size,
            prompt_weight,
            optimiser: optimiser.clone(),
        };
        let (shapes, precision) = (
            Shapes {
                config,
                generation: &self.generation,
            },
            Precision::from(&Training::default()),
        );
        supervised(shapes, &settings, steps * batch_size, precision)
    }

    /// Trains the base and refuses one that cannot copy. It is stored in f16, like the published
    /// Pythia, so that the checkpoints that come with touchstone are small.
    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let (world, seed) = (self.world.open()?, context.seed()?);
        let tokenizer = save_tokenizer(&world.tokenizer()?, context.out())?;
        if let Some(template) = world.chat_template() {
            let path = context.out().join(CHAT_TEMPLATE);
            std::fs::write(&path, template)
                .context(|| format!("cannot write {}", path.display()))?;
        }
        let encoder = encoder(context.out(), &self.generation)?;
        let config = config_for(&self.model, &encoder);
        let mut rng = stream(seed, "pretrain/initial", &[]);
        let model = LanguageModel::random(
            &config,
            self.model.initializer_range,
            &mut rng,
            &device(context)?,
        )?;

        let text = |step: usize| {
            let row = |row: usize| {
                let index = (step * self.pretrain.batch_size + row) as u64;
                let mut author = stream(seed, "pretrain/author", &[index]);
                let easy = self.pretrain.is_easy(step);
                let (prompt, answer) = world.pretraining(seed, index, easy, &mut author);
                Ok(Sequence::new(
                    encoder.prompt(&prompt)?,
                    encoder.response(&answer)?.ids,
                ))
            };
            (0..self.pretrain.batch_size).map(row).collect()
        };
        let (training, watch) = (
            within_memory(context, &Training::default(), &self.work(&config))?,
            Watch(context),
        );
        let (model, losses) = pretrain(model, &self.pretrain, &training, seed, text, &watch)?;
        Checkpoint::save_language_model(context.out(), &model, &tokenizer, StoredAs::F16)?;

        let slots = slot_accuracy(&model, &*world, &encoder)?;
        write_json(
            &context.out().join("curve.json"),
            &serde_json::json!({ "loss": losses, "slots": slots }),
        )?;
        let worst = slots.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((slot, accuracy)) =
            worst.filter(|(_, accuracy)| *accuracy < self.pretrain.copy_gate)
        {
            let all: Vec<String> = slots
                .iter()
                .map(|(name, accuracy)| format!("{name} {accuracy:.2}"))
                .collect();
            return Err(Error::model(format!(
                "the base copies slot `{slot}` in {accuracy:.2} of posts, below the gate of {} ({})",
                self.pretrain.copy_gate,
                all.join(", ")
            ))
            .hint("a base that cannot copy measures nothing: train longer (pretrain.steps) or from another seed"));
        }
        Ok(())
    }
}

fn save_tokenizer(tokenizer: &Tokenizer, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("tokenizer.json");
    tokenizer.save(&path, true).map_err(|cause| {
        Error::files(format!("cannot write {}", path.display())).caused_by(cause)
    })?;
    Ok(path)
}
