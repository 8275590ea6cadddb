//! Causal rotary self-attention over whole sequences, forwards and backwards, one row and head at a
//! time.
//!
//! Padding is removed first: only real slots become keys, so that slot `i` sees the first
//! `visible[i]` of them and no mask is needed. Tiles beyond what their rows see are skipped. The
//! backward pass recomputes the weights instead of keeping them.

use super::gemm::{Matrix, Panels};
use super::tiles::{Mix, MixTransposed, PANEL, Scores, Softmax, SoftmaxGradient};
use pulp::Arch;

/// Queries, keys and values of a batch, with the mask and window that decide which slots each slot
/// sees.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub queries: Vectors<'a>,
    pub keys: Vectors<'a>,
    pub values: Vectors<'a>,
    /// Nonzero at real tokens, [batch, time].
    pub real: &'a [u8],
    pub time: usize,
    pub heads: usize,
    /// Number of heads of keys and values, each shared by a group of consecutive heads of queries.
    pub key_heads: usize,
    pub size: usize,
    /// Number of real slots that a slot sees, including itself.
    pub window: Option<usize>,
}

/// One of a head's three vectors.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum AttentionInput {
    Query = 0,
    Key = 1,
    Value = 2,
}

/// The layout of one kind of vectors in a tensor's values.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    first: usize,
    /// Distance from one slot to the next; slots count through the batch.
    slot: usize,
    /// Distance from one head to the next.
    head: usize,
}

impl Strides {
    /// The layout in a tensor of rows of `width` values that holds each head's query, key and value
    /// side by side.
    pub fn interleaved(part: AttentionInput, width: usize, size: usize) -> Self {
        Self {
            first: part as usize * size,
            slot: width,
            head: 3 * size,
        }
    }

    /// The layout in a tensor of its own.
    pub fn alone(width: usize, size: usize) -> Self {
        Self {
            first: 0,
            slot: width,
            head: size,
        }
    }

    #[inline(always)]
    fn offset(&self, slot: usize, head: usize) -> usize {
        self.first + slot * self.slot + head * self.head
    }
}

/// Cosines and sines of the angles of every slot, [batch, time, half].
#[derive(Clone, Copy)]
pub(super) struct Angles<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
    pub half: usize,
}

/// The vectors of one kind.
#[derive(Clone, Copy)]
pub(super) struct Vectors<'a> {
    pub values: &'a [f32],
    pub place: Strides,
    pub size: usize,
    /// Angles by which vectors are rotated when read; `None` for values.
    pub angles: Option<Angles<'a>>,
}

impl Vectors<'_> {
    /// Half of the dimensions that rotate; they rotate in pairs that are this far apart.
    #[inline(always)]
    fn half(&self) -> usize {
        self.angles.map_or(0, |angles| angles.half)
    }

    /// Copies a vector to `out`, rotated by its slot's angles and scaled.
    #[inline]
    pub fn read(&self, slot: usize, head: usize, scale: f32, out: &mut [f32]) {
        let vector = &self.values[self.place.offset(slot, head)..][..self.size];
        let out = &mut out[..self.size];
        let half = self.half();
        if let Some(Angles { cos, sin, .. }) = self.angles {
            let (cos, sin) = (&cos[slot * half..][..half], &sin[slot * half..][..half]);
            for i in 0..half {
                let (a, b) = (vector[i], vector[i + half]);
                out[i] = scale * (a * cos[i] - b * sin[i]);
                out[i + half] = scale * (b * cos[i] + a * sin[i]);
            }
        }
        for i in 2 * half..self.size {
            out[i] = scale * vector[i];
        }
    }

    /// Adds the gradient of the vector that [`Self::read`] read, rotated back and scaled, to that
    /// of the tensor's values, `out`.
    #[inline(always)]
    fn add_gradient(
        &self,
        slot: usize,
        head: usize,
        scale: f32,
        gradient: &[f32],
        out: &mut [f32],
    ) {
        let out = &mut out[self.place.offset(slot, head)..][..self.size];
        let gradient = &gradient[..self.size];
        let half = self.half();
        if let Some(Angles { cos, sin, .. }) = self.angles {
            let (cos, sin) = (&cos[slot * half..][..half], &sin[slot * half..][..half]);
            for i in 0..half {
                let (a, b) = (gradient[i], gradient[i + half]);
                out[i] += scale * (a * cos[i] + b * sin[i]);
                out[i + half] += scale * (b * cos[i] - a * sin[i]);
            }
        }
        for i in 2 * half..self.size {
            out[i] += scale * gradient[i];
        }
    }
}

impl Heads<'_> {
    #[inline(always)]
    pub fn batch(&self) -> usize {
        self.real.len() / self.time
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        scale(self.size)
    }

    /// Number of heads of queries that share one head of keys.
    fn group(&self) -> usize {
        self.heads / self.key_heads
    }
}

/// Scale of the products of queries and keys.
#[inline(always)]
pub(super) fn scale(size: usize) -> f32 {
    1.0 / (size as f32).sqrt()
}

/// The matrices of one row and head; the memory is reused for all of them in turn.
struct Scratch {
    arch: Arch,
    /// The real slots of the row.
    slots: Vec<usize>,
    /// For each slot of the row, the number of `slots` that are not after it.
    visible: Vec<usize>,
    /// For each slot of the row, how many of those are too far before it to be seen.
    hidden: Vec<usize>,
    /// Rotated and scaled queries, rotated keys, and values: one row per slot or real slot.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Scores, then weights: a row of `stride` values per slot, zero beyond the slots that it sees.
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
            hidden: Vec::with_capacity(problem.time),
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
        self.hidden.clear();
        for slot in row * problem.time..(row + 1) * problem.time {
            if problem.real[slot] != 0 {
                self.slots.push(slot);
            }
            self.visible.push(self.slots.len());
            self.hidden.push(
                problem
                    .window
                    .map_or(0, |window| self.slots.len().saturating_sub(window)),
            );
        }
    }

    /// Gathers the vectors of head `head` and computes its weights. Heads must be processed in
    /// order, so that a group shares its keys.
    fn attend(&mut self, problem: &Heads<'_>, row: usize, head: usize) {
        let (size, stride) = (self.size, self.stride);
        for slot in 0..problem.time {
            problem.queries.read(
                row * problem.time + slot,
                head,
                problem.scale(),
                &mut self.q[slot * size..],
            );
        }
        if head.is_multiple_of(problem.group()) {
            let shared = head / problem.group();
            for (index, &slot) in self.slots.iter().enumerate() {
                problem
                    .keys
                    .read(slot, shared, 1.0, &mut self.k[index * size..]);
                problem
                    .values
                    .read(slot, shared, 1.0, &mut self.v[index * size..]);
            }
            self.right.fill_transposed(Matrix {
                data: &self.k[..self.slots.len() * size],
                columns: size,
            });
        }
        let (right, visible, hidden) = (&self.right, &self.visible[..], &self.hidden[..]);
        let out = &mut self.weights[..];
        self.arch.dispatch(Scores {
            left: &self.q,
            size,
            right,
            visible,
            out,
            stride,
        });
        self.arch.dispatch(Softmax {
            rows: &mut self.weights,
            stride,
            visible,
            hidden,
        });
    }

    /// The rows of keys or values that belong to real slots.
    fn seen<'a>(&self, rows: &'a [f32]) -> Matrix<'a> {
        Matrix {
            data: &rows[..self.slots.len() * self.size],
            columns: self.size,
        }
    }
}

/// The result of attention: [batch, time, heads·size].
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
            if head.is_multiple_of(problem.group()) {
                right.fill(scratch.seen(&scratch.v));
            }
            let (left, stride, visible) =
                (&scratch.weights[..], scratch.stride, &scratch.visible[..]);
            scratch.arch.dispatch(Mix {
                left,
                stride,
                right: &right,
                visible,
                size,
                out: &mut mixed,
            });
            for (slot, vector) in mixed.chunks_exact(width).enumerate() {
                out[((row * time + slot) * heads + head) * size..][..size]
                    .copy_from_slice(&vector[..size]);
            }
        }
    }
    out
}

/// Adds the gradients of queries, keys and values, given that of the output, to `out`; `tensor`
/// gives the index in `out` for each of the three.
pub(super) fn backward(
    problem: Heads<'_>,
    gradient: &[f32],
    out: &mut [Vec<f32>],
    tensor: [usize; 3],
) {
    let (time, heads, size) = (problem.time, problem.heads, problem.size);
    let [of_queries, of_keys, of_values] = tensor;
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
            let shared = head / problem.group();
            let (visible, slots, weights) = (
                &scratch.visible[..],
                &scratch.slots[..],
                &scratch.weights[..],
            );
            for slot in 0..time {
                let from = ((first + slot) * heads + head) * size;
                d_out[slot * size..][..size].copy_from_slice(&gradient[from..][..size]);
            }

            // dV = Pᵀ · dO
            right.fill(Matrix {
                data: &d_out,
                columns: size,
            });
            arch.dispatch(MixTransposed {
                left: weights,
                stride,
                right: &right,
                slots,
                first,
                size,
                out: &mut mixed,
            });
            for (&slot, vector) in slots.iter().zip(mixed.chunks_exact(width)) {
                problem
                    .values
                    .add_gradient(slot, shared, 1.0, vector, &mut out[of_values]);
            }

            // dS = P ∘ (dP − Σ P ∘ dP) with dP = dO · Vᵀ
            right.fill_transposed(scratch.seen(&scratch.v));
            arch.dispatch(Scores {
                left: &d_out,
                size,
                right: &right,
                visible,
                out: &mut d_scores,
                stride,
            });
            arch.dispatch(SoftmaxGradient {
                weights,
                stride,
                visible,
                gradient: &mut d_scores,
            });

            // dQ = dS · K
            right.fill(scratch.seen(&scratch.k));
            arch.dispatch(Mix {
                left: &d_scores,
                stride,
                right: &right,
                visible,
                size,
                out: &mut mixed,
            });
            for (slot, vector) in mixed.chunks_exact(width).take(time).enumerate() {
                problem.queries.add_gradient(
                    first + slot,
                    head,
                    problem.scale(),
                    vector,
                    &mut out[of_queries],
                );
            }

            // dK = dSᵀ · Q, with the queries already scaled
            right.fill(Matrix {
                data: &scratch.q,
                columns: size,
            });
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
                problem
                    .keys
                    .add_gradient(slot, shared, 1.0, vector, &mut out[of_keys]);
            }
        }
    }
}
