//! Attention against loops over scalars in f64.

use super::*;
use crate::device::fused::attention;

/// Attention by its definition: for every row, head and slot, one loop over the visible slots.
fn by_loops(qkv: &Tensor<3>, heads: usize, rotary: &Rotary, mask: &Tensor<2, Bool>) -> Vec<f32> {
    let [batch, time, width] = qkv.dims();
    let (size, half) = (width / 3 / heads, rotary.cos.dims()[2]);
    let (x, cos, sin) = (floats(qkv.clone()), floats(rotary.cos.clone()), floats(rotary.sin.clone()));
    let real: Vec<bool> = mask.to_data().iter::<bool>().collect();
    let vector = |row: usize, slot: usize, head: usize, part: usize| -> Vec<f64> {
        let start = (row * time + slot) * width + (3 * head + part) * size;
        let mut vector: Vec<f64> = x[start..start + size].iter().map(|&value| value.into()).collect();
        for i in 0..if part < 2 { half } else { 0 } {
            let angle = (row * time + slot) * half + i;
            let (c, s) = (f64::from(cos[angle]), f64::from(sin[angle]));
            let (a, b) = (vector[i], vector[i + half]);
            vector[i] = a * c - b * s;
            vector[i + half] = b * c + a * s;
        }
        vector
    };
    let mut out = vec![0.0; batch * time * width / 3];
    for row in 0..batch {
        for head in 0..heads {
            for slot in 0..time {
                let query = vector(row, slot, head, 0);
                let visible: Vec<usize> = (0..=slot).filter(|&past| real[row * time + past]).collect();
                let scores: Vec<f64> = visible
                    .iter()
                    .map(|&past| {
                        let key = vector(row, past, head, 1);
                        query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() / (size as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (score, &past) in scores.iter().zip(&visible) {
                    let weight = (score - largest).exp() / total;
                    for (i, value) in vector(row, past, head, 2).into_iter().enumerate() {
                        out[(row * time + slot) * width / 3 + head * size + i] += (weight * value) as f32;
                    }
                }
            }
        }
    }
    out
}

/// (batch, time, heads, head size, half of the rotary dimensions).
pub(super) const SHAPES: [[usize; 5]; 9] = [
    [3, 5, 2, 6, 2],
    [1, 1, 1, 4, 2],
    [4, 7, 3, 5, 0],
    [2, 33, 1, 16, 4],
    [3, 52, 4, 16, 2],
    [5, 19, 2, 24, 12],
    [1, 70, 2, 7, 1],
    [2, 17, 1, 3, 1],
    [6, 40, 2, 32, 8],
];

#[test]
fn attention_equals_its_definition() {
    let device = Device::flex();
    for (seed, [batch, time, heads, size, half]) in SHAPES.into_iter().enumerate() {
        let mut dice = Dice::new(seed as u64);
        let qkv = dice.tensor([batch, time, 3 * heads * size], 2.0, &device);
        let rotary = dice.rotary([batch, time, half], &device);
        let mask = dice.padding([batch, time], &device);
        let actual = floats(attention(qkv.clone(), heads, &rotary, mask.clone()));
        assert_close(&actual, &by_loops(&qkv, heads, &rotary, &mask), 1e-5);
    }
}

#[test]
fn attention_has_the_gradient_of_its_definition() {
    for (seed, [batch, time, heads, size, half]) in
        [[3, 5, 2, 6, 2], [2, 9, 1, 16, 3], [3, 4, 2, 5, 0]].into_iter().enumerate()
    {
        let mut dice = Dice::new(seed as u64);
        let device = Device::flex();
        let qkv = dice.tensor([batch * time, 3 * heads * size], 1.0, &device);
        let rotary = dice.rotary([batch, time, half], &device);
        let mask = dice.padding([batch, time], &device);
        let weights = dice.tensor([batch, time, heads * size], 1.0, &device);
        assert_gradients(&mut dice, &[qkv], |inputs| {
            let qkv = inputs[0].clone().reshape([batch, time, 3 * heads * size]);
            (attention(qkv, heads, &rotary, mask.clone()) * weights.clone()).sum()
        });
    }
}

#[test]
fn huge_scores_and_rows_of_padding_stay_finite() {
    let device = Device::flex();
    let mut dice = Dice::new(1);
    let qkv = track(&dice.tensor([2, 9, 24], 1e4, &device));
    let rotary = dice.rotary([2, 9, 2], &device);
    let mask = Tensor::<2, Bool>::from_data(TensorData::new([vec![false; 9], vec![true; 9]].concat(), [2, 9]), &device);
    let out = attention(qkv.clone(), 2, &rotary, mask);
    let gradients = out.clone().sum().backward();
    let out = floats(out);
    assert!(out[..9 * 8].iter().all(|&value| value == 0.0), "slots that see nothing yield zeros");
    assert!(out[9 * 8..].iter().all(|value| value.is_finite()) && out[9 * 8..].iter().any(|&value| value != 0.0));
    assert!(floats(qkv.grad(&gradients).unwrap()).iter().all(|value| value.is_finite()));
}

#[test]
fn a_row_attends_alike_alone_and_among_neighbours() {
    let device = Device::flex();
    let mut dice = Dice::new(7);
    let qkv = dice.tensor([6, 21, 96], 1.0, &device);
    let rotary = dice.rotary([6, 21, 2], &device);
    let mask = dice.padding([6, 21], &device);
    let together = attention(qkv.clone(), 2, &rotary, mask.clone());
    for row in 0..6 {
        let own = Rotary { cos: rotary.cos.clone().narrow(0, row, 1), sin: rotary.sin.clone().narrow(0, row, 1) };
        let alone = attention(qkv.clone().narrow(0, row, 1), 2, &own, mask.clone().narrow(0, row, 1));
        assert_eq!(floats(alone), floats(together.clone().narrow(0, row, 1)));
    }
}

#[test]
fn what_stands_in_padding_does_not_matter() {
    let device = Device::flex();
    let mut dice = Dice::new(8);
    let qkv = dice.tensor([1, 12, 48], 1.0, &device);
    let rotary = dice.rotary([1, 12, 2], &device);
    let real: Vec<bool> = (0..12).map(|slot| (3..10).contains(&slot)).collect();
    let mask = Tensor::<2, Bool>::from_data(TensorData::new(real, [1, 12]), &device);
    let garbled = qkv.clone().slice_assign([0..1, 0..3], dice.tensor([1, 3, 48], 50.0, &device));
    let here = |x: Tensor<3>| floats(attention(x, 2, &rotary, mask.clone()).narrow(1, 3, 7));
    assert_eq!(here(qkv), here(garbled));
}
