//! Model folders as Hugging Face lays them out: `config.json`, `model.safetensors` (or its shards with their index),
//! `tokenizer.json`; a reward model adds `reward.json` with its normalisation. transformers opens what is saved here.

use crate::model::gpt_neox::GptNeoXConfig;
use crate::model::heads::{LanguageModel, RewardModel};
use crate::model::weights::{StoredAs, Weights};
use crate::{Context, Error, Result};
use burn::tensor::Device;
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

const WEIGHTS: &str = "model.safetensors";
/// Says which file holds which tensor, where the weights are spread over several.
const INDEX: &str = "model.safetensors.index.json";

/// A model folder.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        for alternatives in [["config.json"].as_slice(), &[WEIGHTS, INDEX]] {
            if !alternatives.iter().any(|name| folder.join(name).is_file()) {
                return Err(Error::new(format!("{} has no {}", folder.display(), alternatives[0])).hint(
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
        read_config(&self.folder.join("config.json"))
    }

    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let path = self.folder.join("tokenizer.json");
        Tokenizer::from_file(&path).map_err(|cause| {
            Error::new(format!("cannot read {}", path.display()))
                .caused_by(cause)
                .hint("the folder needs the tokenizer.json of its model")
        })
    }

    pub fn language_model(&self, device: &Device) -> Result<LanguageModel> {
        LanguageModel::from_weights(self.weights()?, &self.config()?, device)
    }

    pub fn reward_model(&self, device: &Device) -> Result<(RewardModel, Normalisation)> {
        let normalisation = self.normalisation()?;
        Ok((RewardModel::from_weights(self.weights()?, &self.config()?, normalisation.bound, device)?, normalisation))
    }

    /// All tensors of the folder; as in transformers, a single file wins over an index.
    fn weights(&self) -> Result<Weights> {
        let single = self.folder.join(WEIGHTS);
        if single.is_file() { Weights::read(&single) } else { Weights::read_shards(&self.folder.join(INDEX)) }
    }

    /// What `reward.json` says; a folder without one holds raw scores.
    pub fn normalisation(&self) -> Result<Normalisation> {
        let path = self.folder.join("reward.json");
        if !path.exists() {
            return Ok(Normalisation::none(0.0));
        }
        let text = std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context(|| format!("{} is not a reward description", path.display()))
    }

    pub fn save_language_model(folder: &Path, model: &LanguageModel, tokenizer: &Path, as_: StoredAs) -> Result<()> {
        save(folder, model.config(), "GPTNeoXForCausalLM", &model.weights(), tokenizer, as_)
    }

    pub fn save_reward_model(
        folder: &Path,
        model: &RewardModel,
        normalisation: &Normalisation,
        tokenizer: &Path,
    ) -> Result<()> {
        save(folder, model.config(), "GPTNeoXForSequenceClassification", &model.weights(), tokenizer, StoredAs::F32)?;
        write_json(&folder.join("reward.json"), &json!(normalisation))
    }
}

fn save(
    folder: &Path,
    config: &GptNeoXConfig,
    architecture: &str,
    weights: &Weights,
    tokenizer: &Path,
    stored_as: StoredAs,
) -> Result<()> {
    std::fs::create_dir_all(folder).context(|| format!("cannot create {}", folder.display()))?;
    let mut keys = json!(config);
    keys["model_type"] = json!("gpt_neox");
    keys["architectures"] = json!([architecture]);
    keys["attention_bias"] = json!(true);
    keys["torch_dtype"] = json!(if stored_as == StoredAs::F16 { "float16" } else { "float32" });
    if architecture.ends_with("SequenceClassification") {
        keys["id2label"] = json!({"0": "reward"});
        keys["label2id"] = json!({"reward": 0});
    }
    write_json(&folder.join("config.json"), &keys)?;
    weights.write(&folder.join(WEIGHTS), stored_as)?;
    // Not `fs::copy`, which empties a file that is copied onto itself.
    let copied = std::fs::read(tokenizer).and_then(|bytes| std::fs::write(folder.join("tokenizer.json"), bytes));
    copied.context(|| format!("cannot copy {} to {}", tokenizer.display(), folder.display()))
}

fn read_config(path: &Path) -> Result<GptNeoXConfig> {
    let text = std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    let mut keys: Value = serde_json::from_str(&text).context(|| format!("{} is not JSON", path.display()))?;
    let kind = keys["model_type"].as_str().unwrap_or("missing").to_string();
    if kind != "gpt_neox" {
        return Err(Error::new(format!("{}: model_type is {kind}", path.display())).hint("only `gpt_neox` is built in"));
    }
    if keys["rope_scaling"].is_object() {
        return Err(Error::new(format!("{}: rope_scaling is not supported", path.display())));
    }
    // Later versions of transformers gave the rotary keys new names beside the old ones, and then a table of their own.
    for (new, old) in [("partial_rotary_factor", "rotary_pct"), ("rope_theta", "rotary_emb_base")] {
        let said = [&keys[old], &keys["rope_parameters"][new], &keys[new]].into_iter().find(|value| !value.is_null());
        if let Some(value) = said.cloned() {
            keys[old] = value;
        }
    }
    let keys = match keys {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    };
    let config: GptNeoXConfig =
        serde_json::from_value(keys).context(|| format!("{} lacks a key of GPT-NeoX", path.display()))?;
    config.validate(&path.display().to_string())?;
    Ok(config)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context(|| format!("cannot encode {}", path.display()))?;
    std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))
}
