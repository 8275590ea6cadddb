//! Attention against loops over scalars in f64.

use super::*;
use crate::device::fused::spans::{Query, Span, Spans};
use crate::device::fused::{AttentionShape, Projections, attention, attention_over};
use burn::tensor::Int;

/// Interleaved attention over `heads` heads without a window.
fn interleaved(qkv: Tensor<3>, heads: usize, rotary: &Rotary, mask: Tensor<2, Bool>) -> Tensor<3> {
    let [_, _, width] = qkv.dims();
    attention(
        Projections::Interleaved(qkv),
        &AttentionShape::multi_head(heads, width / 3 / heads),
        rotary,
        mask,
    )
}

/// Queries, keys and values `[b, t, heads of their kind · head_size]`, in this order.
type Parts = [Tensor<3>; 3];

/// The parts of interleaved projections.
fn parts_of(qkv: &Tensor<3>, heads: usize) -> Parts {
    let [batch, time, width] = qkv.dims();
    let size = width / 3 / heads;
    let split = qkv.clone().reshape([batch, time, heads, 3 * size]);
    [0, 1, 2].map(|part| {
        split
            .clone()
            .narrow(3, part * size, size)
            .reshape([batch, time, heads * size])
    })
}

/// Attention by its definition: for every row, head and slot, one loop over the visible slots.
fn by_loops(
    parts: &Parts,
    shape: &AttentionShape,
    rotary: &Rotary,
    mask: &Tensor<2, Bool>,
) -> Vec<f32> {
    let AttentionShape {
        heads,
        key_heads,
        head_size: size,
        window,
    } = *shape;
    let ([batch, time], [_, _, half]) = (mask.dims(), rotary.cos.dims());
    let (cos, sin) = (floats(rotary.cos.clone()), floats(rotary.sin.clone()));
    let values = parts.clone().map(floats);
    let real: Vec<bool> = mask.to_data().iter::<bool>().collect();
    let vector = |row: usize, slot: usize, head: usize, part: usize| -> Vec<f64> {
        let count = if part == 0 { heads } else { key_heads };
        let start = ((row * time + slot) * count + head) * size;
        let mut vector: Vec<f64> = values[part][start..start + size]
            .iter()
            .map(|&value| value.into())
            .collect();
        for i in 0..if part < 2 { half } else { 0 } {
            let angle = (row * time + slot) * half + i;
            let (c, s) = (f64::from(cos[angle]), f64::from(sin[angle]));
            let (a, b) = (vector[i], vector[i + half]);
            vector[i] = a * c - b * s;
            vector[i + half] = b * c + a * s;
        }
        vector
    };
    let mut out = vec![0.0; batch * time * heads * size];
    for row in 0..batch {
        for head in 0..heads {
            let shared = head / (heads / key_heads);
            for slot in 0..time {
                let query = vector(row, slot, head, 0);
                let near = |past: &usize| window.is_none_or(|window| past + window > slot);
                let visible: Vec<usize> = (0..=slot)
                    .filter(near)
                    .filter(|&past| real[row * time + past])
                    .collect();
                let scores: Vec<f64> = visible
                    .iter()
                    .map(|&past| {
                        let key = vector(row, past, shared, 1);
                        query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>()
                            / (size as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (score, &past) in scores.iter().zip(&visible) {
                    let weight = (score - largest).exp() / total;
                    for (i, value) in vector(row, past, shared, 2).into_iter().enumerate() {
                        out[((row * time + slot) * heads + head) * size + i] +=
                            (weight * value) as f32;
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
        let actual = floats(interleaved(qkv.clone(), heads, &rotary, mask.clone()));
        let shape = AttentionShape::multi_head(heads, size);
        assert_close(
            &actual,
            &by_loops(&parts_of(&qkv, heads), &shape, &rotary, &mask),
            1e-5,
        );
    }
}

/// A shape with grouped heads; its parts are listed at [`GROUPED`].
pub(super) type Grouped = (usize, usize, usize, usize, usize, usize, Option<usize>);

/// (batch, time, heads, heads of keys, head size, half of the rotary dimensions, window).
pub(super) const GROUPED: [Grouped; 8] = [
    (3, 5, 2, 1, 6, 3, None),
    (1, 1, 1, 1, 4, 2, Some(1)),
    (4, 7, 4, 2, 5, 0, Some(3)),
    (2, 33, 6, 3, 16, 8, Some(8)),
    (3, 52, 4, 2, 16, 8, Some(17)),
    (2, 19, 4, 4, 24, 12, Some(19)),
    (2, 17, 3, 1, 3, 1, Some(16)),
    (5, 40, 8, 2, 32, 16, None),
];

/// Random parts for such a shape, with angles and a mask.
pub(super) fn grouped(
    dice: &mut Dice,
    (batch, time, heads, key_heads, size, half, window): Grouped,
) -> (Parts, AttentionShape, Rotary, Tensor<2, Bool>) {
    let device = Device::flex();
    let parts = [heads, key_heads, key_heads]
        .map(|count| dice.tensor([batch, time, count * size], 1.5, &device));
    let rotary = dice.rotary([batch, time, half], &device);
    let mask = dice.padding([batch, time], &device);
    (
        parts,
        AttentionShape {
            heads,
            key_heads,
            head_size: size,
            window,
        },
        rotary,
        mask,
    )
}

pub(super) fn separate([queries, keys, values]: Parts) -> Projections {
    Projections::Separate {
        queries,
        keys,
        values,
    }
}

/// The values of real slots: a padding slot may see other slots than its place allows, and nothing
/// reads it.
fn real_slots(values: &[f32], mask: &Tensor<2, Bool>) -> Vec<f32> {
    let real: Vec<bool> = mask.to_data().iter::<bool>().collect();
    let width = values.len() / real.len();
    values
        .chunks(width)
        .zip(real)
        .filter(|(_, real)| *real)
        .flat_map(|(slot, _)| slot.to_vec())
        .collect()
}

#[test]
fn grouped_heads_and_windows_equal_their_definition() {
    for (seed, case) in GROUPED.into_iter().enumerate() {
        let (parts, shape, rotary, mask) = grouped(&mut Dice::new(seed as u64), case);
        let actual = floats(attention(
            separate(parts.clone()),
            &shape,
            &rotary,
            mask.clone(),
        ));
        let expected = by_loops(&parts, &shape, &rotary, &mask);
        assert_close(
            &real_slots(&actual, &mask),
            &real_slots(&expected, &mask),
            1e-5,
        );
    }
}

#[test]
fn interleaved_and_separate_projections_are_the_same() {
    let device = Device::flex();
    let mut dice = Dice::new(11);
    let qkv = dice.tensor([3, 14, 3 * 2 * 8], 1.0, &device);
    let (rotary, mask) = (
        dice.rotary([3, 14, 4], &device),
        dice.padding([3, 14], &device),
    );
    let apart = attention(
        separate(parts_of(&qkv, 2)),
        &AttentionShape::multi_head(2, 8),
        &rotary,
        mask.clone(),
    );
    assert_eq!(floats(interleaved(qkv, 2, &rotary, mask)), floats(apart));
}

#[test]
fn attention_has_the_gradient_of_its_definition() {
    for (seed, [batch, time, heads, size, half]) in
        [[3, 5, 2, 6, 2], [2, 9, 1, 16, 3], [3, 4, 2, 5, 0]]
            .into_iter()
            .enumerate()
    {
        let mut dice = Dice::new(seed as u64);
        let device = Device::flex();
        let qkv = dice.tensor([batch * time, 3 * heads * size], 1.0, &device);
        let rotary = dice.rotary([batch, time, half], &device);
        let mask = dice.padding([batch, time], &device);
        let weights = dice.tensor([batch, time, heads * size], 1.0, &device);
        assert_gradients(&mut dice, &[qkv], |inputs| {
            let qkv = inputs[0].clone().reshape([batch, time, 3 * heads * size]);
            (interleaved(qkv, heads, &rotary, mask.clone()) * weights.clone()).sum()
        });
    }
    for (seed, case) in GROUPED[..4].iter().copied().enumerate() {
        let mut dice = Dice::new(seed as u64);
        let (parts, shape, rotary, mask) = grouped(&mut dice, case);
        let [batch, time, _] = parts[0].dims();
        let weights = dice.tensor(
            [batch, time, shape.heads * shape.head_size],
            1.0,
            &Device::flex(),
        );
        let flat = parts.map(|part| {
            let [batch, time, width] = part.dims();
            part.reshape([batch * time, width])
        });
        assert_gradients(&mut dice, &flat, |inputs| {
            let parts = [0, 1, 2].map(|part| {
                let [_, width] = inputs[part].dims();
                inputs[part].clone().reshape([batch, time, width])
            });
            (attention(separate(parts), &shape, &rotary, mask.clone()) * weights.clone()).sum()
        });
    }
}

#[test]
fn huge_scores_and_rows_of_padding_stay_finite() {
    let device = Device::flex();
    let mut dice = Dice::new(1);
    let qkv = track(&dice.tensor([2, 9, 24], 1e4, &device));
    let rotary = dice.rotary([2, 9, 2], &device);
    let mask = Tensor::<2, Bool>::from_data(
        TensorData::new([vec![false; 9], vec![true; 9]].concat(), [2, 9]),
        &device,
    );
    let out = interleaved(qkv.clone(), 2, &rotary, mask);
    let gradients = out.clone().sum().backward();
    let out = floats(out);
    assert!(
        out[..9 * 8].iter().all(|&value| value == 0.0),
        "slots that see nothing yield zeros"
    );
    assert!(
        out[9 * 8..].iter().all(|value| value.is_finite())
            && out[9 * 8..].iter().any(|&value| value != 0.0)
    );
    assert!(
        floats(qkv.grad(&gradients).unwrap())
            .iter()
            .all(|value| value.is_finite())
    );
}

#[test]
fn a_row_attends_alike_alone_and_among_neighbours() {
    let device = Device::flex();
    let mut dice = Dice::new(7);
    let qkv = dice.tensor([6, 21, 96], 1.0, &device);
    let rotary = dice.rotary([6, 21, 2], &device);
    let mask = dice.padding([6, 21], &device);
    let together = interleaved(qkv.clone(), 2, &rotary, mask.clone());
    for row in 0..6 {
        let own = Rotary {
            cos: rotary.cos.clone().narrow(0, row, 1),
            sin: rotary.sin.clone().narrow(0, row, 1),
        };
        let alone = interleaved(
            qkv.clone().narrow(0, row, 1),
            2,
            &own,
            mask.clone().narrow(0, row, 1),
        );
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
    let garbled = qkv
        .clone()
        .slice_assign([0..1, 0..3], dice.tensor([1, 3, 48], 50.0, &device));
    let here = |x: Tensor<3>| floats(interleaved(x, 2, &rotary, mask.clone()).narrow(1, 3, 7));
    assert_eq!(here(qkv), here(garbled));
}

/// Spans of a row of 20 slots: three texts, the second and the third behind a common beginning, whose
/// queries are computed once. With `ends` only the last query of each text asks.
pub(super) fn spans(ends: bool) -> Spans {
    let mut rows = 0;
    let mut span = |before: std::ops::Range<usize>, own: std::ops::Range<usize>| {
        let asking = if ends {
            own.end - 1..own.end
        } else {
            own.clone()
        };
        let query = |slot: usize| {
            rows += 1;
            Query {
                row: rows - 1,
                slot,
                visible: before.len() + slot - own.start + 1,
            }
        };
        Span {
            queries: asking.map(query).collect(),
            keys: before.clone().chain(own.clone()).collect(),
        }
    };
    Spans::new(vec![
        span(0..0, 0..4),
        span(0..0, 4..9),
        span(4..9, 9..12),
        span(4..9, 12..20),
    ])
}

/// Slots of the texts of [`spans`].
const TEXTS: [&[usize]; 4] = [
    &[0, 1, 2, 3],
    &[4, 5, 6, 7, 8],
    &[4, 5, 6, 7, 8, 9, 10, 11],
    &[4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 18, 19],
];

#[test]
fn a_text_attends_alike_alone_and_among_texts_that_share_its_beginning() {
    let device = Device::flex();
    for window in [None, Some(1), Some(6)] {
        let case = (1, 20, 4, 2, 5, 2, window);
        let (parts, shape, rotary, _) = grouped(&mut Dice::new(3), case);
        let take = |x: &Tensor<3>, slots: &[usize]| {
            let slots: Vec<i32> = slots.iter().map(|&slot| slot as i32).collect();
            let count = slots.len();
            let slots = Tensor::<1, Int>::from_data(TensorData::new(slots, [count]), &device);
            x.clone().select(1, slots)
        };
        let all = attention_over(separate(parts.clone()), &shape, &rotary, &spans(false));
        let [queries, keys, values] = parts.clone();
        let last = [take(&queries, &[3, 8, 11, 19]), keys, values];
        let ends = attention_over(separate(last), &shape, &rotary, &spans(true));
        for (index, slots) in TEXTS.into_iter().enumerate() {
            let own = parts.each_ref().map(|part| take(part, slots));
            let angles = Rotary {
                cos: take(&rotary.cos, slots),
                sin: take(&rotary.sin, slots),
            };
            let mask = Tensor::<2, Bool>::full([1, slots.len()], true, &device);
            let alone = attention(separate(own), &shape, &angles, mask);
            assert_eq!(floats(alone.clone()), floats(take(&all, slots)));
            assert_eq!(
                floats(take(&alone, &[slots.len() - 1])),
                floats(take(&ends, &[index]))
            );
        }
    }
}

#[test]
fn attention_over_spans_has_the_gradient_of_its_definition() {
    for ends in [false, true] {
        let mut dice = Dice::new(5);
        let case = (1, 20, 4, 2, 5, 2, Some(7));
        let (parts, shape, rotary, _) = grouped(&mut dice, case);
        let count = spans(ends).queries();
        let [queries, keys, values] = parts;
        let parts = [queries.narrow(1, 0, count), keys, values];
        let weights = dice.tensor([1, count, 4 * 5], 1.0, &Device::flex());
        let flat = parts.map(|part| part.squeeze_dim(0));
        assert_gradients(&mut dice, &flat, |inputs| {
            let parts = [0, 1, 2].map(|part| inputs[part].clone().unsqueeze());
            let found = attention_over(separate(parts), &shape, &rotary, &spans(ends));
            (found * weights.clone()).sum()
        });
    }
}
