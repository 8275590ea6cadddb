//! Kernels for the pure Rust CPU backend, with their own gradients, on one thread.
//!
//! [`Fused`] and [`Generation`] extend that backend; [`runs`] tells whether they support a tensor's
//! backend, type and processor. All other tensors use the plain compositions.

#![allow(
    clippy::needless_range_loop,
    reason = "inner loops count indices: iterator adaptors may not be inlined into \
                                               code for the vector unit, which costs a factor of twenty"
)]

mod attention;
mod backward;
mod gemm;
mod generate;
mod math;
mod rows;
#[cfg(test)]
mod tests;
mod tiles;

use super::compose::{AttentionShape, Projections};
use super::spans::Spans;
use attention::{Angles, AttentionInput, Heads, Strides, Vectors};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};
use burn_flex::FlexTensor;
use gemm::{Matrix, Product};
use generate::{AttendToCache, NewSlots, Sample};
use pulp::Arch;

/// Operations with their own gradients.
#[backend_extension(Flex, Autodiff)]
pub trait Fused: Backend {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_linear_with_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    fn fused_rms_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    fn fused_silu_gate(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Attention of interleaved queries, keys and values.
    fn fused_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spans: Spans,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;

    /// Attention of queries, keys and values in separate tensors.
    fn fused_separate_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        spans: Spans,
        shape: AttentionShape,
    ) -> FloatTensor<Self>;

    fn fused_token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The position of new slots in a cache, and the layout of their vectors.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    shape: AttentionShape,
    interleaved: bool,
    /// Number of slots in use.
    len: usize,
}

impl Slots {
    pub fn of(projections: &Projections, shape: &AttentionShape, len: usize) -> Self {
        Self {
            shape: *shape,
            interleaved: matches!(projections, Projections::Interleaved(_)),
            len,
        }
    }
}

/// Operations for inference. The tensors of queries, keys and values may be one interleaved tensor.
#[backend_extension(Flex)]
pub trait Generation: Backend {
    /// Writes new keys and values, of n slots per row, into the cache after the slots in use.
    fn cache_append(
        new_keys: FloatTensor<Self>,
        new_values: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        slots: Slots,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Attention of the slot written last over the slots that `key_mask` covers -> [b, 1, heads ·
    /// head_size].
    fn cache_attend(
        queries: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        slots: Slots,
    ) -> FloatTensor<Self>;

    /// Draws one token per row: see [`sample`](super::sample).
    fn draw(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        temperature: f32,
        top_p: f32,
    ) -> IntTensor<Self>;
}

/// True if kernels exist for tensors like `x`.
pub fn runs<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_))
        && x.dims().iter().all(|&size| size > 0)
        && math::vectorised()
}

/// True if [`Generation`]'s kernels exist for tensors like `x`; they record no gradients.
pub fn generates<const D: usize>(x: &Tensor<D>) -> bool {
    runs(x) && !x.device().is_autodiff()
}

/// The values of a tensor in order; its storage must contain exactly these values.
fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

fn new(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let shape = tensor.shape();
    Matrix {
        data: floats(tensor),
        columns: shape[shape.num_dims() - 1],
    }
}

/// Indices as the backend stores them.
fn indices(tensor: &FlexTensor) -> Vec<usize> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor
            .storage::<i32>()
            .iter()
            .map(|&index| index as usize)
            .collect(),
        _ => tensor
            .storage::<i64>()
            .iter()
            .map(|&index| index as usize)
            .collect(),
    }
}

/// The vectors of one kind in `tensor` [b, t, width], rotated by `angles` if given.
fn vectors<'a>(
    tensor: &'a FlexTensor,
    part: AttentionInput,
    interleaved: bool,
    size: usize,
    angles: Option<[&'a FlexTensor; 2]>,
) -> Vectors<'a> {
    let [_, _, width] = tensor.shape().dims::<3>();
    let place = if interleaved {
        Strides::interleaved(part, width, size)
    } else {
        Strides::alone(width, size)
    };
    let angles = angles.map(|[cos, sin]| Angles {
        cos: floats(cos),
        sin: floats(sin),
        half: cos.shape()[2],
    });
    Vectors {
        values: floats(tensor),
        place,
        size,
        angles,
    }
}

/// The inputs of attention as slices; `projections` are three tensors, or the interleaved one three
/// times.
fn heads_of<'a>(
    projections: [&'a FlexTensor; 3],
    angles: [&'a FlexTensor; 2],
    spans: &'a Spans,
    shape: AttentionShape,
    interleaved: bool,
) -> Heads<'a> {
    let AttentionShape {
        heads,
        key_heads,
        head_size: size,
        window,
    } = shape;
    let [_, _, width] = projections[0].shape().dims::<3>();
    let expected = if interleaved {
        3 * heads * size
    } else {
        heads * size
    };
    assert_eq!(
        width, expected,
        "attention: a row of {width} values does not split into {heads} heads"
    );
    assert_eq!(
        heads % key_heads,
        0,
        "attention: {heads} heads of queries do not share {key_heads} heads of keys"
    );
    let [queries, keys, values] = projections;
    Heads {
        queries: vectors(
            queries,
            AttentionInput::Query,
            interleaved,
            size,
            Some(angles),
        ),
        keys: vectors(keys, AttentionInput::Key, interleaved, size, Some(angles)),
        values: vectors(values, AttentionInput::Value, interleaved, size, None),
        spans,
        heads,
        key_heads,
        size,
        window,
    }
}

fn linear(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
    let (left, right) = (matrix(x), matrix(weight));
    assert_eq!(
        left.columns,
        right.rows(),
        "linear: the weight's rows must match the width of x"
    );
    let out = Arch::new().dispatch(Product {
        left,
        right,
        bias: bias.map(floats),
    });
    new(out, [left.rows(), right.columns])
}

impl Fused for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear(&x.to_contiguous(), &weight.to_contiguous(), None)
    }

    fn fused_linear_with_bias(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear(
            &x.to_contiguous(),
            &weight.to_contiguous(),
            Some(&bias.to_contiguous()),
        )
    }

    fn fused_layer_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f32,
    ) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.to_contiguous());
        let kernel = rows::LayerNorm {
            x: floats(&x),
            gamma: floats(&gamma),
            beta: floats(&beta),
            epsilon,
        };
        new(Arch::new().dispatch(kernel), x.shape())
    }

    fn fused_gelu(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        new(Arch::new().dispatch(rows::Gelu(floats(&x))), x.shape())
    }

    fn fused_rms_norm(x: FlexTensor, gamma: FlexTensor, epsilon: f32) -> FlexTensor {
        let [x, gamma] = [x, gamma].map(|tensor| tensor.to_contiguous());
        let kernel = rows::RmsNorm {
            x: floats(&x),
            gamma: floats(&gamma),
            epsilon,
        };
        new(Arch::new().dispatch(kernel), x.shape())
    }

    fn fused_silu_gate(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let [gate, up] = [gate, up].map(|tensor| tensor.to_contiguous());
        new(
            Arch::new().dispatch(rows::SiluGate {
                gate: floats(&gate),
                up: floats(&up),
            }),
            gate.shape(),
        )
    }

    fn fused_attention(
        qkv: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        spans: Spans,
        shape: AttentionShape,
    ) -> FlexTensor {
        let [qkv, cos, sin] = [qkv, cos, sin].map(|tensor| tensor.to_contiguous());
        let [batch, time, _] = qkv.shape().dims::<3>();
        attend(
            heads_of([&qkv; 3], [&cos, &sin], &spans, shape, true),
            [batch, time],
        )
    }

    fn fused_separate_attention(
        queries: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        spans: Spans,
        shape: AttentionShape,
    ) -> FlexTensor {
        let [queries, keys, values] = [queries, keys, values].map(|tensor| tensor.to_contiguous());
        let [cos, sin] = [cos, sin].map(|tensor| tensor.to_contiguous());
        let [batch, time, _] = queries.shape().dims::<3>();
        attend(
            heads_of(
                [&queries, &keys, &values],
                [&cos, &sin],
                &spans,
                shape,
                false,
            ),
            [batch, time],
        )
    }

    fn fused_token_log_probs(logits: FlexTensor, targets: FlexTensor) -> FlexTensor {
        let logits = logits.to_contiguous();
        let Matrix { data, columns } = matrix(&logits);
        let totals = Arch::new().dispatch(rows::LogTotals {
            logits: data,
            width: columns,
        });
        let targets = indices(&targets);
        log_probs(data, columns, &targets, &totals)
    }
}

/// Attention of `[batch, time]` queries, [batch, time, heads · size].
fn attend(problem: Heads<'_>, [batch, time]: [usize; 2]) -> FlexTensor {
    let width = problem.heads * problem.size;
    new(attention::forward(problem), [batch, time, width])
}

/// Log-probability of each row's target: its logit minus the row's log total.
fn log_probs(logits: &[f32], width: usize, targets: &[usize], totals: &[f32]) -> FlexTensor {
    let values: Vec<f32> = (0..targets.len())
        .map(|row| logits[row * width..][..width][targets[row]] - totals[row])
        .collect();
    new(values, [targets.len()])
}

impl Generation for Flex {
    fn cache_append(
        new_keys: FlexTensor,
        new_values: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        slots: Slots,
    ) -> (FlexTensor, FlexTensor) {
        let [new_keys, new_values, cos, sin] =
            [new_keys, new_values, cos, sin].map(|tensor| tensor.to_contiguous());
        let (mut keys, mut values) = (owned(keys), owned(values));
        let [batch, heads, size, capacity] = keys.shape().dims::<4>();
        let new = NewSlots {
            keys: vectors(
                &new_keys,
                AttentionInput::Key,
                slots.interleaved,
                size,
                Some([&cos, &sin]),
            ),
            values: vectors(
                &new_values,
                AttentionInput::Value,
                slots.interleaved,
                size,
                None,
            ),
            batch,
            time: new_keys.shape()[1],
            heads,
            size,
        };
        new.append(
            keys.storage_mut(),
            values.storage_mut(),
            capacity,
            slots.len,
        );
        (keys, values)
    }

    fn cache_attend(
        queries: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        key_mask: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        slots: Slots,
    ) -> FlexTensor {
        let [queries, cos, sin, mask] =
            [queries, cos, sin, key_mask].map(|tensor| tensor.to_contiguous());
        let [batch, _, size, capacity] = keys.shape().dims::<4>();
        let out = Arch::new().dispatch(AttendToCache {
            queries: vectors(
                &queries,
                AttentionInput::Query,
                slots.interleaved,
                size,
                Some([&cos, &sin]),
            ),
            heads: slots.shape.heads,
            key_heads: slots.shape.key_heads,
            size,
            keys: floats(&keys),
            values: floats(&values),
            batch,
            capacity,
            real: mask.bytes(),
        });
        new(out, [batch, 1, slots.shape.heads * size])
    }

    fn draw(logits: FlexTensor, uniforms: FlexTensor, temperature: f32, top_p: f32) -> FlexTensor {
        let (logits, uniforms) = (logits.to_contiguous(), uniforms.to_contiguous());
        let Matrix { data, columns } = matrix(&logits);
        let uniforms = floats(&uniforms);
        let tokens = Arch::new().dispatch(Sample {
            logits: data,
            width: columns,
            temperature,
            top_p,
            uniforms,
        });
        let count = tokens.len();
        FlexTensor::from_data(TensorData::new(tokens, [count]))
    }
}

/// The tensor with storage of its own that holds exactly its values: the tensor itself if its
/// storage is not shared.
fn owned(tensor: FlexTensor) -> FlexTensor {
    let exact = tensor.is_contiguous() && tensor.bytes().len() == tensor.shape().num_elements() * 4;
    if exact {
        tensor
    } else {
        tensor.to_contiguous()
    }
}
