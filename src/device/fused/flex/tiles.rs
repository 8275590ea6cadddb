//! The matrix products of one head's attention; each skips the parts that its rows do not see.
//!
//! Each product enters the vector unit separately, instead of one entry for the whole pass: only a
//! small function keeps all its sums in registers.

use super::gemm::{Panels, store, tile, tile_transposed, vectors};
use super::math::{dot, softmax, update};
use pulp::{Simd, WithSimd};

/// Columns of a panel: one vector of the widest kind.
pub(super) const PANEL: usize = 16;

/// `left · right`, of which row `i` needs only the first `visible[i]` columns; rows of `out` are
/// `stride` apart.
pub(super) struct Scores<'a> {
    pub left: &'a [f32],
    pub size: usize,
    pub right: &'a Panels<PANEL>,
    pub visible: &'a [usize],
    pub out: &'a mut [f32],
    pub stride: usize,
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 8, 1>(simd),
            8 => self.run::<S, 4, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, 1, 16>(simd),
        }
    }
}

impl Scores<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const V: usize>(&mut self, simd: S) {
        let whole = self.visible.len() / M * M;
        for row in (0..whole).step_by(M) {
            self.rows::<S, M, V>(simd, row);
        }
        for row in whole..self.visible.len() {
            self.rows::<S, 1, V>(simd, row);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, row: usize) {
        let mut left: [&[f32]; M] = [&[]; M];
        for i in 0..M {
            left[i] = &self.left[(row + i) * self.size..][..self.size];
        }
        for panel in 0..self.visible[row + M - 1].div_ceil(PANEL) {
            let right = vectors::<S, V>(self.right.panel(panel));
            let sums = tile(simd, left, right, [[simd.splat_f32s(0.0); V]; M]);
            for i in 0..M {
                store::<S, V>(
                    &mut self.out[(row + i) * self.stride + panel * PANEL..],
                    sums[i],
                );
            }
        }
    }
}

/// `left · right` where row `i` of `left` is zero from its `visible[i]`th column on: rows of
/// `size`, `out`'s padded to whole panels.
pub(super) struct Mix<'a> {
    pub left: &'a [f32],
    pub stride: usize,
    pub right: &'a Panels<PANEL>,
    pub visible: &'a [usize],
    pub size: usize,
    pub out: &'a mut [f32],
}

impl WithSimd for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 8, 1>(simd),
            8 => self.run::<S, 4, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, 1, 16>(simd),
        }
    }
}

impl Mix<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const V: usize>(&mut self, simd: S) {
        let whole = self.visible.len() / M * M;
        for row in (0..whole).step_by(M) {
            self.rows::<S, M, V>(simd, row);
        }
        for row in whole..self.visible.len() {
            self.rows::<S, 1, V>(simd, row);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, row: usize) {
        let panels = self.size.div_ceil(PANEL);
        let mut left: [&[f32]; M] = [&[]; M];
        for i in 0..M {
            left[i] = &self.left[(row + i) * self.stride..][..self.stride];
        }
        for panel in 0..panels {
            let right = &vectors::<S, V>(self.right.panel(panel))[..self.visible[row + M - 1]];
            let sums = tile(simd, left, right, [[simd.splat_f32s(0.0); V]; M]);
            for i in 0..M {
                store::<S, V>(
                    &mut self.out[((row + i) * panels + panel) * PANEL..],
                    sums[i],
                );
            }
        }
    }
}

/// `leftᵀ · right`, with one row for each of `starts`: the first row of `left` in which its column
/// may be nonzero, in ascending order.
pub(super) struct MixTransposed<'a> {
    pub left: &'a [f32],
    pub stride: usize,
    pub right: &'a Panels<PANEL>,
    pub starts: &'a [usize],
    pub size: usize,
    pub out: &'a mut [f32],
}

impl WithSimd for MixTransposed<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 8, 1>(simd),
            8 => self.run::<S, 4, 2>(simd),
            4 => self.run::<S, 4, 4>(simd),
            _ => self.run::<S, 1, 16>(simd),
        }
    }
}

impl MixTransposed<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const V: usize>(&mut self, simd: S) {
        let panels = self.size.div_ceil(PANEL);
        for index in (0..self.starts.len()).step_by(M) {
            let start = self.starts[index];
            let left = &self.left[start * self.stride..];
            for panel in 0..panels {
                let right = &vectors::<S, V>(self.right.panel(panel))[start..];
                let sums = tile_transposed::<S, M, V>(simd, left, self.stride, index, right);
                for i in 0..M {
                    store::<S, V>(
                        &mut self.out[((index + i) * panels + panel) * PANEL..],
                        sums[i],
                    );
                }
            }
        }
    }
}

/// Softmax of the first `visible[i]` values of each row except the first `hidden[i]`; zeros before
/// and after them.
pub(super) struct Softmax<'a> {
    pub rows: &'a mut [f32],
    pub stride: usize,
    pub visible: &'a [usize],
    pub hidden: &'a [usize],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, (&count, &hidden)) in self.visible.iter().zip(self.hidden).enumerate() {
            let row = &mut self.rows[row * self.stride..][..self.stride];
            row[..hidden].fill(f32::NEG_INFINITY);
            softmax(simd, row, count);
            row[..hidden].fill(0.0);
        }
    }
}

/// Replaces the gradient of each row's weights by that of its scores; zeros after the first
/// `visible[i]`.
pub(super) struct SoftmaxGradient<'a> {
    pub weights: &'a [f32],
    pub stride: usize,
    pub visible: &'a [usize],
    pub gradient: &'a mut [f32],
}

impl WithSimd for SoftmaxGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, &count) in self.visible.iter().enumerate() {
            let (seen, unseen) =
                self.gradient[row * self.stride..][..self.stride].split_at_mut(count);
            let weights = &self.weights[row * self.stride..][..count];
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
    }
}
