//! Causal rotary self-attention over whole sequences, forwards and backwards, one row and head at a
//! time.
//!
//! Padding is never computed with: only the slots that a span lists become keys, so that query `i`
//! sees the first `visible[i]` of them and no mask is needed. Tiles beyond what their rows see are
//! skipped. The backward pass recomputes the weights instead of keeping them.

use super::gemm::{Matrix, Panels};
use super::tiles::{Mix, MixTransposed, PANEL, Scores, Softmax, SoftmaxGradient};
use crate::device::fused::spans::{Query, Span, Spans};
use pulp::Arch;

/// Queries, keys and values of a batch, with the spans and the window that decide which slots each
/// query sees.
#[derive(Clone, Copy)]
pub(super) struct Heads<'a> {
    pub queries: Vectors<'a>,
    pub keys: Vectors<'a>,
    pub values: Vectors<'a>,
    pub spans: &'a Spans,
    pub heads: usize,
    /// Number of heads of keys and values, each shared by a group of consecutive heads of queries.
    pub key_heads: usize,
    pub size: usize,
    /// Number of keys that a query sees, including its own.
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
    /// Distance from one row to the next; rows count through the batch.
    row: usize,
    /// Distance from one head to the next.
    head: usize,
}

impl Strides {
    /// The layout in a tensor of rows of `width` values that holds each head's query, key and value
    /// side by side.
    pub fn interleaved(part: AttentionInput, width: usize, size: usize) -> Self {
        Self {
            first: part as usize * size,
            row: width,
            head: 3 * size,
        }
    }

    /// The layout in a tensor of its own.
    pub fn alone(width: usize, size: usize) -> Self {
        Self {
            first: 0,
            row: width,
            head: size,
        }
    }

    #[inline(always)]
    fn offset(&self, row: usize, head: usize) -> usize {
        self.first + row * self.row + head * self.head
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
        self.read_row(slot, slot, head, scale, out);
    }

    /// Copies the vector in row `row` to `out`, rotated by the angles of `slot` and scaled.
    #[inline]
    fn read_row(&self, row: usize, slot: usize, head: usize, scale: f32, out: &mut [f32]) {
        let vector = &self.values[self.place.offset(row, head)..][..self.size];
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

    /// Adds the gradient of the vector that [`Self::read_row`] read, rotated back and scaled, to
    /// that of the tensor's values, `out`.
    #[inline(always)]
    fn add_gradient(
        &self,
        [row, slot]: [usize; 2],
        head: usize,
        scale: f32,
        gradient: &[f32],
        out: &mut [f32],
    ) {
        let out = &mut out[self.place.offset(row, head)..][..self.size];
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

/// The matrices of one span and head; the memory is reused for all of them in turn.
struct Scratch {
    arch: Arch,
    /// For each query of the span, the number of keys that are not after it.
    visible: Vec<usize>,
    /// For each query of the span, how many of those are too far before it to be seen.
    hidden: Vec<usize>,
    /// For each key of the span, the first query that is not before it.
    starts: Vec<usize>,
    /// Rotated and scaled queries, rotated keys, and values, one a row.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Scores, then weights: a row of `stride` values per query, zero beyond the keys that it sees.
    weights: Vec<f32>,
    stride: usize,
    size: usize,
    right: Panels<PANEL>,
}

impl Scratch {
    fn new(problem: &Heads<'_>) -> Self {
        let [queries, keys] = problem.spans.longest();
        let stride = keys.next_multiple_of(PANEL);
        Self {
            arch: Arch::new(),
            visible: Vec::with_capacity(queries),
            hidden: Vec::with_capacity(queries),
            starts: Vec::with_capacity(keys),
            q: vec![0.0; queries * problem.size],
            k: vec![0.0; keys * problem.size],
            v: vec![0.0; keys * problem.size],
            weights: vec![0.0; queries * stride],
            stride,
            size: problem.size,
            right: Panels::default(),
        }
    }

    /// Finds what each query of a span sees.
    fn enter(&mut self, problem: &Heads<'_>, span: &Span) {
        self.visible.clear();
        self.hidden.clear();
        self.starts.clear();
        for query in &span.queries {
            self.visible.push(query.visible);
            self.hidden.push(query.first(problem.window));
        }
        let start = |key| self.visible.partition_point(|&visible| visible <= key);
        self.starts.extend((0..span.keys.len()).map(start));
    }

    /// Gathers the vectors of head `head` and computes its weights. Heads must be processed in
    /// order, so that a group shares its keys.
    fn attend(&mut self, problem: &Heads<'_>, span: &Span, head: usize) {
        let (size, stride) = (self.size, self.stride);
        for (query, q) in span.queries.iter().zip(self.q.chunks_exact_mut(size)) {
            let &Query { row, slot, .. } = query;
            problem
                .queries
                .read_row(row, slot, head, problem.scale(), q);
        }
        if head.is_multiple_of(problem.group()) {
            let shared = head / problem.group();
            for (index, &slot) in span.keys.iter().enumerate() {
                problem
                    .keys
                    .read(slot, shared, 1.0, &mut self.k[index * size..]);
                problem
                    .values
                    .read(slot, shared, 1.0, &mut self.v[index * size..]);
            }
            self.right.fill_transposed(Matrix {
                data: &self.k[..span.keys.len() * size],
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

    /// The first rows of a matrix of queries, keys or values.
    fn first<'a>(&self, rows: &'a [f32], count: usize) -> Matrix<'a> {
        Matrix {
            data: &rows[..count * self.size],
            columns: self.size,
        }
    }
}

/// The result of attention: [queries, heads·size].
pub(super) fn forward(problem: Heads<'_>) -> Vec<f32> {
    let (heads, size) = (problem.heads, problem.size);
    let mut out = vec![0.0; problem.spans.queries() * heads * size];
    let mut scratch = Scratch::new(&problem);
    let mut right = Panels::default();
    let width = size.next_multiple_of(PANEL);
    let [most, _] = problem.spans.longest();
    let mut mixed = vec![0.0; most * width];
    for span in problem.spans.iter() {
        scratch.enter(&problem, span);
        for head in 0..heads {
            scratch.attend(&problem, span, head);
            if head.is_multiple_of(problem.group()) {
                right.fill(scratch.first(&scratch.v, span.keys.len()));
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
            for (query, vector) in span.queries.iter().zip(mixed.chunks_exact(width)) {
                out[(query.row * heads + head) * size..][..size].copy_from_slice(&vector[..size]);
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
    let (heads, size) = (problem.heads, problem.size);
    let [of_queries, of_keys, of_values] = tensor;
    let mut scratch = Scratch::new(&problem);
    let (arch, stride, width) = (scratch.arch, scratch.stride, size.next_multiple_of(PANEL));
    let [most, _] = problem.spans.longest();
    let mut right = Panels::default();
    let mut mixed = vec![0.0; stride.max(most) * width];
    let mut d_out = vec![0.0; most * size];
    let mut d_scores = vec![0.0; most * stride];
    for span in problem.spans.iter() {
        scratch.enter(&problem, span);
        let (queries, keys) = (&span.queries, &span.keys);
        for head in 0..heads {
            scratch.attend(&problem, span, head);
            let shared = head / problem.group();
            let (visible, starts, weights) = (
                &scratch.visible[..],
                &scratch.starts[..],
                &scratch.weights[..],
            );
            for (query, d_out) in queries.iter().zip(d_out.chunks_exact_mut(size)) {
                d_out.copy_from_slice(&gradient[(query.row * heads + head) * size..][..size]);
            }

            // dV = Pᵀ · dO
            right.fill(scratch.first(&d_out, queries.len()));
            arch.dispatch(MixTransposed {
                left: weights,
                stride,
                right: &right,
                starts,
                size,
                out: &mut mixed,
            });
            for (&slot, vector) in keys.iter().zip(mixed.chunks_exact(width)) {
                problem
                    .values
                    .add_gradient([slot; 2], shared, 1.0, vector, &mut out[of_values]);
            }

            // dS = P ∘ (dP − Σ P ∘ dP) with dP = dO · Vᵀ
            right.fill_transposed(scratch.first(&scratch.v, keys.len()));
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
            right.fill(scratch.first(&scratch.k, keys.len()));
            arch.dispatch(Mix {
                left: &d_scores,
                stride,
                right: &right,
                visible,
                size,
                out: &mut mixed,
            });
            for (query, vector) in queries.iter().zip(mixed.chunks_exact(width)) {
                problem.queries.add_gradient(
                    [query.row, query.slot],
                    head,
                    problem.scale(),
                    vector,
                    &mut out[of_queries],
                );
            }

            // dK = dSᵀ · Q, with the queries already scaled
            right.fill(scratch.first(&scratch.q, queries.len()));
            arch.dispatch(MixTransposed {
                left: &d_scores,
                stride,
                right: &right,
                starts,
                size,
                out: &mut mixed,
            });
            for (&slot, vector) in keys.iter().zip(mixed.chunks_exact(width)) {
                problem
                    .keys
                    .add_gradient([slot; 2], shared, 1.0, vector, &mut out[of_keys]);
            }
        }
    }
}
