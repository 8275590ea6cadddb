//! Causal rotary self-attention over whole sequences, forwards and backwards, one row and head at a time.
//!
//! Padding vanishes first: only real slots become keys, so slot `i` sees the first `visible[i]` of them and no mask is
//! left. Tiles beyond what their rows see are skipped. The backward pass computes the weights again rather than keep them.

use super::gemm::{Matrix, Panels, store, tile, tile_transposed};
use super::math::{dot, softmax, update};
use pulp::{Simd, WithSimd};

/// Shapes and inputs of attention: `qkv` [batch, time, 3·heads·size] in GPT-NeoX order, angles [batch, time, half].
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub qkv: &'a [f32],
    pub cos: &'a [f32],
    pub sin: &'a [f32],
    /// Nonzero at real tokens, [batch, time].
    pub real: &'a [u8],
    pub time: usize,
    pub heads: usize,
    pub size: usize,
}

/// Which of a head's three vectors.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Part {
    Query = 0,
    Key = 1,
    Value = 2,
}

impl Heads<'_> {
    #[inline(always)]
    pub fn batch(&self) -> usize {
        self.real.len() / self.time
    }

    /// Where a vector starts in `qkv`; `slot` counts through the batch.
    #[inline(always)]
    fn offset(&self, slot: usize, head: usize, part: Part) -> usize {
        ((slot * self.heads + head) * 3 + part as usize) * self.size
    }

    /// Copies a vector to `out`, turned by its slot's angles if it is a query or key, and scaled.
    #[inline(always)]
    pub fn read(&self, slot: usize, head: usize, part: Part, scale: f32, out: &mut [f32]) {
        let vector = &self.qkv[self.offset(slot, head, part)..][..self.size];
        let out = &mut out[..self.size];
        let half = self.half();
        let turned = if part == Part::Value { 0 } else { 2 * half };
        if turned > 0 {
            let (cos, sin) = (&self.cos[slot * half..][..half], &self.sin[slot * half..][..half]);
            for i in 0..half {
                let (a, b) = (vector[i], vector[i + half]);
                out[i] = scale * (a * cos[i] - b * sin[i]);
                out[i + half] = scale * (b * cos[i] + a * sin[i]);
            }
        }
        for i in turned..self.size {
            out[i] = scale * vector[i];
        }
    }

    /// Writes the gradient of what [`Self::read`] read: turned back, and scaled.
    #[inline(always)]
    fn write_gradient(&self, slot: usize, head: usize, part: Part, scale: f32, gradient: &[f32], out: &mut [f32]) {
        let out = &mut out[self.offset(slot, head, part)..][..self.size];
        let gradient = &gradient[..self.size];
        let half = self.half();
        let turned = if part == Part::Value { 0 } else { 2 * half };
        if turned > 0 {
            let (cos, sin) = (&self.cos[slot * half..][..half], &self.sin[slot * half..][..half]);
            for i in 0..half {
                let (a, b) = (gradient[i], gradient[i + half]);
                out[i] = scale * (a * cos[i] + b * sin[i]);
                out[i + half] = scale * (b * cos[i] - a * sin[i]);
            }
        }
        for i in turned..self.size {
            out[i] = scale * gradient[i];
        }
    }

    #[inline(always)]
    fn half(&self) -> usize {
        self.cos.len() / self.real.len()
    }

    #[inline(always)]
    pub fn scale(&self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }
}

/// One row and head's matrices; the memory serves all of them in turn.
struct Scratch<S: Simd> {
    /// The real slots of the row.
    slots: Vec<usize>,
    /// How many of `slots` each slot of the row sees.
    visible: Vec<usize>,
    /// Turned and scaled queries, turned keys, values: one row per slot or real slot.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Scores, then weights: a row of `stride` per slot, zero beyond what it sees.
    weights: Vec<f32>,
    stride: usize,
    right: Panels<S, 1>,
}

impl<S: Simd> Scratch<S> {
    #[inline(always)]
    fn new(problem: &Heads<'_>) -> Self {
        let stride = problem.time.next_multiple_of(Panels::<S, 1>::WIDTH.max(8));
        let rows = problem.time * problem.size;
        Self {
            slots: Vec::with_capacity(problem.time),
            visible: Vec::with_capacity(problem.time),
            q: vec![0.0; rows],
            k: vec![0.0; rows],
            v: vec![0.0; rows],
            weights: vec![0.0; problem.time * stride],
            stride,
            right: Panels::of(Matrix { data: &[], columns: 1 }),
        }
    }

    /// Finds the real slots of a row of the batch.
    #[inline(always)]
    fn find_slots(&mut self, problem: &Heads<'_>, row: usize) {
        self.slots.clear();
        self.visible.clear();
        for slot in row * problem.time..(row + 1) * problem.time {
            if problem.real[slot] != 0 {
                self.slots.push(slot);
            }
            self.visible.push(self.slots.len());
        }
    }

    /// Gathers a head's queries, keys and values, and computes its weights.
    #[inline(always)]
    fn attend(&mut self, simd: S, problem: &Heads<'_>, row: usize, head: usize) {
        let size = problem.size;
        for slot in 0..problem.time {
            problem.read(row * problem.time + slot, head, Part::Query, problem.scale(), &mut self.q[slot * size..]);
        }
        for index in 0..self.slots.len() {
            problem.read(self.slots[index], head, Part::Key, 1.0, &mut self.k[index * size..]);
            problem.read(self.slots[index], head, Part::Value, 1.0, &mut self.v[index * size..]);
        }
        self.right.fill_transposed(Matrix { data: &self.k[..self.slots.len() * size], columns: size });
        scores(simd, &self.q, size, &self.right, &self.visible, &mut self.weights, self.stride);
        for slot in 0..problem.time {
            softmax(simd, &mut self.weights[slot * self.stride..][..self.stride], self.visible[slot]);
        }
    }

    fn values(&self, size: usize) -> Matrix<'_> {
        Matrix { data: &self.v[..self.slots.len() * size], columns: size }
    }

    fn keys(&self, size: usize) -> Matrix<'_> {
        Matrix { data: &self.k[..self.slots.len() * size], columns: size }
    }
}

/// `left · right` where row `i` needs only its first `visible[i]` columns.
#[inline(always)]
fn scores<S: Simd>(
    simd: S,
    left: &[f32],
    size: usize,
    right: &Panels<S, 1>,
    visible: &[usize],
    out: &mut [f32],
    stride: usize,
) {
    let mut row = 0;
    while row < visible.len() {
        row = if row + 8 <= visible.len() {
            score_rows::<S, 8>(simd, left, size, row, right, visible[row + 7], out, stride)
        } else {
            score_rows::<S, 1>(simd, left, size, row, right, visible[row], out, stride)
        };
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "an inner kernel on plain slices")]
fn score_rows<S: Simd, const M: usize>(
    simd: S,
    left: &[f32],
    size: usize,
    row: usize,
    right: &Panels<S, 1>,
    columns: usize,
    out: &mut [f32],
    stride: usize,
) -> usize {
    let mut rows: [&[f32]; M] = [&[]; M];
    for i in 0..M {
        rows[i] = &left[(row + i) * size..][..size];
    }
    for panel in 0..columns.div_ceil(Panels::<S, 1>::WIDTH) {
        let sums = tile(simd, rows, right.panel(panel), [[simd.splat_f32s(0.0)]; M]);
        for i in 0..M {
            store::<S, 1>(&mut out[(row + i) * stride + panel * Panels::<S, 1>::WIDTH..], sums[i]);
        }
    }
    row + M
}

/// `weights · right` (`right` packed, `size` columns); `emit(slot, vector)` receives each row.
#[inline(always)]
fn mix<S: Simd>(
    simd: S,
    weights: &[f32],
    stride: usize,
    right: &Panels<S, 1>,
    visible: &[usize],
    size: usize,
    line: &mut [f32],
    mut emit: impl FnMut(usize, &[f32]),
) {
    let width = size.next_multiple_of(Panels::<S, 1>::WIDTH);
    let mut row = 0;
    while row < visible.len() {
        let many = row + 8 <= visible.len();
        for panel in 0..size.div_ceil(Panels::<S, 1>::WIDTH) {
            let at = panel * Panels::<S, 1>::WIDTH;
            if many {
                mix_rows::<S, 8>(
                    simd,
                    weights,
                    stride,
                    row,
                    &right.panel(panel)[..visible[row + 7]],
                    &mut line[at..],
                    width,
                );
            } else {
                mix_rows::<S, 1>(
                    simd,
                    weights,
                    stride,
                    row,
                    &right.panel(panel)[..visible[row]],
                    &mut line[at..],
                    width,
                );
            }
        }
        for i in 0..if many { 8 } else { 1 } {
            emit(row + i, &line[i * width..][..size]);
        }
        row += if many { 8 } else { 1 };
    }
}

#[inline(always)]
fn mix_rows<S: Simd, const M: usize>(
    simd: S,
    weights: &[f32],
    stride: usize,
    row: usize,
    panel: &[[S::f32s; 1]],
    out: &mut [f32],
    width: usize,
) {
    let mut rows: [&[f32]; M] = [&[]; M];
    for i in 0..M {
        rows[i] = &weights[(row + i) * stride..][..stride];
    }
    let sums = tile(simd, rows, panel, [[simd.splat_f32s(0.0)]; M]);
    for i in 0..M {
        store::<S, 1>(&mut out[i * width..], sums[i]);
    }
}

/// `weightsᵀ · right` (`right` packed, a row per slot); `emit(index, vector)` receives the row of each real slot.
#[inline(always)]
fn mix_transposed<S: Simd>(
    simd: S,
    scratch: (&[f32], usize),
    right: &Panels<S, 1>,
    slots: &[usize],
    first: usize,
    size: usize,
    line: &mut [f32],
    mut emit: impl FnMut(usize, &[f32]),
) {
    let (weights, stride) = scratch;
    let width = size.next_multiple_of(Panels::<S, 1>::WIDTH);
    for index in (0..slots.len()).step_by(8) {
        let start = slots[index] - first;
        for panel in 0..size.div_ceil(Panels::<S, 1>::WIDTH) {
            let right = &right.panel(panel)[start..];
            let sums = tile_transposed::<S, 8, 1>(simd, &weights[start * stride..], stride, index, right);
            for i in 0..8 {
                store::<S, 1>(&mut line[i * width + panel * Panels::<S, 1>::WIDTH..], sums[i]);
            }
        }
        for i in 0..8.min(slots.len() - index) {
            emit(index + i, &line[i * width..][..size]);
        }
    }
}

/// Attention: [batch, time, heads·size].
pub(super) struct Forward<'a>(pub Heads<'a>);

impl WithSimd for Forward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let Self(problem) = self;
        let (time, heads, size) = (problem.time, problem.heads, problem.size);
        let mut out = vec![0.0; problem.real.len() * heads * size];
        let mut scratch = Scratch::<S>::new(&problem);
        let mut right = Panels::<S, 1>::of(Matrix { data: &[], columns: 1 });
        let mut line = vec![0.0; 8 * size.next_multiple_of(Panels::<S, 1>::WIDTH)];
        for row in 0..problem.batch() {
            scratch.find_slots(&problem, row);
            for head in 0..heads {
                scratch.attend(simd, &problem, row, head);
                right.fill(scratch.values(size));
                mix(
                    simd,
                    &scratch.weights,
                    scratch.stride,
                    &right,
                    &scratch.visible,
                    size,
                    &mut line,
                    #[inline(always)]
                    |slot: usize, vector: &[f32]| {
                        out[((row * time + slot) * heads + head) * size..][..size].copy_from_slice(vector);
                    },
                );
            }
        }
        out
    }
}

/// The gradient of `qkv` given that of the output.
pub(super) struct Backward<'a> {
    pub heads: Heads<'a>,
    pub gradient: &'a [f32],
}

impl WithSimd for Backward<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let problem = self.heads;
        let (time, heads, size) = (problem.time, problem.heads, problem.size);
        let mut out = vec![0.0; problem.qkv.len()];
        let mut scratch = Scratch::<S>::new(&problem);
        let stride = scratch.stride;
        let mut right = Panels::<S, 1>::of(Matrix { data: &[], columns: 1 });
        let mut line = vec![0.0; 8 * size.next_multiple_of(Panels::<S, 1>::WIDTH)];
        let mut d_out = vec![0.0; time * size];
        let mut d_scores = vec![0.0; time * stride];
        for row in 0..problem.batch() {
            scratch.find_slots(&problem, row);
            let first = row * time;
            for head in 0..heads {
                scratch.attend(simd, &problem, row, head);
                for slot in 0..time {
                    let from = ((first + slot) * heads + head) * size;
                    d_out[slot * size..][..size].copy_from_slice(&self.gradient[from..][..size]);
                }

                // dV = Pᵀ · dO
                right.fill(Matrix { data: &d_out, columns: size });
                let weights = (&scratch.weights[..], stride);
                mix_transposed(
                    simd,
                    weights,
                    &right,
                    &scratch.slots,
                    first,
                    size,
                    &mut line,
                    #[inline(always)]
                    |index: usize, vector: &[f32]| {
                        problem.write_gradient(scratch.slots[index], head, Part::Value, 1.0, vector, &mut out);
                    },
                );

                // dS = P ∘ (dP − Σ P ∘ dP) with dP = dO · Vᵀ
                right.fill_transposed(scratch.values(size));
                scores(simd, &d_out, size, &right, &scratch.visible, &mut d_scores, stride);
                for slot in 0..time {
                    let weights = &scratch.weights[slot * stride..][..stride];
                    softmax_gradient(simd, weights, scratch.visible[slot], &mut d_scores[slot * stride..][..stride]);
                }

                // dQ = dS · K
                right.fill(scratch.keys(size));
                mix(
                    simd,
                    &d_scores,
                    stride,
                    &right,
                    &scratch.visible,
                    size,
                    &mut line,
                    #[inline(always)]
                    |slot: usize, vector: &[f32]| {
                        problem.write_gradient(first + slot, head, Part::Query, problem.scale(), vector, &mut out);
                    },
                );

                // dK = dSᵀ · Q, the queries scaled already
                right.fill(Matrix { data: &scratch.q, columns: size });
                mix_transposed(
                    simd,
                    (&d_scores, stride),
                    &right,
                    &scratch.slots,
                    first,
                    size,
                    &mut line,
                    #[inline(always)]
                    |index: usize, vector: &[f32]| {
                        problem.write_gradient(scratch.slots[index], head, Part::Key, 1.0, vector, &mut out);
                    },
                );
            }
        }
        out
    }
}

/// Turns the gradient of the weights of one slot into that of its scores; zeros behind the `count` seen.
#[inline(always)]
fn softmax_gradient<S: Simd>(simd: S, weights: &[f32], count: usize, gradient: &mut [f32]) {
    let (seen, unseen) = gradient.split_at_mut(count);
    let weights = &weights[..count];
    let level = simd.splat_f32s(dot(simd, seen, weights));
    update(
        simd,
        seen,
        weights,
        weights,
        #[inline(always)]
        |g, weight, _| simd.mul_f32s(weight, simd.sub_f32s(g, level)),
    );
    unseen.fill(0.0);
}
