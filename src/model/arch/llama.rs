//! The Llama family: Mistral, Llama 2 and 3, Qwen2, Qwen3 and OLMo2. Root-mean-square norms, rotary
//! embedding on whole heads, grouped key heads, a gated feed-forward layer, few biases. Names and
//! shapes are those of Hugging Face's `LlamaModel` and related classes; the members differ in
//! biases, norms of queries and keys, place of the norms, and windows.

use super::sizes::{epsilon, positive};
use super::{Architecture, Attend, Kept, LayerPart, Naming, NormKind, Rope, Sizes, Tokens};
use crate::Result;
use crate::device::fused::{self, AttentionShape, Projections, Rounding};
use crate::model::nn::{Linear, RmsNorm};
use crate::model::weights::Weights;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

mod config;
mod settings;

pub use config::{Family, LayerType, LlamaConfig, RopeScaling};
pub use settings::LlamaSettings;

impl Family {
    fn naming(self) -> &'static Naming {
        const fn naming(class: &'static str) -> Naming {
            Naming {
                class,
                decoder: "model",
                embedding: "embed_tokens",
                final_norm: "norm",
                lm_head: "lm_head",
                unused_buffers: &["self_attn.rotary_emb.inv_freq"],
            }
        }
        static MISTRAL: Naming = naming("Mistral");
        static LLAMA: Naming = naming("Llama");
        static QWEN2: Naming = naming("Qwen2");
        static QWEN3: Naming = naming("Qwen3");
        static OLMO2: Naming = naming("Olmo2");
        match self {
            Self::Mistral => &MISTRAL,
            Self::Llama => &LLAMA,
            Self::Qwen2 => &QWEN2,
            Self::Qwen3 => &QWEN3,
            Self::Olmo2 => &OLMO2,
        }
    }

    /// The place of the norms, and the point at which they are rounded.
    fn norms(self) -> (NormPlace, Rounding) {
        match self {
            Self::Olmo2 => (NormPlace::After, Rounding::AfterScale),
            Self::Mistral | Self::Llama | Self::Qwen2 | Self::Qwen3 => {
                (NormPlace::Before, Rounding::BeforeScale)
            }
        }
    }

    /// The normalisation of queries and keys before they are rotated.
    fn query_norm(self) -> Option<QueryNorm> {
        match self {
            Self::Qwen3 => Some(QueryNorm::PerHead),
            Self::Olmo2 => Some(QueryNorm::Whole),
            Self::Mistral | Self::Llama | Self::Qwen2 => None,
        }
    }
}

/// Place of a layer's norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NormPlace {
    /// Norms on the inputs of attention and feed-forward.
    Before,
    /// Norms on the results of attention and feed-forward, before they are added.
    After,
}

/// Normalisation of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueryNorm {
    /// Each head is normalised separately.
    PerHead,
    /// All heads are normalised together.
    Whole,
}

/// Biases of a layer's linear maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Biases {
    projections: bool,
    output: bool,
    feed_forward: bool,
}

impl LlamaConfig {
    fn biases(&self) -> Biases {
        match self.model_type {
            Family::Mistral => Biases {
                projections: false,
                output: false,
                feed_forward: false,
            },
            Family::Qwen2 => Biases {
                projections: true,
                output: false,
                feed_forward: false,
            },
            Family::Llama => Biases {
                projections: self.attention_bias,
                output: self.attention_bias,
                feed_forward: self.mlp_bias,
            },
            Family::Qwen3 | Family::Olmo2 => Biases {
                projections: self.attention_bias,
                output: self.attention_bias,
                feed_forward: false,
            },
        }
    }

    /// Widths of the norms of queries and of keys; `None` if these are not normalised.
    fn query_norm_widths(&self) -> Option<[usize; 2]> {
        let sizes = self.sizes();
        self.model_type.query_norm().map(|kind| match kind {
            QueryNorm::PerHead => [sizes.head_size; 2],
            QueryNorm::Whole => [sizes.query_width(), sizes.key_width()],
        })
    }
}

impl Architecture for LlamaConfig {
    fn model_type(&self) -> &'static str {
        self.model_type.model_type()
    }

    fn naming(&self) -> &'static Naming {
        self.model_type.naming()
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            intermediate_size: self.intermediate_size,
            heads: self.num_attention_heads,
            key_heads: self.num_key_value_heads,
            head_size: self.head_dim,
            positions: self.max_position_embeddings,
            tied: self.tie_word_embeddings,
        }
    }

    fn parts(&self) -> Vec<LayerPart> {
        let (sizes, biases) = (self.sizes(), self.biases());
        let (d, inner) = (self.hidden_size, self.intermediate_size);
        let (queries, keys) = (sizes.query_width(), sizes.key_width());
        let before = self.model_type.norms().0 == NormPlace::Before;
        let mut parts = Vec::new();
        parts.extend(before.then(|| LayerPart::norm("input_layernorm", d, false)));
        parts.extend([
            LayerPart::linear("self_attn.q_proj", [d, queries], biases.projections),
            LayerPart::linear("self_attn.k_proj", [d, keys], biases.projections),
            LayerPart::linear("self_attn.v_proj", [d, keys], biases.projections),
            LayerPart::residual("self_attn.o_proj", [queries, d], biases.output),
        ]);
        if let Some([of_queries, of_keys]) = self.query_norm_widths() {
            parts.push(LayerPart::norm("self_attn.q_norm", of_queries, false));
            parts.push(LayerPart::norm("self_attn.k_norm", of_keys, false));
        }
        parts.extend([
            LayerPart::norm("post_attention_layernorm", d, false),
            LayerPart::linear("mlp.gate_proj", [d, inner], biases.feed_forward),
            LayerPart::linear("mlp.up_proj", [d, inner], biases.feed_forward),
            LayerPart::residual("mlp.down_proj", [inner, d], biases.feed_forward),
        ]);
        parts.extend((!before).then(|| LayerPart::norm("post_feedforward_layernorm", d, false)));
        parts
    }

    fn final_norm(&self) -> NormKind {
        NormKind::Rms {
            epsilon: self.rms_norm_eps,
            rounding: self.model_type.norms().1,
        }
    }

    fn rope(&self) -> Rope {
        let plain = Rope::plain_frequencies(self.rope_theta, self.head_dim);
        let base = format!("base {}", self.rope_theta);
        match &self.rope_scaling {
            None => Rope {
                frequencies: plain,
                description: base,
            },
            Some(scaling) => Rope {
                frequencies: plain
                    .into_iter()
                    .map(|frequency| scaling.apply(frequency))
                    .collect(),
                description: format!("{base}, {}", scaling.describe()),
            },
        }
    }

    fn kept(&self) -> Kept {
        let (sizes, d, inner) = (self.sizes(), self.hidden_size, self.intermediate_size);
        let projections = sizes.query_width() + 2 * sizes.key_width();
        // Queries and keys before their norm.
        let normalised = self
            .query_norm_widths()
            .map_or(0, |_| sizes.query_width() + sizes.key_width());
        let inputs = 2 * d + (2 * d + sizes.query_width() + inner) + normalised;
        // Gate and up; where composed, also the sigmoid and the product.
        Kept {
            inputs,
            projections,
            normed: 2 * d + normalised,
            activation: [2 * inner, 4 * inner],
        }
    }

    fn describe_layer(&self) -> String {
        let norms = match self.model_type.norms().0 {
            NormPlace::Before => "norms before",
            NormPlace::After => "norms after",
        };
        let windowed = (0..self.num_hidden_layers)
            .filter(|layer| self.window(*layer).is_some())
            .count();
        match (windowed, self.sliding_window) {
            (1.., Some(window)) if windowed == self.num_hidden_layers => {
                format!("{norms}, a window of {window}")
            }
            (1.., Some(window)) => format!("{norms}, a window of {window} in {windowed} layers"),
            _ => norms.to_owned(),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        epsilon("rms_norm_eps", self.rms_norm_eps)?;
        positive("rope_theta", self.rope_theta)?;
        self.check_heads()?;
        self.check_layers()?;
        if self.hidden_act != "silu" {
            return Err(format!(
                "hidden_act `{}` is not supported, only `silu`",
                self.hidden_act
            ));
        }
        self.rope_scaling
            .as_ref()
            .map_or(Ok(()), RopeScaling::check)
    }
}

#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    #[module(skip)]
    shape: AttentionShape,
}

impl Attention {
    fn load(
        weights: &mut Weights,
        index: usize,
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<Self> {
        let (sizes, biases, d) = (config.sizes(), config.biases(), config.hidden_size);
        let (queries, keys, projected) =
            (sizes.query_width(), sizes.key_width(), biases.projections);
        let constants = (config.rms_norm_eps, config.model_type.norms().1);
        let name = |part: &str| config.naming().layer(index, &format!("self_attn.{part}"));
        let [q_norm, k_norm] = match config.query_norm_widths() {
            None => [None, None],
            Some([of_queries, of_keys]) => [
                Some(RmsNorm::load(
                    weights,
                    &name("q_norm"),
                    of_queries,
                    constants,
                    device,
                )?),
                Some(RmsNorm::load(
                    weights,
                    &name("k_norm"),
                    of_keys,
                    constants,
                    device,
                )?),
            ],
        };
        Ok(Self {
            q_proj: Linear::load(weights, &name("q_proj"), [d, queries], projected, device)?,
            k_proj: Linear::load(weights, &name("k_proj"), [d, keys], projected, device)?,
            v_proj: Linear::load(weights, &name("v_proj"), [d, keys], projected, device)?,
            o_proj: Linear::load(
                weights,
                &name("o_proj"),
                [queries, d],
                biases.output,
                device,
            )?,
            q_norm,
            k_norm,
            shape: sizes.attention(config.window(index)),
        })
    }

    fn forward(&self, x: Tensor<2>, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        let b = tokens.rows;
        // A norm as wide as one head normalises each head, one as wide as all heads normalises them
        // together.
        let normalised = |x: Tensor<2>, norm: &Option<RmsNorm>| match norm {
            Some(norm) => norm.forward_parts(x),
            None => x,
        };
        let by_row = |x: Tensor<2>| {
            let [n, width] = x.dims();
            x.reshape([b, n / b, width])
        };
        let asking = attend.asking(x.clone());
        let projections = Projections::Separate {
            queries: by_row(normalised(self.q_proj.forward(asking), &self.q_norm)),
            keys: by_row(normalised(self.k_proj.forward(x.clone()), &self.k_norm)),
            values: by_row(self.v_proj.forward(x)),
        };
        self.o_proj
            .forward(attend.run(projections, &self.shape, tokens))
    }
}

#[derive(Module, Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (gate, up) = (self.gate_proj.forward(x.clone()), self.up_proj.forward(x));
        self.down_proj.forward(fused::silu_gate(gate, up))
    }
}

/// One layer, as Hugging Face's `LlamaDecoderLayer`. Fields are named as in checkpoints.
#[derive(Module, Debug)]
pub struct Layer {
    /// `None` if norms stand after attention and feed-forward.
    input_layernorm: Option<RmsNorm>,
    self_attn: Attention,
    /// Norm of attention's result if norms stand after, else of the feed-forward layer's input.
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
    post_feedforward_layernorm: Option<RmsNorm>,
}

impl Layer {
    pub(super) fn load(
        weights: &mut Weights,
        index: usize,
        config: &LlamaConfig,
        device: &Device,
    ) -> Result<Self> {
        let (d, inner, bias) = (
            config.hidden_size,
            config.intermediate_size,
            config.biases().feed_forward,
        );
        let (place, rounding) = config.model_type.norms();
        let name = |part: &str| config.naming().layer(index, part);
        let norm = |weights: &mut Weights, part: &str| {
            RmsNorm::load(
                weights,
                &name(part),
                d,
                (config.rms_norm_eps, rounding),
                device,
            )
        };
        let (before, after) = (place == NormPlace::Before, place == NormPlace::After);
        Ok(Self {
            input_layernorm: before
                .then(|| norm(weights, "input_layernorm"))
                .transpose()?,
            self_attn: Attention::load(weights, index, config, device)?,
            post_attention_layernorm: norm(weights, "post_attention_layernorm")?,
            mlp: Mlp {
                gate_proj: Linear::load(weights, &name("mlp.gate_proj"), [d, inner], bias, device)?,
                up_proj: Linear::load(weights, &name("mlp.up_proj"), [d, inner], bias, device)?,
                down_proj: Linear::load(weights, &name("mlp.down_proj"), [inner, d], bias, device)?,
            },
            post_feedforward_layernorm: after
                .then(|| norm(weights, "post_feedforward_layernorm"))
                .transpose()?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<2>, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        match (&self.input_layernorm, &self.post_feedforward_layernorm) {
            (Some(input), _) => {
                let attended = self
                    .self_attn
                    .forward(input.forward(x.clone()), tokens, attend);
                let x = attend.asking(x) + attended;
                x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x))
            }
            (None, after) => {
                let attended = self.self_attn.forward(x.clone(), tokens, attend);
                let x = attend.asking(x) + self.post_attention_layernorm.forward(attended);
                let fed = self.mlp.forward(x.clone());
                x + after.as_ref().map_or(fed.clone(), |norm| norm.forward(fed))
            }
        }
    }

    pub(super) fn map_linears(self, mut change: impl FnMut(Linear) -> Linear) -> Self {
        let Attention {
            q_proj,
            k_proj,
            v_proj,
            o_proj,
            ..
        } = self.self_attn;
        let self_attn = Attention {
            q_proj: change(q_proj),
            k_proj: change(k_proj),
            v_proj: change(v_proj),
            o_proj: change(o_proj),
            ..self.self_attn
        };
        let Mlp {
            gate_proj,
            up_proj,
            down_proj,
        } = self.mlp;
        let mlp = Mlp {
            gate_proj: change(gate_proj),
            up_proj: change(up_proj),
            down_proj: change(down_proj),
        };
        Self {
            self_attn,
            mlp,
            ..self
        }
    }
}
