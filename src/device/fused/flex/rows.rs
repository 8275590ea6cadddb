//! Layer normalisation, GELU and log-probabilities on row-major slices, with their gradients.

use super::math::{exp, max, sum, vectorise};

/// Mean and reciprocal standard deviation of a row.
#[inline(always)]
fn moments(row: &[f32], epsilon: f32) -> (f32, f32) {
    let width = row.len() as f32;
    let mean = sum(row.len(), |i| row[i]) / width;
    let variance = sum(row.len(), |i| (row[i] - mean) * (row[i] - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Normalised rows of `x`, scaled by `gamma` and shifted by `beta`.
pub(super) fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> Vec<f32> {
    let width = gamma.len();
    let mut out = Vec::with_capacity(x.len());
    let mut line = vec![0.0; width];
    vectorise(
        #[inline(always)]
        || {
            for row in x.chunks_exact(width) {
                let (mean, scale) = moments(row, epsilon);
                let (gamma, beta, line) = (&gamma[..width], &beta[..width], &mut line[..width]);
                for i in 0..width {
                    line[i] = ((row[i] - mean) * scale).mul_add(gamma[i], beta[i]);
                }
                out.extend_from_slice(line);
            }
        },
    );
    out
}

/// Gradients of a layer normalisation.
pub(super) struct LayerNormGradient {
    pub x: Vec<f32>,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// With x̂ the normalised row and h = g·γ: dx = (h − mean(h) − x̂·mean(h·x̂)) / σ, dγ = Σ g·x̂, dβ = Σ g.
pub(super) fn layer_norm_gradient(x: &[f32], gamma: &[f32], epsilon: f32, gradient: &[f32]) -> LayerNormGradient {
    let width = gamma.len();
    let mut out = LayerNormGradient { x: Vec::with_capacity(x.len()), gamma: vec![0.0; width], beta: vec![0.0; width] };
    let (mut unit, mut line) = (vec![0.0; width], vec![0.0; width]);
    vectorise(
        #[inline(always)]
        || {
            for (index, row) in x.chunks_exact(width).enumerate() {
                let g = &gradient[index * width..][..width];
                let (gamma, d_gamma, d_beta) = (&gamma[..width], &mut out.gamma[..width], &mut out.beta[..width]);
                let (unit, line) = (&mut unit[..width], &mut line[..width]);
                let (mean, scale) = moments(row, epsilon);
                for i in 0..width {
                    unit[i] = (row[i] - mean) * scale;
                    line[i] = g[i] * gamma[i];
                    d_gamma[i] = g[i].mul_add(unit[i], d_gamma[i]);
                    d_beta[i] += g[i];
                }
                let level = sum(width, |i| line[i]) / width as f32;
                let tilt = sum(width, |i| line[i] * unit[i]) / width as f32;
                for i in 0..width {
                    line[i] = (line[i] - level - unit[i] * tilt) * scale;
                }
                out.x.extend_from_slice(line);
            }
        },
    );
    out
}

/// Values handled at once by elementwise kernels: long enough to amortise, short enough for the L1 cache.
const CHUNK: usize = 1024;

/// x·Φ(x) and its derivative Φ(x) + x·φ(x).
///
/// Φ from the rational approximation 7.1.26 of Abramowitz & Stegun (1964): |error of erf| <= 1.5e-7, no cancellation in
/// the left tail.
#[inline(always)]
fn gelu_at(x: f32) -> (f32, f32) {
    let density = exp(-0.5 * x * x);
    let t = 1.0 / x.abs().mul_add(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let p = 1.061_405_4_f32;
    let p = p.mul_add(t, -1.453_152);
    let p = p.mul_add(t, 1.421_413_8);
    let p = p.mul_add(t, -0.284_496_74);
    let p = p.mul_add(t, 0.254_829_6);
    let tail = 0.5 * t * p * density;
    let cumulative = if x < 0.0 { tail } else { 1.0 - tail };
    /// 1 / √(2π).
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    (x * cumulative, (x * DENSITY_AT_ZERO).mul_add(density, cumulative))
}

pub(super) fn gelu(x: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    let mut line = [0.0; CHUNK];
    vectorise(
        #[inline(always)]
        || {
            for chunk in x.chunks(CHUNK) {
                let line = &mut line[..chunk.len()];
                for i in 0..chunk.len() {
                    line[i] = gelu_at(chunk[i]).0;
                }
                out.extend_from_slice(line);
            }
        },
    );
    out
}

/// [`gelu`] and its derivative at every value.
pub(super) fn gelu_with_derivative(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut slopes) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
    let (mut line, mut slope) = ([0.0; CHUNK], [0.0; CHUNK]);
    vectorise(
        #[inline(always)]
        || {
            for chunk in x.chunks(CHUNK) {
                let (line, slope) = (&mut line[..chunk.len()], &mut slope[..chunk.len()]);
                for i in 0..chunk.len() {
                    (line[i], slope[i]) = gelu_at(chunk[i]);
                }
                out.extend_from_slice(line);
                slopes.extend_from_slice(slope);
            }
        },
    );
    (out, slopes)
}

/// `values[i] *= factors[i]`.
pub(super) fn multiply(values: &mut [f32], factors: &[f32]) {
    let factors = &factors[..values.len()];
    vectorise(
        #[inline(always)]
        || {
            for i in 0..values.len() {
                values[i] *= factors[i];
            }
        },
    );
}

/// Sums over rows, one a column.
pub(super) fn column_sums(x: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    vectorise(
        #[inline(always)]
        || {
            let sums = &mut sums[..width];
            for row in x.chunks_exact(width) {
                for i in 0..width {
                    sums[i] += row[i];
                }
            }
        },
    );
    sums
}

/// Log of the sum of exponentials of each row of `logits`.
pub(super) fn log_totals(logits: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(logits.len() / width);
    vectorise(
        #[inline(always)]
        || {
            for row in logits.chunks_exact(width) {
                let row = &row[..width];
                let largest = max(row);
                let total = sum(width, |i| exp(row[i] - largest));
                out.push(largest + total.ln());
            }
        },
    );
    out
}

/// Turns each row of `logits` into the gradient of its target's log-probability, (onehot − softmax)·g, in place.
pub(super) fn log_prob_gradient(
    logits: &mut [f32],
    width: usize,
    targets: &[usize],
    log_totals: &[f32],
    gradient: &[f32],
) {
    vectorise(
        #[inline(always)]
        || {
            for (index, row) in logits.chunks_exact_mut(width).enumerate() {
                let (total, g) = (log_totals[index], gradient[index]);
                for value in row.iter_mut() {
                    *value = -g * exp(*value - total);
                }
                row[targets[index]] += g;
            }
        },
    );
}
