//! Keys and values of past slots, kept so that generating one token costs one slot's work. Inference only.

use super::compose::{attend, heads_of, merge_heads};
use super::flex::{self, Generation};
use super::{Rotary, attention};
use burn::backend::Dispatch;
use burn::tensor::{Bool, Int, Tensor, s};

/// The rotated keys and the values of every slot so far, in buffers with room to append.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// [b, heads, head_dim, capacity]: a dimension's values stand side by side, ready to be multiplied by a query's.
    keys: Tensor<4>,
    /// [b, heads, capacity, head_dim].
    values: Tensor<4>,
    /// Slots in use.
    len: usize,
}

impl KvCache {
    /// Slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rows in the batch.
    pub fn rows(&self) -> usize {
        self.keys.dims()[0]
    }

    /// Slots that fit before the buffers have to grow.
    pub fn capacity(&self) -> usize {
        self.keys.dims()[3]
    }

    /// An empty cache for `heads` heads of slots like `qkv`'s.
    fn empty(qkv: &Tensor<3>, heads: usize, capacity: usize) -> Self {
        let [batch, _, width] = qkv.dims();
        let (size, options) = (width / (3 * heads), (&qkv.device(), qkv.dtype()));
        Self {
            keys: Tensor::zeros([batch, heads, size, capacity], options),
            values: Tensor::zeros([batch, heads, capacity, size], options),
            len: 0,
        }
    }

    /// Writes the keys and values of `qkv` [b, n, 3·d] behind the slots in use.
    fn append(mut self, qkv: Tensor<3>, heads: usize, rotary: &Rotary) -> Self {
        let end = self.len + qkv.dims()[1];
        if end > self.capacity() {
            let capacity = end.max(2 * self.capacity());
            self.keys = grown(self.keys, 3, capacity);
            self.values = grown(self.values, 2, capacity);
        }
        if flex::generates(&qkv) {
            let (cos, sin) = (rotary.cos.clone().into_dispatch(), rotary.sin.clone().into_dispatch());
            let (keys, values) = (self.keys.into_dispatch(), self.values.into_dispatch());
            let (keys, values) = Dispatch::cache_append(qkv.into_dispatch(), cos, sin, keys, values, self.len);
            return Self { keys: Tensor::from_dispatch(keys), values: Tensor::from_dispatch(values), len: end };
        }
        let [_, keys, values] = heads_of(qkv, heads, rotary);
        let slots = self.len as i64..end as i64;
        Self {
            keys: self.keys.slice_assign(s![.., .., .., slots.clone()], keys.swap_dims(2, 3)),
            values: self.values.slice_assign(s![.., .., slots, ..], values),
            len: end,
        }
    }
}

/// The same slots with zeros appended along `dim` up to `capacity`.
fn grown(x: Tensor<4>, dim: usize, capacity: usize) -> Tensor<4> {
    let mut shape = x.dims();
    shape[dim] = capacity - shape[dim];
    let room = Tensor::zeros(shape, (&x.device(), x.dtype()));
    Tensor::cat(vec![x, room], dim)
}

/// [`attention`] over a prompt, and the cache to go on from, with room for `capacity` slots in all.
pub fn prefill(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    capacity: usize,
) -> (Tensor<3>, KvCache) {
    let capacity = capacity.max(qkv.dims()[1]);
    let cache = KvCache::empty(&qkv, heads, capacity).append(qkv.clone(), heads, rotary);
    (attention(qkv, heads, rotary, key_mask), cache)
}

/// One more slot: `qkv` [b, 1, 3·d] with its angles attends to the cache and itself -> [b, 1, d].
///
/// `key_mask` [b, len + 1] covers the cached slots and the new one. The cache grows in place unless it is shared.
pub fn step(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    cache: KvCache,
) -> (Tensor<3>, KvCache) {
    assert_eq!(key_mask.dims(), [cache.rows(), cache.len + 1], "step: the mask covers the cache and the new slot");
    let cache = cache.append(qkv.clone(), heads, rotary);
    let (keys, values) = (cache.keys.clone(), cache.values.clone());
    if flex::generates(&qkv) {
        let (cos, sin) = (rotary.cos.clone().into_dispatch(), rotary.sin.clone().into_dispatch());
        let (keys, values, mask) = (keys.into_dispatch(), values.into_dispatch(), key_mask.into_dispatch());
        let out = Dispatch::cache_attend(qkv.into_dispatch(), cos, sin, mask, keys, values);
        return (Tensor::from_dispatch(out), cache);
    }
    let [query, _, _] = heads_of(qkv, heads, rotary);
    let keys = keys.narrow(3, 0, cache.len).swap_dims(2, 3);
    let hidden = key_mask.bool_not().unsqueeze_dims::<4>(&[1, 1]);
    (merge_heads(attend(query, keys, values.narrow(2, 0, cache.len), hidden)), cache)
}

/// The cache of the rows named by `rows` [n], in that order: how finished rows leave a batch.
pub fn select_rows(cache: KvCache, rows: Tensor<1, Int>) -> KvCache {
    KvCache { keys: cache.keys.select(0, rows.clone()), values: cache.values.select(0, rows), len: cache.len }
}
