//! Products of skinny matrices: many rows, a few hundred columns, on one thread.
//!
//! The right-hand matrix is packed into panels a few vectors wide; a tile of rows is multiplied with a panel while all its
//! sums stay in registers. Each element is one chain of fused multiply-adds in the order of the inner dimension, whatever
//! tile it falls in, so a row's result does not depend on how many rows there are.
//!
//! Inner loops count indices: iterator adaptors that are not inlined would leave the vector unit.

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

/// A matrix cut into panels of `V` vectors of columns, the last filled up with zeros: panel by panel, row by row.
pub(super) struct Panels<S: Simd, const V: usize> {
    data: Vec<f32>,
    depth: usize,
    simd: std::marker::PhantomData<S>,
}

impl<S: Simd, const V: usize> Panels<S, V> {
    pub const WIDTH: usize = V * S::F32_LANES;

    /// Packs the matrix.
    #[inline(always)]
    pub fn of(right: Matrix<'_>) -> Self {
        let mut panels = Self { data: Vec::new(), depth: 0, simd: std::marker::PhantomData };
        panels.fill(right);
        panels
    }

    /// Packs another matrix into the same memory.
    #[inline(always)]
    pub fn fill(&mut self, right: Matrix<'_>) {
        self.reset(right.rows(), right.columns);
        for panel in 0..right.columns.div_ceil(Self::WIDTH) {
            let first = panel * Self::WIDTH;
            let count = Self::WIDTH.min(right.columns - first);
            for k in 0..self.depth {
                let slots = &mut self.data[(panel * self.depth + k) * Self::WIDTH..][..Self::WIDTH];
                let row = &right.row(k)[first..];
                if count == Self::WIDTH {
                    slots.copy_from_slice(&row[..Self::WIDTH]);
                } else {
                    slots[..count].copy_from_slice(&row[..count]);
                }
            }
        }
    }

    /// Packs the transpose of a matrix into the same memory.
    #[inline(always)]
    pub fn fill_transposed(&mut self, right: Matrix<'_>) {
        self.reset(right.columns, right.rows());
        for column in 0..right.rows() {
            let row = right.row(column);
            let start = column / Self::WIDTH * self.depth * Self::WIDTH + column % Self::WIDTH;
            for k in 0..row.len() {
                self.data[start + k * Self::WIDTH] = row[k];
            }
        }
    }

    #[inline(always)]
    fn reset(&mut self, depth: usize, columns: usize) {
        self.depth = depth;
        self.data.clear();
        self.data.resize(depth * columns.next_multiple_of(Self::WIDTH), 0.0);
    }

    #[inline(always)]
    pub fn panel(&self, index: usize) -> &[[S::f32s; V]] {
        let size = self.depth * Self::WIDTH;
        vectors::<S, V>(&self.data[index * size..][..size])
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

impl WithSimd for Product<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let columns = self.right.columns;
        let width = columns.next_multiple_of(Panels::<S, 2>::WIDTH);
        let mut start = vec![0.0; width];
        if let Some(bias) = self.bias {
            start[..columns].copy_from_slice(bias);
        }
        let mut strips = Strips {
            simd,
            left: self.left,
            panels: Panels::of(self.right),
            start,
            columns,
            scratch: vec![0.0; 8 * width],
            out: Vec::with_capacity(self.left.rows() * columns),
        };
        let mut row = 0;
        if S::F32_LANES >= 16 {
            row = strips.multiply::<8>(row);
        }
        row = strips.multiply::<4>(row);
        strips.multiply::<1>(row);
        strips.out
    }
}

/// A product under way, some rows at a time.
struct Strips<'a, S: Simd> {
    simd: S,
    left: Matrix<'a>,
    panels: Panels<S, 2>,
    /// What every row's sums start from, filled up with zeros to whole panels.
    start: Vec<f32>,
    columns: usize,
    scratch: Vec<f32>,
    out: Vec<f32>,
}

impl<S: Simd> Strips<'_, S> {
    /// Multiplies `M` rows at a time from `row` on while there are as many; returns the first row left.
    #[inline(always)]
    fn multiply<const M: usize>(&mut self, mut row: usize) -> usize {
        let width = self.start.len();
        while row + M <= self.left.rows() {
            let mut left: [&[f32]; M] = [&[]; M];
            for i in 0..M {
                left[i] = self.left.row(row + i);
            }
            for (index, &start) in vectors::<S, 2>(&self.start).iter().enumerate() {
                let sums = tile(self.simd, left, self.panels.panel(index), [start; M]);
                for i in 0..M {
                    store::<S, 2>(&mut self.scratch[i * width + index * Panels::<S, 2>::WIDTH..], sums[i]);
                }
            }
            for i in 0..M {
                self.out.extend_from_slice(&self.scratch[i * width..][..self.columns]);
            }
            row += M;
        }
        row
    }
}
