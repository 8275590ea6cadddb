//! `config.json`: read from any version of transformers, and written so that every version computes
//! the same from it.

use crate::model::arch::{DecoderConfig, GptNeoXConfig};
use crate::model::contents;
use crate::model::layout::Head;
use crate::model::tokenizer::{ModelTokenizer, TokenIds, listed};
use crate::model::weights::StoredAs;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Names of the padding token in the tokenizers of GPT-NeoX and of others.
const PADDING: [&str; 4] = ["<|padding|>", "<|pad|>", "<pad>", "[PAD]"];

/// The class of the published TL;DR reward models (Huang et al. 2024, arXiv 2403.17031), which is
/// not part of transformers: a decoder described by `base_config`, and a head with a bias, from
/// whose scores `bias` is subtracted.
const SCALAR_MODEL: &str = "ScalarModel";

/// The contents of a `config.json`.
pub(super) struct Described {
    /// The keys of a model as in transformers. Those of GPT-NeoX contain no nulls, and have the
    /// rotary keys under their old names only, which every version of transformers reads.
    pub keys: Map<String, Value>,
    /// A constant that is subtracted from every score of a reward model.
    pub bias: f32,
}

impl Described {
    /// The classes named in config.json.
    pub fn architectures(&self) -> Vec<String> {
        let names = self.keys.get("architectures");
        names
            .and_then(|names| serde_json::from_value(names.clone()).ok())
            .unwrap_or_default()
    }
}

/// # Errors
/// Quantised weights, and rotary keys that contradict each other, since versions of transformers
/// use different ones.
pub(super) fn read(path: &Path) -> Result<Described> {
    let mut keys = contents::json(path)?;
    if !keys.is_object() {
        return Err(
            Error::model(format!("{}: it holds no keys", path.display()))
                .hint("config.json of a model of transformers is a table of keys; fetch it again"),
        );
    }
    let architectures = keys["architectures"].clone();
    if architectures[0] != SCALAR_MODEL {
        return Ok(Described {
            keys: plain(keys, path)?,
            bias: 0.0,
        });
    }
    let bias = match &keys["bias"] {
        Value::Null => 0.0,
        value => value.as_f64().map(|bias| bias as f32).filter(|bias| bias.is_finite()).ok_or_else(|| {
            Error::model(format!("{}: bias is {value}, and not a finite number", path.display()))
                .hint("it is taken from every score; write the number that the model was trained with")
        })?,
    };
    if !keys["base_config"].is_object() {
        return Err(Error::model(format!(
            "{}: a {SCALAR_MODEL} without base_config",
            path.display()
        ))
        .hint("base_config describes its decoder; fetch the file again"));
    }
    let mut keys = plain(keys["base_config"].take(), path)?;
    keys.insert("architectures".into(), architectures);
    Ok(Described { keys, bias })
}

/// The keys of a model as in transformers.
fn plain(keys: Value, path: &Path) -> Result<Map<String, Value>> {
    let origin = path.display().to_string();
    if !keys["quantization_config"].is_null() {
        let method = keys["quantization_config"]["quant_method"]
            .as_str()
            .unwrap_or("of a method that is not named");
        return Err(Error::model(format!("{origin}: quantization_config says that the weights are quantised ({method})")).hint(
            "only f32, f16 and bf16 are read: take the original weights, or save them with `model.dequantize()` of transformers",
        ));
    }
    let Value::Object(mut keys) = keys else {
        return Err(Error::model(format!("{origin}: it holds no keys")));
    };
    if GptNeoXConfig::describes(&keys) {
        GptNeoXConfig::canonical(&mut keys, &origin)?;
    }
    Ok(keys)
}

/// Parses the keys that decide the computation.
///
/// # Errors
/// An architecture that is not built in, and keys that this implementation would compute
/// differently.
pub(super) fn parse(mut keys: Map<String, Value>, path: &Path) -> Result<DecoderConfig> {
    let origin = path.display().to_string();
    let ends = keys.remove("eos_token_id").unwrap_or_default();
    keys.insert(
        "eos_token_id".into(),
        json!(TokenIds::at(&ends, &origin, "eos_token_id")?),
    );
    // This key does not affect the computation.
    if keys
        .get("bos_token_id")
        .is_some_and(|id| id.as_u64().is_none_or(|id| u32::try_from(id).is_err()))
    {
        keys.remove("bos_token_id");
    }
    DecoderConfig::from_keys(keys, &origin)
}

/// The `config.json` keys of a model made by this program.
pub(super) fn of(config: &DecoderConfig, head: Head, stored_as: StoredAs) -> Value {
    let mut keys = json!(config);
    keys["model_type"] = json!(config.model_type());
    match config {
        DecoderConfig::GptNeoX(_) => keys["attention_bias"] = json!(true),
        DecoderConfig::Llama(llama) => llama.write_windows(&mut keys),
    }
    keys["architectures"] = json!([config.naming().class(head)]);
    keys["torch_dtype"] = json!(stored_as.torch_name());
    if head == Head::Reward {
        keys["id2label"] = json!({"0": "reward"});
        keys["label2id"] = json!({"reward": 0});
    }
    keys
}

/// The token with which rows of a reward model may be padded. transformers reads the score at the
/// last token other than this one, so it must not be the end of a sequence, where rewards are read.
/// It is the tokenizer's own padding token, or a row of the embedding that no token uses; `None` if
/// there is neither.
///
/// # Errors
/// A damaged file of the tokenizer's, in `folder`, that lists ends.
pub(super) fn padding(
    tokenizer: &ModelTokenizer,
    folder: &Path,
    config: &DecoderConfig,
) -> Result<Option<u32>> {
    let mut ends = listed(folder)?.map_or(Vec::new(), |(_, ids)| ids);
    ends.extend(
        config
            .eos_token_id()
            .into_iter()
            .flat_map(|ids| ids.as_slice()),
    );
    let named = PADDING
        .iter()
        .filter_map(|name| tokenizer.token_to_id(name));
    let unused = u32::try_from(tokenizer.vocabulary_size()).ok();
    Ok(named
        .chain(unused)
        .find(|id| (*id as usize) < config.vocab_size() && !ends.contains(id)))
}
