//! The key-value cache: keys and values of past slots, kept so that generating one token costs one
//! slot's work. Inference only.

use super::compose::{attend, heads_of, merge_heads};
use super::flex::{self, Generation, Slots};
use super::{AttentionShape, Projections, Rotary, attention};
use burn::backend::Dispatch;
use burn::tensor::{Bool, Int, Tensor, TensorData, s};

/// The rotated keys and the values of every slot so far, in buffers with room to append.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// [b, key_heads, head_size, capacity]: the values of one dimension are contiguous, ready to be
    /// multiplied by a query's.
    keys: Tensor<4>,
    /// [b, key_heads, capacity, head_size].
    values: Tensor<4>,
    /// Number of slots in use.
    len: usize,
}

impl KvCache {
    /// Number of slots in use.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of rows in the batch.
    pub fn rows(&self) -> usize {
        self.keys.dims()[0]
    }

    /// Number of slots that fit before the buffers must grow.
    pub fn capacity(&self) -> usize {
        self.keys.dims()[3]
    }

    /// An empty cache for slots like those of `projections`.
    fn empty(projections: &Projections, shape: &AttentionShape, capacity: usize) -> Self {
        let like = projections.queries();
        let ([batch, _, _], options) = (like.dims(), (&like.device(), like.dtype()));
        let AttentionShape {
            key_heads,
            head_size,
            ..
        } = *shape;
        Self {
            keys: Tensor::zeros([batch, key_heads, head_size, capacity], options),
            values: Tensor::zeros([batch, key_heads, capacity, head_size], options),
            len: 0,
        }
    }

    /// Writes the keys and values of `projections`, of `n` slots, after the slots in use.
    fn append(mut self, projections: Projections, shape: &AttentionShape, rotary: &Rotary) -> Self {
        let [_, n, _] = projections.queries().dims();
        let end = self.len + n;
        if end > self.capacity() {
            let capacity = end.max(2 * self.capacity());
            self.keys = grown(self.keys, 3, capacity);
            self.values = grown(self.values, 2, capacity);
        }
        if flex::generates(&self.keys) {
            let (cos, sin) = (
                rotary.cos.clone().into_dispatch(),
                rotary.sin.clone().into_dispatch(),
            );
            let [new_keys, new_values] = projections.keys_and_values().map(Tensor::into_dispatch);
            let (keys, values) = (self.keys.into_dispatch(), self.values.into_dispatch());
            let slots = Slots::of(&projections, shape, self.len);
            let (keys, values) =
                Dispatch::cache_append(new_keys, new_values, cos, sin, keys, values, slots);
            return Self {
                keys: Tensor::from_dispatch(keys),
                values: Tensor::from_dispatch(values),
                len: end,
            };
        }
        let [_, keys, values] = heads_of(projections, shape, [rotary; 2]);
        let slots = self.len as i64..end as i64;
        Self {
            keys: self
                .keys
                .slice_assign(s![.., .., .., slots.clone()], keys.swap_dims(2, 3)),
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

/// The columns of `key_mask` [b, len] that the last slot attends to.
fn seen(key_mask: Tensor<2, Bool>, window: Option<usize>) -> Tensor<2, Bool> {
    let [rows, columns] = key_mask.dims();
    let Some(window) = window.filter(|window| *window < columns) else {
        return key_mask;
    };
    let near: Vec<bool> = (0..columns)
        .map(|column| column + window >= columns)
        .collect();
    let near =
        Tensor::<2, Bool>::from_data(TensorData::new(near, [1, columns]), &key_mask.device());
    key_mask.bool_and(near.expand([rows, columns]))
}

/// Runs [`attention`] over a prompt and returns its result with a cache to continue from, with room
/// for `capacity` slots in total.
pub fn prefill(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    capacity: usize,
) -> (Tensor<3>, KvCache) {
    let [_, time, _] = projections.queries().dims();
    let cache = KvCache::empty(&projections, shape, capacity.max(time)).append(
        projections.clone(),
        shape,
        rotary,
    );
    (attention(projections, shape, rotary, key_mask), cache)
}

/// Adds one slot: `projections` of that slot alone, with its angles, attend to the cache and to
/// itself -> [b, 1, heads · head_size].
///
/// `key_mask` [b, len + 1] covers the cached slots and the new one. The cache grows in place unless
/// it is shared.
pub fn step(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
    cache: KvCache,
) -> (Tensor<3>, KvCache) {
    assert_eq!(
        key_mask.dims(),
        [cache.rows(), cache.len + 1],
        "step: the mask covers the cache and the new slot"
    );
    let mask = seen(key_mask, shape.window);
    let cache = cache.append(projections.clone(), shape, rotary);
    let (keys, values) = (cache.keys.clone(), cache.values.clone());
    if flex::generates(&keys) {
        let (cos, sin) = (
            rotary.cos.clone().into_dispatch(),
            rotary.sin.clone().into_dispatch(),
        );
        let slots = Slots::of(&projections, shape, cache.len);
        let (queries, mask) = (projections.queries().into_dispatch(), mask.into_dispatch());
        let out = Dispatch::cache_attend(
            queries,
            cos,
            sin,
            mask,
            keys.into_dispatch(),
            values.into_dispatch(),
            slots,
        );
        return (Tensor::from_dispatch(out), cache);
    }
    let [query, _, _] = heads_of(projections, shape, [rotary; 2]);
    let keys = keys.narrow(3, 0, cache.len).swap_dims(2, 3);
    let hidden = mask.bool_not().unsqueeze_dims::<4>(&[1, 1]);
    (
        merge_heads(attend(query, keys, values.narrow(2, 0, cache.len), hidden)),
        cache,
    )
}

/// The cache of the rows named by `rows` [n], in that order; used to remove finished rows from a
/// batch.
pub fn select_rows(cache: KvCache, rows: Tensor<1, Int>) -> KvCache {
    KvCache {
        keys: cache.keys.select(0, rows.clone()),
        values: cache.values.select(0, rows),
        len: cache.len,
    }
}
