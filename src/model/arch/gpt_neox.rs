//! GPT-NeoX (Pythia): rotary embedding on a fraction of each head, one matrix for queries, keys and
//! values, parallel residual, biases everywhere. Names and shapes are those of Hugging Face's
//! `GPTNeoXModel`; Black et al. 2022 (arXiv 2204.06745).

use super::sizes::{epsilon, positive};
use super::{Architecture, Attend, Kept, LayerPart, Naming, NormKind, Rope, Sizes, Tokens};
use crate::device::fused::{self, AttentionShape, Projections};
use crate::model::checkpoint::keys;
use crate::model::nn::{LayerNorm, Linear};
use crate::model::tokenizer::TokenIds;
use crate::model::weights::Weights;
use crate::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The value of `model_type` in `config.json`.
pub(super) const MODEL_TYPE: &str = "gpt_neox";

static NAMING: Naming = Naming {
    class: "GPTNeoX",
    decoder: "gpt_neox",
    embedding: "embed_in",
    final_norm: "final_layer_norm",
    lm_head: "embed_out",
    unused_buffers: &[
        "attention.bias",
        "attention.masked_bias",
        "attention.rotary_emb.inv_freq",
    ],
};

/// The keys of Hugging Face's `config.json` that decide the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GptNeoXConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    #[serde(default = "default_activation")]
    pub hidden_act: String,
    /// Share of each head that is rotated.
    #[serde(default = "default_rotary_pct")]
    pub rotary_pct: f64,
    #[serde(default = "default_rotary_base")]
    pub rotary_emb_base: f64,
    #[serde(default = "default_positions")]
    pub max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    pub layer_norm_eps: f64,
    #[serde(default = "default_true")]
    pub use_parallel_residual: bool,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    pub bos_token_id: Option<u32>,
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
}

fn default_activation() -> String {
    "gelu".into()
}
fn default_rotary_pct() -> f64 {
    0.25
}
fn default_rotary_base() -> f64 {
    10_000.0
}
fn default_positions() -> usize {
    2048
}
fn default_epsilon() -> f64 {
    1e-5
}
fn default_true() -> bool {
    true
}

/// Later versions of transformers gave the rotary keys new names beside the old ones, and then a
/// table of their own.
const RENAMED: [(&str, &str); 2] = [
    ("partial_rotary_factor", "rotary_pct"),
    ("rope_theta", "rotary_emb_base"),
];

impl GptNeoXConfig {
    /// Reads the configuration from the keys of a `config.json` of any version of transformers.
    pub(super) fn from_keys(mut keys: Map<String, Value>, origin: &str) -> Result<Self> {
        Self::canonical(&mut keys, origin)?;
        serde_json::from_value(Value::Object(keys)).map_err(|cause| {
            Error::model(format!(
                "{origin} is not a configuration of GPT-NeoX: {cause}"
            ))
            .hint("fetch config.json again; its keys are those of GPTNeoXConfig of transformers")
        })
    }

    /// A model of these sizes that otherwise equals Pythia.
    pub fn of_sizes(sizes: &Sizes) -> Self {
        Self {
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            intermediate_size: sizes.intermediate_size,
            hidden_act: default_activation(),
            rotary_pct: default_rotary_pct(),
            rotary_emb_base: default_rotary_base(),
            max_position_embeddings: sizes.positions,
            layer_norm_eps: default_epsilon(),
            use_parallel_residual: default_true(),
            tie_word_embeddings: sizes.tied,
            bos_token_id: None,
            eos_token_id: None,
        }
    }

    /// True if a `config.json` is of this architecture.
    pub fn describes(keys: &Map<String, Value>) -> bool {
        keys.get("model_type").and_then(Value::as_str) == Some(MODEL_TYPE)
    }

    /// Reduces the rotary keys to their old names, which every version of transformers reads.
    ///
    /// # Errors
    /// Scaled rotary angles, attention without biases, and rotary keys that contradict each other,
    /// since versions of transformers use different ones.
    pub fn canonical(keys: &mut Map<String, Value>, origin: &str) -> Result<()> {
        if let Some((table, _)) = keys::rope_type(keys).filter(|(_, kind)| kind != "default") {
            return Err(Error::model(format!(
                "{origin}: {table} scales the rotary angles, which is not supported"
            ))
            .hint("only the rope_type `default` is built in for GPT-NeoX"));
        }
        if keys.get("attention_bias") == Some(&Value::Bool(false)) {
            return Err(Error::model(format!(
                "{origin}: attention_bias is false, which is not supported"
            ))
            .hint("published GPT-NeoX checkpoints have biases in attention"));
        }
        for (new, old) in RENAMED {
            let found = keys::one_of(keys, &[old, new], origin)?;
            keys.remove(new);
            if let Some(value) = found {
                keys.insert(old.into(), value);
            }
        }
        keys.retain(|key, value| !(value.is_null() || keys::ROPE_TABLES.contains(&key.as_str())));
        Ok(())
    }

    fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Dimensions of each head that are rotated.
    fn rotary_dims(&self) -> usize {
        (self.head_size() as f64 * self.rotary_pct) as usize
    }

    /// Pairs of dimensions of each head that rotate together. An odd number of dimensions is
    /// rounded up, as in transformers.
    fn rotary_pairs(&self) -> usize {
        self.rotary_dims().div_ceil(2)
    }
}

impl Architecture for GptNeoXConfig {
    fn model_type(&self) -> &'static str {
        MODEL_TYPE
    }

    fn naming(&self) -> &'static Naming {
        &NAMING
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            intermediate_size: self.intermediate_size,
            heads: self.num_attention_heads,
            key_heads: self.num_attention_heads,
            head_size: self.head_size(),
            positions: self.max_position_embeddings,
            tied: self.tie_word_embeddings,
        }
    }

    fn parts(&self) -> Vec<LayerPart> {
        let (d, inner) = (self.hidden_size, self.intermediate_size);
        vec![
            LayerPart::norm("input_layernorm", d, true),
            LayerPart::linear("attention.query_key_value", [d, 3 * d], true),
            LayerPart::residual("attention.dense", [d, d], true),
            LayerPart::norm("post_attention_layernorm", d, true),
            LayerPart::linear("mlp.dense_h_to_4h", [d, inner], true),
            LayerPart::residual("mlp.dense_4h_to_h", [inner, d], true),
        ]
    }

    fn final_norm(&self) -> NormKind {
        NormKind::Layer {
            epsilon: self.layer_norm_eps,
        }
    }

    fn rope(&self) -> Rope {
        Rope {
            frequencies: Rope::plain_frequencies(self.rotary_emb_base, self.rotary_dims()),
            description: format!("base {}", self.rotary_emb_base),
        }
    }

    fn kept(&self) -> Kept {
        let (d, inner) = (self.hidden_size, self.intermediate_size);
        let sequential = if self.use_parallel_residual { 0 } else { d };
        // GELU keeps its slopes if it is one operation.
        Kept {
            inputs: d + sequential + 3 * d + inner,
            projections: 3 * d,
            normed: 2 * d,
            activation: [inner, 3 * inner],
        }
    }

    fn describe_layer(&self) -> String {
        format!(
            "{} residual",
            if self.use_parallel_residual {
                "parallel"
            } else {
                "sequential"
            }
        )
    }

    fn check(&self) -> std::result::Result<(), String> {
        epsilon("layer_norm_eps", self.layer_norm_eps)?;
        positive("rotary_emb_base", self.rotary_emb_base)?;
        if self.hidden_act != "gelu" {
            return Err(format!(
                "hidden_act `{}` is not supported, only `gelu`",
                self.hidden_act
            ));
        }
        if self.num_attention_heads == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !((0.0..=1.0).contains(&self.rotary_pct) && 2 * self.rotary_pairs() <= self.head_size())
        {
            return Err(format!(
                "rotary_pct {} does not fit heads of {} dimensions",
                self.rotary_pct,
                self.head_size()
            ));
        }
        Ok(())
    }
}

#[derive(Module, Debug)]
struct Attention {
    query_key_value: Linear,
    dense: Linear,
    #[module(skip)]
    shape: AttentionShape,
}

#[derive(Module, Debug)]
struct Mlp {
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

/// One layer, as Hugging Face's `GPTNeoXLayer`. Fields are named as in checkpoints.
#[derive(Module, Debug)]
pub struct Layer {
    input_layernorm: LayerNorm,
    attention: Attention,
    post_attention_layernorm: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    parallel_residual: bool,
}

impl Attention {
    /// Queries, keys and values of normalised states `[b·t, d]`; of the last tokens alone only their
    /// queries are computed.
    fn project(&self, x: Tensor<2>, rows: usize, attend: &Attend) -> Projections {
        let by_row = |x: Tensor<2>| {
            let [n, width] = x.dims();
            x.reshape([rows, n / rows, width])
        };
        if !matches!(attend, Attend::Ends(_)) {
            return Projections::Interleaved(by_row(self.query_key_value.forward(x)));
        }
        let AttentionShape {
            heads, head_size, ..
        } = self.shape;
        let part = |x: Tensor<2>, index: usize| {
            let chosen = |columns: Tensor<2>| {
                let [rows, _] = columns.dims();
                columns
                    .reshape([rows, heads, 3, head_size])
                    .narrow(2, index, 1)
                    .reshape([rows, heads * head_size])
            };
            by_row(self.query_key_value.forward_columns(x, chosen))
        };
        Projections::Separate {
            queries: part(attend.asking(x.clone()), 0),
            keys: part(x.clone(), 1),
            values: part(x, 2),
        }
    }
}

impl Layer {
    pub(super) fn load(
        weights: &mut Weights,
        index: usize,
        config: &GptNeoXConfig,
        device: &Device,
    ) -> Result<Self> {
        let (d, inner, epsilon) = (
            config.hidden_size,
            config.intermediate_size,
            config.layer_norm_eps,
        );
        let name = |part: &str| NAMING.layer(index, part);
        Ok(Self {
            input_layernorm: LayerNorm::load(
                weights,
                &name("input_layernorm"),
                d,
                epsilon,
                device,
            )?,
            attention: Attention {
                query_key_value: Linear::load(
                    weights,
                    &name("attention.query_key_value"),
                    [d, 3 * d],
                    true,
                    device,
                )?,
                dense: Linear::load(weights, &name("attention.dense"), [d, d], true, device)?,
                shape: config.sizes().attention(None),
            },
            post_attention_layernorm: LayerNorm::load(
                weights,
                &name("post_attention_layernorm"),
                d,
                epsilon,
                device,
            )?,
            mlp: Mlp {
                dense_h_to_4h: Linear::load(
                    weights,
                    &name("mlp.dense_h_to_4h"),
                    [d, inner],
                    true,
                    device,
                )?,
                dense_4h_to_h: Linear::load(
                    weights,
                    &name("mlp.dense_4h_to_h"),
                    [inner, d],
                    true,
                    device,
                )?,
            },
            parallel_residual: config.use_parallel_residual,
        })
    }

    pub(super) fn forward(&self, x: Tensor<2>, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone());
        let projections = self.attention.project(normed, tokens.rows, attend);
        let attended =
            self.attention
                .dense
                .forward(attend.run(projections, &self.attention.shape, tokens));
        let x = attend.asking(x);
        let feed = |x: Tensor<2>| {
            let inner = self
                .mlp
                .dense_h_to_4h
                .forward(self.post_attention_layernorm.forward(x));
            self.mlp.dense_4h_to_h.forward(fused::gelu(inner))
        };
        if self.parallel_residual {
            x.clone() + attended + feed(x)
        } else {
            let x = x + attended;
            x.clone() + feed(x)
        }
    }

    pub(super) fn map_linears(self, mut change: impl FnMut(Linear) -> Linear) -> Self {
        let Attention {
            query_key_value,
            dense,
            shape,
        } = self.attention;
        let attention = Attention {
            query_key_value: change(query_key_value),
            dense: change(dense),
            shape,
        };
        let Mlp {
            dense_h_to_4h,
            dense_4h_to_h,
        } = self.mlp;
        let mlp = Mlp {
            dense_h_to_4h: change(dense_h_to_4h),
            dense_4h_to_h: change(dense_4h_to_h),
        };
        Self {
            attention,
            mlp,
            ..self
        }
    }
}
