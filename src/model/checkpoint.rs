//! Model folders as Hugging Face lays them out: `config.json`, `model.safetensors` (or its shards with their index),
//! `tokenizer.json`; a reward model adds `reward.json` with its normalisation. transformers opens what is saved here.

mod config;
mod convert;
mod inspect;

pub use convert::{Conversion, FILES_BESIDE};
pub use inspect::Inspection;

use crate::model::gpt_neox::GptNeoXConfig;
use crate::model::heads::{LanguageModel, RewardModel};
use crate::model::layout::{self, Beside, Head};
use crate::model::weights::{self, SHARD_BYTES, StoredAs, Weights};
use crate::{Context, Error, Result};
use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// How raw scores of a reward model become rewards: `(score − mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: f32,
    pub std: f32,
    /// First percentile of the normalised scores of the training responses.
    pub low: f32,
    /// The head's bound; 0 if it has none.
    pub bound: f32,
}

impl Normalisation {
    /// Leaves scores as they are.
    pub fn none(bound: f32) -> Self {
        Self { mean: 0.0, std: 1.0, low: 0.0, bound }
    }

    pub fn apply(&self, score: f32) -> f32 {
        (score - self.mean) / self.std
    }
}

/// What the folder of a model may hold beside its weights.
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const REWARD: &str = "reward.json";

/// A model folder.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        if !folder.is_dir() {
            return Err(Error::model(format!("there is no folder {}", folder.display()))
                .hint("give a model folder; one that is published on a hub is written hf:owner/name@revision"));
        }
        for alternatives in [[CONFIG].as_slice(), &weights::FILES] {
            if !alternatives.iter().any(|name| folder.join(name).is_file()) {
                return Err(Error::model(format!("{} has no {}", folder.display(), alternatives[0])).hint(
                    "a model folder holds config.json, model.safetensors (or shards with an index) and tokenizer.json",
                ));
            }
        }
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn config(&self) -> Result<GptNeoXConfig> {
        let path = self.folder.join(CONFIG);
        config::parse(config::read(&path)?.keys, &path)
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        read_tokenizer(&self.folder.join(TOKENIZER))
    }

    pub fn language_model(&self, device: &Device) -> Result<LanguageModel> {
        self.frozen_language_model(FloatDType::F32, device)
    }

    /// A model that is only read, held in `dtype`.
    pub fn frozen_language_model(&self, dtype: FloatDType, device: &Device) -> Result<LanguageModel> {
        let config = self.config()?;
        let (weights, _) = self.weights_of(Head::LanguageModel, &config)?;
        LanguageModel::frozen(weights, &config, dtype, device)
    }

    pub fn reward_model(&self, device: &Device) -> Result<(RewardModel, Normalisation)> {
        self.frozen_reward_model(FloatDType::F32, device)
    }

    /// A model that is only read, held in `dtype`.
    pub fn frozen_reward_model(&self, dtype: FloatDType, device: &Device) -> Result<(RewardModel, Normalisation)> {
        let config = self.config()?;
        let (weights, beside) = self.weights_of(Head::Reward, &config)?;
        let normalisation = self.normalisation(&beside)?;
        Ok((RewardModel::frozen(weights, &config, normalisation.bound, dtype, device)?, normalisation))
    }

    /// The tensors of a model with this head, under the names of [`layout::tensors`].
    fn weights_of(&self, head: Head, config: &GptNeoXConfig) -> Result<(Weights, Beside)> {
        let mut weights = Weights::open(&self.folder)?;
        let beside = layout::normalise(&mut weights, config)?;
        head.expect(&weights, config)?;
        Ok((weights, beside))
    }

    /// What `reward.json` says; without one, what a published head adds to its scores or takes from them.
    fn normalisation(&self, beside: &Beside) -> Result<Normalisation> {
        let path = self.folder.join(REWARD);
        if !path.exists() {
            let taken = config::read(&self.folder.join(CONFIG))?.bias - beside.bias;
            return Ok(Normalisation { mean: taken, ..Normalisation::none(0.0) });
        }
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context(|| format!("{} is not a reward description", path.display()))
    }

    pub fn save_language_model(folder: &Path, model: &LanguageModel, tokenizer: &Path, as_: StoredAs) -> Result<()> {
        let keys = config::of(model.config(), Head::LanguageModel, as_);
        save(folder, &keys, &model.weights(), tokenizer, as_)
    }

    /// Saves a reward model with its normalisation and, in config.json, the token that transformers may pad rows with.
    pub fn save_reward_model(
        folder: &Path,
        model: &RewardModel,
        normalisation: &Normalisation,
        tokenizer: &Path,
    ) -> Result<()> {
        let mut keys = config::of(model.config(), Head::Reward, StoredAs::F32);
        keys["pad_token_id"] = json!(config::padding(&read_tokenizer(tokenizer)?, model.config()));
        save(folder, &keys, &model.weights(), tokenizer, StoredAs::F32)?;
        write_json(&folder.join(REWARD), &json!(normalisation))
    }
}

fn save(folder: &Path, config: &Value, weights: &Weights, tokenizer: &Path, stored_as: StoredAs) -> Result<()> {
    std::fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
    write_json(&folder.join(CONFIG), config)?;
    weights.save(folder, stored_as, SHARD_BYTES)?;
    copy(tokenizer, &folder.join(TOKENIZER))
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|cause| {
        Error::model(format!("cannot read {}", path.display()))
            .caused_by(cause)
            .hint("the folder needs the tokenizer.json of its model")
    })
}

/// Not `fs::copy`, which empties a file that is copied onto itself.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::fs::read(from).and_then(|bytes| std::fs::write(to, bytes));
    copied.context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| format!("cannot encode {}", path.display()))?;
    std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))
}
