//! A decoder without a head, of any architecture: the embedding, the layers and the final norm.

use crate::Result;
use crate::device::fused::{self, KvCache};
use crate::model::arch::{Attend, DecoderConfig, Layer, Shape, Sight, Sizes, Tokens};
use crate::model::batch::Batch;
use crate::model::nn::lora::LoraSettings;
use crate::model::nn::{Angles, Norm};
use crate::model::packed::Packed;
use crate::model::tape::Tape;
use crate::model::weights::{Values, Weights, parameter};
use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor};
use rand::Rng;
use rayon::prelude::*;

/// The decoder without a head.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[vocab_size, hidden_size]`
    pub(super) embedding: Param<Tensor<2>>,
    pub(super) layers: Vec<Layer>,
    norm: Norm,
    #[module(skip)]
    angles: Angles,
    #[module(skip)]
    pub config: DecoderConfig,
    /// Type of the states between layers; weights of another type are cast where they are used.
    #[module(skip)]
    dtype: FloatDType,
    /// Forward passes kept for gradient checkpointing; `None` if it is off.
    #[module(skip)]
    pub(super) tape: Option<Tape>,
}

/// Options for a model's computation during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Computation {
    /// Type of activations and matrix products. Trained weights stay f32.
    pub dtype: FloatDType,
    /// True if layers are recomputed in the backward pass instead of kept.
    pub checkpointing: bool,
    /// Settings of adapters beside the linear maps, which are trained while the decoder is frozen.
    pub lora: Option<LoraSettings>,
}

impl Decoder {
    /// Takes the decoder's tensors from `weights`.
    pub fn load(
        weights: &mut Weights,
        config: &DecoderConfig,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<Self> {
        let Sizes {
            vocab_size,
            hidden_size,
            layers: count,
            ..
        } = config.sizes();
        let mut layers = Vec::with_capacity(count);
        for index in 0..count {
            layers.push(config.load_layer(weights, index, device)?.in_dtype(dtype));
        }
        let norm = config.load_final_norm(weights, device)?;
        let (name, shape) = (config.naming().embedding(), [vocab_size, hidden_size]);
        let table = parameter(&name, weights.take(&name, &shape)?, shape, device);
        let embedding = table.map(|table| table.cast(dtype));
        Ok(Self {
            embedding,
            layers,
            norm,
            angles: Angles::new(&config.rope().frequencies),
            config: config.clone(),
            dtype,
            tape: None,
        })
    }

    /// The decoder in the form that is trained with options `how`; `rng` draws the adapters.
    pub fn prepared(self, how: &Computation, rng: &mut impl Rng) -> Self {
        let mut decoder = self;
        if let Some(lora) = &how.lora {
            // Frozen weights need no f32 copy; the adapters are f32.
            decoder = decoder.set_require_grad(false).in_dtype(how.dtype);
            decoder.layers = decoder
                .layers
                .into_iter()
                .map(|layer| layer.adapted(lora, rng))
                .collect();
        }
        Self {
            dtype: how.dtype,
            tape: how.checkpointing.then(Tape::default),
            ..decoder
        }
    }

    /// The inverse of [`prepared`](Self::prepared): adapters are merged into the weights, and
    /// everything is f32.
    pub fn restored(self) -> Self {
        let layers = self.layers.into_iter().map(Layer::merged).collect();
        Self {
            layers,
            tape: None,
            ..self
        }
        .in_dtype(FloatDType::F32)
        .set_require_grad(true)
    }

    /// The decoder with weights held and states computed in another type, for a model that is not
    /// trained: in bf16 it needs half the memory. The norms stay f32, as does their computation.
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        let layers = self
            .layers
            .into_iter()
            .map(|layer| layer.in_dtype(dtype))
            .collect();
        let embedding = self.embedding.map(|table| table.cast(dtype));
        Self {
            embedding,
            layers,
            dtype,
            ..self
        }
    }

    pub fn device(&self) -> Device {
        self.embedding.val().device()
    }

    /// States of every token before the final norm, `[b·t, d]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<2> {
        self.whole(self.tokens(batch.ids.clone(), &batch.positions, rows(batch)))
    }

    /// States of the last token of every text before the final norm, `[texts, d]`. The last layer
    /// computes nothing else but the other tokens' keys and values.
    pub fn forward_ends(&self, packed: &Packed) -> Tensor<2> {
        let sight = Sight::Texts(packed.texts.clone());
        let tokens = self.tokens(packed.ids.clone(), &packed.positions, sight);
        if self.layers.is_empty() {
            return Attend::Ends(&packed.texts).asking(self.embed(&tokens));
        }
        self.whole(tokens)
    }

    /// The states that the last layer computes, without a cache.
    fn whole(&self, tokens: Tokens) -> Tensor<2> {
        match &self.tape {
            Some(tape) if self.device().is_autodiff() => tape.forward(self, tokens),
            _ => {
                let layers = self.layers.iter().enumerate();
                layers.fold(self.embed(&tokens), |x, (index, layer)| {
                    let mode = &mut tokens.mode(index, self.layers.len());
                    layer.forward(x, &tokens, mode)
                })
            }
        }
    }

    /// Does the same as [`forward`](Self::forward), but also keeps keys and values for `capacity`
    /// columns.
    pub fn prefill(&self, batch: &Batch, capacity: usize) -> (Tensor<2>, Vec<Option<KvCache>>) {
        let tokens = self.tokens(batch.ids.clone(), &batch.positions, rows(batch));
        let mut kept = Vec::with_capacity(self.layers.len());
        let states = self.run(
            &tokens,
            &mut Attend::Prefill {
                capacity,
                kept: &mut kept,
            },
        );
        (states, kept)
    }

    /// Processes one more token per row: `ids` is `[b, 1]`, at `positions` (b values); `mask` is
    /// `[b, columns so far + 1]`.
    pub fn step(
        &self,
        ids: Tensor<2, Int>,
        positions: &[u32],
        mask: Tensor<2, Bool>,
        kept: &mut Vec<Option<KvCache>>,
    ) -> Tensor<2> {
        self.run(
            &self.tokens(ids, positions, Sight::Rows(mask)),
            &mut Attend::Step { kept, layer: 0 },
        )
    }

    /// Applies the final norm to the rows that a head reads; `[n, d]`.
    pub fn normalise(&self, states: Tensor<2>) -> Tensor<2> {
        self.norm.forward(states)
    }

    /// The states after the last layer, whose attention keeps keys and values.
    fn run(&self, tokens: &Tokens, attend: &mut Attend) -> Tensor<2> {
        self.layers.iter().fold(self.embed(tokens), |x, layer| {
            layer.forward(x, tokens, attend)
        })
    }

    /// States before the first layer, `[b·t, d]`.
    pub(super) fn embed(&self, tokens: &Tokens) -> Tensor<2> {
        fused::embedding(self.embedding.val(), tokens.ids.clone()).cast(self.dtype)
    }

    /// The tokens of a pass; `ids` is `[b, t]`, `positions` has b·t values.
    fn tokens(&self, ids: Tensor<2, Int>, positions: &[u32], sight: Sight) -> Tokens {
        let [b, t] = ids.dims();
        Tokens {
            ids: ids.reshape([b * t]),
            sight,
            rotary: self.angles.at(positions, b, &self.device()),
            rows: b,
        }
    }
}

/// The sight of the tokens of a padded batch.
fn rows(batch: &Batch) -> Sight {
    Sight::Rows(batch.mask.clone())
}

/// Random weights of a decoder: normal with standard deviation `deviation`, scaled for residual
/// outputs by `1/sqrt(2·layers)` as in GPT-2 and Pythia; biases are 0, norms are 1. `draw` draws the
/// given number of values with the given standard deviation.
pub fn random_backbone<V: Into<Values>>(
    config: &DecoderConfig,
    deviation: f64,
    draw: &mut impl FnMut(usize, f64) -> V,
    weights: &mut Weights,
) {
    let (
        Sizes {
            vocab_size,
            hidden_size: d,
            layers,
            ..
        },
        naming,
    ) = (config.sizes(), config.naming());
    let residual = deviation / (2.0 * layers as f64).sqrt();
    for index in 0..layers {
        for part in config.parts() {
            let (name, shape) = (naming.layer(index, part.name), part.weight());
            let values = match part.shape {
                Shape::Linear {
                    from,
                    to,
                    residual: true,
                } => draw(to * from, residual).into(),
                Shape::Linear {
                    from,
                    to,
                    residual: false,
                } => draw(to * from, deviation).into(),
                Shape::Norm(size) => vec![1.0; size].into(),
            };
            weights.insert(format!("{name}.weight"), &shape, values);
            if part.bias {
                weights.insert(format!("{name}.bias"), &shape[..1], vec![0.0; shape[0]]);
            }
        }
    }
    weights.insert(format!("{}.weight", naming.norm()), &[d], vec![1.0; d]);
    if config.final_norm().has_bias() {
        weights.insert(format!("{}.bias", naming.norm()), &[d], vec![0.0; d]);
    }
    weights.insert(
        naming.embedding(),
        &[vocab_size, d],
        draw(vocab_size * d, deviation),
    );
}

/// `n` draws of a normal with mean 0 (Box–Muller).
pub fn normal(rng: &mut impl Rng, n: usize, deviation: f64) -> Vec<f32> {
    /// Values whose uniforms are drawn before any of them is computed.
    const TOGETHER: usize = 1 << 16;
    /// The least number of values that one thread computes at a time.
    const LEAST_OF_A_THREAD: usize = 1 << 12;
    let value = |[u, v]: [f64; 2]| {
        let radius = (-2.0 * (1.0 - u).ln()).sqrt();
        (deviation * radius * (2.0 * std::f64::consts::PI * v).cos()) as f32
    };
    let mut values = Vec::with_capacity(n);
    let mut uniforms: Vec<[f64; 2]> = Vec::with_capacity(n.min(TOGETHER));
    while values.len() < n {
        let count = TOGETHER.min(n - values.len());
        uniforms.clear();
        uniforms.extend((0..count).map(|_| rng.random::<[f64; 2]>()));
        match count < TOGETHER {
            true => values.extend(uniforms.iter().copied().map(value)),
            false => values.par_extend(
                uniforms
                    .par_iter()
                    .with_min_len(LEAST_OF_A_THREAD)
                    .copied()
                    .map(value),
            ),
        }
    }
    values
}
