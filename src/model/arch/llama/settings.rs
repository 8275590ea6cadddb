//! The keys of an experiment file that select a model of the Llama family.

use super::{Family, LayerType, LlamaConfig, RopeScaling};
use crate::model::arch::Sizes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keys of `config.json` beside the sizes that every architecture has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlamaSettings {
    pub model_type: Family,
    /// Heads of keys and values; if absent, as many as heads of queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Dimensions of a head; if absent, an equal share of the hidden size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Tokens that a token sees, including itself; all tokens if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Number of layers before the first one with a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window_layers: Option<usize>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attention_bias: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mlp_bias: bool,
}

impl LlamaSettings {
    /// The configuration of a model of these sizes.
    pub fn config(&self, sizes: &Sizes) -> LlamaConfig {
        let first = self.max_window_layers.unwrap_or(0);
        let slides = |layer: usize| self.sliding_window.is_some() && layer >= first;
        let kind = |layer| {
            if slides(layer) {
                LayerType::SlidingAttention
            } else {
                LayerType::FullAttention
            }
        };
        let layer_types: Vec<LayerType> = (0..sizes.layers).map(kind).collect();
        LlamaConfig {
            model_type: self.model_type,
            vocab_size: sizes.vocab_size,
            hidden_size: sizes.hidden_size,
            intermediate_size: sizes.intermediate_size,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(sizes.heads),
            head_dim: self.head_dim.unwrap_or(sizes.head_size),
            hidden_act: "silu".into(),
            max_position_embeddings: sizes.positions,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: self.rope_theta,
            rope_scaling: self.rope_scaling,
            sliding_window: self
                .sliding_window
                .filter(|_| layer_types.contains(&LayerType::SlidingAttention)),
            layer_types,
            attention_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            tie_word_embeddings: sizes.tied,
            bos_token_id: None,
            eos_token_id: None,
        }
    }
}
