//! Causal self-attention with rotary positions, grouped heads and a sliding window.

use crate::device::fused::spans::{Query, Span, Spans};
use burn::tensor::{Bool, FloatDType, Int, Tensor, TensorData, activation};

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

impl Rotary {
    /// The angles of chosen slots of one row, `[1, slots, rotary_dim / 2]`.
    fn at(&self, slots: &Tensor<1, Int>) -> Self {
        let select = |angles: &Tensor<3>| angles.clone().select(1, slots.clone());
        Self {
            cos: select(&self.cos),
            sin: select(&self.sin),
        }
    }
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
    let [q, k, v] = heads_of(projections, shape, [rotary; 2]);
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

/// Causal self-attention within texts that stand side by side in one row: each query of `spans` sees
/// the keys of its span up to its own -> [1, queries, heads · head_size].
pub fn attention_over(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    spans: &Spans,
) -> Tensor<3> {
    attention_over_by(attend, projections, shape, rotary, spans)
}

/// Does the same as [`attention_over`] by another function than [`attend`].
pub(in super::super) fn attention_over_by(
    attend: impl Fn(Tensor<4>, Tensor<4>, Tensor<4>, Tensor<4, Bool>) -> Tensor<4>,
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    spans: &Spans,
) -> Tensor<3> {
    let device = rotary.cos.device();
    let ([longest, most], count) = (spans.longest(), spans.len());
    let integers = |values: Vec<i32>| {
        let shape = [values.len()];
        Tensor::<1, Int>::from_data(TensorData::new(values, shape), &device)
    };
    // The slot of every query, its row among the padded spans, and the numbers of every padded span.
    let mut slots = vec![0; spans.queries()];
    let mut places = slots.clone();
    for (index, span) in spans.iter().enumerate() {
        for (place, query) in span.queries.iter().enumerate() {
            slots[query.row] = query.slot as i32;
            places[query.row] = (index * longest + place) as i32;
        }
    }
    let padded = |width: usize, numbers: &dyn Fn(&Span) -> Vec<usize>| {
        let rows = spans.iter().flat_map(|span| {
            let numbers = numbers(span).into_iter().map(|number| number as i32);
            numbers.chain(std::iter::repeat(0)).take(width)
        });
        integers(rows.collect())
    };
    let of_queries = |number: fn(&Query, Option<usize>) -> usize| {
        padded(longest, &|span| {
            let numbers = span.queries.iter().map(|query| number(query, shape.window));
            numbers.collect()
        })
    };
    let asking = of_queries(|query, _| query.row);
    let [first, visible] = [
        of_queries(Query::first),
        of_queries(|query, _| query.visible),
    ]
    .map(|numbers| numbers.reshape([count, 1, longest, 1]));
    let asked = padded(most, &|span| span.keys.clone());

    let [q, k, v] = heads_of(projections, shape, [&rotary.at(&integers(slots)), rotary]);
    let spread = |x: Tensor<4>, rows: Tensor<1, Int>, width: usize| {
        let [_, heads, _, size] = x.dims();
        let chosen = x.select(2, rows).reshape([heads, count, width, size]);
        chosen.swap_dims(0, 1)
    };
    let columns = Tensor::<1, Int>::arange(0..most as i64, &device)
        .reshape([1, 1, 1, most])
        .expand([count, 1, longest, most]);
    let hidden = columns
        .clone()
        .greater_equal(visible.expand([count, 1, longest, most]))
        .bool_or(columns.lower(first.expand([count, 1, longest, most])));
    let mixed = merge_heads(attend(
        spread(q, asking, longest),
        spread(k, asked.clone(), most),
        spread(v, asked, most),
        hidden,
    ));
    let [_, _, width] = mixed.dims();
    mixed
        .reshape([1, count * longest, width])
        .select(1, integers(places))
}

/// Queries [b, heads, t, head_size] and keys and values [b, key_heads, t, head_size]; queries and
/// keys are rotated by the angles of their slots.
pub(in super::super) fn heads_of(
    projections: Projections,
    shape: &AttentionShape,
    [of_queries, of_keys]: [&Rotary; 2],
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
            [
                rotate(part(0), of_queries),
                rotate(part(1), of_keys),
                part(2),
            ]
        }
        Projections::Separate {
            queries,
            keys,
            values,
        } => [
            rotate(split(queries, shape.heads, size), of_queries),
            rotate(split(keys, shape.key_heads, size), of_keys),
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
