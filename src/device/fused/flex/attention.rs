//! Causal rotary self-attention over whole sequences, forwards and backwards, one row and head at a time.
//!
//! Padding vanishes first: only real slots become keys, so slot `i` sees the first `visible[i]` of them and no mask is
//! left. Tiles beyond what their rows see are skipped. The backward pass computes the weights again rather than keep them.

use super::gemm::{Matrix, Panels};
use super::tiles::{Mix, MixTransposed, PANEL, Scores, Softmax, SoftmaxGradient};
use pulp::Arch;

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
    #[inline]
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
struct Scratch {
    arch: Arch,
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
    size: usize,
    right: Panels<PANEL>,
}

impl Scratch {
    fn new(problem: &Heads<'_>) -> Self {
        let stride = problem.time.next_multiple_of(PANEL);
        let rows = problem.time * problem.size;
        Self {
            arch: Arch::new(),
            slots: Vec::with_capacity(problem.time),
            visible: Vec::with_capacity(problem.time),
            q: vec![0.0; rows],
            k: vec![0.0; rows],
            v: vec![0.0; rows],
            weights: vec![0.0; problem.time * stride],
            stride,
            size: problem.size,
            right: Panels::default(),
        }
    }

    /// Finds the real slots of a row of the batch.
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
    fn attend(&mut self, problem: &Heads<'_>, row: usize, head: usize) {
        let (size, stride) = (self.size, self.stride);
        for slot in 0..problem.time {
            problem.read(row * problem.time + slot, head, Part::Query, problem.scale(), &mut self.q[slot * size..]);
        }
        for (index, &slot) in self.slots.iter().enumerate() {
            problem.read(slot, head, Part::Key, 1.0, &mut self.k[index * size..]);
            problem.read(slot, head, Part::Value, 1.0, &mut self.v[index * size..]);
        }
        self.right.fill_transposed(self.seen(&self.k));
        let (right, visible) = (&self.right, &self.visible[..]);
        let out = &mut self.weights[..];
        self.arch.dispatch(Scores { left: &self.q, size, right, visible, out, stride });
        self.arch.dispatch(Softmax { rows: &mut self.weights, stride, visible });
    }

    /// The rows of keys or values that belong to real slots.
    fn seen<'a>(&self, rows: &'a [f32]) -> Matrix<'a> {
        Matrix { data: &rows[..self.slots.len() * self.size], columns: self.size }
    }
}

/// Attention: [batch, time, heads·size].
pub(super) fn forward(problem: Heads<'_>) -> Vec<f32> {
    let (time, heads, size) = (problem.time, problem.heads, problem.size);
    let mut out = vec![0.0; problem.real.len() * heads * size];
    let mut scratch = Scratch::new(&problem);
    let mut right = Panels::default();
    let mut mixed = vec![0.0; time * size.next_multiple_of(PANEL)];
    let width = size.next_multiple_of(PANEL);
    for row in 0..problem.batch() {
        scratch.find_slots(&problem, row);
        for head in 0..heads {
            scratch.attend(&problem, row, head);
            right.fill(scratch.seen(&scratch.v));
            let (left, stride, visible) = (&scratch.weights[..], scratch.stride, &scratch.visible[..]);
            scratch.arch.dispatch(Mix { left, stride, right: &right, visible, size, out: &mut mixed });
            for (slot, vector) in mixed.chunks_exact(width).enumerate() {
                out[((row * time + slot) * heads + head) * size..][..size].copy_from_slice(&vector[..size]);
            }
        }
    }
    out
}

/// The gradient of `qkv` given that of the output.
pub(super) fn backward(problem: Heads<'_>, gradient: &[f32]) -> Vec<f32> {
    let (time, heads, size) = (problem.time, problem.heads, problem.size);
    let mut out = vec![0.0; problem.qkv.len()];
    let mut scratch = Scratch::new(&problem);
    let (arch, stride, width) = (scratch.arch, scratch.stride, size.next_multiple_of(PANEL));
    let mut right = Panels::default();
    let mut mixed = vec![0.0; stride * width];
    let mut d_out = vec![0.0; time * size];
    let mut d_scores = vec![0.0; time * stride];
    for row in 0..problem.batch() {
        scratch.find_slots(&problem, row);
        let first = row * time;
        for head in 0..heads {
            scratch.attend(&problem, row, head);
            let (visible, slots, weights) = (&scratch.visible[..], &scratch.slots[..], &scratch.weights[..]);
            for slot in 0..time {
                let from = ((first + slot) * heads + head) * size;
                d_out[slot * size..][..size].copy_from_slice(&gradient[from..][..size]);
            }

            // dV = Pᵀ · dO
            right.fill(Matrix { data: &d_out, columns: size });
            arch.dispatch(MixTransposed { left: weights, stride, right: &right, slots, first, size, out: &mut mixed });
            for (&slot, vector) in slots.iter().zip(mixed.chunks_exact(width)) {
                problem.write_gradient(slot, head, Part::Value, 1.0, vector, &mut out);
            }

            // dS = P ∘ (dP − Σ P ∘ dP) with dP = dO · Vᵀ
            right.fill_transposed(scratch.seen(&scratch.v));
            arch.dispatch(Scores { left: &d_out, size, right: &right, visible, out: &mut d_scores, stride });
            arch.dispatch(SoftmaxGradient { weights, stride, visible, gradient: &mut d_scores });

            // dQ = dS · K
            right.fill(scratch.seen(&scratch.k));
            arch.dispatch(Mix { left: &d_scores, stride, right: &right, visible, size, out: &mut mixed });
            for (slot, vector) in mixed.chunks_exact(width).take(time).enumerate() {
                problem.write_gradient(first + slot, head, Part::Query, problem.scale(), vector, &mut out);
            }

            // dK = dSᵀ · Q, the queries scaled already
            right.fill(Matrix { data: &scratch.q, columns: size });
            arch.dispatch(MixTransposed {
                left: &d_scores,
                stride,
                right: &right,
                slots,
                first,
                size,
                out: &mut mixed,
            });
            for (&slot, vector) in slots.iter().zip(mixed.chunks_exact(width)) {
                problem.write_gradient(slot, head, Part::Key, 1.0, vector, &mut out);
            }
        }
    }
    out
}
