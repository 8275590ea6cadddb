//! GPT-NeoX (Pythia) decoder: rotary embedding on a fraction of each head, parallel residual, biases everywhere.
//! Names and shapes are those of Hugging Face's `GPTNeoXModel`; black et al. 2022 (arXiv 2204.06745).

use crate::device::fused::{KvCache, Rotary};
use crate::model::batch::Batch;
use crate::model::layer::{Attend, Layer, LayerNorm};
use crate::model::lora::LoraSettings;
use crate::model::tape::Tape;
use crate::model::tokenizer::TokenIds;
use crate::model::weights::{Weights, parameter};
use crate::{Error, Result};
use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};
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

/// The largest size that a dimension may have; ids and places are 32-bit integers on devices.
const MOST: usize = i32::MAX as usize;
const MOST_LAYERS: usize = 1 << 16;
/// More than any memory holds, and few enough for byte counts to fit into 64 bits.
const MOST_PARAMETERS: u128 = 1 << 48;

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
        let wrong = |message: String| {
            Err(Error::model(format!("{origin}: {message}"))
                .hint("the configuration is damaged, or of another architecture"))
        };
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((key, size)) = sizes.into_iter().find(|(_, size)| !(1..=MOST).contains(size)) {
            return wrong(format!("{key} is {size}; it may be 1 to {MOST}"));
        }
        if self.num_hidden_layers > MOST_LAYERS {
            return wrong(format!("num_hidden_layers is {}; it may be up to {MOST_LAYERS}", self.num_hidden_layers));
        }
        let parameters = self.parameters_at_most();
        if parameters > MOST_PARAMETERS {
            return wrong(format!(
                "its sizes make {parameters} parameters; up to {MOST_PARAMETERS} can be reckoned with"
            ));
        }
        for (key, value) in [("layer_norm_eps", self.layer_norm_eps), ("rotary_emb_base", self.rotary_emb_base)] {
            if !((value as f32).is_finite() && value > 0.0) {
                return wrong(format!("{key} is {value}; it must be a number above 0"));
            }
        }
        if self.layer_norm_eps >= 1.0 {
            return wrong(format!("layer_norm_eps is {}; it must be a small number", self.layer_norm_eps));
        }
        if self.hidden_act != "gelu" {
            return wrong(format!("hidden_act `{}` is not supported, only `gelu`", self.hidden_act));
        }
        if self.num_attention_heads == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return wrong(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if !((0.0..=1.0).contains(&self.rotary_pct) && 2 * self.rotary_pairs() <= self.head_size()) {
            return wrong(format!(
                "rotary_pct {} does not fit heads of {} dimensions",
                self.rotary_pct,
                self.head_size()
            ));
        }
        Ok(())
    }

    /// Parameters of the decoder and of a head as large as its embedding, in numbers that no size overflows.
    fn parameters_at_most(&self) -> u128 {
        let [vocabulary, d, inner, layers] =
            [self.vocab_size, self.hidden_size, self.intermediate_size, self.num_hidden_layers]
                .map(|size| size as u128);
        2 * vocabulary * d + layers * (4 * d * d + 2 * d * inner + 13 * d + inner) + 2 * d
    }

    /// Parameters of the decoder without its head.
    pub fn backbone_parameters(&self) -> usize {
        let (d, i) = (self.hidden_size, self.intermediate_size);
        let layer = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * i + i) + (i * d + d);
        self.vocab_size * d + self.num_hidden_layers * layer + 2 * d
    }
}

/// The decoder without a head. Its fields are named as in checkpoints, so that a parameter's path is its name there.
#[derive(Module, Debug)]
pub struct GptNeoX {
    /// `[vocab_size, hidden_size]`
    pub(super) embed_in: Param<Tensor<2>>,
    pub(super) layers: Vec<Layer>,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    pub config: GptNeoXConfig,
    /// Of the states between layers; weights of another type are cast where they are used.
    #[module(skip)]
    dtype: FloatDType,
    /// Where gradient checkpointing keeps its forward passes; none where it is off.
    #[module(skip)]
    pub(super) tape: Option<Tape>,
}

/// How a model computes while it is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Computation {
    /// Of activations and matrix products. Trained weights stay f32.
    pub dtype: FloatDType,
    /// Whether layers are computed again in the backward pass instead of kept.
    pub checkpointing: bool,
    /// Freezes the decoder and trains adapters beside its linear maps.
    pub lora: Option<LoraSettings>,
}

/// The tokens of one forward pass.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    /// `[b·t]`
    ids: Tensor<1, Int>,
    /// `[b, t]`, or with the columns before them where keys and values are kept.
    pub mask: Tensor<2, Bool>,
    pub rotary: Rotary,
    /// b
    pub rows: usize,
}

impl Tokens {
    /// The same without autodiff.
    pub(super) fn inner(self) -> Self {
        let Self { ids, mask, rotary, rows } = self;
        let rotary = Rotary { cos: rotary.cos.inner(), sin: rotary.sin.inner() };
        Self { ids: ids.inner(), mask: mask.inner(), rotary, rows }
    }
}

impl GptNeoX {
    /// Takes the tensors `gpt_neox.*`.
    pub fn load(weights: &mut Weights, config: &GptNeoXConfig, dtype: FloatDType, device: &Device) -> Result<Self> {
        let (vocabulary, d) = (config.vocab_size, config.hidden_size);
        let embed_in = "gpt_neox.embed_in.weight";
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            layers.push(Layer::load(weights, index, config, device)?.in_dtype(dtype));
        }
        let final_layer_norm = LayerNorm::load(weights, "gpt_neox.final_layer_norm", d, config.layer_norm_eps, device)?;
        let table = parameter(embed_in, weights.take(embed_in, &[vocabulary, d])?, [vocabulary, d], device);
        Ok(Self {
            embed_in: table.map(|table| table.cast(dtype)),
            layers,
            final_layer_norm,
            config: config.clone(),
            dtype,
            tape: None,
        })
    }

    /// Ready to be trained as `how` says; `rng` draws the adapters.
    pub fn prepared(self, how: &Computation, rng: &mut impl Rng) -> Self {
        let mut decoder = self;
        if let Some(lora) = &how.lora {
            // Frozen weights need no f32 copy; the adapters are f32.
            decoder = decoder.set_require_grad(false).in_dtype(how.dtype);
            decoder.layers = decoder.layers.into_iter().map(|layer| layer.adapted(lora, rng)).collect();
        }
        Self { dtype: how.dtype, tape: how.checkpointing.then(Tape::default), ..decoder }
    }

    /// The inverse of [`prepared`](Self::prepared): adapters merged into the weights, all of it f32.
    pub fn restored(self) -> Self {
        let layers = self.layers.into_iter().map(Layer::merged).collect();
        Self { layers, tape: None, ..self }.in_dtype(FloatDType::F32).set_require_grad(true)
    }

    /// Weights held and states computed in another type: half the memory in bf16, for a model that is not trained. The
    /// layer norms stay f32, as does what they compute.
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        let layers = self.layers.into_iter().map(|layer| layer.in_dtype(dtype)).collect();
        let embed_in = self.embed_in.map(|table| table.cast(dtype));
        Self { embed_in, layers, dtype, ..self }
    }

    pub fn device(&self) -> Device {
        self.embed_in.val().device()
    }

    /// States of every token before the final layer norm, `[b·t, d]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<2> {
        let tokens = self.tokens(batch.ids.clone(), &batch.positions, batch.mask.clone());
        match &self.tape {
            Some(tape) if self.device().is_autodiff() => tape.forward(self, tokens),
            _ => self.run(&tokens, &mut Attend::Whole),
        }
    }

    /// As [`forward`](Self::forward), keeping keys and values for `capacity` columns.
    pub fn prefill(&self, batch: &Batch, capacity: usize) -> (Tensor<2>, Vec<Option<KvCache>>) {
        let tokens = self.tokens(batch.ids.clone(), &batch.positions, batch.mask.clone());
        let mut kept = Vec::with_capacity(self.layers.len());
        let states = self.run(&tokens, &mut Attend::Prefill { capacity, kept: &mut kept });
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
        self.run(&self.tokens(ids, positions, mask), &mut Attend::Step { kept, layer: 0 })
    }

    /// The final layer norm, for whichever rows a head reads; `[n, d]`.
    pub fn normalise(&self, states: Tensor<2>) -> Tensor<2> {
        self.final_layer_norm.forward(states)
    }

    fn run(&self, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        self.layers.iter().fold(self.embed(tokens), |x, layer| layer.forward(x, tokens, attend))
    }

    /// States before the first layer, `[b·t, d]`.
    pub(super) fn embed(&self, tokens: &Tokens) -> Tensor<2> {
        self.embed_in.val().select(0, tokens.ids.clone()).cast(self.dtype)
    }

    /// `ids` are `[b, t]`, `positions` b·t values.
    fn tokens(&self, ids: Tensor<2, Int>, positions: &[u32], mask: Tensor<2, Bool>) -> Tokens {
        let [b, t] = ids.dims();
        Tokens { ids: ids.reshape([b * t]), mask, rotary: self.rotary(positions, b), rows: b }
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
