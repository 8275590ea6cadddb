//! Elementary functions and loops over slices, in explicit vectors.
//!
//! Slices may have any length: the last, incomplete vector is filled up with zeros. A function of
//! one row, such as a sum, depends on that row only.

use pulp::{Arch, Simd};

/// True if the processor has vectors with fused multiply-add; without them, these kernels would be
/// slower than plain operations.
pub(super) fn vectorised() -> bool {
    !matches!(Arch::new(), Arch::Scalar)
}

/// e^x to a relative accuracy of about 1e-7, for x in [-87, 88]; x is clamped to this range.
///
/// x = n·ln 2 + r with |r| <= ln 2 / 2: a polynomial in r (coefficients of the Cephes library)
/// times 2^n.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// Adding this constant rounds to an integer, whose low bits then hold it with the exponent's
    /// bias added.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // The bound comes first: a NaN in the second argument is kept.
    let x = simd.min_f32s(
        simd.splat_f32s(88.0),
        simd.max_f32s(simd.splat_f32s(-87.0), x),
    );
    let rounded = simd.mul_add_f32s(
        x,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUND),
    );
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_HIGH), x);
    let r = simd.mul_add_f32s(n, simd.splat_f32s(-LN_2_LOW), r);
    let p = simd.splat_f32s(1.987_569_1e-4);
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(1.398_2e-3));
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(8.333_452e-3));
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(4.166_579_6e-2));
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(1.666_666_5e-1));
    let p = simd.mul_add_f32s(p, r, simd.splat_f32s(5e-1));
    let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let mantissa = simd.mul_add_f32s(
        p,
        simd.mul_f32s(r, r),
        simd.add_f32s(r, simd.splat_f32s(1.0)),
    );
    simd.mul_f32s(mantissa, simd.transmute_f32s_u32s(power))
}

/// `out[i] = f(out[i], a[i], b[i])`.
#[inline(always)]
pub(super) fn update<S: Simd>(
    simd: S,
    out: &mut [f32],
    a: &[f32],
    b: &[f32],
    f: impl Fn(S::f32s, S::f32s, S::f32s) -> S::f32s,
) {
    let (out, out_rest) = S::as_mut_simd_f32s(out);
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let (a, b) = (&a[..out.len()], &b[..out.len()]);
    for i in 0..out.len() {
        out[i] = f(out[i], a[i], b[i]);
    }
    if !out_rest.is_empty() {
        let last = f(
            simd.partial_load_f32s(out_rest),
            simd.partial_load_f32s(&a_rest[..out_rest.len()]),
            simd.partial_load_f32s(&b_rest[..out_rest.len()]),
        );
        simd.partial_store_f32s(out_rest, last);
    }
}

/// `out[i] = f(out[i])`.
#[inline(always)]
pub(super) fn apply<S: Simd>(simd: S, out: &mut [f32], f: impl Fn(S::f32s) -> S::f32s) {
    let (out, rest) = S::as_mut_simd_f32s(out);
    for i in 0..out.len() {
        out[i] = f(out[i]);
    }
    if !rest.is_empty() {
        let last = f(simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, last);
    }
}

/// Σ a·b.
#[inline(always)]
pub(super) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(&b[..a.len()]));
    let mut total = simd.splat_f32s(0.0);
    for i in 0..a.len() {
        total = simd.mul_add_f32s(a[i], b[i], total);
    }
    if !a_rest.is_empty() {
        total = simd.mul_add_f32s(
            simd.partial_load_f32s(a_rest),
            simd.partial_load_f32s(b_rest),
            total,
        );
    }
    simd.reduce_sum_f32s(total)
}

/// Σ values.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (values, rest) = S::as_simd_f32s(values);
    let mut total = simd.splat_f32s(0.0);
    for i in 0..values.len() {
        total = simd.add_f32s(total, values[i]);
    }
    if !rest.is_empty() {
        total = simd.add_f32s(total, simd.partial_load_f32s(rest));
    }
    simd.reduce_sum_f32s(total)
}

/// The largest of `values`; -inf if there are no values.
#[inline(always)]
pub(super) fn max<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (values, rest) = S::as_simd_f32s(values);
    let mut best = simd.splat_f32s(f32::NEG_INFINITY);
    for i in 0..values.len() {
        best = simd.max_f32s(best, values[i]);
    }
    let mut best = simd.reduce_max_f32s(best);
    for i in 0..rest.len() {
        best = if rest[i] > best { rest[i] } else { best };
    }
    best
}

/// Softmax of the first `count` values, followed by zeros. The length of `row` is a whole number of
/// vectors.
///
/// The gap in the last vector counts as e^-87, which does not change a sum of at least 1.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, row: &mut [f32], count: usize) {
    let whole = count.next_multiple_of(S::F32_LANES);
    row[count..whole].fill(f32::NEG_INFINITY);
    let largest = simd.splat_f32s(max(simd, &row[..whole]));
    let (values, _) = S::as_mut_simd_f32s(&mut row[..whole]);
    let mut total = simd.splat_f32s(0.0);
    for i in 0..values.len() {
        values[i] = exp(simd, simd.sub_f32s(values[i], largest));
        total = simd.add_f32s(total, values[i]);
    }
    let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(total));
    for i in 0..values.len() {
        values[i] = simd.mul_f32s(values[i], share);
    }
    row[count..].fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::WithSimd;

    struct Exp(Vec<f32>);

    impl WithSimd for Exp {
        type Output = Vec<f32>;
        #[inline(always)]
        fn with_simd<S: Simd>(mut self, simd: S) -> Vec<f32> {
            apply(
                simd,
                &mut self.0,
                #[inline(always)]
                |x| exp(simd, x),
            );
            self.0
        }
    }

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        let grid: Vec<f32> = (-86_999..87_999).map(|step| step as f32 * 1e-3).collect();
        for (x, actual) in grid.iter().zip(Arch::new().dispatch(Exp(grid.clone()))) {
            let expected = f64::from(*x).exp();
            assert!(
                (f64::from(actual) / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON),
                "exp({x})"
            );
        }
        let edges = Arch::new().dispatch(Exp(vec![f32::NEG_INFINITY, 1e30, f32::NAN]));
        assert!(edges[0] < 1e-37 && edges[1].is_finite() && edges[2].is_nan());
    }

    struct Reductions<'a>(&'a [f32]);

    impl WithSimd for Reductions<'_> {
        type Output = [f32; 3];
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [f32; 3] {
            [
                sum(simd, self.0),
                dot(simd, self.0, self.0),
                max(simd, self.0),
            ]
        }
    }

    #[test]
    fn reductions_cover_every_length() {
        for count in 0..70 {
            let values: Vec<f32> = (0..count)
                .map(|index| (index * 7 % 31) as f32 - 40.0)
                .collect();
            let squares = values.iter().map(|value| value * value).sum::<f32>();
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(
                Arch::new().dispatch(Reductions(&values)),
                [values.iter().sum(), squares, largest]
            );
        }
    }
}
