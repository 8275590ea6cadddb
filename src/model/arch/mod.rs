//! Architectures of decoders, one file each: the keys of Hugging Face's `config.json`, names and
//! shapes of tensors, the cost of a token, and the layer. A new architecture is another file here,
//! a variant of [`DecoderConfig`] and one of [`Layer`].

mod attend;
mod gpt_neox;
mod llama;
mod sizes;

pub use attend::{Attend, Sight, Texts, Tokens};
pub use gpt_neox::GptNeoXConfig;
pub use llama::{Family, LayerType, LlamaConfig, LlamaSettings, RopeScaling};
pub use sizes::{Kept, LayerPart, Naming, NormKind, Rope, Shape, Sizes};

use crate::model::nn::lora::LoraSettings;
use crate::model::nn::{LayerNorm, Linear, Norm, RmsNorm};
use crate::model::tokenizer::TokenIds;
use crate::model::weights::Weights;
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything that follows from a decoder's configuration.
pub trait Architecture {
    /// The value of `model_type` in `config.json`.
    fn model_type(&self) -> &'static str;

    /// Names of classes and tensors.
    fn naming(&self) -> &'static Naming;

    fn sizes(&self) -> Sizes;

    /// Linear maps and norms of a layer, in the order in which random weights are drawn.
    fn parts(&self) -> Vec<LayerPart>;

    /// The norm after the last layer.
    fn final_norm(&self) -> NormKind;

    fn rope(&self) -> Rope;

    /// Numbers per token that a layer keeps for its backward pass.
    fn kept(&self) -> Kept;

    /// A description of the layer, such as `parallel residual`.
    fn describe_layer(&self) -> String;

    /// Checks for sizes that contradict each other, and for keys that this implementation would
    /// compute differently from transformers.
    ///
    /// # Errors
    /// Only the message, without the file's name.
    fn check(&self) -> std::result::Result<(), String>;
}

/// The configuration of a decoder. Its JSON holds the keys of `config.json` that decide the
/// computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DecoderConfig {
    /// Mistral, Llama, Qwen and OLMo; distinguished from GPT-NeoX by its `model_type`.
    Llama(LlamaConfig),
    GptNeoX(GptNeoXConfig),
}

impl DecoderConfig {
    /// Every `model_type` that is built in.
    pub fn model_types() -> Vec<&'static str> {
        std::iter::once(gpt_neox::MODEL_TYPE)
            .chain(Family::ALL.map(Family::model_type))
            .collect()
    }

    /// Reads the configuration from the keys of a `config.json`.
    ///
    /// # Errors
    /// An architecture that is not built in, and keys that this implementation would compute
    /// differently; `origin` names the file.
    pub fn from_keys(keys: Map<String, Value>, origin: &str) -> Result<Self> {
        let kind = keys
            .get("model_type")
            .and_then(Value::as_str)
            .unwrap_or("missing");
        let config = if kind == gpt_neox::MODEL_TYPE {
            Self::GptNeoX(GptNeoXConfig::from_keys(keys, origin)?)
        } else if let Some(family) = Family::ALL
            .into_iter()
            .find(|family| family.model_type() == kind)
        {
            Self::Llama(LlamaConfig::from_keys(family, keys, origin)?)
        } else {
            let class = keys
                .get("architectures")
                .and_then(|names| names[0].as_str());
            let class = class.map_or(String::new(), |class| format!(" ({class})"));
            return Err(
                Error::model(format!("{origin}: model_type is {kind}{class}")).hint(format!(
                    "these are built in, as language models and as reward models: {}",
                    Self::model_types().join(", ")
                )),
            );
        };
        config.validate(origin)?;
        Ok(config)
    }

    fn architecture(&self) -> &dyn Architecture {
        match self {
            Self::GptNeoX(config) => config,
            Self::Llama(config) => config,
        }
    }

    pub fn model_type(&self) -> &'static str {
        self.architecture().model_type()
    }

    pub fn naming(&self) -> &'static Naming {
        self.architecture().naming()
    }

    pub fn sizes(&self) -> Sizes {
        self.architecture().sizes()
    }

    pub fn vocab_size(&self) -> usize {
        self.sizes().vocab_size
    }

    pub fn hidden_size(&self) -> usize {
        self.sizes().hidden_size
    }

    pub fn parts(&self) -> Vec<LayerPart> {
        self.architecture().parts()
    }

    pub fn rope(&self) -> Rope {
        self.architecture().rope()
    }

    pub fn kept(&self) -> Kept {
        self.architecture().kept()
    }

    pub fn final_norm(&self) -> NormKind {
        self.architecture().final_norm()
    }

    pub fn describe_layer(&self) -> String {
        self.architecture().describe_layer()
    }

    pub fn bos_token_id(&self) -> Option<u32> {
        match self {
            Self::GptNeoX(config) => config.bos_token_id,
            Self::Llama(config) => config.bos_token_id,
        }
    }

    pub fn eos_token_id(&self) -> Option<&TokenIds> {
        match self {
            Self::GptNeoX(config) => config.eos_token_id.as_ref(),
            Self::Llama(config) => config.eos_token_id.as_ref(),
        }
    }

    /// The same model with texts that begin and end with these tokens.
    pub fn with_ends(mut self, bos: Option<u32>, eos: Option<TokenIds>) -> Self {
        match &mut self {
            Self::GptNeoX(config) => (config.bos_token_id, config.eos_token_id) = (bos, eos),
            Self::Llama(config) => (config.bos_token_id, config.eos_token_id) = (bos, eos),
        }
        self
    }

    /// # Errors
    /// Sizes that are damaged or contradict each other; `origin` names the file.
    pub fn validate(&self, origin: &str) -> Result<()> {
        self.check().map_err(|message| {
            Error::model(format!("{origin}: {message}"))
                .hint("the configuration is damaged, or of another architecture")
        })
    }

    /// # Errors
    /// The fault that [`validate`](Self::validate) finds, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.sizes().check()?;
        self.architecture().check()?;
        sizes::check_count(self.parameters_at_most())
    }

    /// Parameters of the decoder and of a head as large as its embedding, in a number type that no
    /// size overflows.
    fn parameters_at_most(&self) -> u128 {
        let Sizes {
            vocab_size,
            hidden_size,
            layers,
            ..
        } = self.sizes();
        let layer: u128 = self.parts().iter().map(LayerPart::parameters_wide).sum();
        let [vocabulary, d, layers] = [vocab_size, hidden_size, layers].map(|size| size as u128);
        2 * vocabulary * d + layers * layer + 2 * d
    }

    /// Parameters of the decoder without its head.
    pub fn backbone_parameters(&self) -> usize {
        let Sizes {
            vocab_size,
            hidden_size,
            layers,
            ..
        } = self.sizes();
        let layer: usize = self.parts().iter().map(LayerPart::parameters).sum();
        vocab_size * hidden_size + layers * layer + self.final_norm().parameters(hidden_size)
    }

    /// Takes layer `index` from `weights`.
    pub fn load_layer(
        &self,
        weights: &mut Weights,
        index: usize,
        device: &Device,
    ) -> Result<Layer> {
        Ok(match self {
            Self::GptNeoX(config) => {
                Layer::GptNeoX(gpt_neox::Layer::load(weights, index, config, device)?)
            }
            Self::Llama(config) => {
                Layer::Llama(llama::Layer::load(weights, index, config, device)?)
            }
        })
    }

    /// Takes the norm after the last layer from `weights`.
    pub fn load_final_norm(&self, weights: &mut Weights, device: &Device) -> Result<Norm> {
        let (name, size) = (self.naming().norm(), self.hidden_size());
        Ok(match self.final_norm() {
            NormKind::Layer { epsilon } => {
                Norm::Layer(LayerNorm::load(weights, &name, size, epsilon, device)?)
            }
            NormKind::Rms { epsilon, rounding } => Norm::Rms(RmsNorm::load(
                weights,
                &name,
                size,
                (epsilon, rounding),
                device,
            )?),
        })
    }
}

impl From<GptNeoXConfig> for DecoderConfig {
    fn from(config: GptNeoXConfig) -> Self {
        Self::GptNeoX(config)
    }
}

impl From<LlamaConfig> for DecoderConfig {
    fn from(config: LlamaConfig) -> Self {
        Self::Llama(config)
    }
}

/// One layer of a decoder.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "all layers of a decoder are of one kind"
)]
pub enum Layer {
    GptNeoX(gpt_neox::Layer),
    Llama(llama::Layer),
}

impl Layer {
    /// The layer's result for `x`, which is `[b·t, d]` of any type; the result has the same type, and
    /// a row for each token that `attend` asks for.
    pub fn forward(&self, x: Tensor<2>, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        match self {
            Self::GptNeoX(layer) => layer.forward(x, tokens, attend),
            Self::Llama(layer) => layer.forward(x, tokens, attend),
        }
    }

    /// The layer with `change` applied to its linear maps, in the order in which they compute.
    fn map_linears(self, change: impl FnMut(Linear) -> Linear) -> Self {
        match self {
            Self::GptNeoX(layer) => Self::GptNeoX(layer.map_linears(change)),
            Self::Llama(layer) => Self::Llama(layer.map_linears(change)),
        }
    }

    /// The layer with an adapter beside each linear map.
    pub fn adapted(self, settings: &LoraSettings, rng: &mut impl Rng) -> Self {
        self.map_linears(|linear| linear.adapted(settings, rng))
    }

    /// An equivalent layer without adapters.
    pub fn merged(self) -> Self {
        self.map_linears(Linear::merged)
    }

    /// The layer with the weights of its linear maps in another type; those of the norms stay f32.
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        self.map_linears(|linear| linear.in_dtype(dtype))
    }
}
