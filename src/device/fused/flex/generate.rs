//! Generation: the key-value cache in place, and drawing tokens.

use super::attention::{Heads, Part, softmax};
use super::math::{exp, max, vectorise};

/// Keys [batch, heads, size, capacity] and values [batch, heads, capacity, size], to write.
pub(super) struct Room<'a> {
    pub keys: &'a mut [f32],
    pub values: &'a mut [f32],
    pub capacity: usize,
}

impl Room<'_> {
    /// Writes every slot of `new` at slots `at..`.
    pub fn append(&mut self, new: &Heads<'_>, at: usize) {
        let size = new.size;
        let mut key = vec![0.0; size];
        vectorise(
            #[inline(always)]
            || {
                for slot in 0..new.real.len() {
                    let (row, place) = (slot / new.time, at + slot % new.time);
                    for head in 0..new.heads {
                        let start = (row * new.heads + head) * size * self.capacity;
                        new.read(slot, head, Part::Key, 1.0, &mut key);
                        for i in 0..size {
                            self.keys[start + i * self.capacity + place] = key[i];
                        }
                        new.read(slot, head, Part::Value, 1.0, &mut self.values[start + place * size..]);
                    }
                }
            },
        );
    }
}

/// The same, to read.
pub(super) struct Past<'a> {
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub capacity: usize,
}

impl Past<'_> {
    /// Attention of one new slot a row, already appended, over the first `len` slots; `real` is [batch, len].
    pub fn attend(&self, new: &Heads<'_>, real: &[u8], len: usize) -> Vec<f32> {
        let size = new.size;
        let mut out = vec![0.0; new.real.len() * new.heads * size];
        let (mut query, mut weights) = (vec![0.0; size], vec![0.0; len]);
        let mut packed = vec![0.0; len];
        vectorise(
            #[inline(always)]
            || {
                for row in 0..new.real.len() {
                    let real = &real[row * len..][..len];
                    let whole = real.iter().all(|&slot| slot != 0);
                    for head in 0..new.heads {
                        let start = (row * new.heads + head) * size * self.capacity;
                        new.read(row, head, Part::Query, new.scale(), &mut query);
                        let weights = &mut weights[..len];
                        weights.fill(0.0);
                        for i in 0..size {
                            let (keys, q) = (&self.keys[start + i * self.capacity..][..len], query[i]);
                            for slot in 0..len {
                                weights[slot] = q.mul_add(keys[slot], weights[slot]);
                            }
                        }
                        if whole {
                            softmax(weights, len);
                        } else {
                            softmax_of_real(weights, real, &mut packed);
                        }
                        let out = &mut out[(row * new.heads + head) * size..][..size];
                        for slot in 0..len {
                            let (values, weight) = (&self.values[start + slot * size..][..size], weights[slot]);
                            for i in 0..size {
                                out[i] = weight.mul_add(values[i], out[i]);
                            }
                        }
                    }
                }
            },
        );
        out
    }
}

/// Softmax over the real slots alone; zeros elsewhere.
#[inline(always)]
fn softmax_of_real(weights: &mut [f32], real: &[u8], packed: &mut [f32]) {
    let mut count = 0;
    for slot in 0..weights.len() {
        if real[slot] != 0 {
            packed[count] = weights[slot];
            count += 1;
        }
    }
    softmax(packed, count);
    count = 0;
    for slot in 0..weights.len() {
        if real[slot] != 0 {
            weights[slot] = packed[count];
            count += 1;
        } else {
            weights[slot] = 0.0;
        }
    }
}

/// How to draw: see [`sample`](super::super::sample).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampling {
    pub temperature: f32,
    pub top_p: f32,
}

/// One token for each row of `logits`.
pub(super) fn sample(logits: &[f32], width: usize, sampling: Sampling, uniforms: &[f32]) -> Vec<i64> {
    let mut mass = vec![0.0; width];
    let mut order: Vec<usize> = Vec::new();
    let mut tokens = Vec::with_capacity(uniforms.len());
    vectorise(
        #[inline(always)]
        || {
            for (index, row) in logits.chunks_exact(width).enumerate() {
                if sampling.temperature == 0.0 {
                    tokens.push(argmax(row) as i64);
                    continue;
                }
                masses(row, sampling.temperature, &mut mass);
                tokens.push(if sampling.top_p < 1.0 {
                    draw_from_nucleus(&mass, sampling.top_p, uniforms[index], &mut order) as i64
                } else {
                    invert(&mass, uniforms[index]) as i64
                });
            }
        },
    );
    tokens
}

/// The first index of the largest value.
#[inline(always)]
fn argmax(row: &[f32]) -> usize {
    let largest = max(row);
    row.iter().position(|&value| value == largest).unwrap_or(0)
}

/// Unnormalised probabilities at a temperature, the largest 1; none where a logit is too low for one to show.
#[inline(always)]
fn masses(row: &[f32], temperature: f32, out: &mut [f32]) {
    let (largest, out) = (max(row), &mut out[..row.len()]);
    for i in 0..row.len() {
        let x = (row[i] - largest) / temperature;
        out[i] = if x < -87.0 { 0.0 } else { exp(x) };
    }
}

/// The first index whose cumulated mass exceeds `uniform` times the total.
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

/// [`invert`] among the most likely tokens, likeliest first and equals by number, that reach the share `top_p`.
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
