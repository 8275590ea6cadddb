//! Keys and values of past slots, kept so that generating one token costs one slot's work. Inference only.

use super::compose::{Rotary, attend, attention, heads_of, merge_heads};
use burn::tensor::{Bool, Int, Tensor, s};

/// The rotated keys and the values of every slot so far, in buffers with room to append.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// [b, heads, capacity, head_dim], like `values`.
    keys: Tensor<4>,
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
        self.keys.dims()[2]
    }

    /// Writes `keys` and `values` [b, heads, n, head_dim] behind the slots in use.
    fn append(mut self, keys: Tensor<4>, values: Tensor<4>) -> Self {
        let added = keys.dims()[2];
        let end = self.len + added;
        if end > self.capacity() {
            let capacity = end.max(2 * self.capacity());
            self.keys = grown(self.keys, capacity);
            self.values = grown(self.values, capacity);
        }
        let slots = s![.., .., self.len as i64..end as i64, ..];
        Self { keys: self.keys.slice_assign(slots, keys), values: self.values.slice_assign(slots, values), len: end }
    }
}

/// The same slots with zeros appended up to `capacity`.
fn grown(x: Tensor<4>, capacity: usize) -> Tensor<4> {
    let [batch, heads, slots, size] = x.dims();
    let room = Tensor::zeros([batch, heads, capacity.saturating_sub(slots), size], (&x.device(), x.dtype()));
    Tensor::cat(vec![x, room], 2)
}

/// [`attention`] over a prompt, and the cache to go on from, with room for `capacity` slots in all.
pub fn prefill(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    capacity: usize,
) -> (Tensor<3>, KvCache) {
    let [_, keys, values] = heads_of(qkv.clone(), heads, rotary);
    let len = keys.dims()[2];
    let cache = KvCache { keys: grown(keys, capacity.max(len)), values: grown(values, capacity.max(len)), len };
    (attention(qkv, heads, rotary, key_mask), cache)
}

/// One more slot: `qkv` [b, 1, 3·d] with its angles attends to the cache and itself -> [b, 1, d].
///
/// `key_mask` [b, len + 1] covers the cached slots and the new one.
pub fn step(
    qkv: Tensor<3>,
    heads: usize,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    cache: KvCache,
) -> (Tensor<3>, KvCache) {
    let [query, key, value] = heads_of(qkv, heads, rotary);
    let cache = cache.append(key, value);
    let keys = cache.keys.clone().narrow(2, 0, cache.len);
    let values = cache.values.clone().narrow(2, 0, cache.len);
    let hidden = key_mask.bool_not().unsqueeze_dims::<4>(&[1, 1]);
    (merge_heads(attend(query, keys, values, hidden)), cache)
}

/// The cache of the rows named by `rows` [n], in that order: how finished rows leave a batch.
pub fn select_rows(cache: KvCache, rows: Tensor<1, Int>) -> KvCache {
    KvCache { keys: cache.keys.select(0, rows.clone()), values: cache.values.select(0, rows), len: cache.len }
}
