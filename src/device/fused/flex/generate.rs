//! Generation: the key-value cache updated in place, and sampling of tokens.

use super::attention::{Vectors, scale};
use super::math::{apply, exp, max, softmax, update};
use pulp::{Simd, WithSimd};

/// Keys and values of new slots, `time` slots per row.
pub(super) struct NewSlots<'a> {
    pub keys: Vectors<'a>,
    pub values: Vectors<'a>,
    pub batch: usize,
    pub time: usize,
    /// Heads of keys and values.
    pub heads: usize,
    pub size: usize,
}

impl NewSlots<'_> {
    /// Writes every slot to the slots `at..` of the cache: `keys` [batch, heads, size, capacity],
    /// `values` [batch, heads, capacity, size].
    pub fn append(&self, keys: &mut [f32], values: &mut [f32], capacity: usize, at: usize) {
        let size = self.size;
        let mut key = vec![0.0; size];
        for slot in 0..self.batch * self.time {
            let (row, place) = (slot / self.time, at + slot % self.time);
            for head in 0..self.heads {
                let start = (row * self.heads + head) * size * capacity;
                self.keys.read(slot, head, 1.0, &mut key);
                for i in 0..size {
                    keys[start + i * capacity + place] = key[i];
                }
                self.values
                    .read(slot, head, 1.0, &mut values[start + place * size..]);
            }
        }
    }
}

/// Attention of one new slot per row over the cache, which already contains it.
pub(super) struct AttendToCache<'a> {
    /// The queries, one slot per row.
    pub queries: Vectors<'a>,
    pub heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    pub size: usize,
    /// [batch, key_heads, size, capacity].
    pub keys: &'a [f32],
    /// [batch, key_heads, capacity, size].
    pub values: &'a [f32],
    pub batch: usize,
    pub capacity: usize,
    /// Nonzero at visible tokens, [batch, slots in use].
    pub real: &'a [u8],
}

impl WithSimd for AttendToCache<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self {
            heads,
            size,
            batch: rows,
            ..
        } = self;
        let group = heads / self.key_heads;
        let len = self.real.len() / rows;
        let mut out = vec![0.0; rows * heads * size];
        let mut query = vec![0.0; size];
        let mut weights = vec![0.0; len.next_multiple_of(S::F32_LANES)];
        let mut packed = weights.clone();
        for row in 0..rows {
            let real = &self.real[row * len..][..len];
            for head in 0..heads {
                let start = (row * self.key_heads + head / group) * size * self.capacity;
                self.queries.read(row, head, scale(size), &mut query);
                weights.fill(0.0);
                for i in 0..size {
                    let keys = &self.keys[start + i * self.capacity..][..len];
                    let q = simd.splat_f32s(query[i]);
                    update(
                        simd,
                        &mut weights[..len],
                        keys,
                        keys,
                        #[inline(always)]
                        |sum, key, _| simd.mul_add_f32s(q, key, sum),
                    );
                }
                softmax_of_real(simd, &mut weights, real, &mut packed);
                let out = &mut out[(row * heads + head) * size..][..size];
                for slot in 0..len {
                    let values = &self.values[start + slot * size..][..size];
                    let weight = simd.splat_f32s(weights[slot]);
                    update(
                        simd,
                        out,
                        values,
                        values,
                        #[inline(always)]
                        |sum, value, _| simd.mul_add_f32s(weight, value, sum),
                    );
                }
            }
        }
        out
    }
}

/// Softmax over the real slots only; zeros elsewhere. `packed` is working memory of the same length
/// as `weights`.
#[inline(always)]
fn softmax_of_real<S: Simd>(simd: S, weights: &mut [f32], real: &[u8], packed: &mut [f32]) {
    let mut count = 0;
    for slot in 0..real.len() {
        packed[count] = weights[slot];
        count += usize::from(real[slot] != 0);
    }
    softmax(simd, packed, count);
    count = 0;
    for slot in 0..real.len() {
        let shown = real[slot] != 0;
        weights[slot] = if shown { packed[count] } else { 0.0 };
        count += usize::from(shown);
    }
}

/// One token for each row of `logits`: see [`sample`](super::super::sample).
pub(super) struct Sample<'a> {
    pub logits: &'a [f32],
    pub width: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub uniforms: &'a [f32],
}

impl WithSimd for Sample<'_> {
    type Output = Vec<i64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<i64> {
        let mut mass = vec![0.0; self.width];
        let mut order = Vec::new();
        let mut tokens = Vec::with_capacity(self.uniforms.len());
        for (index, row) in self.logits.chunks_exact(self.width).enumerate() {
            let largest = max(simd, row);
            let token = if self.temperature == 0.0 {
                row.iter().position(|&value| value == largest).unwrap_or(0)
            } else {
                masses(simd, row, largest, self.temperature, &mut mass);
                if self.top_p < 1.0 {
                    draw_from_nucleus(&mass, self.top_p, self.uniforms[index], &mut order)
                } else {
                    invert(&mass, self.uniforms[index])
                }
            };
            tokens.push(token as i64);
        }
        tokens
    }
}

/// Unnormalised probabilities at a temperature, scaled so that the largest is 1; zero where a logit
/// is too low to matter.
#[inline(always)]
fn masses<S: Simd>(simd: S, row: &[f32], largest: f32, temperature: f32, out: &mut [f32]) {
    let (largest, temperature) = (simd.splat_f32s(largest), simd.splat_f32s(temperature));
    update(
        simd,
        out,
        row,
        row,
        #[inline(always)]
        |_, x, _| simd.div_f32s(simd.sub_f32s(x, largest), temperature),
    );
    apply(
        simd,
        out,
        #[inline(always)]
        |x| {
            let negligible = simd.less_than_f32s(x, simd.splat_f32s(-87.0));
            simd.select_f32s(negligible, simd.splat_f32s(0.0), exp(simd, x))
        },
    );
}

/// The first index whose cumulated mass exceeds `uniform` times the total; never an index without
/// mass.
fn invert(mass: &[f32], uniform: f32) -> usize {
    let threshold = uniform * mass.iter().sum::<f32>();
    let (mut cumulated, mut last) = (0.0, 0);
    for (index, &mass) in mass.iter().enumerate() {
        if mass > 0.0 {
            cumulated += mass;
            last = index;
            if cumulated > threshold {
                return index;
            }
        }
    }
    last
}

/// [`invert`] among the most likely tokens that reach the share `top_p`, likeliest first and equal
/// ones by number.
fn draw_from_nucleus(mass: &[f32], top_p: f32, uniform: f32, order: &mut Vec<usize>) -> usize {
    order.clear();
    order.extend(0..mass.len());
    order.sort_by(|&a, &b| mass[b].total_cmp(&mass[a]));
    let threshold = top_p * mass.iter().sum::<f32>();
    let mut cumulated = 0.0;
    let kept: Vec<f32> = order
        .iter()
        .enumerate()
        .take_while(|&(rank, &token)| {
            let keep = rank == 0 || cumulated < threshold;
            cumulated += mass[token];
            keep
        })
        .map(|(_, &token)| mass[token])
        .collect();
    order[invert(&kept, uniform)]
}
