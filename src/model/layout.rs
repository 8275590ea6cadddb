//! Contents of a published checkpoint: names and shapes of its tensors, and tensors that may lie
//! beside them. Building a model takes the same tensors one by one; this list needs no model, so
//! that a folder can be described or rewritten without building one.

use crate::model::arch::{DecoderConfig, Naming, Sizes};
use crate::model::weights::Weights;
use crate::{Error, Result};
use serde::Serialize;

const SCORE: &str = "score.weight";
/// Parts of a `ScalarModel`, a published reward model's class that is not part of transformers.
const SCALAR_DECODER: &str = "lm_backbone.";
const SCALAR_HEAD: &str = "scalar_head.weight";
const SCALAR_BIAS: &str = "scalar_head.bias";

/// Prefixes of every name in a model that was saved within a wrapper: data-parallel training,
/// `torch.compile`, FSDP, PEFT, TRL, and modules that hold a model.
const WRAPPERS: [&str; 6] = [
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "base_model.model.",
    "pretrained_model.",
    "model.",
];
/// Wrappers' parts within names, found if only a part of the model was wrapped.
const INNER_WRAPPERS: [&str; 3] = [
    "._orig_mod.",
    "._fsdp_wrapped_module.",
    "._checkpoint_wrapped_module.",
];

/// Parts of names that occur in no plain model, with the origin of each and a remedy.
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
        &[
            ".SCB",
            ".qweight",
            ".qzeros",
            ".absmax",
            ".quant_map",
            ".weight_scale",
        ],
        "belongs to quantised weights",
        "take the original weights, or save them with `model.dequantize()` of transformers",
    ),
];

/// The head that reads a decoder's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    LanguageModel,
    Reward,
    /// No head: the decoder alone.
    None,
}

impl Head {
    /// The head found in `weights`; a tied one needs no tensor.
    pub fn of(weights: &Weights, config: &DecoderConfig) -> Self {
        if weights.contains(SCORE) {
            Self::Reward
        } else if weights.contains(&config.naming().lm_head()) || config.sizes().tied {
            Self::LanguageModel
        } else {
            Self::None
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::LanguageModel => "language model",
            Self::Reward => "reward model",
            Self::None => "decoder without a head",
        }
    }

    /// Returns an error unless `weights` have this head.
    pub fn expect(self, weights: &Weights, config: &DecoderConfig) -> Result<()> {
        let found = Self::of(weights, config);
        if found == self {
            return Ok(());
        }
        let hint = match found {
            Self::LanguageModel => "load it as a language model (`--kind lm`)",
            Self::Reward => "load it as a reward model (`--kind reward`)",
            Self::None => {
                "take a checkpoint with a head, …ForCausalLM or …ForSequenceClassification; a head is never made up"
            }
        };
        Err(Error::model(format!(
            "{} holds a {}, not a {}",
            weights.origin(),
            found.name(),
            self.name()
        ))
        .hint(hint))
    }

    /// Name and shape of the head's tensor; `None` if there is no head or it is tied to the
    /// embedding.
    fn tensor(self, config: &DecoderConfig) -> Option<(String, Vec<usize>)> {
        let Sizes {
            vocab_size,
            hidden_size,
            tied,
            ..
        } = config.sizes();
        match self {
            Self::LanguageModel if tied => None,
            Self::LanguageModel => Some((config.naming().lm_head(), vec![vocab_size, hidden_size])),
            Self::Reward => Some((SCORE.into(), vec![1, hidden_size])),
            Self::None => None,
        }
    }

    /// Number of parameters beside the decoder's.
    pub fn parameters(self, config: &DecoderConfig) -> usize {
        self.tensor(config)
            .map_or(0, |(_, shape)| shape.iter().product())
    }
}

/// Name and shape of every tensor, as stored: `[out, in]` for matrices.
pub fn tensors(config: &DecoderConfig, head: Head) -> Vec<(String, Vec<usize>)> {
    let (
        Sizes {
            vocab_size,
            hidden_size: d,
            layers,
            ..
        },
        naming,
    ) = (config.sizes(), config.naming());
    let mut all = vec![(naming.embedding(), vec![vocab_size, d])];
    let mut add = |name: String, weight: Vec<usize>, bias: bool| {
        let width = weight[0];
        all.push((format!("{name}.weight"), weight));
        if bias {
            all.push((format!("{name}.bias"), vec![width]));
        }
    };
    for layer in 0..layers {
        for part in config.parts() {
            add(naming.layer(layer, part.name), part.weight(), part.bias);
        }
    }
    add(naming.norm(), vec![d], config.final_norm().has_bias());
    all.extend(head.tensor(config));
    all
}

/// Tensors of a checkpoint that are not in [`tensors`].
#[derive(Debug, Default, PartialEq)]
pub struct Beside {
    /// Names of the buffers that no version of transformers reads.
    pub unused: Vec<String>,
    /// Constant added to every score by a head with a bias.
    pub bias: f32,
}

/// Renames `weights` to the names of [`tensors`]: a decoder that was saved alone gets its prefix, a
/// `ScalarModel`'s parts get their names in transformers, and a tied head that was stored too is
/// dropped, as are buffers that follow from config.json.
///
/// # Errors
/// A tied head that differs from the embedding, since versions of transformers disagree on which of
/// the two counts; tensors of a value head, an adapter or quantised weights; and a prefix that only
/// some names have.
pub fn normalise(weights: &mut Weights, config: &DecoderConfig) -> Result<Beside> {
    let naming = config.naming();
    unwrap(weights, naming)?;
    let prefix = format!("{}.", naming.decoder);
    let has = |weights: &Weights, prefix: &str| {
        weights.list().any(|tensor| tensor.name.starts_with(prefix))
    };
    if !has(weights, &prefix) {
        let scalar = has(weights, SCALAR_DECODER);
        let parts = [naming.embedding, "layers", naming.final_norm].map(|part| format!("{part}."));
        let is_decoder = |name: &str| parts.iter().any(|part| name.starts_with(part));
        weights.rename(|name| match name.strip_prefix(SCALAR_DECODER) {
            Some(rest) => format!("{prefix}{rest}"),
            None if !scalar && is_decoder(name) => format!("{prefix}{name}"),
            None if scalar && name == SCALAR_HEAD => SCORE.into(),
            None => name.to_owned(),
        })?;
    }
    if config.sizes().tied {
        weights.ignore_copy(&naming.lm_head(), &naming.embedding())?;
    }
    let unused: Vec<String> = (0..config.sizes().layers)
        .flat_map(|layer| {
            naming
                .unused_buffers
                .iter()
                .map(move |buffer| naming.layer(layer, buffer))
        })
        .filter(|name| weights.contains(name))
        .collect();
    unused.iter().for_each(|name| weights.ignore(name));
    let bias = if weights.contains(SCALAR_BIAS) {
        weights.take(SCALAR_BIAS, &[1])?[0]
    } else {
        0.0
    };
    Ok(Beside { unused, bias })
}

/// Removes the prefixes that wrappers have added to names.
fn unwrap(weights: &mut Weights, naming: &Naming) -> Result<()> {
    let origin = weights.origin().to_owned();
    let stranger = |name: &str| {
        let kind = STRANGERS
            .iter()
            .find(|(parts, ..)| parts.iter().any(|part| name.contains(part)));
        kind.map(|(_, what, remedy)| {
            Error::model(format!("{origin}: tensor `{name}` {what}")).hint(*remedy)
        })
    };
    if let Some(error) = weights.list().find_map(|tensor| stranger(tensor.name)) {
        return Err(error);
    }
    // Some architectures use a wrapper's prefix for their decoder; it counts as a wrapper only
    // around another such prefix.
    let own = format!("{}.", naming.decoder);
    let found = |weights: &Weights| {
        WRAPPERS.into_iter().find(|prefix| {
            let inner = if own == **prefix {
                format!("{prefix}{own}")
            } else {
                (*prefix).to_owned()
            };
            weights.list().any(|tensor| tensor.name.starts_with(&inner))
        })
    };
    while let Some(prefix) = found(weights) {
        if let Some(bare) = weights
            .list()
            .find(|tensor| !tensor.name.starts_with(prefix))
        {
            return Err(Error::model(format!(
                "{origin}: some names begin with `{prefix}`, and `{}` does not",
                bare.name
            ))
            .hint("the folder mixes two ways of saving a model; save the unwrapped model again"));
        }
        weights.rename(|name| name.strip_prefix(prefix).unwrap_or(name).to_owned())?;
    }
    weights.rename(|name| {
        INNER_WRAPPERS
            .iter()
            .fold(name.to_owned(), |name, wrapper| name.replace(wrapper, "."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;
    use crate::model::{LanguageModel, RewardModel};
    use crate::rng::stream;

    fn config(model_type: &str, tied: bool) -> DecoderConfig {
        let keys = serde_json::json!({
            "model_type": model_type, "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 2,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 6, "intermediate_size": 5,
            "tie_word_embeddings": tied,
        });
        DecoderConfig::from_keys(keys.as_object().unwrap().clone(), "test").unwrap()
    }

    #[test]
    fn the_list_is_what_models_are_saved_as() {
        let types = DecoderConfig::model_types();
        for (model_type, tied) in types
            .into_iter()
            .flat_map(|kind| [(kind, false), (kind, true)])
        {
            let config = config(model_type, tied);
            let device = device::select(device::DEFAULT).unwrap();
            let mut rng = stream(1, "test/model", &[]);
            let policy = LanguageModel::random(&config, 0.1, &mut rng, &device).unwrap();
            let reward = RewardModel::on(&policy, 0.0, &mut rng);
            for (head, weights) in [
                (Head::LanguageModel, policy.weights()),
                (Head::Reward, reward.weights()),
            ] {
                assert_eq!(Head::of(&weights, &config), head);
                let mut expected = tensors(&config, head);
                expected.sort();
                let found: Vec<_> = weights
                    .list()
                    .map(|t| (t.name.to_owned(), t.shape.to_vec()))
                    .collect();
                assert_eq!(found, expected, "{model_type}, {head:?}, tied: {tied}");
                let parameters: usize = expected
                    .iter()
                    .map(|(_, shape)| shape.iter().product::<usize>())
                    .sum();
                assert_eq!(
                    parameters,
                    config.backbone_parameters() + head.parameters(&config)
                );
            }
        }
    }
}
