//! Drawing tokens.

use super::*;
use crate::device::fused::sample;

fn draws(logits: &[f32], temperature: f32, top_p: f32, uniforms: &[f32]) -> Vec<i64> {
    let device = Device::flex();
    let rows = uniforms.len();
    let data = TensorData::new(logits.repeat(rows), [rows, logits.len()]);
    let uniforms = Tensor::<1>::from_data(TensorData::new(uniforms.to_vec(), [rows]), &device);
    sample(
        Tensor::from_data(data, &device),
        temperature,
        top_p,
        uniforms,
    )
    .into_data()
    .iter::<i64>()
    .collect()
}

fn grid(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| (index as f32 + 0.5) / count as f32)
        .collect()
}

fn shares(drawn: &[i64], classes: usize) -> Vec<f32> {
    let count = |class: usize| {
        drawn
            .iter()
            .filter(|&&token| token as usize == class)
            .count()
    };
    (0..classes)
        .map(|class| count(class) as f32 / drawn.len() as f32)
        .collect()
}

#[test]
fn frequencies_are_the_probabilities() {
    let probabilities = [0.1f32, 0.4, 0.05, 0.2, 0.25];
    let logits = probabilities.map(f32::ln);
    assert_close(
        &shares(&draws(&logits, 1.0, 1.0, &grid(4000)), 5),
        &probabilities,
        1e-3,
    );
    let squared = probabilities.map(|p| p * p / probabilities.iter().map(|p| p * p).sum::<f32>());
    assert_close(
        &shares(&draws(&logits, 0.5, 1.0, &grid(4000)), 5),
        &squared,
        1e-3,
    );
}

#[test]
fn a_nucleus_is_the_smallest_set_that_reaches_its_mass() {
    let logits = [0.1f32, 0.4, 0.05, 0.2, 0.25].map(f32::ln);
    let nucleus = |top_p| shares(&draws(&logits, 1.0, top_p, &grid(4000)), 5);
    assert_close(
        &nucleus(0.6),
        &[0.0, 0.4 / 0.65, 0.0, 0.0, 0.25 / 0.65],
        1e-3,
    );
    assert_close(
        &nucleus(0.8),
        &[0.0, 0.4 / 0.85, 0.0, 0.2 / 0.85, 0.25 / 0.85],
        1e-3,
    );
    assert_close(&nucleus(0.0), &[0.0, 1.0, 0.0, 0.0, 0.0], 0.0);
    assert_close(&nucleus(0.99), &[0.1, 0.4, 0.05, 0.2, 0.25], 1e-3);
}

#[test]
fn temperature_zero_takes_the_largest_logit() {
    assert_eq!(
        draws(&[0.3, 2.0, -1.0, 1.9], 0.0, 1.0, &[0.0, 0.5, 0.999]),
        [1, 1, 1]
    );
}

#[test]
fn impossible_tokens_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 9];
    (logits[3], logits[5]) = (0.0, 0.0);
    let extremes = [0.0, f32::EPSILON, 0.499, 0.501, 1.0 - f32::EPSILON, 1.0];
    for top_p in [1.0, 0.9] {
        let drawn = draws(&logits, 1.0, top_p, &extremes);
        assert!(
            drawn.iter().all(|&token| token == 3 || token == 5),
            "{drawn:?}"
        );
    }
    assert_eq!(
        draws(&logits, 1.0, 1.0, &[0.0, 0.499, 0.501, 1.0]),
        [3, 3, 5, 5]
    );
}

#[test]
fn a_row_draws_alike_alone_and_among_neighbours() {
    let device = Device::flex();
    let mut dice = Dice::new(2);
    let logits = dice.tensor([37, 256], 4.0, &device);
    let uniforms = (dice.tensor([37], 0.5, &device) + 0.5).clamp(0.0, 0.999);
    for (temperature, top_p) in [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0), (0.01, 1.0)] {
        let draw = |start: usize, count: usize| -> Vec<i64> {
            let logits = logits.clone().narrow(0, start, count);
            sample(
                logits,
                temperature,
                top_p,
                uniforms.clone().narrow(0, start, count),
            )
            .into_data()
            .iter::<i64>()
            .collect()
        };
        let together = draw(0, 37);
        assert_eq!(together, draw(0, 37));
        for row in 0..37 {
            assert_eq!(draw(row, 1), together[row..row + 1]);
        }
    }
}
