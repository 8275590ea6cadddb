//! Causal self-attention with rotary positions, grouped heads and a sliding window.

use burn::tensor::{Bool, FloatDType, Tensor, activation};

/// The rotation angles of every slot, as cosines and sines of shape [b, t, rotary_dim / 2].
///
/// Each row has its own angles, since padding shifts a row's positions. Rotary position embedding:
/// Su et al. 2021, in the rotate-half layout: dimension `i` of a head turns with dimension `i +
/// rotary_dim / 2`.
#[derive(Clone, Debug)]
pub struct Rotary {
    pub cos: Tensor<3>,
    pub sin: Tensor<3>,
}

/// Queries, keys and values of every slot, as computed by an architecture's linear maps.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "handed on at once and never stored"
)]
pub enum Projections {
    /// [b, t, heads · 3 · head_size], GPT-NeoX's order: for each head its query, key and value.
    Interleaved(Tensor<3>),
    /// Queries [b, t, heads · head_size], keys and values [b, t, key_heads · head_size].
    Separate {
        queries: Tensor<3>,
        keys: Tensor<3>,
        values: Tensor<3>,
    },
}

impl Projections {
    /// The tensors that contain keys and values.
    pub(in super::super) fn keys_and_values(&self) -> [Tensor<3>; 2] {
        match self {
            Self::Interleaved(all) => [all.clone(), all.clone()],
            Self::Separate { keys, values, .. } => [keys.clone(), values.clone()],
        }
    }

    /// The tensor that contains queries.
    pub(in super::super) fn queries(&self) -> Tensor<3> {
        match self {
            Self::Interleaved(all) => all.clone(),
            Self::Separate { queries, .. } => queries.clone(),
        }
    }
}

/// The heads of attention, and the window of slots that each slot sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`; each serves `heads / key_heads` consecutive
    /// heads of queries (Ainslie et al. 2023, arXiv 2305.13245).
    pub key_heads: usize,
    /// Dimensions of a head.
    pub head_size: usize,
    /// Slots that a slot sees, including itself; `None` if it sees all slots before it.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// A shape with as many heads of keys as of queries, and no window.
    pub fn multi_head(heads: usize, head_size: usize) -> Self {
        Self {
            heads,
            key_heads: heads,
            head_size,
            window: None,
        }
    }
}

/// Causal self-attention, softmax in f32 -> [b, t, heads · head_size].
///
/// `key_mask` [b, t] is true at real tokens, which stand side by side; padding may stand on either
/// side. Slot `i` sees slots `i - window < j <= i` that hold real tokens; a slot that sees none
/// yields zeros.
pub fn attention(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
) -> Tensor<3> {
    let [q, k, v] = heads_of(projections, shape, rotary);
    let [_, _, time, _] = q.dims();
    let mut unseen = Tensor::<2, Bool>::tril_mask([time, time], 0, &key_mask.device());
    if let Some(window) = shape.window.filter(|window| *window < time) {
        let past =
            Tensor::<2, Bool>::triu_mask([time, time], 1 - window as i64, &key_mask.device());
        unseen = unseen.bool_or(past);
    }
    let hidden = key_mask
        .bool_not()
        .unsqueeze_dims::<4>(&[1, 1])
        .bool_or(unseen.unsqueeze::<4>());
    merge_heads(attend(q, k, v, hidden))
}

/// Queries [b, heads, t, head_size] and keys and values [b, key_heads, t, head_size]; queries and
/// keys are rotated.
pub(in super::super) fn heads_of(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
) -> [Tensor<4>; 3] {
    let size = shape.head_size;
    let split = |x: Tensor<3>, heads: usize, width: usize| {
        let [batch, time, all] = x.dims();
        assert_eq!(
            all,
            heads * width,
            "attention: a row of {all} values does not split into {heads} heads"
        );
        x.reshape([batch, time, heads, width]).swap_dims(1, 2)
    };
    match projections {
        Projections::Interleaved(all) => {
            assert_eq!(
                shape.heads, shape.key_heads,
                "attention: interleaved heads are not grouped"
            );
            let heads = split(all, shape.heads, 3 * size);
            let part = |index: usize| heads.clone().narrow(3, index * size, size);
            [rotate(part(0), rotary), rotate(part(1), rotary), part(2)]
        }
        Projections::Separate {
            queries,
            keys,
            values,
        } => [
            rotate(split(queries, shape.heads, size), rotary),
            rotate(split(keys, shape.key_heads, size), rotary),
            split(values, shape.key_heads, size),
        ],
    }
}

/// Rotates the first `rotary_dim` dimensions of `x` [b, heads, t, head_size] by their slots'
/// angles, in the angles' type.
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
    let turned = [
        first.clone() * cos.clone() - second.clone() * sin.clone(),
        second * cos + first * sin,
    ];
    let mut parts = turned.map(|part| part.cast(dtype)).to_vec();
    if size > 2 * half {
        parts.push(x.narrow(3, 2 * half, size - 2 * half));
    }
    Tensor::cat(parts, 3)
}

/// Scaled dot-product attention: `q` [b, heads, s, head_size] over `k`, `v` [b, key_heads, t,
/// head_size] where `hidden` (broadcastable to [b, heads, s, t]) is false -> [b, heads, s,
/// head_size].
pub(in super::super) fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Tensor<4, Bool>,
) -> Tensor<4> {
    let ([batch, heads, slots, size], [_, key_heads, past, _]) = (q.dims(), k.dims());
    assert_eq!(
        heads % key_heads,
        0,
        "attention: {heads} heads of queries do not share {key_heads} heads of keys"
    );
    // The queries of a group are stacked, so that no key is copied.
    let grouped = heads / key_heads * slots;
    let dtype = q.dtype();
    let products = q
        .reshape([batch, key_heads, grouped, size])
        .matmul(k.swap_dims(2, 3));
    let scores = products
        .reshape([batch, heads, slots, past])
        .cast(FloatDType::F32)
        * (size as f64).powf(-0.5);
    let hidden = hidden.expand(scores.shape());
    let weights = activation::softmax(scores.mask_fill(hidden.clone(), f32::MIN / 2.0), 3)
        .mask_fill(hidden, 0.0);
    let mixed = weights
        .cast(dtype)
        .reshape([batch, key_heads, grouped, past])
        .matmul(v);
    mixed.reshape([batch, heads, slots, size])
}

/// Merges heads: [b, heads, t, head_size] -> [b, t, heads · head_size].
pub(in super::super) fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, time, size] = x.dims();
    x.swap_dims(1, 2).reshape([batch, time, heads * size])
}
