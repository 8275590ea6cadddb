//! Every instruction set must compute the same as the best one of this processor, since users run
//! on others.

use super::gemm::{Matrix, Panels, Product};
use super::rows::{
    Gelu, LayerNorm, LayerNormGradient, LogTotals, RmsNorm, RmsNormGradient, SiluGate,
    SiluGateGradient,
};
use super::tiles::{Mix, MixTransposed, PANEL, Scores, Softmax, SoftmaxGradient};
use pulp::Arch;

/// All instruction sets of this processor.
fn instruction_sets() -> Vec<Arch> {
    let mut sets = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    sets.extend(pulp::x86::V3::try_new().map(Arch::V3));
    sets
}

/// Values that look random but are the same in every run.
fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| ((index * 7919 + 13) % 1009) as f32 / 504.5 - 1.0)
        .collect()
}

#[track_caller]
fn assert_same(name: &str, compute: impl Fn(Arch) -> Vec<f32>) {
    let expected = compute(Arch::new());
    for arch in instruction_sets() {
        for (actual, expected) in compute(arch).iter().zip(&expected) {
            assert!(
                (actual - expected).abs() <= 2e-6 * expected.abs().max(1.0),
                "{name}: {actual}, not {expected}"
            );
        }
    }
}

#[test]
fn products_are_the_same_to_the_last_bit() {
    for (rows, depth, columns) in [(1, 3, 2), (13, 17, 33), (21, 64, 96)] {
        let (x, w, bias) = (
            values(rows * depth),
            values(depth * columns),
            values(columns),
        );
        let compute = |arch: Arch| {
            let (left, right) = (
                Matrix {
                    data: &x,
                    columns: depth,
                },
                Matrix { data: &w, columns },
            );
            arch.dispatch(Product {
                left,
                right,
                bias: Some(&bias),
            })
        };
        for arch in instruction_sets() {
            assert_eq!(compute(arch), compute(Arch::new()));
        }
    }
}

#[test]
fn row_kernels_are_the_same() {
    let (x, gradient, gamma, beta) = (
        values(5 * 37),
        values(6 * 37)[37..].to_vec(),
        values(37),
        values(40)[3..].to_vec(),
    );
    let epsilon = 1e-5;
    assert_same("gelu", |arch| arch.dispatch(Gelu(&x)));
    assert_same("layer norm", |arch| {
        arch.dispatch(LayerNorm {
            x: &x,
            gamma: &gamma,
            beta: &beta,
            epsilon,
        })
    });
    assert_same("layer norm's gradient", |arch| {
        arch.dispatch(LayerNormGradient {
            x: &x,
            gamma: &gamma,
            epsilon,
            gradient: &gradient,
        })
        .concat()
    });
    assert_same("rms norm", |arch| {
        arch.dispatch(RmsNorm {
            x: &x,
            gamma: &gamma,
            epsilon,
        })
    });
    assert_same("rms norm's gradient", |arch| {
        arch.dispatch(RmsNormGradient {
            x: &x,
            gamma: &gamma,
            epsilon,
            gradient: &gradient,
        })
        .concat()
    });
    assert_same("gated silu", |arch| {
        arch.dispatch(SiluGate {
            gate: &x,
            up: &gradient,
        })
    });
    assert_same("gated silu's gradient", |arch| {
        arch.dispatch(SiluGateGradient {
            gate: &x,
            up: &gradient,
            gradient: &gradient,
        })
        .concat()
    });
    assert_same("log totals", |arch| {
        arch.dispatch(LogTotals {
            logits: &x,
            width: 37,
        })
    });
}

#[test]
fn attention_kernels_are_the_same() {
    let (time, size, stride) = (21, 19, 32);
    let (q, k) = (values(time * size), values(time * size + 1)[1..].to_vec());
    let slots: Vec<usize> = (3..time).collect();
    let visible: Vec<usize> = (0..time)
        .map(|slot| (slot + 1_usize).saturating_sub(3))
        .collect();
    let hidden: Vec<usize> = visible
        .iter()
        .map(|count| count.saturating_sub(9))
        .collect();
    let keys = Matrix {
        data: &k[..slots.len() * size],
        columns: size,
    };
    let weights = |arch: Arch| {
        let mut right = Panels::<PANEL>::default();
        right.fill_transposed(keys);
        let mut out = vec![7.0; time * stride];
        arch.dispatch(Scores {
            left: &q,
            size,
            right: &right,
            visible: &visible,
            out: &mut out,
            stride,
        });
        arch.dispatch(Softmax {
            rows: &mut out,
            stride,
            visible: &visible,
            hidden: &hidden,
        });
        out
    };
    assert_same("weights", weights);
    let expected = weights(Arch::new());
    assert!(
        expected
            .chunks(stride)
            .skip(3)
            .all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5)
    );
    assert_same("gradient of scores", |arch| {
        let mut gradient = values(time * stride);
        arch.dispatch(SoftmaxGradient {
            weights: &expected,
            stride,
            visible: &visible,
            gradient: &mut gradient,
        });
        gradient
    });
    let width = size.next_multiple_of(PANEL);
    assert_same("mixed values", |arch| {
        let mut right = Panels::<PANEL>::default();
        right.fill(keys);
        let mut out = vec![0.0; time * width];
        arch.dispatch(Mix {
            left: &expected,
            stride,
            right: &right,
            visible: &visible,
            size,
            out: &mut out,
        });
        out
    });
    assert_same("values' gradient", |arch| {
        let mut right = Panels::<PANEL>::default();
        right.fill(Matrix {
            data: &q,
            columns: size,
        });
        let mut out = vec![0.0; stride * width];
        let left = &expected[..];
        arch.dispatch(MixTransposed {
            left,
            stride,
            right: &right,
            starts: &slots,
            size,
            out: &mut out,
        });
        out.truncate(slots.len() * width);
        out
    });
}
