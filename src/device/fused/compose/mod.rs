//! Every operation written with the tensor library's own operations: the definition that the fused
//! kernels are tested against, and the implementation on backends without fused kernels.

mod attention;
mod sampling;

#[cfg(feature = "tch")]
pub(super) use attention::attention_over_by;
pub use attention::{AttentionShape, Projections, Rotary, attention, attention_over};
pub(super) use attention::{attend, heads_of, merge_heads};
pub use sampling::{sample, token_log_probs};

use burn::tensor::{FloatDType, Tensor, activation};

/// `x · weight + bias` over rows: `x` [n, d_in], `weight` [d_in, d_out], `bias` [d_out] -> [n,
/// d_out].
///
/// Two-dimensional on purpose: flattening batch and time keeps the gradient of `weight` one matrix
/// product.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let product = x.matmul(weight);
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

/// Layer normalisation (Ba, Kiros & Hinton 2016) of each row of `x` [n, d] with the biased
/// variance, in the type of `gamma` and `beta`; the result is of the type of `x`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let dtype = FloatDType::from(x.dtype());
    let x = x.cast(FloatDType::from(gamma.dtype()));
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    (centred / (variance + epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()).cast(dtype)
}

/// The point at which [`rms_norm`] rounds the normalised row to the type of its input, if that is
/// not f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Before scaling, as in Llama.
    BeforeScale,
    /// After scaling, as in OLMo2.
    AfterScale,
}

/// Root-mean-square normalisation (Zhang & Sennrich 2019) of each row of `x` [n, d] in f32, scaled
/// by `gamma` [d]; the result is of the type of `x`.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64, rounding: Rounding) -> Tensor<2> {
    let dtype = FloatDType::from(x.dtype());
    let x = x.cast(FloatDType::F32);
    let unit = x.clone() / ((x.clone() * x).mean_dim(1) + epsilon).sqrt();
    match rounding {
        Rounding::BeforeScale => unit.cast(dtype) * gamma.cast(dtype).unsqueeze(),
        Rounding::AfterScale => (unit * gamma.cast(FloatDType::F32).unsqueeze()).cast(dtype),
    }
}

/// The gated SiLU, `gate · σ(gate) · up` (Shazeer 2020, arXiv 2002.05202), value by value.
pub fn silu_gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

/// The exact Gaussian error linear unit, `x · Φ(x)` (Hendrycks & Gimpel 2016).
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    activation::gelu(x)
}
