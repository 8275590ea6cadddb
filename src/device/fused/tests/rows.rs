//! Operations on rows: linear, normalisation, activation, log-probability.

use super::*;
use crate::device::fused::{gelu, layer_norm, linear, token_log_probs};
use burn::tensor::Int;

/// erf by its Maclaurin series in f64, converged for |x| <= 4; beyond that, ±1, accurate to 1.6e-8.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn targets(dice: &mut Dice, rows: usize, classes: usize) -> (Vec<i64>, Tensor<1, Int>) {
    let targets: Vec<i64> = (0..rows)
        .map(|_| dice.0.random_range(0..classes as i64))
        .collect();
    let tensor = Tensor::from_data(TensorData::new(targets.clone(), [rows]), &Device::flex());
    (targets, tensor)
}

#[test]
fn linear_is_a_product_plus_bias() {
    let device = Device::flex();
    for (rows, d_in, d_out) in [(1, 3, 2), (7, 5, 9), (48, 64, 192), (65, 33, 17)] {
        let mut dice = Dice::new(rows as u64);
        let (x, w) = (
            dice.tensor([rows, d_in], 1.0, &device),
            dice.tensor([d_in, d_out], 1.0, &device),
        );
        let bias = dice.tensor([d_out], 1.0, &device);
        let (xs, ws, bs) = (floats(x.clone()), floats(w.clone()), floats(bias.clone()));
        let expected = |with_bias: bool| -> Vec<f32> {
            (0..rows * d_out)
                .map(|index| {
                    let (row, column) = (index / d_out, index % d_out);
                    let dot: f64 = (0..d_in)
                        .map(|i| f64::from(xs[row * d_in + i]) * f64::from(ws[i * d_out + column]))
                        .sum();
                    (dot + if with_bias {
                        f64::from(bs[column])
                    } else {
                        0.0
                    }) as f32
                })
                .collect()
        };
        assert_close(
            &floats(linear(x.clone(), w.clone(), Some(bias))),
            &expected(true),
            1e-5,
        );
        assert_close(&floats(linear(x, w, None)), &expected(false), 1e-5);
    }
}

#[test]
fn linear_differentiates() {
    let device = Device::flex();
    let mut dice = Dice::new(3);
    let inputs = [
        dice.tensor([7, 5], 1.0, &device),
        dice.tensor([5, 9], 1.0, &device),
        dice.tensor([1, 9], 1.0, &device),
    ];
    let weights = dice.tensor([7, 9], 1.0, &device);
    assert_gradients(&mut dice, &inputs, |inputs| {
        let bias = inputs[2].clone().squeeze_dim(0);
        (linear(inputs[0].clone(), inputs[1].clone(), Some(bias)) * weights.clone()).sum()
    });
    assert_gradients(&mut dice, &inputs[..2], |inputs| {
        (linear(inputs[0].clone(), inputs[1].clone(), None) * weights.clone()).sum()
    });
}

#[test]
fn layer_norm_equals_its_definition() {
    let device = Device::flex();
    for (rows, width) in [(1, 1), (3, 7), (49, 64), (2, 100)] {
        let mut dice = Dice::new(width as u64);
        let x = dice.tensor([rows, width], 3.0, &device) + 5.0;
        let (gamma, beta) = (
            dice.tensor([width], 1.0, &device),
            dice.tensor([width], 1.0, &device),
        );
        let (g, b) = (floats(gamma.clone()), floats(beta.clone()));
        let expected: Vec<f32> = floats(x.clone())
            .chunks(width)
            .flat_map(|row| {
                let row: Vec<f64> = row.iter().map(|&value| value.into()).collect();
                let mean = row.iter().sum::<f64>() / width as f64;
                let variance =
                    row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
                (0..width)
                    .map(|i| {
                        ((row[i] - mean) / (variance + 1e-5).sqrt() * f64::from(g[i])
                            + f64::from(b[i])) as f32
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_close(&floats(layer_norm(x, gamma, beta, 1e-5)), &expected, 1e-5);
    }
}

#[test]
fn layer_norm_differentiates() {
    let device = Device::flex();
    let mut dice = Dice::new(4);
    let inputs = [
        dice.tensor([6, 11], 1.0, &device),
        dice.tensor([1, 11], 1.0, &device),
        dice.tensor([1, 11], 1.0, &device),
    ];
    let weights = dice.tensor([6, 11], 1.0, &device);
    assert_gradients(&mut dice, &inputs, |inputs| {
        let [x, gamma, beta] = [0, 1, 2].map(|index| inputs[index].clone());
        (layer_norm(x, gamma.squeeze_dim(0), beta.squeeze_dim(0), 1e-5) * weights.clone()).sum()
    });
}

#[test]
fn gelu_equals_its_definition_and_is_finite_everywhere() {
    let device = Device::flex();
    let grid: Vec<f32> = (-12_000..=12_000).map(|step| step as f32 * 1e-3).collect();
    let expected: Vec<f32> = grid
        .iter()
        .map(|&x| {
            (f64::from(x) * 0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2))) as f32
        })
        .collect();
    let x = Tensor::<2>::from_data(TensorData::new(grid.clone(), [1, grid.len()]), &device);
    for (actual, expected) in floats(gelu(x)).into_iter().zip(expected) {
        assert!(
            (actual - expected).abs() <= 4e-7 * expected.abs().max(1.0),
            "{actual} instead of {expected}"
        );
    }
    let far = Tensor::<2>::from_data([[-1e30f32, 1e30, -0.0, f32::MAX]], &device);
    assert_eq!(floats(gelu(far)), [0.0, 1e30, 0.0, f32::MAX]);
}

#[test]
fn gelu_differentiates() {
    let device = Device::flex();
    let mut dice = Dice::new(5);
    let inputs = [dice.tensor([5, 13], 4.0, &device)];
    let weights = dice.tensor([5, 13], 1.0, &device);
    assert_gradients(&mut dice, &inputs, |inputs| {
        (gelu(inputs[0].clone()) * weights.clone()).sum()
    });
}

#[test]
fn log_probabilities_equal_their_definition() {
    let device = Device::flex();
    for (rows, classes) in [(1, 1), (5, 7), (33, 256), (3, 1001)] {
        let mut dice = Dice::new(classes as u64);
        let logits = dice.tensor([rows, classes], 20.0, &device);
        let (indices, target) = targets(&mut dice, rows, classes);
        let expected: Vec<f32> = floats(logits.clone())
            .chunks(classes)
            .zip(indices)
            .map(|(row, target)| {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = row
                    .iter()
                    .map(|&value| f64::from(value - largest).exp())
                    .sum();
                (f64::from(row[target as usize] - largest) - total.ln()) as f32
            })
            .collect();
        assert_close(&floats(token_log_probs(logits, target)), &expected, 1e-6);
    }
}

#[test]
fn log_probabilities_differentiate() {
    let device = Device::flex();
    let mut dice = Dice::new(6);
    let inputs = [dice.tensor([6, 10], 2.0, &device)];
    let (_, target) = targets(&mut dice, 6, 10);
    let weights = dice.tensor([6], 1.0, &device);
    assert_gradients(&mut dice, &inputs, |inputs| {
        (token_log_probs(inputs[0].clone(), target.clone()) * weights.clone()).sum()
    });
}

#[test]
fn a_row_is_computed_alike_alone_and_among_neighbours() {
    let device = Device::flex();
    let mut dice = Dice::new(9);
    let (x, w, bias) = (
        dice.tensor([67, 64], 1.0, &device),
        dice.tensor([64, 192], 1.0, &device),
        dice.tensor([192], 1.0, &device),
    );
    let (gamma, beta) = (
        dice.tensor([64], 1.0, &device),
        dice.tensor([64], 1.0, &device),
    );
    let (_, target) = targets(&mut dice, 67, 64);
    type Function<'a> = Box<dyn Fn(Tensor<2>, Tensor<1, Int>) -> Vec<f32> + 'a>;
    let functions: [(&str, Function<'_>); 4] = [
        (
            "linear",
            Box::new(|x, _| floats(linear(x, w.clone(), Some(bias.clone())))),
        ),
        (
            "layer_norm",
            Box::new(|x, _| floats(layer_norm(x, gamma.clone(), beta.clone(), 1e-5))),
        ),
        ("gelu", Box::new(|x, _| floats(gelu(x)))),
        (
            "token_log_probs",
            Box::new(|x, target| floats(token_log_probs(x, target))),
        ),
    ];
    for (name, function) in functions {
        let together = function(x.clone(), target.clone());
        let width = together.len() / 67;
        for (start, count) in [(0, 1), (66, 1), (13, 1), (5, 2), (10, 31)] {
            let some = function(
                x.clone().narrow(0, start, count),
                target.clone().narrow(0, start, count),
            );
            assert_eq!(
                some,
                together[start * width..(start + count) * width],
                "{name}, {count} rows from {start}"
            );
        }
    }
}
