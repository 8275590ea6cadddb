//! Model folders as Hugging Face lays them out: `config.json`, `model.safetensors` (or its shards
//! with their index), `tokenizer.json`; a reward model adds `reward.json` with its normalisation.
//! transformers opens what is saved here.

mod adapter;
mod config;
mod convert;
mod inspect;
pub(in crate::model) mod keys;

pub use convert::{Conversion, FILES_BESIDE};
pub use inspect::Inspection;

use crate::model::arch::DecoderConfig;
use crate::model::contents;
use crate::model::heads::{LanguageModel, RewardModel};
use crate::model::layout::{self, Beside, Head};
use crate::model::tokenizer::{Ends, ModelTokenizer, TOKENIZER, TOKENIZER_FILES};
use crate::model::weights::{self, SHARD_BYTES, StoredAs, Weights};
use crate::{Context, Error, Result};
use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Constants that convert raw scores of a reward model to rewards: `(score − mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: f32,
    pub std: f32,
    /// First percentile of the normalised scores of the training responses.
    pub low: f32,
    /// The head's bound; 0 for an unbounded head.
    pub bound: f32,
}

impl Normalisation {
    /// Constants that leave scores unchanged.
    pub fn none(bound: f32) -> Self {
        Self {
            mean: 0.0,
            std: 1.0,
            low: 0.0,
            bound,
        }
    }

    pub fn apply(&self, score: f32) -> f32 {
        (score - self.mean) / self.std
    }

    /// The rewards for raw scores.
    ///
    /// # Errors
    /// A reward that is not finite, with its row.
    pub fn rewards(&self, scores: &[f32]) -> Result<Vec<f32>> {
        let rewards: Vec<f32> = scores.iter().map(|score| self.apply(*score)).collect();
        match rewards.iter().position(|reward| !reward.is_finite()) {
            None => Ok(rewards),
            Some(row) => {
                let (score, reward) = (scores[row], rewards[row]);
                Err(Error::divergence(format!(
                    "row {}: the score {score} makes the reward {reward}",
                    row + 1
                ))
                .hint("the constants of the reward are damaged, or its training diverged"))
            }
        }
    }

    /// The constants in the file `path`.
    ///
    /// # Errors
    /// A constant that is missing or not a finite number, or a deviation or bound that is out of
    /// range.
    fn read(path: &Path) -> Result<Self> {
        let keys = contents::json(path)?;
        let number = |key: &str| {
            let value = &keys[key];
            let number = value
                .as_f64()
                .map(|number| number as f32)
                .filter(|number| number.is_finite());
            number.ok_or_else(|| {
                let found = if keys.get(key).is_none() { "missing".into() } else { value.to_string() };
                Error::model(format!("{}: `{key}` is {found}, and not a finite number", path.display()))
                    .hint("the reward was saved from a training that diverged, or the file is not of touchstone")
            })
        };
        let read = Self {
            mean: number("mean")?,
            std: number("std")?,
            low: number("low")?,
            bound: number("bound")?,
        };
        for (key, value, fits) in [
            ("std", read.std, read.std > 0.0),
            ("bound", read.bound, read.bound >= 0.0),
        ] {
            if !fits {
                return Err(
                    Error::model(format!("{}: `{key}` is {value}", path.display()))
                        .hint("a deviation is above 0, and a bound is 0 (none) or above"),
                );
            }
        }
        Ok(read)
    }
}

/// Files of a model's folder beside its weights.
const CONFIG: &str = "config.json";
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
        adapter::refuse(&folder)?;
        for alternatives in [[CONFIG].as_slice(), &weights::FILES] {
            if !alternatives.iter().any(|name| folder.join(name).is_file()) {
                return Err(lacking(&folder, alternatives[0]));
            }
        }
        Ok(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn config(&self) -> Result<DecoderConfig> {
        let path = self.folder.join(CONFIG);
        config::parse(config::read(&path)?.keys, &path)
    }

    /// The folder's tokenizer.
    ///
    /// # Errors
    /// A folder without a tokenizer, a tokenizer that is damaged or draws at random, or one with
    /// more tokens than the embedding has rows.
    pub fn tokenizer(&self) -> Result<ModelTokenizer> {
        let tokenizer = ModelTokenizer::open(&self.folder)?;
        tokenizer.check_fits(self.config()?.vocab_size())?;
        Ok(tokenizer)
    }

    /// Does the same as [`tokenizer`](Self::tokenizer), but returns `None` if the folder has no
    /// `tokenizer.json`.
    pub fn optional_tokenizer(&self) -> Result<Option<ModelTokenizer>> {
        self.folder
            .join(TOKENIZER)
            .is_file()
            .then(|| self.tokenizer())
            .transpose()
    }

    /// The tokens that end a text, determined by [`Ends::of_folder`].
    pub fn ends(&self, tokenizer: Option<&ModelTokenizer>) -> Result<Ends> {
        Ends::of_folder(&self.folder, tokenizer, self.config()?.vocab_size())
    }

    pub fn language_model(&self, device: &Device) -> Result<LanguageModel> {
        self.frozen_language_model(FloatDType::F32, device)
    }

    /// A model that is only read, held in `dtype`.
    pub fn frozen_language_model(
        &self,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<LanguageModel> {
        let config = self.config()?;
        let (mut weights, _) = self.weights_of(Head::LanguageModel, &config)?;
        weights.will_be(dtype);
        LanguageModel::frozen(weights, &config, dtype, device)
    }

    pub fn reward_model(&self, device: &Device) -> Result<(RewardModel, Normalisation)> {
        self.frozen_reward_model(FloatDType::F32, device)
    }

    /// A model that is only read, held in `dtype`.
    pub fn frozen_reward_model(
        &self,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<(RewardModel, Normalisation)> {
        let config = self.config()?;
        let (mut weights, beside) = self.weights_of(Head::Reward, &config)?;
        weights.will_be(dtype);
        let normalisation = self.normalisation(&beside)?;
        Ok((
            RewardModel::frozen(weights, &config, normalisation.bound, dtype, device)?,
            normalisation,
        ))
    }

    /// The tensors of a model with this head, under the names of [`layout::tensors`].
    fn weights_of(&self, head: Head, config: &DecoderConfig) -> Result<(Weights, Beside)> {
        let mut weights = Weights::open(&self.folder)?;
        let beside = layout::normalise(&mut weights, config)?;
        weights.check_types()?;
        head.expect(&weights, config)?;
        Ok((weights, beside))
    }

    /// The normalisation in `reward.json`; without that file, the constant that a published head
    /// adds to its scores or subtracts from them.
    fn normalisation(&self, beside: &Beside) -> Result<Normalisation> {
        let path = self.folder.join(REWARD);
        if !path.exists() {
            let taken = config::read(&self.folder.join(CONFIG))?.bias - beside.bias;
            return Ok(Normalisation {
                mean: taken,
                ..Normalisation::none(0.0)
            });
        }
        Normalisation::read(&path)
    }

    pub fn save_language_model(
        folder: &Path,
        model: &LanguageModel,
        tokenizer: &Path,
        as_: StoredAs,
    ) -> Result<()> {
        let keys = config::of(model.config(), Head::LanguageModel, as_);
        save(folder, &keys, &model.weights(), tokenizer, as_)
    }

    /// Saves a reward model with its normalisation and, in config.json, the token that transformers
    /// may pad rows with.
    pub fn save_reward_model(
        folder: &Path,
        model: &RewardModel,
        normalisation: &Normalisation,
        tokenizer: &Path,
    ) -> Result<()> {
        let constants = [
            normalisation.mean,
            normalisation.std,
            normalisation.low,
            normalisation.bound,
        ];
        if constants.iter().any(|number| !number.is_finite()) {
            return Err(Error::divergence(format!(
                "{}: the normalisation is {normalisation:?}",
                folder.display()
            ))
            .hint("the reward diverged: lower its learning rate, or bound its head"));
        }
        let mut keys = config::of(model.config(), Head::Reward, StoredAs::F32);
        let beside = tokenizer.parent().unwrap_or(Path::new(""));
        keys["pad_token_id"] = json!(config::padding(
            &ModelTokenizer::read(tokenizer)?,
            beside,
            model.config()
        )?);
        save(folder, &keys, &model.weights(), tokenizer, StoredAs::F32)?;
        write_json(&folder.join(REWARD), &json!(normalisation))
    }
}

fn save(
    folder: &Path,
    config: &Value,
    weights: &Weights,
    tokenizer: &Path,
    stored_as: StoredAs,
) -> Result<()> {
    std::fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
    write_json(&folder.join(CONFIG), config)?;
    weights.save(folder, stored_as, SHARD_BYTES)?;
    copy(tokenizer, &folder.join(TOKENIZER))?;
    for name in TOKENIZER_FILES {
        let beside = tokenizer.with_file_name(name);
        if beside.is_file() {
            copy(&beside, &folder.join(name))?;
        }
    }
    Ok(())
}

/// The error for a folder without `file`, with a description of its contents.
fn lacking(folder: &Path, file: &str) -> Error {
    let error = Error::model(format!("{} has no {file}", folder.display()));
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let shard = names
        .iter()
        .find(|name| weights::is_weights(name) && !weights::FILES.contains(&name.as_str()));
    let other = names
        .iter()
        .find(|name| OTHER_FORMATS.iter().any(|suffix| name.ends_with(suffix)));
    match (file == CONFIG, shard, other) {
        (false, Some(shard), _) => error.hint(format!(
            "it holds {shard} but not the index that says which tensor is where; fetch {} too",
            weights::INDEX
        )),
        (false, None, Some(other)) => error.hint(format!(
            "it holds {other}, another format; save the model with `save_pretrained(…, safe_serialization=True)` of transformers"
        )),
        _ => error.hint("a model folder holds config.json, model.safetensors (or shards with an index) and tokenizer.json"),
    }
}

/// File name extensions of weight formats that are not supported.
const OTHER_FORMATS: [&str; 7] = [".h5", ".msgpack", ".gguf", ".ot", ".onnx", ".pth", ".pt"];

/// Copies a file without `fs::copy`, which empties a file that is copied onto itself.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::fs::read(from).and_then(|bytes| std::fs::write(to, bytes));
    copied.context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .context(|| format!("cannot encode {}", path.display()))?;
    std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))
}
