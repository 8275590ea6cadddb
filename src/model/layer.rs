//! One layer of a GPT-NeoX decoder. Names and shapes are those of Hugging Face's `GPTNeoXLayer`.

use crate::Result;
use crate::device::fused::{self, KvCache};
use crate::model::gpt_neox::{GptNeoXConfig, Tokens};
use crate::model::lora::{Adapter, LoraSettings};
use crate::model::weights::{Weights, parameter, transposed};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use rand::Rng;

#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
    /// What LoRA trains in their place, if it does.
    lora: Option<Adapter>,
}

#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

#[derive(Module, Debug)]
pub struct Attention {
    query_key_value: Linear,
    dense: Linear,
    #[module(skip)]
    heads: usize,
}

#[derive(Module, Debug)]
pub struct Mlp {
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

#[derive(Module, Debug)]
pub struct Layer {
    input_layernorm: LayerNorm,
    attention: Attention,
    post_attention_layernorm: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    parallel_residual: bool,
}

/// How [`Layer::forward`] attends.
pub(super) enum Attend<'a> {
    /// Over the batch itself.
    Whole,
    /// Over the batch itself, keeping keys and values with room for this many columns.
    Prefill { capacity: usize, kept: &'a mut Vec<Option<KvCache>> },
    /// One new token per row over what is kept.
    Step { kept: &'a mut Vec<Option<KvCache>>, layer: usize },
}

impl Linear {
    fn load(weights: &mut Weights, name: &str, from: usize, to: usize, device: &Device) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let matrix = transposed(&weights.take(&weight, &[to, from])?, to, from);
        Ok(Self {
            weight: parameter(&weight, matrix, [from, to], device),
            bias: parameter(&bias, weights.take(&bias, &[to])?, [to], device),
            lora: None,
        })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = (like(&self.weight, &x), like(&self.bias, &x));
        match &self.lora {
            None => fused::linear(x, weight, Some(bias)),
            Some(adapter) => fused::linear(x.clone(), weight, Some(bias)) + adapter.forward(x),
        }
    }

    fn adapted(self, settings: &LoraSettings, rng: &mut impl Rng) -> Self {
        Self { lora: Some(Adapter::new(&self.weight.val(), settings, rng)), ..self }
    }

    /// The adapter added to the weight, in f32.
    fn merged(self) -> Self {
        match self.lora {
            None => self,
            Some(adapter) => {
                let weight = self.weight.map(|weight| weight.cast(FloatDType::F32) + adapter.product());
                Self { weight, bias: self.bias, lora: None }
            }
        }
    }
}

impl LayerNorm {
    pub(super) fn load(weights: &mut Weights, name: &str, size: usize, epsilon: f64, device: &Device) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Self {
            weight: parameter(&weight, weights.take(&weight, &[size])?, [size], device),
            bias: parameter(&bias, weights.take(&bias, &[size])?, [size], device),
            epsilon,
        })
    }

    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

impl Layer {
    pub(super) fn load(weights: &mut Weights, index: usize, config: &GptNeoXConfig, device: &Device) -> Result<Self> {
        let (d, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        Ok(Self {
            input_layernorm: LayerNorm::load(weights, &name("input_layernorm"), d, epsilon, device)?,
            attention: Attention {
                query_key_value: Linear::load(weights, &name("attention.query_key_value"), d, 3 * d, device)?,
                dense: Linear::load(weights, &name("attention.dense"), d, d, device)?,
                heads: config.num_attention_heads,
            },
            post_attention_layernorm: LayerNorm::load(weights, &name("post_attention_layernorm"), d, epsilon, device)?,
            mlp: Mlp {
                dense_h_to_4h: Linear::load(weights, &name("mlp.dense_h_to_4h"), d, inner, device)?,
                dense_4h_to_h: Linear::load(weights, &name("mlp.dense_4h_to_h"), inner, d, device)?,
            },
            parallel_residual: config.use_parallel_residual,
        })
    }

    /// `x` is `[b·t, d]`, of whatever type: what follows is of the same.
    pub(super) fn forward(&self, x: Tensor<2>, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        let ([n, d], b) = (x.dims(), tokens.rows);
        let (rotary, mask) = (&tokens.rotary, tokens.mask.clone());
        let qkv = self.attention.query_key_value.forward(self.input_layernorm.forward(x.clone()));
        let (qkv, heads) = (qkv.reshape([b, n / b, 3 * d]), self.attention.heads);
        let context = match attend {
            Attend::Whole => fused::attention(qkv, heads, rotary, mask),
            Attend::Prefill { capacity, kept } => {
                let (context, cache) = fused::prefill(qkv, heads, rotary, mask, *capacity);
                kept.push(Some(cache));
                context
            }
            Attend::Step { kept, layer } => {
                // Taken out so that it is owned by one place only and can be extended in place.
                let cache = kept[*layer].take().expect("prefill keeps one cache per layer");
                let (context, cache) = fused::step(qkv, heads, rotary, mask, cache);
                kept[*layer] = Some(cache);
                *layer += 1;
                context
            }
        };
        let attended = self.attention.dense.forward(context.reshape([n, d]));
        let feed = |x: Tensor<2>| {
            let inner = self.mlp.dense_h_to_4h.forward(self.post_attention_layernorm.forward(x));
            self.mlp.dense_4h_to_h.forward(fused::gelu(inner))
        };
        if self.parallel_residual {
            x.clone() + attended + feed(x)
        } else {
            let x = x + attended;
            x.clone() + feed(x)
        }
    }

    /// With an adapter beside each linear map.
    pub(super) fn adapted(self, settings: &LoraSettings, rng: &mut impl Rng) -> Self {
        self.map_linears(|linear| linear.adapted(settings, rng))
    }

    /// The layer without adapters that computes the same.
    pub(super) fn merged(self) -> Self {
        self.map_linears(Linear::merged)
    }

    /// The weights of its linear maps in another type; those of the norms stay f32.
    pub(super) fn in_dtype(self, dtype: FloatDType) -> Self {
        self.map_linears(|linear| linear.map(&mut Cast(dtype)))
    }

    fn map_linears(self, mut change: impl FnMut(Linear) -> Linear) -> Self {
        let Attention { query_key_value, dense, heads } = self.attention;
        let attention = Attention { query_key_value: change(query_key_value), dense: change(dense), heads };
        let Mlp { dense_h_to_4h, dense_4h_to_h } = self.mlp;
        let mlp = Mlp { dense_h_to_4h: change(dense_h_to_4h), dense_4h_to_h: change(dense_4h_to_h) };
        Self { attention, mlp, ..self }
    }
}

/// Changes the type of every parameter.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        parameter.map(|value| value.cast(self.0))
    }
}

/// The value of a parameter in the type of `x`; gradients flow through the change of type.
pub(super) fn like<const D: usize, const E: usize>(parameter: &Param<Tensor<D>>, x: &Tensor<E>) -> Tensor<D> {
    parameter.val().cast(FloatDType::from(x.dtype()))
}
