//! LibTorch's own kernels behind the fused operations: one call where a composition passes over
//! memory several times, on processors and on GPUs, in f32 and bf16.
//!
//! [`Torch`] extends that backend; [`runs`] tells whether a tensor is on it. `kernels` has each
//! operation as a function of LibTorch's tensors, `gradients` what its backward pass is.

#![expect(
    deprecated,
    reason = "LibTorch stays the fastest backend for large models; burn is pinned"
)]

mod gradients;
mod kernels;

use super::compose::{AttentionShape, Projections, Rotary, Rounding};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, DispatchDevice, LibTorch, backend_extension};
use burn::tensor::{Bool, Tensor};
use burn_tch::TchTensor;
use kernels::Heads;

/// Operations with their own gradients. Shapes are those of the functions of the same name in
/// [`fused`](super).
#[backend_extension(LibTorch, Autodiff)]
pub trait Torch: Backend {
    fn torch_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    fn torch_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
        rounding: Rounding,
    ) -> FloatTensor<Self>;

    fn torch_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn torch_silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention of interleaved queries, keys and values.
    fn torch_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;

    /// Attention of queries, keys and values in separate tensors.
    fn torch_separate_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;

    /// Attention of rotated `queries` [b, heads, s, head_size] over `keys` and `values` [b, key_heads,
    /// t, head_size] where `seen` [b, 1, s, t] is true -> [b, heads, s, head_size].
    fn torch_attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: BoolTensor<Self>,
    ) -> FloatTensor<Self>;

    fn torch_token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self>;

    fn torch_head_log_probs(
        states: FloatTensor<Self>,
        head: FloatTensor<Self>,
        targets: IntTensor<Self>,
        temperature: f64,
    ) -> FloatTensor<Self>;

    fn torch_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

/// True if `x` is a tensor of LibTorch that is not empty.
pub fn runs<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(
        x.device().inner().as_dispatch(),
        DispatchDevice::LibTorch(_)
    ) && x.dims().iter().all(|&size| size > 0)
}

/// Causal self-attention of `projections`, as [`fused::attention`](super::attention) defines it.
pub fn attention(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
) -> Tensor<3> {
    let [cos, sin] = [&rotary.cos, &rotary.sin].map(|angles| angles.clone().into_dispatch());
    let mask = key_mask.into_dispatch();
    Tensor::from_dispatch(match projections {
        Projections::Interleaved(all) => {
            Dispatch::torch_attention(all.into_dispatch(), cos, sin, mask, *shape)
        }
        Projections::Separate {
            queries,
            keys,
            values,
        } => {
            let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
            Dispatch::torch_separate_attention(queries, keys, values, cos, sin, mask, *shape)
        }
    })
}

/// Attention of rotated queries [b, heads, s, head_size] over keys and values [b, key_heads, t,
/// head_size] where `seen` [b, 1, s, t] is true.
pub fn attend(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    seen: Tensor<4, Bool>,
) -> Tensor<4> {
    let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::torch_attend(
        queries,
        keys,
        values,
        seen.into_dispatch(),
    ))
}

impl Torch for LibTorch {
    fn torch_layer_norm(
        x: TchTensor,
        gamma: TchTensor,
        beta: TchTensor,
        epsilon: f64,
    ) -> TchTensor {
        new(kernels::layer_norm(
            &x.tensor,
            &gamma.tensor,
            &beta.tensor,
            epsilon,
        ))
    }

    fn torch_rms_norm(
        x: TchTensor,
        gamma: TchTensor,
        epsilon: f64,
        rounding: Rounding,
    ) -> TchTensor {
        new(kernels::rms_norm(
            &x.tensor,
            &gamma.tensor,
            epsilon,
            rounding,
        ))
    }

    fn torch_gelu(x: TchTensor) -> TchTensor {
        new(x.tensor.gelu(kernels::EXACT))
    }

    fn torch_silu_gate(gate: TchTensor, up: TchTensor) -> TchTensor {
        new(gate.tensor.silu() * &up.tensor)
    }

    fn torch_attention(
        qkv: TchTensor,
        cos: TchTensor,
        sin: TchTensor,
        key_mask: TchTensor,
        shape: AttentionShape,
    ) -> TchTensor {
        let heads = Heads::of_interleaved(&qkv.tensor, &shape);
        let angles = [&cos.tensor, &sin.tensor];
        new(kernels::attention(heads, angles, &key_mask.tensor, &shape))
    }

    fn torch_separate_attention(
        queries: TchTensor,
        keys: TchTensor,
        values: TchTensor,
        cos: TchTensor,
        sin: TchTensor,
        key_mask: TchTensor,
        shape: AttentionShape,
    ) -> TchTensor {
        let heads = Heads::of_separate([&queries.tensor, &keys.tensor, &values.tensor], &shape);
        let angles = [&cos.tensor, &sin.tensor];
        new(kernels::attention(heads, angles, &key_mask.tensor, &shape))
    }

    fn torch_attend(
        queries: TchTensor,
        keys: TchTensor,
        values: TchTensor,
        seen: TchTensor,
    ) -> TchTensor {
        let heads = [&queries.tensor, &keys.tensor, &values.tensor];
        new(kernels::attend(heads, &seen.tensor))
    }

    fn torch_token_log_probs(logits: TchTensor, targets: TchTensor) -> TchTensor {
        let [log_probs, _] = kernels::token_log_probs(&logits.tensor, &targets.tensor);
        new(log_probs)
    }

    fn torch_head_log_probs(
        states: TchTensor,
        head: TchTensor,
        targets: TchTensor,
        temperature: f64,
    ) -> TchTensor {
        let head = kernels::ScaledHead::new(&states.tensor, &head.tensor, temperature);
        let [log_probs, _] = head.log_probs(&targets.tensor);
        new(log_probs)
    }

    fn torch_embedding(table: TchTensor, ids: TchTensor) -> TchTensor {
        new(table.tensor.index_select(0, &ids.tensor))
    }
}

/// A tensor with storage of its own.
fn new(tensor: tch::Tensor) -> TchTensor {
    TchTensor::new(tensor)
}
