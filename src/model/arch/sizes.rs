//! Properties that every architecture has: sizes, names of tensors, parts of a layer, rotary
//! frequencies.

use crate::device::fused::{AttentionShape, Rounding};
use crate::model::layout::Head;

/// The largest size that a dimension may have; ids and positions are 32-bit integers on devices.
const MOST: usize = i32::MAX as usize;
const MOST_LAYERS: usize = 1 << 16;
/// Largest number of parameters: more than any memory holds, and few enough for byte counts to fit
/// into 64 bits.
const MOST_PARAMETERS: u128 = 1 << 48;

/// Sizes of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub vocab_size: usize,
    /// d: width of the states between layers.
    pub hidden_size: usize,
    pub layers: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Dimensions of a head.
    pub head_size: usize,
    /// Number of positions that the model was made for.
    pub positions: usize,
    /// True if the output head is the embedding.
    pub tied: bool,
}

impl Sizes {
    /// Width of all heads of queries together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_size
    }

    /// Width of all heads of keys together, which is also that of the heads of values.
    pub fn key_width(&self) -> usize {
        self.key_heads * self.head_size
    }

    /// The shape of attention for a layer with this window.
    pub fn attention(&self, window: Option<usize>) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            key_heads: self.key_heads,
            head_size: self.head_size,
            window,
        }
    }

    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.positions),
        ];
        if let Some((key, size)) = sizes
            .into_iter()
            .find(|(_, size)| !(1..=MOST).contains(size))
        {
            return Err(format!("{key} is {size}; it may be 1 to {MOST}"));
        }
        if self.layers > MOST_LAYERS {
            return Err(format!(
                "num_hidden_layers is {}; it may be up to {MOST_LAYERS}",
                self.layers
            ));
        }
        Ok(())
    }
}

/// Returns an error for more parameters than byte counts can represent.
pub(super) fn check_count(parameters: u128) -> std::result::Result<(), String> {
    match parameters <= MOST_PARAMETERS {
        true => Ok(()),
        false => Err(format!(
            "its sizes make {parameters} parameters; the most is {MOST_PARAMETERS}"
        )),
    }
}

/// Returns an error for a number that is not above 0 or, as f32, not finite.
pub(super) fn positive(key: &str, value: f64) -> std::result::Result<(), String> {
    match (value as f32).is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(format!("{key} is {value}; it must be a number above 0")),
    }
}

/// Returns an error for an epsilon that is not a small number above 0.
pub(super) fn epsilon(key: &str, value: f64) -> std::result::Result<(), String> {
    positive(key, value)?;
    match value < 1.0 {
        true => Ok(()),
        false => Err(format!("{key} is {value}; it must be a small number")),
    }
}

/// Names of an architecture in transformers.
#[derive(Debug, PartialEq, Eq)]
pub struct Naming {
    /// Prefix of the class names.
    pub class: &'static str,
    /// Name of the decoder within a model with a head; prefix of its tensors' names.
    pub decoder: &'static str,
    pub embedding: &'static str,
    pub final_norm: &'static str,
    pub lm_head: &'static str,
    /// Buffers of a layer that old versions of transformers saved beside the weights and that no
    /// version reads.
    pub unused_buffers: &'static [&'static str],
}

impl Naming {
    /// The class of a model with this head.
    pub fn class(&self, head: Head) -> String {
        let suffix = match head {
            Head::LanguageModel => "ForCausalLM",
            Head::Reward => "ForSequenceClassification",
            Head::None => "Model",
        };
        format!("{}{suffix}", self.class)
    }

    /// Name of the embedding's tensor, `[vocab_size, hidden_size]`.
    pub fn embedding(&self) -> String {
        format!("{}.{}.weight", self.decoder, self.embedding)
    }

    /// Name of a separate output head's tensor, `[vocab_size, hidden_size]`.
    pub fn lm_head(&self) -> String {
        format!("{}.weight", self.lm_head)
    }

    /// Name of the norm after the last layer.
    pub fn norm(&self) -> String {
        format!("{}.{}", self.decoder, self.final_norm)
    }

    /// Name of a part of a layer.
    pub fn layer(&self, index: usize, part: &str) -> String {
        format!("{}.layers.{index}.{part}", self.decoder)
    }
}

/// A linear map or a norm of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPart {
    /// The part's name within the layer, such as `mlp.up_proj`.
    pub name: &'static str,
    pub shape: Shape,
    pub bias: bool,
}

/// The shape of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A matrix from states of one width to another. `residual` is true if the result is added to
    /// the states between layers.
    Linear {
        from: usize,
        to: usize,
        residual: bool,
    },
    Norm(usize),
}

impl LayerPart {
    pub fn linear(name: &'static str, [from, to]: [usize; 2], bias: bool) -> Self {
        Self {
            name,
            shape: Shape::Linear {
                from,
                to,
                residual: false,
            },
            bias,
        }
    }

    /// A linear map whose results are added to the states between layers.
    pub fn residual(name: &'static str, [from, to]: [usize; 2], bias: bool) -> Self {
        Self {
            name,
            shape: Shape::Linear {
                from,
                to,
                residual: true,
            },
            bias,
        }
    }

    pub fn norm(name: &'static str, size: usize, bias: bool) -> Self {
        Self {
            name,
            shape: Shape::Norm(size),
            bias,
        }
    }

    /// The shape of the part's weight, as stored: `[to, from]` for a matrix.
    pub fn weight(&self) -> Vec<usize> {
        match self.shape {
            Shape::Linear { from, to, .. } => vec![to, from],
            Shape::Norm(size) => vec![size],
        }
    }

    pub fn parameters(&self) -> usize {
        self.parameters_wide() as usize
    }

    /// Number of the part's parameters, in a number type that no size overflows.
    pub(super) fn parameters_wide(&self) -> u128 {
        let weight = self.weight();
        let bias = if self.bias { weight[0] as u128 } else { 0 };
        weight.iter().map(|size| *size as u128).product::<u128>() + bias
    }

    /// The widths between which the part maps, if it is linear.
    pub fn widths(&self) -> Option<[usize; 2]> {
        match self.shape {
            Shape::Linear { from, to, .. } => Some([from, to]),
            Shape::Norm(_) => None,
        }
    }
}

/// A norm and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    Layer { epsilon: f64 },
    Rms { epsilon: f64, rounding: Rounding },
}

impl NormKind {
    pub fn has_bias(&self) -> bool {
        matches!(self, Self::Layer { .. })
    }

    pub fn parameters(&self, size: usize) -> usize {
        if self.has_bias() { 2 * size } else { size }
    }
}

/// Rotary positions (Su et al. 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The angle of each pair of dimensions at position 1.
    pub frequencies: Vec<f64>,
    /// A description of the base, such as `base 10000`.
    pub description: String,
}

impl Rope {
    /// θ^(−2i/dims), i = 0, 1, …: an angle for every two of `dims` dimensions; an odd number is
    /// rounded up, as in transformers.
    pub fn plain_frequencies(theta: f64, dims: usize) -> Vec<f64> {
        (0..dims.div_ceil(2))
            .map(|i| theta.powf(-((2 * i) as f64) / dims as f64))
            .collect()
    }
}

/// Numbers per token that a layer keeps for its backward pass, by the operation that keeps them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// The states between the layer's halves, and the inputs of its linear maps.
    pub inputs: usize,
    /// Queries, keys and values.
    pub projections: usize,
    /// Inputs of norms.
    pub normed: usize,
    /// Numbers kept by the activation: if it is one operation, and if it is composed of several.
    pub activation: [usize; 2],
}
