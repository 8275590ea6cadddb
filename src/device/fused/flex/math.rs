//! Elementary functions and sums in a form that compilers turn into vector code.

use pulp::{Arch, Simd, WithSimd};

/// Running sums of a reduction, so that it fills a vector; also fixes its order on every processor.
pub(super) const LANES: usize = 16;

/// Whether the processor has vectors with fused multiply-add; without, these kernels would be slower than plain operations.
pub(super) fn vectorised() -> bool {
    !matches!(Arch::new(), Arch::Scalar)
}

/// Runs `work` compiled for the best vector unit there is. What it calls must be `#[inline(always)]`.
#[inline(always)]
pub(super) fn vectorise<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// e^x to about 1e-7 relative, for x in [-87, 88]; outside, the nearest of these.
///
/// x = n·ln 2 + r with |r| <= ln 2 / 2: a polynomial in r (coefficients of the Cephes library) times 2^n.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer that then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 5e-1);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    p.mul_add(r * r, r + 1.0) * power
}

/// The sum of `term(i)` over `0..count`.
#[inline(always)]
pub(super) fn sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let whole = count / LANES * LANES;
    let mut start = 0;
    while start < whole {
        for lane in 0..LANES {
            sums[lane] += term(start + lane);
        }
        start += LANES;
    }
    for lane in 0..count - whole {
        sums[lane] += term(whole + lane);
    }
    fold(sums, |a, b| a + b)
}

/// The largest of `values`, -inf if there are none.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut best = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            best[lane] = larger(chunk[lane], best[lane]);
        }
    }
    for lane in 0..rest.len() {
        best[lane] = larger(rest[lane], best[lane]);
    }
    fold(best, larger)
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_in_the_last_place() {
        for step in -86_999..87_999 {
            let x = step as f32 * 1e-3;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON), "exp({x})");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1e30).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_cover_every_length() {
        for count in 0..70 {
            let values: Vec<f32> = (0..count).map(|index| (index * 7 % 31) as f32).collect();
            assert_eq!(sum(count, |index| values[index]), values.iter().sum::<f32>());
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
