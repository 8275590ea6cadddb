//! Causal self-attention with rotary positions, as in GPT-NeoX.

use burn::tensor::{Bool, FloatDType, Tensor, activation};

/// The rotation angles of every slot, as cosines and sines of shape [b, t, rotary_dim / 2].
///
/// Each row has its own angles, since padding shifts a row's positions. Rotary position embedding: Su et al. 2021, in the
/// rotate-half layout: dimension `i` of a head turns with dimension `i + rotary_dim / 2`.
#[derive(Clone, Debug)]
pub struct Rotary {
    pub cos: Tensor<3>,
    pub sin: Tensor<3>,
}

/// Causal self-attention of `qkv` [b, t, 3·d] over `heads` heads, softmax in f32 -> [b, t, d].
///
/// `qkv` is in GPT-NeoX order: for each head its query, key and value, `head_dim` wide each. `key_mask` [b, t] is true at
/// real tokens; padding may stand on either side. Slot `i` sees slots `j <= i` that hold real tokens; a slot that sees
/// none yields zeros.
pub fn attention(qkv: Tensor<3>, heads: usize, rotary: &Rotary, key_mask: Tensor<2, Bool>) -> Tensor<3> {
    let [q, k, v] = heads_of(qkv, heads, rotary);
    let [_, _, time, _] = q.dims();
    let future = Tensor::<2, Bool>::tril_mask([time, time], 0, &key_mask.device());
    let hidden = key_mask.bool_not().unsqueeze_dims::<4>(&[1, 1]).bool_or(future.unsqueeze::<4>());
    merge_heads(attend(q, k, v, hidden))
}

/// Splits `qkv` [b, t, 3·d] into queries, keys and values [b, heads, t, head_dim] and turns queries and keys.
pub(in super::super) fn heads_of(qkv: Tensor<3>, heads: usize, rotary: &Rotary) -> [Tensor<4>; 3] {
    let [batch, time, width] = qkv.dims();
    let size = width / (3 * heads);
    assert_eq!(width, 3 * heads * size, "attention: a row of {width} values does not split into {heads} heads");
    let split = qkv.reshape([batch, time, heads, 3 * size]).swap_dims(1, 2);
    let part = |index: usize| split.clone().narrow(3, index * size, size);
    [rotate(part(0), rotary), rotate(part(1), rotary), part(2)]
}

/// Turns the first `rotary_dim` dimensions of `x` [b, heads, t, head_dim] by their slots' angles, in the angles' type.
fn rotate(x: Tensor<4>, rotary: &Rotary) -> Tensor<4> {
    let [_, _, half] = rotary.cos.dims();
    if half == 0 {
        return x;
    }
    let [_, _, _, size] = x.dims();
    let cos = rotary.cos.clone().unsqueeze_dim::<4>(1);
    let sin = rotary.sin.clone().unsqueeze_dim::<4>(1);
    let (dtype, exact) = (FloatDType::from(x.dtype()), FloatDType::from(cos.dtype()));
    let first = x.clone().narrow(3, 0, half).cast(exact);
    let second = x.clone().narrow(3, half, half).cast(exact);
    let turned = [first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin];
    let mut parts = turned.map(|part| part.cast(dtype)).to_vec();
    if size > 2 * half {
        parts.push(x.narrow(3, 2 * half, size - 2 * half));
    }
    Tensor::cat(parts, 3)
}

/// Scaled dot-product attention: `q` [b, heads, s, head_dim] over `k`, `v` [b, heads, t, head_dim] where `hidden`
/// (broadcastable to [b, heads, s, t]) is false -> [b, heads, s, head_dim].
pub(in super::super) fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, hidden: Tensor<4, Bool>) -> Tensor<4> {
    let [_, _, _, size] = q.dims();
    let dtype = q.dtype();
    let scores = q.matmul(k.swap_dims(2, 3)).cast(FloatDType::F32) * (size as f64).powf(-0.5);
    let hidden = hidden.expand(scores.shape());
    let weights = activation::softmax(scores.mask_fill(hidden.clone(), f32::MIN / 2.0), 3).mask_fill(hidden, 0.0);
    weights.cast(dtype).matmul(v)
}

/// [b, heads, t, head_dim] -> [b, t, heads · head_dim].
pub(in super::super) fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, time, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch, time, heads * size])
}
