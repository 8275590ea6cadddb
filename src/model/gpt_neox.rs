//! GPT-NeoX (Pythia) decoder: rotary embedding on a fraction of each head, parallel residual, biases everywhere.
//! Names and shapes are those of Hugging Face's `GPTNeoXModel`; black et al. 2022 (arXiv 2204.06745).

use crate::device::fused::{self, KvCache, Rotary};
use crate::model::batch::Batch;
use crate::model::weights::{Weights, parameter, transposed};
use crate::{Error, Result};
use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rand::Rng;
use serde::{Deserialize, Serialize};

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
    pub eos_token_id: Option<u32>,
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

impl GptNeoXConfig {
    pub fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Dimensions of each head that are rotated.
    pub fn rotary_dims(&self) -> usize {
        (self.head_size() as f64 * self.rotary_pct) as usize
    }

    /// Pairs of dimensions of each head that turn together. An odd number of dimensions is rounded up, as transformers does.
    pub fn rotary_pairs(&self) -> usize {
        self.rotary_dims().div_ceil(2)
    }

    /// Errors on what this implementation would compute differently from transformers.
    pub fn validate(&self, origin: &str) -> Result<()> {
        let wrong = |message: String| Err(Error::new(format!("{origin}: {message}")));
        if self.hidden_act != "gelu" {
            return wrong(format!("hidden_act `{}` is not supported, only `gelu`", self.hidden_act));
        }
        if self.num_attention_heads == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return wrong(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !(self.rotary_pct >= 0.0 && 2 * self.rotary_pairs() <= self.head_size()) {
            return wrong(format!(
                "rotary_pct {} does not fit heads of {} dimensions",
                self.rotary_pct,
                self.head_size()
            ));
        }
        Ok(())
    }

    /// Parameters of the decoder without its head.
    pub fn backbone_parameters(&self) -> usize {
        let (d, i) = (self.hidden_size, self.intermediate_size);
        let layer = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * i + i) + (i * d + d);
        self.vocab_size * d + self.num_hidden_layers * layer + 2 * d
    }
}

#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

#[derive(Module, Debug)]
pub struct Layer {
    input_layernorm: LayerNorm,
    query_key_value: Linear,
    dense: Linear,
    post_attention_layernorm: LayerNorm,
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    parallel_residual: bool,
}

/// The decoder without a head.
#[derive(Module, Debug)]
pub struct GptNeoX {
    /// `[vocab_size, hidden_size]`
    embed_in: Param<Tensor<2>>,
    layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    pub config: GptNeoXConfig,
}

/// How [`Layer::forward`] attends.
enum Attend<'a> {
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
        })
    }

    fn save(&self, weights: &mut Weights, name: &str) {
        weights.insert_linear(format!("{name}.weight"), &self.weight);
        weights.insert_parameter(format!("{name}.bias"), &self.bias);
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::linear(x, self.weight.val(), Some(self.bias.val()))
    }
}

impl LayerNorm {
    fn load(weights: &mut Weights, name: &str, size: usize, epsilon: f64, device: &Device) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Self {
            weight: parameter(&weight, weights.take(&weight, &[size])?, [size], device),
            bias: parameter(&bias, weights.take(&bias, &[size])?, [size], device),
            epsilon,
        })
    }

    fn save(&self, weights: &mut Weights, name: &str) {
        weights.insert_parameter(format!("{name}.weight"), &self.weight);
        weights.insert_parameter(format!("{name}.bias"), &self.bias);
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

impl Layer {
    fn load(weights: &mut Weights, index: usize, config: &GptNeoXConfig, device: &Device) -> Result<Self> {
        let (d, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        Ok(Self {
            input_layernorm: LayerNorm::load(weights, &name("input_layernorm"), d, epsilon, device)?,
            query_key_value: Linear::load(weights, &name("attention.query_key_value"), d, 3 * d, device)?,
            dense: Linear::load(weights, &name("attention.dense"), d, d, device)?,
            post_attention_layernorm: LayerNorm::load(weights, &name("post_attention_layernorm"), d, epsilon, device)?,
            dense_h_to_4h: Linear::load(weights, &name("mlp.dense_h_to_4h"), d, inner, device)?,
            dense_4h_to_h: Linear::load(weights, &name("mlp.dense_4h_to_h"), inner, d, device)?,
            heads: config.num_attention_heads,
            parallel_residual: config.use_parallel_residual,
        })
    }

    fn save(&self, weights: &mut Weights, index: usize) {
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        self.input_layernorm.save(weights, &name("input_layernorm"));
        self.query_key_value.save(weights, &name("attention.query_key_value"));
        self.dense.save(weights, &name("attention.dense"));
        self.post_attention_layernorm.save(weights, &name("post_attention_layernorm"));
        self.dense_h_to_4h.save(weights, &name("mlp.dense_h_to_4h"));
        self.dense_4h_to_h.save(weights, &name("mlp.dense_4h_to_h"));
    }

    /// `x` is `[b·t, d]`.
    fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        mask: Tensor<2, Bool>,
        b: usize,
        attend: &mut Attend,
    ) -> Tensor<2> {
        let [n, d] = x.dims();
        let qkv = self.query_key_value.forward(self.input_layernorm.forward(x.clone())).reshape([b, n / b, 3 * d]);
        let context = match attend {
            Attend::Whole => fused::attention(qkv, self.heads, rotary, mask),
            Attend::Prefill { capacity, kept } => {
                let (context, cache) = fused::prefill(qkv, self.heads, rotary, mask, *capacity);
                kept.push(Some(cache));
                context
            }
            Attend::Step { kept, layer } => {
                // Taken out so that it is owned by one place only and can be extended in place.
                let cache = kept[*layer].take().expect("prefill keeps one cache per layer");
                let (context, cache) = fused::step(qkv, self.heads, rotary, mask, cache);
                kept[*layer] = Some(cache);
                *layer += 1;
                context
            }
        };
        let attended = self.dense.forward(context.reshape([n, d]));
        let feed = |x: Tensor<2>| {
            let inner = self.dense_h_to_4h.forward(self.post_attention_layernorm.forward(x));
            self.dense_4h_to_h.forward(fused::gelu(inner))
        };
        if self.parallel_residual {
            x.clone() + attended + feed(x)
        } else {
            let x = x + attended;
            x.clone() + feed(x)
        }
    }
}

impl GptNeoX {
    /// Takes the tensors `gpt_neox.*`.
    pub fn load(weights: &mut Weights, config: &GptNeoXConfig, device: &Device) -> Result<Self> {
        let (vocabulary, d) = (config.vocab_size, config.hidden_size);
        let embed_in = "gpt_neox.embed_in.weight";
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(Layer::load(weights, index, config, device)?);
        }
        let final_layer_norm = LayerNorm::load(weights, "gpt_neox.final_layer_norm", d, config.layer_norm_eps, device)?;
        Ok(Self {
            embed_in: parameter(embed_in, weights.take(embed_in, &[vocabulary, d])?, [vocabulary, d], device),
            layers,
            final_layer_norm,
            config: config.clone(),
        })
    }

    pub fn save(&self, weights: &mut Weights) {
        weights.insert_parameter("gpt_neox.embed_in.weight", &self.embed_in);
        for (index, layer) in self.layers.iter().enumerate() {
            layer.save(weights, index);
        }
        self.final_layer_norm.save(weights, "gpt_neox.final_layer_norm");
    }

    pub fn device(&self) -> Device {
        self.embed_in.val().device()
    }

    pub(crate) fn embedding(&self) -> Tensor<2> {
        self.embed_in.val()
    }

    /// States of every token before the final layer norm, `[b·t, d]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<2> {
        let rotary = self.rotary(&batch.positions, batch.rows());
        self.run(batch.ids.clone(), batch.mask.clone(), &rotary, &mut Attend::Whole)
    }

    /// As [`forward`](Self::forward), keeping keys and values for `capacity` columns.
    pub fn prefill(&self, batch: &Batch, capacity: usize) -> (Tensor<2>, Vec<Option<KvCache>>) {
        let rotary = self.rotary(&batch.positions, batch.rows());
        let mut kept = Vec::with_capacity(self.layers.len());
        let states = self.run(
            batch.ids.clone(),
            batch.mask.clone(),
            &rotary,
            &mut Attend::Prefill { capacity, kept: &mut kept },
        );
        (states, kept)
    }

    /// One more token per row: `ids` `[b, 1]` at `positions` (b values); `mask` `[b, columns so far + 1]`.
    pub fn step(
        &self,
        ids: Tensor<2, Int>,
        positions: &[u32],
        mask: Tensor<2, Bool>,
        kept: &mut Vec<Option<KvCache>>,
    ) -> Tensor<2> {
        let rotary = self.rotary(positions, positions.len());
        self.run(ids, mask, &rotary, &mut Attend::Step { kept, layer: 0 })
    }

    /// The final layer norm, for whichever rows a head reads; `[n, d]`.
    pub fn normalise(&self, states: Tensor<2>) -> Tensor<2> {
        self.final_layer_norm.forward(states)
    }

    fn run(&self, ids: Tensor<2, Int>, mask: Tensor<2, Bool>, rotary: &Rotary, attend: &mut Attend) -> Tensor<2> {
        let [b, t] = ids.dims();
        let mut x = self.embed_in.val().select(0, ids.reshape([b * t]));
        for layer in &self.layers {
            x = layer.forward(x, rotary, mask.clone(), b, attend);
        }
        x
    }

    /// Cosines and sines of every token's angle, `[b, t, rotary_pairs]`.
    fn rotary(&self, positions: &[u32], b: usize) -> Rotary {
        let (half, dims) = (self.config.rotary_pairs(), self.config.rotary_dims() as f64);
        let device = self.device();
        let frequencies: Vec<f64> =
            (0..half).map(|i| self.config.rotary_emb_base.powf(-((2 * i) as f64) / dims)).collect();
        let angles = positions.iter().flat_map(|&p| frequencies.iter().map(move |f| f64::from(p) * f));
        let (mut cos, mut sin) =
            (Vec::with_capacity(positions.len() * half), Vec::with_capacity(positions.len() * half));
        for angle in angles {
            cos.push(angle.cos() as f32);
            sin.push(angle.sin() as f32);
        }
        let shape = [b, positions.len() / b.max(1), half];
        Rotary {
            cos: Tensor::from_data(TensorData::new(cos, shape), &device),
            sin: Tensor::from_data(TensorData::new(sin, shape), &device),
        }
    }
}

/// Random weights of a decoder: normal with standard deviation `deviation`, residual outputs scaled by `1/sqrt(2·layers)`,
/// as in GPT-2 and Pythia.
pub fn random_backbone(config: &GptNeoXConfig, deviation: f64, rng: &mut impl Rng, weights: &mut Weights) {
    let (d, inner) = (config.hidden_size, config.intermediate_size);
    let residual = deviation / (2.0 * config.num_hidden_layers as f64).sqrt();
    let mut matrix = |weights: &mut Weights, name: String, to: usize, from: usize, deviation: f64| {
        weights.insert(format!("{name}.weight"), &[to, from], normal(rng, to * from, deviation));
        weights.insert(format!("{name}.bias"), &[to], vec![0.0; to]);
    };
    let norm = |weights: &mut Weights, name: String| {
        weights.insert(format!("{name}.weight"), &[d], vec![1.0; d]);
        weights.insert(format!("{name}.bias"), &[d], vec![0.0; d]);
    };
    for index in 0..config.num_hidden_layers {
        let name = |part: &str| format!("gpt_neox.layers.{index}.{part}");
        norm(weights, name("input_layernorm"));
        matrix(weights, name("attention.query_key_value"), 3 * d, d, deviation);
        matrix(weights, name("attention.dense"), d, d, residual);
        norm(weights, name("post_attention_layernorm"));
        matrix(weights, name("mlp.dense_h_to_4h"), inner, d, deviation);
        matrix(weights, name("mlp.dense_4h_to_h"), d, inner, residual);
    }
    norm(weights, "gpt_neox.final_layer_norm".into());
    let embedding = normal(rng, config.vocab_size * d, deviation);
    weights.insert("gpt_neox.embed_in.weight", &[config.vocab_size, d], embedding);
}

/// `n` draws of a normal with mean 0 (Box–Muller).
pub fn normal(rng: &mut impl Rng, n: usize, deviation: f64) -> Vec<f32> {
    (0..n)
        .map(|_| {
            let (u, v): (f64, f64) = (rng.random(), rng.random());
            let radius = (-2.0 * (1.0 - u).ln()).sqrt();
            (deviation * radius * (2.0 * std::f64::consts::PI * v).cos()) as f32
        })
        .collect()
}
