//! Every fused operation against its composition: values and gradients, on odd shapes and odd
//! tensors.

use super::*;
use crate::device::fused::{self, AttentionShape, Projections, Rounding, compose, flex};
use burn::tensor::{FloatDType, Int};

/// Values and gradients of `operation` at copies of `inputs`, with each output weighted
/// differently.
fn differentiate<const D: usize, const N: usize>(
    inputs: &[Tensor<D>],
    operation: impl Fn(&[Tensor<D>]) -> Tensor<N>,
) -> Vec<Vec<f32>> {
    let tracked: Vec<Tensor<D>> = inputs.iter().map(track).collect();
    assert!(
        tracked.iter().all(flex::runs),
        "these inputs are meant for the fused kernels"
    );
    let out = operation(&tracked);
    let weights = Dice::new(77).tensor(out.dims(), 1.0, &Device::flex());
    let gradients = (out.clone() * weights).sum().backward();
    let mut all = vec![floats(out)];
    all.extend(
        tracked
            .iter()
            .map(|input| floats(input.grad(&gradients).expect("every input has a gradient"))),
    );
    all
}

/// Largest difference over the largest magnitude expected.
fn relative(actual: &[f32], expected: &[f32]) -> f32 {
    let scale = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
    let scaled = |values: &[f32]| values.iter().map(|value| value / scale).collect::<Vec<_>>();
    difference(&scaled(actual), &scaled(expected))
}

#[track_caller]
fn assert_agree(fused: Vec<Vec<f32>>, composed: Vec<Vec<f32>>) {
    assert_close(&fused[0], &composed[0], 1e-5);
    for (index, (actual, expected)) in fused.iter().zip(&composed).enumerate().skip(1) {
        let difference = relative(actual, expected);
        assert!(
            difference <= 1e-4,
            "gradient {index} differs by {difference:e}"
        );
    }
}

/// (rows, width in, width out).
const SHAPES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [1, 64, 192],
    [3, 5, 7],
    [9, 16, 33],
    [65, 96, 31],
    [47, 64, 64],
    [130, 100, 288],
];

#[test]
fn linear() {
    for [rows, d_in, d_out] in SHAPES {
        let mut dice = Dice::new(rows as u64);
        let device = Device::flex();
        let inputs =
            [[rows, d_in], [d_in, d_out], [1, d_out]].map(|shape| dice.tensor(shape, 1.0, &device));
        let bias = |x: &[Tensor<2>]| Some(x[2].clone().squeeze_dim(0));
        assert_agree(
            differentiate(&inputs, |x| {
                fused::linear(x[0].clone(), x[1].clone(), bias(x))
            }),
            differentiate(&inputs, |x| {
                compose::linear(x[0].clone(), x[1].clone(), bias(x))
            }),
        );
        assert_agree(
            differentiate(&inputs[..2], |x| {
                fused::linear(x[0].clone(), x[1].clone(), None)
            }),
            differentiate(&inputs[..2], |x| {
                compose::linear(x[0].clone(), x[1].clone(), None)
            }),
        );
    }
}

#[test]
fn layer_norm() {
    for [rows, _, width] in SHAPES.into_iter().filter(|shape| shape[2] > 1) {
        let mut dice = Dice::new(rows as u64);
        let device = Device::flex();
        let inputs =
            [[rows, width], [1, width], [1, width]].map(|shape| dice.tensor(shape, 2.0, &device));
        let line = |x: &Tensor<2>| x.clone().squeeze_dim::<1>(0);
        assert_agree(
            differentiate(&inputs, |x| {
                fused::layer_norm(x[0].clone(), line(&x[1]), line(&x[2]), 1e-5)
            }),
            differentiate(&inputs, |x| {
                compose::layer_norm(x[0].clone(), line(&x[1]), line(&x[2]), 1e-5)
            }),
        );
    }
}

#[test]
fn gelu() {
    for [rows, _, width] in SHAPES {
        let inputs = [Dice::new(rows as u64).tensor([rows, width], 6.0, &Device::flex())];
        assert_agree(
            differentiate(&inputs, |x| fused::gelu(x[0].clone())),
            differentiate(&inputs, |x| compose::gelu(x[0].clone())),
        );
    }
}

#[test]
fn token_log_probs() {
    for [rows, _, classes] in SHAPES {
        let mut dice = Dice::new(rows as u64);
        let inputs = [dice.tensor([rows, classes], 10.0, &Device::flex())];
        let targets = Tensor::<1, Int>::arange(0..rows as i64, &Device::flex())
            .remainder_scalar(classes as i64);
        assert_agree(
            differentiate(&inputs, |x| {
                fused::token_log_probs(x[0].clone(), targets.clone())
            }),
            differentiate(&inputs, |x| {
                compose::token_log_probs(x[0].clone(), targets.clone())
            }),
        );
    }
}

#[test]
fn rms_norm() {
    for [rows, _, width] in SHAPES.into_iter().filter(|shape| shape[2] > 1) {
        let mut dice = Dice::new(rows as u64);
        let device = Device::flex();
        let inputs = [[rows, width], [1, width]].map(|shape| dice.tensor(shape, 2.0, &device));
        let line = |x: &Tensor<2>| x.clone().squeeze_dim::<1>(0);
        for rounding in [Rounding::BeforeScale, Rounding::AfterScale] {
            assert_agree(
                differentiate(&inputs, |x| {
                    fused::rms_norm(x[0].clone(), line(&x[1]), 1e-5, rounding)
                }),
                differentiate(&inputs, |x| {
                    compose::rms_norm(x[0].clone(), line(&x[1]), 1e-5, rounding)
                }),
            );
        }
    }
}

#[test]
fn silu_gate() {
    for [rows, _, width] in SHAPES {
        let mut dice = Dice::new(rows as u64);
        let inputs = [1, 2].map(|_| dice.tensor([rows, width], 6.0, &Device::flex()));
        assert_agree(
            differentiate(&inputs, |x| fused::silu_gate(x[0].clone(), x[1].clone())),
            differentiate(&inputs, |x| compose::silu_gate(x[0].clone(), x[1].clone())),
        );
    }
}

#[test]
fn attention() {
    for [batch, time, heads, size, half] in super::attention::SHAPES {
        let mut dice = Dice::new((time * size) as u64);
        let device = Device::flex();
        let inputs = [dice.tensor([batch, time, 3 * heads * size], 1.5, &device)];
        let rotary = dice.rotary([batch, time, half], &device);
        let mask = dice.padding([batch, time], &device);
        let (qkv, shape) = (
            |x: &[Tensor<3>]| Projections::Interleaved(x[0].clone()),
            AttentionShape::multi_head(heads, size),
        );
        assert_agree(
            differentiate(&inputs, |x| {
                fused::attention(qkv(x), &shape, &rotary, mask.clone())
            }),
            differentiate(&inputs, |x| {
                compose::attention(qkv(x), &shape, &rotary, mask.clone())
            }),
        );
    }
}

#[test]
fn grouped_attention() {
    for (seed, case) in super::attention::GROUPED.into_iter().enumerate() {
        // Without padding, since the two implementations may let padding slots see different slots.
        let (inputs, shape, rotary, mask) =
            super::attention::grouped(&mut Dice::new(seed as u64), case);
        let mask = mask.clone().bool_or(mask.bool_not());
        let parts =
            |x: &[Tensor<3>]| super::attention::separate([0, 1, 2].map(|part| x[part].clone()));
        assert_agree(
            differentiate(&inputs, |x| {
                fused::attention(parts(x), &shape, &rotary, mask.clone())
            }),
            differentiate(&inputs, |x| {
                compose::attention(parts(x), &shape, &rotary, mask.clone())
            }),
        );
    }
}

#[test]
fn attention_over_spans() {
    for (seed, window) in [None, Some(1), Some(6)].into_iter().enumerate() {
        for ends in [false, true] {
            let case = (1, 20, 4, 2, 5, 2, window);
            let (inputs, shape, rotary, _) =
                super::attention::grouped(&mut Dice::new(seed as u64), case);
            let spans = super::attention::spans(ends);
            let [queries, keys, values] = inputs;
            let inputs = [queries.narrow(1, 0, spans.queries()), keys, values];
            let parts =
                |x: &[Tensor<3>]| super::attention::separate([0, 1, 2].map(|part| x[part].clone()));
            assert_agree(
                differentiate(&inputs, |x| {
                    fused::attention_over(parts(x), &shape, &rotary, &spans)
                }),
                differentiate(&inputs, |x| {
                    compose::attention_over(parts(x), &shape, &rotary, &spans)
                }),
            );
        }
    }
}

#[test]
fn interleaved_attention_over_spans() {
    let (mut dice, device) = (Dice::new(9), Device::flex());
    let inputs = [dice.tensor([1, 20, 3 * 3 * 8], 1.5, &device)];
    let rotary = dice.rotary([1, 20, 2], &device);
    let (spans, shape) = (
        super::attention::spans(false),
        AttentionShape::multi_head(3, 8),
    );
    let qkv = |x: &[Tensor<3>]| Projections::Interleaved(x[0].clone());
    assert_agree(
        differentiate(&inputs, |x| {
            fused::attention_over(qkv(x), &shape, &rotary, &spans)
        }),
        differentiate(&inputs, |x| {
            compose::attention_over(qkv(x), &shape, &rotary, &spans)
        }),
    );
}

#[test]
fn sampling() {
    let device = Device::flex();
    let mut dice = Dice::new(5);
    let logits = dice.tensor([200, 97], 3.0, &device);
    let uniforms = (dice.tensor([200], 0.5, &device) + 0.5).clamp(0.0, 0.999);
    for (temperature, top_p) in [(1.0, 1.0), (0.3, 1.0), (1.0, 0.8), (2.0, 0.5), (0.0, 1.0)] {
        let drawn = |tokens: Tensor<1, Int>| tokens.into_data().iter::<i64>().collect::<Vec<_>>();
        let fused = drawn(fused::sample(
            logits.clone(),
            temperature,
            top_p,
            uniforms.clone(),
        ));
        let composed = drawn(compose::sample(
            logits.clone(),
            temperature,
            top_p,
            uniforms.clone(),
        ));
        // Where a uniform falls on the border between two tokens, rounding may select either.
        let different = fused.iter().zip(&composed).filter(|(a, b)| a != b).count();
        assert!(different <= 1, "{different} of 200 differ");
    }
}

#[test]
fn views_and_shared_tensors_are_read_as_they_look() {
    let device = Device::flex();
    let mut dice = Dice::new(6);
    let turned = dice.tensor([64, 40], 1.0, &device).transpose();
    let part = dice.tensor([50, 64], 1.0, &device).narrow(0, 7, 40);
    let weight = dice.tensor([96, 64], 1.0, &device).transpose();
    for x in [turned, part] {
        assert_close(
            &floats(fused::linear(x.clone(), weight.clone(), None)),
            &floats(compose::linear(x.clone(), weight.clone(), None)),
            1e-5,
        );
        let kept = floats(x.clone());
        assert_close(
            &floats(fused::gelu(x.clone())),
            &floats(compose::gelu(x.clone())),
            1e-5,
        );
        assert_eq!(floats(x), kept);
    }
}

#[test]
fn logits_used_twice_keep_their_values_and_add_their_gradients() {
    let logits = track(&Dice::new(7).tensor([5, 9], 2.0, &Device::flex()));
    let targets = Tensor::<1, Int>::from_data([0, 8, 3, 3, 5], &Device::flex());
    let first = fused::token_log_probs(logits.clone(), targets.clone());
    let gradients = (first.sum() + logits.clone().powf_scalar(2.0).sum()).backward();
    let softmax = burn::tensor::activation::softmax(logits.clone().inner(), 1);
    let expected = targets.one_hot::<2>(9).float() - softmax + logits.clone().inner() * 2.0;
    assert_close(
        &floats(logits.grad(&gradients).unwrap()),
        &floats(expected),
        1e-5,
    );
}

#[test]
fn frozen_parameters_and_checkpointing_devices_work() {
    let mut dice = Dice::new(8);
    let device = Device::flex().autodiff().gradient_checkpointing();
    let x = dice.tensor([6, 8], 1.0, &device).require_grad();
    let weight = dice.tensor([8, 4], 1.0, &Device::flex());
    let out = fused::gelu(fused::linear(x.clone(), weight.clone(), None));
    let gradients = out.sum().backward();
    let plain = track(&x);
    let expected = compose::gelu(compose::linear(plain.clone(), weight, None))
        .sum()
        .backward();
    assert_close(
        &floats(x.grad(&gradients).unwrap()),
        &floats(plain.grad(&expected).unwrap()),
        1e-5,
    );
}

#[test]
fn other_types_take_the_composition() {
    let x = Dice::new(9).tensor([6, 8], 1.0, &Device::flex());
    let doubled = x.clone().cast(FloatDType::F64);
    assert!(flex::runs(&x) && !flex::runs(&doubled));
    assert_close(
        &floats(fused::gelu(doubled).cast(FloatDType::F32)),
        &floats(fused::gelu(x)),
        1e-6,
    );
}

#[test]
fn generation_under_autodiff_takes_the_composition_and_agrees() {
    let mut dice = Dice::new(10);
    let plain = Device::flex();
    let qkv = dice.tensor([2, 5, 48], 1.0, &plain);
    let rotary = dice.rotary([2, 5, 2], &plain);
    let (mask, shape) = (
        dice.padding([2, 5], &plain),
        AttentionShape::multi_head(2, 8),
    );
    let run = |qkv: Tensor<3>| {
        let angles = |start, count| Rotary {
            cos: rotary.cos.clone().narrow(1, start, count),
            sin: rotary.sin.clone().narrow(1, start, count),
        };
        let prompt = qkv.clone().narrow(1, 0, 4);
        let (first, cache) = fused::prefill(
            Projections::Interleaved(prompt),
            &shape,
            &angles(0, 4),
            mask.clone().narrow(1, 0, 4),
            4,
        );
        let (second, _) = fused::step(
            Projections::Interleaved(qkv.narrow(1, 4, 1)),
            &shape,
            &angles(4, 1),
            mask.clone(),
            cache,
        );
        [floats(first), floats(second)].concat()
    };
    assert_close(&run(track(&qkv)), &run(qkv), 1e-5);
}
