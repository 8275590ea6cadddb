//! Stage `random`: a randomly initialised model with a given tokenizer, for real text without a
//! checkpoint.

use super::base::{config_for, encoder};
use super::common::{device, tokenizer_folder};
use super::{NoInputs, Stage};
use crate::Result;
use crate::experiment::{GenerationSettings, ModelSettings};
use crate::model::LanguageModel;
use crate::model::checkpoint::Checkpoint;
use crate::model::weights::StoredAs;
use crate::pipeline::StageContext;
use crate::rng::stream;
use crate::tasks::TokenizerConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomModel {
    pub model: ModelSettings,
    pub generation: GenerationSettings,
    /// Folder with a tokenizer.json; `tokenizer_blake3` is the hash of its files.
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
    /// Special tokens that the tokenizer's files do not name.
    #[serde(default, skip_serializing_if = "TokenizerConfig::is_empty")]
    pub tokenizer_config: TokenizerConfig,
}

impl Stage for RandomModel {
    const KIND: &'static str = "random";
    const VERSION: u32 = 1;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let folder = tokenizer_folder(context, &self.tokenizer, &self.tokenizer_blake3)?;
        self.tokenizer_config.write_into(&folder)?;
        let source = folder.join("tokenizer.json");
        let encoder = encoder(&folder, &self.generation)?;
        let config = config_for(&self.model, &encoder);
        encoder.check_fits(config.vocab_size())?;
        let mut rng = stream(context.seed()?, "random/initial", &[]);
        let model = LanguageModel::random(
            &config,
            self.model.initializer_range,
            &mut rng,
            &device(context)?,
        )?;
        Checkpoint::save_language_model(context.out(), &model, &source, StoredAs::F32)
    }
}
