//! Normalisation, activations and log-probabilities on row-major slices, with their gradients.

use super::math::{apply, dot, exp, max, sum, update};
use pulp::{Simd, WithSimd};

/// Writes a row minus its mean to `out`; returns the reciprocal of its standard deviation.
#[inline(always)]
fn centre<S: Simd>(simd: S, row: &[f32], epsilon: f32, out: &mut [f32]) -> f32 {
    let width = row.len() as f32;
    let mean = simd.splat_f32s(sum(simd, row) / width);
    update(
        simd,
        out,
        row,
        row,
        #[inline(always)]
        |_, x, _| simd.sub_f32s(x, mean),
    );
    1.0 / (dot(simd, out, out) / width + epsilon).sqrt()
}

/// Normalised rows of `x`, scaled by `gamma` and shifted by `beta`.
pub(super) struct LayerNorm<'a> {
    pub x: &'a [f32],
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub epsilon: f32,
}

impl WithSimd for LayerNorm<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.x.len());
        let mut line = vec![0.0; self.gamma.len()];
        for row in self.x.chunks_exact(self.gamma.len()) {
            let scale = simd.splat_f32s(centre(simd, row, self.epsilon, &mut line));
            update(
                simd,
                &mut line,
                self.gamma,
                self.beta,
                #[inline(always)]
                |x, gamma, beta| simd.mul_add_f32s(simd.mul_f32s(x, scale), gamma, beta),
            );
            out.extend_from_slice(&line);
        }
        out
    }
}

/// The gradients of a layer normalisation's input, scale and shift.
///
/// With x̂ the normalised row and h = g·γ: dx = (h − mean(h) − x̂·mean(h·x̂)) / σ, dγ = Σ g·x̂, dβ
/// = Σ g.
pub(super) struct LayerNormGradient<'a> {
    pub x: &'a [f32],
    pub gamma: &'a [f32],
    pub epsilon: f32,
    pub gradient: &'a [f32],
}

impl WithSimd for LayerNormGradient<'_> {
    type Output = [Vec<f32>; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 3] {
        let width = self.gamma.len();
        let mut dx = Vec::with_capacity(self.x.len());
        let (mut d_gamma, mut d_beta) = (vec![0.0; width], vec![0.0; width]);
        let (mut unit, mut line) = (vec![0.0; width], vec![0.0; width]);
        for (index, row) in self.x.chunks_exact(width).enumerate() {
            let g = &self.gradient[index * width..][..width];
            let scale = simd.splat_f32s(centre(simd, row, self.epsilon, &mut unit));
            apply(
                simd,
                &mut unit,
                #[inline(always)]
                |x| simd.mul_f32s(x, scale),
            );
            update(
                simd,
                &mut line,
                g,
                self.gamma,
                #[inline(always)]
                |_, g, gamma| simd.mul_f32s(g, gamma),
            );
            update(
                simd,
                &mut d_gamma,
                g,
                &unit,
                #[inline(always)]
                |sum, g, unit| simd.mul_add_f32s(g, unit, sum),
            );
            update(
                simd,
                &mut d_beta,
                g,
                g,
                #[inline(always)]
                |sum, g, _| simd.add_f32s(sum, g),
            );
            let level = simd.splat_f32s(sum(simd, &line) / width as f32);
            let tilt = simd.splat_f32s(dot(simd, &line, &unit) / width as f32);
            update(
                simd,
                &mut line,
                &unit,
                &unit,
                #[inline(always)]
                |h, unit, _| {
                    let flat = simd.sub_f32s(simd.sub_f32s(h, level), simd.mul_f32s(unit, tilt));
                    simd.mul_f32s(flat, scale)
                },
            );
            dx.extend_from_slice(&line);
        }
        [dx, d_gamma, d_beta]
    }
}

/// The reciprocal of a row's root mean square.
#[inline(always)]
fn inverse_rms<S: Simd>(simd: S, row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(simd, row, row) / row.len() as f32 + epsilon).sqrt()
}

/// Rows of `x` divided by their root mean square and scaled by `gamma`.
pub(super) struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub gamma: &'a [f32],
    pub epsilon: f32,
}

impl WithSimd for RmsNorm<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.x.len());
        let mut line = vec![0.0; self.gamma.len()];
        for row in self.x.chunks_exact(self.gamma.len()) {
            let scale = simd.splat_f32s(inverse_rms(simd, row, self.epsilon));
            update(
                simd,
                &mut line,
                row,
                self.gamma,
                #[inline(always)]
                |_, x, gamma| simd.mul_f32s(simd.mul_f32s(x, scale), gamma),
            );
            out.extend_from_slice(&line);
        }
        out
    }
}

/// The gradients of the input and the scale of a root-mean-square normalisation.
///
/// With x̂ the normalised row, r the reciprocal of its root mean square and h = g·γ: dx = r·(h −
/// x̂·mean(h·x̂)), dγ = Σ g·x̂.
pub(super) struct RmsNormGradient<'a> {
    pub x: &'a [f32],
    pub gamma: &'a [f32],
    pub epsilon: f32,
    pub gradient: &'a [f32],
}

impl WithSimd for RmsNormGradient<'_> {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 2] {
        let width = self.gamma.len();
        let mut dx = Vec::with_capacity(self.x.len());
        let mut d_gamma = vec![0.0; width];
        let (mut unit, mut line) = (vec![0.0; width], vec![0.0; width]);
        for (index, row) in self.x.chunks_exact(width).enumerate() {
            let g = &self.gradient[index * width..][..width];
            let scale = simd.splat_f32s(inverse_rms(simd, row, self.epsilon));
            update(
                simd,
                &mut unit,
                row,
                row,
                #[inline(always)]
                |_, x, _| simd.mul_f32s(x, scale),
            );
            update(
                simd,
                &mut line,
                g,
                self.gamma,
                #[inline(always)]
                |_, g, gamma| simd.mul_f32s(g, gamma),
            );
            update(
                simd,
                &mut d_gamma,
                g,
                &unit,
                #[inline(always)]
                |sum, g, unit| simd.mul_add_f32s(g, unit, sum),
            );
            let tilt = simd.splat_f32s(dot(simd, &line, &unit) / width as f32);
            update(
                simd,
                &mut line,
                &unit,
                &unit,
                #[inline(always)]
                |h, unit, _| simd.mul_f32s(simd.sub_f32s(h, simd.mul_f32s(unit, tilt)), scale),
            );
            dx.extend_from_slice(&line);
        }
        [dx, d_gamma]
    }
}

/// Number of values that elementwise kernels handle at once: long enough to amortise overhead,
/// short enough for the L1 cache.
const CHUNK: usize = 1024;

/// x·Φ(x) and its derivative Φ(x) + x·φ(x).
///
/// Φ from the rational approximation 7.1.26 of Abramowitz & Stegun (1964): |error of erf| <=
/// 1.5e-7, no cancellation in the left tail.
#[inline(always)]
fn gelu_at<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    /// 1 / √(2π).
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    const SLOPE: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    let density = exp(
        simd,
        simd.mul_f32s(simd.mul_f32s(x, simd.splat_f32s(-0.5)), x),
    );
    let t = simd.div_f32s(
        simd.splat_f32s(1.0),
        simd.mul_add_f32s(
            simd.max_f32s(x, simd.sub_f32s(simd.splat_f32s(0.0), x)),
            simd.splat_f32s(SLOPE),
            simd.splat_f32s(1.0),
        ),
    );
    let p = simd.splat_f32s(1.061_405_4);
    let p = simd.mul_add_f32s(p, t, simd.splat_f32s(-1.453_152));
    let p = simd.mul_add_f32s(p, t, simd.splat_f32s(1.421_413_8));
    let p = simd.mul_add_f32s(p, t, simd.splat_f32s(-0.284_496_74));
    let p = simd.mul_add_f32s(p, t, simd.splat_f32s(0.254_829_6));
    let tail = simd.mul_f32s(
        simd.mul_f32s(p, simd.mul_f32s(t, simd.splat_f32s(0.5))),
        density,
    );
    let left = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    let cumulative = simd.select_f32s(left, tail, simd.sub_f32s(simd.splat_f32s(1.0), tail));
    let slope = simd.mul_add_f32s(
        simd.mul_f32s(x, simd.splat_f32s(DENSITY_AT_ZERO)),
        density,
        cumulative,
    );
    (simd.mul_f32s(x, cumulative), slope)
}

/// GELU of every value.
pub(super) struct Gelu<'a>(pub &'a [f32]);

impl WithSimd for Gelu<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.0.len());
        let mut line = [0.0; CHUNK];
        for chunk in self.0.chunks(CHUNK) {
            let line = &mut line[..chunk.len()];
            update(
                simd,
                line,
                chunk,
                chunk,
                #[inline(always)]
                |_, x, _| gelu_at(simd, x).0,
            );
            out.extend_from_slice(line);
        }
        out
    }
}

/// GELU and its derivative at every value.
pub(super) struct GeluWithDerivative<'a>(pub &'a [f32]);

impl WithSimd for GeluWithDerivative<'_> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut slopes) = (
            Vec::with_capacity(self.0.len()),
            Vec::with_capacity(self.0.len()),
        );
        let (mut line, mut slope) = ([0.0; CHUNK], [0.0; CHUNK]);
        for chunk in self.0.chunks(CHUNK) {
            let (line, slope) = (&mut line[..chunk.len()], &mut slope[..chunk.len()]);
            update(
                simd,
                line,
                chunk,
                chunk,
                #[inline(always)]
                |_, x, _| gelu_at(simd, x).0,
            );
            update(
                simd,
                slope,
                chunk,
                chunk,
                #[inline(always)]
                |_, x, _| gelu_at(simd, x).1,
            );
            out.extend_from_slice(line);
            slopes.extend_from_slice(slope);
        }
        (out, slopes)
    }
}

/// σ(x) = 1 / (1 + e^−x).
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(
        one,
        simd.add_f32s(one, exp(simd, simd.sub_f32s(simd.splat_f32s(0.0), x))),
    )
}

/// gate·σ(gate)·up of every value.
pub(super) struct SiluGate<'a> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
}

impl WithSimd for SiluGate<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.gate.len());
        let mut line = [0.0; CHUNK];
        for (gate, up) in self.gate.chunks(CHUNK).zip(self.up.chunks(CHUNK)) {
            let line = &mut line[..gate.len()];
            update(
                simd,
                line,
                gate,
                up,
                #[inline(always)]
                |_, gate, up| simd.mul_f32s(simd.mul_f32s(gate, sigmoid(simd, gate)), up),
            );
            out.extend_from_slice(line);
        }
        out
    }
}

/// The gradients of gate and up: dgate = g·up·σ·(1 + gate·(1 − σ)), dup = g·gate·σ.
pub(super) struct SiluGateGradient<'a> {
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub gradient: &'a [f32],
}

impl WithSimd for SiluGateGradient<'_> {
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Vec<f32>; 2] {
        let (mut d_gate, mut d_up) = (self.gradient.to_vec(), self.gradient.to_vec());
        let one = simd.splat_f32s(1.0);
        update(
            simd,
            &mut d_gate,
            self.gate,
            self.up,
            #[inline(always)]
            |g, gate, up| {
                let share = sigmoid(simd, gate);
                let slope = simd.mul_add_f32s(gate, simd.sub_f32s(one, share), one);
                simd.mul_f32s(simd.mul_f32s(g, up), simd.mul_f32s(share, slope))
            },
        );
        update(
            simd,
            &mut d_up,
            self.gate,
            self.gate,
            #[inline(always)]
            |g, gate, _| simd.mul_f32s(g, simd.mul_f32s(gate, sigmoid(simd, gate))),
        );
        [d_gate, d_up]
    }
}

/// `values[i] *= factors[i]`.
pub(super) struct Multiply<'a> {
    pub values: &'a mut [f32],
    pub factors: &'a [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        update(
            simd,
            self.values,
            self.factors,
            self.factors,
            #[inline(always)]
            |x, y, _| simd.mul_f32s(x, y),
        );
    }
}

/// Sums over the rows of `x`, one per column.
pub(super) struct ColumnSums<'a> {
    pub x: &'a [f32],
    pub width: usize,
}

impl WithSimd for ColumnSums<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut sums = vec![0.0; self.width];
        for row in self.x.chunks_exact(self.width) {
            update(
                simd,
                &mut sums,
                row,
                row,
                #[inline(always)]
                |sum, x, _| simd.add_f32s(sum, x),
            );
        }
        sums
    }
}

/// Log of the sum of exponentials of each row of `logits`.
pub(super) struct LogTotals<'a> {
    pub logits: &'a [f32],
    pub width: usize,
}

impl WithSimd for LogTotals<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.logits.len() / self.width);
        let mut line = vec![0.0; self.width];
        for row in self.logits.chunks_exact(self.width) {
            let largest = max(simd, row);
            let shift = simd.splat_f32s(largest);
            update(
                simd,
                &mut line,
                row,
                row,
                #[inline(always)]
                |_, x, _| exp(simd, simd.sub_f32s(x, shift)),
            );
            out.push(largest + sum(simd, &line).ln());
        }
        out
    }
}

/// Replaces each row of `logits` by the gradient of its target's log-probability, (onehot −
/// softmax)·g.
pub(super) struct LogProbGradient<'a> {
    pub logits: &'a mut [f32],
    pub width: usize,
    pub targets: &'a [usize],
    pub log_totals: &'a [f32],
    pub gradient: &'a [f32],
}

impl WithSimd for LogProbGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (index, row) in self.logits.chunks_exact_mut(self.width).enumerate() {
            let (total, share) = (
                simd.splat_f32s(self.log_totals[index]),
                simd.splat_f32s(-self.gradient[index]),
            );
            apply(
                simd,
                row,
                #[inline(always)]
                |x| simd.mul_f32s(share, exp(simd, simd.sub_f32s(x, total))),
            );
            row[self.targets[index]] += self.gradient[index];
        }
    }
}
