//! LibTorch's kernels against the compositions on the same device: values and gradients, in f32 and
//! in bf16.

use super::{Dice, assert_close, difference, floats};
use crate::device::fused::{
    self, AttentionShape, Projections, Rotary, Rounding, compose, libtorch,
};
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};

#[expect(deprecated, reason = "LibTorch stays a backend; burn is pinned")]
fn device() -> Device {
    Device::libtorch()
}

fn track<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(x.clone()).require_grad()
}

/// Values and gradients of `operation` at copies of `inputs` in `dtype`, with each output weighted
/// differently.
fn differentiate<const D: usize, const N: usize>(
    inputs: &[Tensor<D>],
    dtype: FloatDType,
    operation: impl Fn(&[Tensor<D>]) -> Tensor<N>,
) -> Vec<Vec<f32>> {
    let tracked: Vec<Tensor<D>> = inputs
        .iter()
        .map(|input| track(&input.clone().cast(dtype)))
        .collect();
    assert!(tracked.iter().all(libtorch::runs));
    let out = operation(&tracked);
    let weights = Dice::new(77).tensor(out.dims(), 1.0, &device());
    let exact = out.clone().cast(FloatDType::F32);
    let gradients = (exact.clone() * Tensor::from_inner(weights))
        .sum()
        .backward();
    let mut all = vec![floats(exact)];
    all.extend(tracked.iter().map(|input| {
        let gradient = input.grad(&gradients).expect("every input has a gradient");
        floats(gradient.cast(FloatDType::F32))
    }));
    all
}

/// Compares values and gradients of `fused` with those of `composed` in both types. The composition
/// in f32 is the measure of both.
#[track_caller]
fn assert_agree<const D: usize, const N: usize>(
    inputs: &[Tensor<D>],
    fused: impl Fn(&[Tensor<D>]) -> Tensor<N>,
    composed: impl Fn(&[Tensor<D>]) -> Tensor<N>,
) {
    let expected = differentiate(inputs, FloatDType::F32, composed);
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    // Some gradients are zero in exact arithmetic, and only rounding is to be seen.
    let least = expected
        .iter()
        .map(|values| largest(values))
        .fold(0.0, f32::max)
        / 100.0;
    for (dtype, tolerance) in [(FloatDType::F32, 1e-4), (FloatDType::BF16, 0.05)] {
        let actual = differentiate(inputs, dtype, &fused);
        for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            let largest = largest(expected).max(least);
            let scaled = |values: &[f32]| values.iter().map(|v| v / largest).collect::<Vec<_>>();
            let difference = difference(&scaled(actual), &scaled(expected));
            assert!(
                difference <= tolerance,
                "{dtype:?}: result {index} differs by {difference:e}"
            );
        }
    }
}

/// (rows, width)
const SHAPES: [[usize; 2]; 4] = [[1, 2], [3, 7], [47, 64], [130, 100]];

fn line(x: &Tensor<2>) -> Tensor<1> {
    x.clone().squeeze_dim::<1>(0)
}

#[test]
fn norms() {
    // Layer norm leaves only a sign of a row of two numbers, and its gradient is rounding.
    for [rows, width] in SHAPES.into_iter().filter(|[_, width]| *width > 2) {
        let mut dice = Dice::new(rows as u64);
        let inputs =
            [[rows, width], [1, width], [1, width]].map(|shape| dice.tensor(shape, 2.0, &device()));
        assert_agree(
            &inputs,
            |x| fused::layer_norm(x[0].clone(), line(&x[1]), line(&x[2]), 1e-5),
            |x| compose::layer_norm(x[0].clone(), line(&x[1]), line(&x[2]), 1e-5),
        );
        for rounding in [Rounding::BeforeScale, Rounding::AfterScale] {
            assert_agree(
                &inputs[..2],
                |x| fused::rms_norm(x[0].clone(), line(&x[1]), 1e-5, rounding),
                |x| compose::rms_norm(x[0].clone(), line(&x[1]), 1e-5, rounding),
            );
        }
    }
}

#[test]
fn activations() {
    for shape in SHAPES {
        let mut dice = Dice::new(shape[0] as u64);
        let inputs = [1, 2].map(|_| dice.tensor(shape, 6.0, &device()));
        assert_agree(
            &inputs[..1],
            |x| fused::gelu(x[0].clone()),
            |x| compose::gelu(x[0].clone()),
        );
        assert_agree(
            &inputs,
            |x| fused::silu_gate(x[0].clone(), x[1].clone()),
            |x| compose::silu_gate(x[0].clone(), x[1].clone()),
        );
    }
}

#[test]
fn log_probs_and_embeddings() {
    for [rows, width] in SHAPES {
        let mut dice = Dice::new(rows as u64);
        let inputs = [dice.tensor([rows, width], 10.0, &device())];
        let targets = |count: usize| {
            Tensor::<1, Int>::arange(0..count as i64, &device())
                .remainder_scalar(3.min(rows) as i64)
        };
        let chosen = targets(rows).remainder_scalar(width as i64);
        assert_agree(
            &inputs,
            |x| fused::token_log_probs(x[0].clone(), chosen.clone()),
            |x| compose::token_log_probs(x[0].clone(), chosen.clone()),
        );
        // Some rows are taken several times, others never.
        assert_agree(
            &inputs,
            |x| fused::embedding(x[0].clone(), targets(2 * rows)),
            |x| x[0].clone().select(0, targets(2 * rows)),
        );
    }
}

#[test]
fn log_probs_of_a_head() {
    // The last shape has more rows than a piece.
    for [rows, width, vocabulary] in [[1, 3, 2], [47, 16, 33], [9000, 4, 5]] {
        let mut dice = Dice::new(rows as u64);
        let inputs =
            [[rows, width], [width, vocabulary]].map(|shape| dice.tensor(shape, 1.5, &device()));
        let targets =
            Tensor::<1, Int>::arange(0..rows as i64, &device()).remainder_scalar(vocabulary as i64);
        for temperature in [1.0, 0.7] {
            assert_agree(
                &inputs,
                |x| fused::head_log_probs(x[0].clone(), x[1].clone(), targets.clone(), temperature),
                |x| {
                    let logits = compose::linear(x[0].clone(), x[1].clone(), None);
                    compose::token_log_probs(logits / temperature, targets.clone())
                },
            );
        }
    }
}

#[test]
fn attention() {
    for [batch, time, heads, size, half] in super::attention::SHAPES {
        let mut dice = Dice::new((time * size) as u64);
        let inputs = [dice.tensor([batch, time, 3 * heads * size], 1.5, &device())];
        let rotary = dice.rotary([batch, time, half], &device());
        let mask = dice.padding([batch, time], &device());
        let shape = AttentionShape::multi_head(heads, size);
        let qkv = |x: &[Tensor<3>]| Projections::Interleaved(x[0].clone());
        assert_agree(
            &inputs,
            |x| fused::attention(qkv(x), &shape, &rotary, mask.clone()),
            |x| compose::attention(qkv(x), &shape, &rotary, mask.clone()),
        );
    }
}

#[test]
fn grouped_attention_in_a_window() {
    for (batch, time, heads, key_heads, size, half, window) in [
        (2, 9, 4, 2, 6, 3, None),
        (3, 12, 6, 2, 4, 1, Some(4)),
        (1, 5, 2, 1, 8, 0, Some(1)),
        (2, 7, 3, 3, 4, 2, Some(50)),
    ] {
        let mut dice = Dice::new((time * size) as u64);
        let widths = [heads, key_heads, key_heads].map(|heads| heads * size);
        let inputs = widths.map(|width| dice.tensor([batch, time, width], 1.5, &device()));
        let rotary = dice.rotary([batch, time, half], &device());
        let mask = dice.padding([batch, time], &device());
        let shape = AttentionShape {
            heads,
            key_heads,
            head_size: size,
            window,
        };
        let parts = |x: &[Tensor<3>]| Projections::Separate {
            queries: x[0].clone(),
            keys: x[1].clone(),
            values: x[2].clone(),
        };
        assert_agree(
            &inputs,
            |x| fused::attention(parts(x), &shape, &rotary, mask.clone()),
            |x| compose::attention(parts(x), &shape, &rotary, mask.clone()),
        );
    }
}

#[test]
fn steps_from_a_cache_give_what_attention_over_everything_gives() {
    let (batch, prompt, new) = (3, 4, 3);
    let time = prompt + new;
    for (key_heads, window) in [(4, None), (2, Some(3))] {
        let mut dice = Dice::new(key_heads as u64);
        let shape = AttentionShape {
            heads: 4,
            key_heads,
            head_size: 6,
            window,
        };
        let widths = [4, key_heads, key_heads].map(|heads| heads * 6);
        let inputs = widths.map(|width| dice.tensor([batch, time, width], 1.5, &device()));
        let rotary = dice.rotary([batch, time, 2], &device());
        // Two rows are padded on the left.
        let real = [0, 1, 3].map(|padding| (0..time).map(move |slot| slot >= padding));
        let real: Vec<bool> = real.into_iter().flatten().collect();
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(real, [batch, time]), &device());
        let part = |start: usize, count: usize| {
            let cut = |x: &Tensor<3>| x.clone().narrow(1, start, count);
            let [queries, keys, values] = inputs.each_ref().map(cut);
            let rotary = Rotary {
                cos: cut(&rotary.cos),
                sin: cut(&rotary.sin),
            };
            let projections = Projections::Separate {
                queries,
                keys,
                values,
            };
            (projections, rotary)
        };
        let (all, angles) = part(0, time);
        let whole = compose::attention(all, &shape, &angles, mask.clone());
        let (first, angles) = part(0, prompt);
        // Without room for all of them, so that the cache grows.
        let seen = mask.clone().narrow(1, 0, prompt);
        let (context, mut cache) = fused::prefill(first, &shape, &angles, seen, prompt + 1);
        let mut contexts = vec![context];
        for slot in prompt..time {
            let (next, angles) = part(slot, 1);
            let seen = mask.clone().narrow(1, 0, slot + 1);
            let (context, longer) = fused::step(next, &shape, &angles, seen, cache);
            contexts.push(context);
            cache = longer;
        }
        assert_close(&floats(Tensor::cat(contexts, 1)), &floats(whole), 1e-5);
    }
}

#[test]
fn a_tensor_that_is_used_again_keeps_its_values() {
    let x = track(&Dice::new(3).tensor([9, 16], 2.0, &device()));
    let before = floats(x.clone());
    let out = fused::gelu(x.clone());
    let kept = floats(out.clone());
    // Additions and products of burn write over tensors that nobody else holds.
    let sum = (out.clone() * 2.0 + out.clone()).sum() + x.clone().powf_scalar(2.0).sum();
    let gradients = sum.backward();
    assert_eq!((floats(x.clone()), floats(out)), (before, kept));
    let plain = track(&x.clone().inner());
    let composed = compose::gelu(plain.clone());
    let expected = (composed * 3.0).sum() + plain.clone().powf_scalar(2.0).sum();
    assert_close(
        &floats(x.grad(&gradients).unwrap()),
        &floats(plain.grad(&expected.backward()).unwrap()),
        1e-5,
    );
}
