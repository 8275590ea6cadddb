//! Kernels for the pure Rust CPU backend, with their own gradients, on one thread.
//!
//! [`Fused`] and [`Generation`] extend that backend; [`runs`] says whether a tensor's backend, type and processor have
//! them. Everything else takes the plain compositions.

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

use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor, TensorData};
use burn_flex::FlexTensor;
use gemm::{Matrix, Product};
use generate::{AttendToCache, Sample};
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

    fn fused_attention(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;

    fn fused_token_log_probs(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self>;
}

/// Operations of inference.
#[backend_extension(Flex)]
pub trait Generation: Backend {
    /// Writes the keys and values of `qkv` [b, n, 3·d] into the cache from slot `len` on.
    fn cache_append(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        len: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Attention of the slot written last, `qkv` [b, 1, 3·d], over the slots that `key_mask` covers -> [b, 1, d].
    fn cache_attend(
        qkv: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        key_mask: BoolTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// One token a row: see [`sample`](super::sample).
    fn draw(logits: FloatTensor<Self>, uniforms: FloatTensor<Self>, temperature: f32, top_p: f32) -> IntTensor<Self>;
}

/// Whether kernels exist for tensors like `x`.
pub fn runs<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32
        && matches!(x.device().inner().as_dispatch(), DispatchDevice::Flex(_))
        && x.dims().iter().all(|&size| size > 0)
        && math::vectorised()
}

/// Whether [`Generation`]'s kernels exist for tensors like `x`; they record no gradients.
pub fn generates<const D: usize>(x: &Tensor<D>) -> bool {
    runs(x) && !x.device().is_autodiff()
}

/// The values of a tensor in order; its storage must be exactly these.
fn floats(tensor: &FlexTensor) -> &[f32] {
    tensor.storage::<f32>()
}

fn new(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

fn matrix(tensor: &FlexTensor) -> Matrix<'_> {
    let shape = tensor.shape();
    Matrix { data: floats(tensor), columns: shape[shape.num_dims() - 1] }
}

/// Indices as the backend stores them.
fn indices(tensor: &FlexTensor) -> Vec<usize> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>().iter().map(|&index| index as usize).collect(),
        _ => tensor.storage::<i64>().iter().map(|&index| index as usize).collect(),
    }
}

/// The pieces of attention as slices.
fn heads_of<'a>([qkv, cos, sin]: [&'a FlexTensor; 3], key_mask: &'a [u8], heads: usize) -> attention::Heads<'a> {
    let [_, time, width] = qkv.shape().dims::<3>();
    assert!(width % (3 * heads) == 0, "attention: a row of {width} values does not split into {heads} heads");
    attention::Heads {
        qkv: floats(qkv),
        cos: floats(cos),
        sin: floats(sin),
        real: key_mask,
        time,
        heads,
        size: width / (3 * heads),
    }
}

fn linear(x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> FlexTensor {
    let (left, right) = (matrix(x), matrix(weight));
    assert_eq!(left.columns, right.rows(), "linear: the weight's rows must match the width of x");
    let out = Arch::new().dispatch(Product { left, right, bias: bias.map(floats) });
    new(out, [left.rows(), right.columns])
}

impl Fused for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear(&x.to_contiguous(), &weight.to_contiguous(), None)
    }

    fn fused_linear_with_bias(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear(&x.to_contiguous(), &weight.to_contiguous(), Some(&bias.to_contiguous()))
    }

    fn fused_layer_norm(x: FlexTensor, gamma: FlexTensor, beta: FlexTensor, epsilon: f32) -> FlexTensor {
        let [x, gamma, beta] = [x, gamma, beta].map(|tensor| tensor.to_contiguous());
        let kernel = rows::LayerNorm { x: floats(&x), gamma: floats(&gamma), beta: floats(&beta), epsilon };
        new(Arch::new().dispatch(kernel), x.shape())
    }

    fn fused_gelu(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        new(Arch::new().dispatch(rows::Gelu(floats(&x))), x.shape())
    }

    fn fused_attention(
        qkv: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        key_mask: FlexTensor,
        heads: usize,
    ) -> FlexTensor {
        let [qkv, cos, sin, key_mask] = [qkv, cos, sin, key_mask].map(|tensor| tensor.to_contiguous());
        let problem = heads_of([&qkv, &cos, &sin], key_mask.bytes(), heads);
        let [batch, time, width] = qkv.shape().dims::<3>();
        new(attention::forward(problem), [batch, time, width / 3])
    }

    fn fused_token_log_probs(logits: FlexTensor, targets: FlexTensor) -> FlexTensor {
        let logits = logits.to_contiguous();
        let Matrix { data, columns } = matrix(&logits);
        let totals = Arch::new().dispatch(rows::LogTotals { logits: data, width: columns });
        let targets = indices(&targets);
        log_probs(data, columns, &targets, &totals)
    }
}

/// Log-probability of each row's target, its logit less the row's log total.
fn log_probs(logits: &[f32], width: usize, targets: &[usize], totals: &[f32]) -> FlexTensor {
    let values: Vec<f32> =
        (0..targets.len()).map(|row| logits[row * width..][..width][targets[row]] - totals[row]).collect();
    new(values, [targets.len()])
}

impl Generation for Flex {
    fn cache_append(
        qkv: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        len: usize,
    ) -> (FlexTensor, FlexTensor) {
        let [qkv, cos, sin] = [qkv, cos, sin].map(|tensor| tensor.to_contiguous());
        let (mut keys, mut values) = (owned(keys), owned(values));
        let [batch, heads, _, capacity] = keys.shape().dims::<4>();
        let real = vec![1; batch * qkv.shape()[1]];
        let new = heads_of([&qkv, &cos, &sin], &real, heads);
        generate::append(&new, keys.storage_mut(), values.storage_mut(), capacity, len);
        (keys, values)
    }

    fn cache_attend(
        qkv: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        key_mask: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
    ) -> FlexTensor {
        let [qkv, cos, sin, mask] = [qkv, cos, sin, key_mask].map(|tensor| tensor.to_contiguous());
        let [batch, heads, size, capacity] = keys.shape().dims::<4>();
        let real = vec![1; batch];
        let query = heads_of([&qkv, &cos, &sin], &real, heads);
        let (keys, values) = (floats(&keys), floats(&values));
        let out = Arch::new().dispatch(AttendToCache { query, keys, values, capacity, real: mask.bytes() });
        new(out, [batch, 1, heads * size])
    }

    fn draw(logits: FlexTensor, uniforms: FlexTensor, temperature: f32, top_p: f32) -> FlexTensor {
        let (logits, uniforms) = (logits.to_contiguous(), uniforms.to_contiguous());
        let Matrix { data, columns } = matrix(&logits);
        let uniforms = floats(&uniforms);
        let tokens = Arch::new().dispatch(Sample { logits: data, width: columns, temperature, top_p, uniforms });
        let count = tokens.len();
        FlexTensor::from_data(TensorData::new(tokens, [count]))
    }
}

/// The tensor with storage of its own, exactly its values: itself where nobody shares it.
fn owned(tensor: FlexTensor) -> FlexTensor {
    let exact = tensor.is_contiguous() && tensor.bytes().len() == tensor.shape().num_elements() * 4;
    if exact { tensor } else { tensor.to_contiguous() }
}
