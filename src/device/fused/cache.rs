//! The key-value cache: keys and values of past slots, kept so that generating one token costs one
//! slot's work. Inference only.

use super::compose::{attend, heads_of, merge_heads};
use super::flex::{self, Generation, Slots};
#[cfg(feature = "tch")]
use super::libtorch;
use super::{AttentionShape, Projections, Rotary, attention};
use burn::backend::Dispatch;
use burn::tensor::{Bool, Int, Tensor, TensorData, s};

/// The rotated keys and the values of every slot so far, in buffers with room to append.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// [b, key_heads, capacity, head_size]; for [`flex`]'s kernels [b, key_heads, head_size,
    /// capacity], where the numbers of one dimension are contiguous, ready to be multiplied by a
    /// query's.
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
        self.values.dims()[2]
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
        let slots = [batch, key_heads, capacity, head_size];
        let turned = [batch, key_heads, head_size, capacity];
        let of_keys = match flex::generates(&like) {
            true => turned,
            false => slots,
        };
        Self {
            keys: Tensor::zeros(of_keys, options),
            values: Tensor::zeros(slots, options),
            len: 0,
        }
    }

    /// The cache with room for `slots` more slots.
    fn with_room(mut self, slots: usize) -> Self {
        let (end, capacity) = (self.len + slots, self.capacity());
        if end > capacity {
            let capacity = end.max(2 * capacity);
            let of_slots = if flex::generates(&self.keys) { 3 } else { 2 };
            self.keys = grown(self.keys, of_slots, capacity);
            self.values = grown(self.values, 2, capacity);
        }
        self
    }

    /// Writes the keys and values of `projections`, of `n` slots, after the slots in use.
    /// Only for tensors that [`flex`]'s kernels support.
    fn append(self, projections: &Projections, shape: &AttentionShape, rotary: &Rotary) -> Self {
        let [_, n, _] = projections.queries().dims();
        let Self { keys, values, len } = self.with_room(n);
        let (cos, sin) = (
            rotary.cos.clone().into_dispatch(),
            rotary.sin.clone().into_dispatch(),
        );
        let [new_keys, new_values] = projections.keys_and_values().map(Tensor::into_dispatch);
        let (keys, values) = (keys.into_dispatch(), values.into_dispatch());
        let slots = Slots::of(projections, shape, len);
        let (keys, values) =
            Dispatch::cache_append(new_keys, new_values, cos, sin, keys, values, slots);
        Self {
            keys: Tensor::from_dispatch(keys),
            values: Tensor::from_dispatch(values),
            len: len + n,
        }
    }

    /// Writes keys and values [b, key_heads, n, head_size], the keys rotated, after the slots in use.
    fn append_heads(self, keys: Tensor<4>, values: Tensor<4>) -> Self {
        let [_, _, n, _] = keys.dims();
        let cache = self.with_room(n);
        let end = cache.len + n;
        let slots = cache.len as i64..end as i64;
        Self {
            keys: cache.keys.slice_assign(s![.., .., slots.clone(), ..], keys),
            values: cache.values.slice_assign(s![.., .., slots, ..], values),
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
    let cache = KvCache::empty(&projections, shape, capacity.max(time));
    let cache = if flex::generates(&cache.keys) {
        cache.append(&projections, shape, rotary)
    } else {
        let [_, keys, values] = heads_of(projections.clone(), shape, [rotary; 2]);
        cache.append_heads(keys, values)
    };
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
    if flex::generates(&cache.keys) {
        let cache = cache.append(&projections, shape, rotary);
        let (keys, values) = (cache.keys.clone(), cache.values.clone());
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
    let [query, keys, values] = heads_of(projections, shape, [rotary; 2]);
    let cache = cache.append_heads(keys, values);
    let [keys, values] =
        [&cache.keys, &cache.values].map(|slots| slots.clone().narrow(2, 0, cache.len));
    (merge_heads(attend_to(query, keys, values, mask)), cache)
}

/// Attention of one query a head, [b, heads, 1, head_size], over the keys and values of slots where
/// `mask` [b, slots] is true.
fn attend_to(
    query: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    mask: Tensor<2, Bool>,
) -> Tensor<4> {
    let mask = mask.unsqueeze_dims::<4>(&[1, 1]);
    #[cfg(feature = "tch")]
    if libtorch::runs(&query) {
        return libtorch::attend(query, keys, values, mask);
    }
    attend(query, keys, values, mask.bool_not())
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
