//! What a published GPT-NeoX checkpoint holds: names and shapes of its tensors, and what else lies beside them. Building a
//! model asks for the same tensors one by one; this list needs no model, so that a folder can be described or rewritten
//! without one.

use crate::model::gpt_neox::GptNeoXConfig;
use crate::model::weights::Weights;
use crate::{Error, Result};
use serde::Serialize;

/// Buffers of each layer that old versions of transformers saved beside the weights: the causal mask, the value that it puts
/// in place of hidden scores, and the rotary frequencies. They follow from config.json, and no version reads them. These and
/// no other tensors are passed over.
pub const UNUSED_BUFFERS: [&str; 3] = ["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"];

/// Begins the names of the decoder's tensors, unless it was saved alone.
const PREFIX: &str = "gpt_neox.";
const EMBEDDING: &str = "gpt_neox.embed_in.weight";
const LM_HEAD: &str = "embed_out.weight";
const SCORE: &str = "score.weight";
/// As a `ScalarModel` calls them, a published reward model's class that is not of transformers.
const SCALAR_DECODER: &str = "lm_backbone.";
const SCALAR_HEAD: &str = "scalar_head.weight";
const SCALAR_BIAS: &str = "scalar_head.bias";

/// Put before every name by what a model was wrapped in when it was saved: data-parallel training, `torch.compile`, FSDP, PEFT,
/// TRL, and modules that hold a model.
const WRAPPERS: [&str; 6] =
    ["module.", "_orig_mod.", "_fsdp_wrapped_module.", "base_model.model.", "pretrained_model.", "model."];
/// The same within names, where only a part of the model was wrapped.
const INNER_WRAPPERS: [&str; 3] = ["._orig_mod.", "._fsdp_wrapped_module.", "._checkpoint_wrapped_module."];

/// Parts of names that belong to something else than a GPT-NeoX model: what it is, and what to do.
const STRANGERS: [(&[&str], &str, &str); 3] = [
    (
        &["v_head.", "value_head."],
        "is the value head that TRL puts beside a policy",
        "save the policy alone, with `model.pretrained_model.save_pretrained(…)`",
    ),
    (
        &["lora_A", "lora_B", "lora_embedding_", ".base_layer."],
        "belongs to an adapter of PEFT that was not merged",
        "merge it, with `model.merge_and_unload().save_pretrained(…)`",
    ),
    (
        &[".SCB", ".qweight", ".qzeros", ".absmax", ".quant_map", ".weight_scale"],
        "belongs to quantised weights",
        "take the original weights, or save them with `model.dequantize()` of transformers",
    ),
];

/// What reads the decoder's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    LanguageModel,
    Reward,
    /// None: the decoder alone.
    None,
}

impl Head {
    /// The head that `weights` have; a tied one needs no tensor.
    pub fn of(weights: &Weights, config: &GptNeoXConfig) -> Self {
        if weights.contains(SCORE) {
            Self::Reward
        } else if weights.contains(LM_HEAD) || config.tie_word_embeddings {
            Self::LanguageModel
        } else {
            Self::None
        }
    }

    /// Its class in transformers.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::LanguageModel => "GPTNeoXForCausalLM",
            Self::Reward => "GPTNeoXForSequenceClassification",
            Self::None => "GPTNeoXModel",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::LanguageModel => "language model",
            Self::Reward => "reward model",
            Self::None => "decoder without a head",
        }
    }

    /// Errors unless `weights` have this head.
    pub fn expect(self, weights: &Weights, config: &GptNeoXConfig) -> Result<()> {
        let found = Self::of(weights, config);
        if found == self {
            return Ok(());
        }
        let hint = match found {
            Self::LanguageModel => "load it as a language model (`--kind lm`)",
            Self::Reward => "load it as a reward model (`--kind reward`)",
            Self::None => "take a checkpoint of GPTNeoXForCausalLM; a head is never made up",
        };
        Err(Error::model(format!("{} holds a {}, not a {}", weights.origin(), found.name(), self.name())).hint(hint))
    }

    /// Its tensor and shape; none if it has none or is tied to the embedding.
    fn tensor(self, config: &GptNeoXConfig) -> Option<(String, Vec<usize>)> {
        match self {
            Self::LanguageModel if config.tie_word_embeddings => None,
            Self::LanguageModel => Some((LM_HEAD.into(), vec![config.vocab_size, config.hidden_size])),
            Self::Reward => Some((SCORE.into(), vec![1, config.hidden_size])),
            Self::None => None,
        }
    }

    /// Parameters beside the decoder's.
    pub fn parameters(self, config: &GptNeoXConfig) -> usize {
        self.tensor(config).map_or(0, |(_, shape)| shape.iter().product())
    }
}

/// Name and shape of every tensor, as stored: `[out, in]` for matrices.
pub fn tensors(config: &GptNeoXConfig, head: Head) -> Vec<(String, Vec<usize>)> {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let parts = [
        ("input_layernorm", vec![d]),
        ("attention.query_key_value", vec![3 * d, d]),
        ("attention.dense", vec![d, d]),
        ("post_attention_layernorm", vec![d]),
        ("mlp.dense_h_to_4h", vec![inner, d]),
        ("mlp.dense_4h_to_h", vec![d, inner]),
    ];
    let mut all = vec![(EMBEDDING.into(), vec![config.vocab_size, d])];
    let mut weight_and_bias = |name: String, shape: &[usize]| {
        all.push((format!("{name}.weight"), shape.to_vec()));
        all.push((format!("{name}.bias"), vec![shape[0]]));
    };
    for layer in 0..config.num_hidden_layers {
        for (part, shape) in &parts {
            weight_and_bias(format!("{PREFIX}layers.{layer}.{part}"), shape);
        }
    }
    weight_and_bias(format!("{PREFIX}final_layer_norm"), &[d]);
    all.extend(head.tensor(config));
    all
}

/// What tensors had that the names of [`tensors`] have no place for.
#[derive(Debug, Default, PartialEq)]
pub struct Beside {
    /// Names of the [`UNUSED_BUFFERS`] that were there.
    pub unused: Vec<String>,
    /// Added to every score by a head that has a bias.
    pub bias: f32,
}

/// Brings `weights` to the names of [`tensors`]: a decoder that was saved alone gets its prefix, a `ScalarModel`'s parts get
/// their names in transformers, and a tied head that was stored too is dropped, as are the [`UNUSED_BUFFERS`].
///
/// # Errors
/// A tied head that is not equal to the embedding: versions of transformers disagree on which of the two counts. Tensors of a
/// value head, an adapter or quantised weights, and a prefix that only some names have.
pub fn normalise(weights: &mut Weights, config: &GptNeoXConfig) -> Result<Beside> {
    unwrap(weights)?;
    let has = |weights: &Weights, prefix: &str| weights.list().any(|tensor| tensor.name.starts_with(prefix));
    if !has(weights, PREFIX) {
        let scalar = has(weights, SCALAR_DECODER);
        let is_decoder =
            |name: &str| ["embed_in.", "layers.", "final_layer_norm."].iter().any(|part| name.starts_with(part));
        weights.rename(|name| match name.strip_prefix(SCALAR_DECODER) {
            Some(rest) => format!("{PREFIX}{rest}"),
            None if !scalar && is_decoder(name) => format!("{PREFIX}{name}"),
            None if scalar && name == SCALAR_HEAD => SCORE.into(),
            None => name.to_owned(),
        })?;
    }
    if config.tie_word_embeddings {
        weights.ignore_copy(LM_HEAD, EMBEDDING)?;
    }
    let unused: Vec<String> = (0..config.num_hidden_layers)
        .flat_map(|layer| UNUSED_BUFFERS.map(|buffer| format!("{PREFIX}layers.{layer}.{buffer}")))
        .filter(|name| weights.contains(name))
        .collect();
    unused.iter().for_each(|name| weights.ignore(name));
    let bias = if weights.contains(SCALAR_BIAS) { weights.take(SCALAR_BIAS, &[1])?[0] } else { 0.0 };
    Ok(Beside { unused, bias })
}

/// Takes the prefixes off that wrappers have put before names.
fn unwrap(weights: &mut Weights) -> Result<()> {
    let origin = weights.origin().to_owned();
    let stranger = |name: &str| {
        let kind = STRANGERS.iter().find(|(parts, ..)| parts.iter().any(|part| name.contains(part)));
        kind.map(|(_, what, remedy)| Error::model(format!("{origin}: tensor `{name}` {what}")).hint(*remedy))
    };
    if let Some(error) = weights.list().find_map(|tensor| stranger(tensor.name)) {
        return Err(error);
    }
    let found = |weights: &Weights| {
        WRAPPERS.into_iter().find(|prefix| weights.list().any(|tensor| tensor.name.starts_with(prefix)))
    };
    while let Some(prefix) = found(weights) {
        if let Some(bare) = weights.list().find(|tensor| !tensor.name.starts_with(prefix)) {
            return Err(Error::model(format!(
                "{origin}: some names begin with `{prefix}`, and `{}` does not",
                bare.name
            ))
            .hint("the folder mixes two ways of saving a model; save the unwrapped model again"));
        }
        weights.rename(|name| name.strip_prefix(prefix).unwrap_or(name).to_owned())?;
    }
    weights.rename(|name| INNER_WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ".")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::model::{LanguageModel, RewardModel};
    use crate::rng::stream;

    fn config(tied: bool) -> GptNeoXConfig {
        let keys = serde_json::json!({
            "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 1,
            "intermediate_size": 5, "tie_word_embeddings": tied,
        });
        serde_json::from_value(keys).unwrap()
    }

    #[test]
    fn the_list_is_what_models_are_saved_as() {
        for tied in [false, true] {
            let config = config(tied);
            let device = device::select(device::DEFAULT).unwrap();
            let mut rng = stream(1, "test/model", &[]);
            let policy = LanguageModel::random(&config, 0.1, &mut rng, &device).unwrap();
            let reward = RewardModel::on(&policy, 0.0, &mut rng);
            for (head, weights) in [(Head::LanguageModel, policy.weights()), (Head::Reward, reward.weights())] {
                assert_eq!(Head::of(&weights, &config), head);
                let mut expected = tensors(&config, head);
                expected.sort();
                let found: Vec<_> = weights.list().map(|t| (t.name.to_owned(), t.shape.to_vec())).collect();
                assert_eq!(found, expected, "{head:?}, tied: {tied}");
                let parameters: usize = expected.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
                assert_eq!(parameters, config.backbone_parameters() + head.parameters(&config));
            }
        }
    }
}
