//! Products of skinny matrices: many rows, a few hundred columns, on one thread.
//!
//! The right-hand matrix is packed into panels a few vectors wide; a tile of rows is multiplied
//! with a panel while all its sums stay in registers. Each element is one chain of fused
//! multiply-adds in the order of the inner dimension, whatever tile it falls in, so that a row's
//! result does not depend on the number of rows.
//!
//! Inner loops use indices: iterator adaptors that are not inlined would leave the vector unit.

use pulp::{Simd, WithSimd};

/// A row-major matrix.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub data: &'a [f32],
    pub columns: usize,
}

impl<'a> Matrix<'a> {
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.data.len() / self.columns
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.columns..][..self.columns]
    }
}

/// A matrix cut into panels of `W` columns, the last filled up with zeros: panel by panel, row by
/// row.
#[derive(Default)]
pub(super) struct Panels<const W: usize> {
    data: Vec<f32>,
    depth: usize,
}

impl<const W: usize> Panels<W> {
    /// Packs a matrix, reusing the memory.
    pub fn fill(&mut self, right: Matrix<'_>) {
        self.reset(right.rows(), right.columns);
        for panel in 0..right.columns.div_ceil(W) {
            let first = panel * W;
            let count = W.min(right.columns - first);
            for k in 0..self.depth {
                let slots = &mut self.data[(panel * self.depth + k) * W..][..W];
                let row = &right.row(k)[first..][..count];
                if let Some(row) = row.first_chunk::<W>() {
                    slots.copy_from_slice(row);
                } else {
                    slots[..count].copy_from_slice(row);
                }
            }
        }
    }

    /// Packs the transpose of a matrix.
    pub fn fill_transposed(&mut self, right: Matrix<'_>) {
        self.reset(right.columns, right.rows());
        for column in 0..right.rows() {
            let row = right.row(column);
            let start = column / W * self.depth * W + column % W;
            for k in 0..row.len() {
                self.data[start + k * W] = row[k];
            }
        }
    }

    fn reset(&mut self, depth: usize, columns: usize) {
        self.depth = depth;
        self.data.clear();
        self.data.resize(depth * columns.next_multiple_of(W), 0.0);
    }

    #[inline(always)]
    pub fn panel(&self, index: usize) -> &[f32] {
        &self.data[index * self.depth * W..][..self.depth * W]
    }
}

#[inline(always)]
pub(super) fn vectors<S: Simd, const V: usize>(data: &[f32]) -> &[[S::f32s; V]] {
    S::as_simd_f32s(data).0.as_chunks::<V>().0
}

#[inline(always)]
pub(super) fn store<S: Simd, const V: usize>(out: &mut [f32], vectors: [S::f32s; V]) {
    S::as_mut_simd_f32s(out).0[..V].copy_from_slice(&vectors);
}

/// `sums + left · panel` for `M` rows of `left`, each at least as long as the panel.
#[inline(always)]
pub(super) fn tile<S: Simd, const M: usize, const V: usize>(
    simd: S,
    left: [&[f32]; M],
    panel: &[[S::f32s; V]],
    mut sums: [[S::f32s; V]; M],
) -> [[S::f32s; V]; M] {
    for (k, right) in panel.iter().enumerate() {
        for i in 0..M {
            let value = simd.splat_f32s(left[i][k]);
            for j in 0..V {
                sums[i][j] = simd.mul_add_f32s(value, right[j], sums[i][j]);
            }
        }
    }
    sums
}

/// `leftᵀ · panel` for the `M` columns of `left` (`stride` apart row to row) from `column` on.
#[inline(always)]
pub(super) fn tile_transposed<S: Simd, const M: usize, const V: usize>(
    simd: S,
    left: &[f32],
    stride: usize,
    column: usize,
    panel: &[[S::f32s; V]],
) -> [[S::f32s; V]; M] {
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    for (k, right) in panel.iter().enumerate() {
        let values = &left[k * stride + column..][..M];
        for i in 0..M {
            let value = simd.splat_f32s(values[i]);
            for j in 0..V {
                sums[i][j] = simd.mul_add_f32s(value, right[j], sums[i][j]);
            }
        }
    }
    sums
}

/// `left · right + bias`, row-major.
pub(super) struct Product<'a> {
    pub left: Matrix<'a>,
    pub right: Matrix<'a>,
    pub bias: Option<&'a [f32]>,
}

/// Columns of a panel of [`Product`]: two vectors of the widest kind.
const WIDTH: usize = 32;

impl WithSimd for Product<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let columns = self.right.columns;
        let width = columns.next_multiple_of(WIDTH);
        let mut start = vec![0.0; width];
        if let Some(bias) = self.bias {
            start[..columns].copy_from_slice(bias);
        }
        let mut panels = Panels::default();
        panels.fill(self.right);
        let out = Vec::with_capacity(self.left.rows() * columns);
        let mut strips = Strips {
            left: self.left,
            panels,
            start,
            columns,
            scratch: vec![0.0; 8 * width],
            out,
        };
        // As many sums as fit in registers: M rows of V vectors.
        match S::F32_LANES {
            16 => {
                let row = strips.multiply::<S, 8, 2>(simd, 0);
                let row = strips.multiply::<S, 4, 2>(simd, row);
                strips.multiply::<S, 1, 2>(simd, row);
            }
            8 => {
                let row = strips.multiply::<S, 2, 4>(simd, 0);
                strips.multiply::<S, 1, 4>(simd, row);
            }
            4 => {
                let row = strips.multiply::<S, 2, 8>(simd, 0);
                strips.multiply::<S, 1, 8>(simd, row);
            }
            _ => {
                strips.multiply::<S, 1, 32>(simd, 0);
            }
        }
        strips.out
    }
}

/// A product in progress, computed some rows at a time.
struct Strips<'a> {
    left: Matrix<'a>,
    panels: Panels<WIDTH>,
    /// The starting values of every row's sums, filled up with zeros to whole panels.
    start: Vec<f32>,
    columns: usize,
    scratch: Vec<f32>,
    out: Vec<f32>,
}

impl Strips<'_> {
    /// Multiplies `M` rows at a time, from `row` on, while that many remain; returns the first row
    /// left.
    #[inline(always)]
    fn multiply<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        mut row: usize,
    ) -> usize {
        let width = self.start.len();
        while row + M <= self.left.rows() {
            let mut left: [&[f32]; M] = [&[]; M];
            for i in 0..M {
                left[i] = self.left.row(row + i);
            }
            for (index, &start) in vectors::<S, V>(&self.start).iter().enumerate() {
                let sums = tile(
                    simd,
                    left,
                    vectors::<S, V>(self.panels.panel(index)),
                    [start; M],
                );
                for i in 0..M {
                    store::<S, V>(&mut self.scratch[i * width + index * WIDTH..], sums[i]);
                }
            }
            for i in 0..M {
                self.out
                    .extend_from_slice(&self.scratch[i * width..][..self.columns]);
            }
            row += M;
        }
        row
    }
}
