//! Benchmarks of each operation in the shapes of a training step, forwards and backwards: its fused
//! kernel against the plain composition. `RAYON_NUM_THREADS=1 cargo bench --bench kernels` compares
//! on one thread.

use burn::tensor::{Bool, Device, Distribution, Int, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use touchstone::device::fused::{self, AttentionShape, Projections, Rotary, compose};

fn main() {
    divan::main();
}

/// A tensor shape: rows × slots × width, and the number of heads.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    time: usize,
    width: usize,
    heads: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        batch: 48,
        time: 52,
        width: 64,
        heads: 4,
    },
    Shape {
        batch: 48,
        time: 60,
        width: 96,
        heads: 6,
    },
];

impl Shape {
    fn tokens(&self) -> usize {
        self.batch * self.time
    }

    fn attention(&self) -> AttentionShape {
        AttentionShape::multi_head(self.heads, self.width / self.heads)
    }

    /// A mask with padding on the left of every fourth row.
    fn mask(&self, device: &Device) -> Tensor<2, Bool> {
        let row = Tensor::<1, Int>::arange(0..self.batch as i64, device)
            .remainder_scalar(4)
            .equal_elem(0)
            .int();
        let slot = Tensor::<1, Int>::arange(0..self.time as i64, device);
        (row * 9)
            .unsqueeze_dim::<2>(1)
            .lower_equal(slot.unsqueeze::<2>())
    }

    fn rotary(&self, device: &Device) -> Rotary {
        let angles = random([self.batch, self.time, 2], device);
        Rotary {
            cos: angles.clone().cos(),
            sin: angles.sin(),
        }
    }
}

/// The default device, selected as the program does.
fn flex() -> Device {
    touchstone::device::select(touchstone::device::DEFAULT).expect("flex is always built")
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Times `operation` on tracked inputs together with the gradients of its sum with fixed weights.
fn train<const D: usize, I: Clone + Sync>(
    bencher: Bencher,
    shape: Shape,
    inputs: impl Fn(&Device) -> I,
    operation: impl Fn(I) -> Tensor<D> + Sync,
) {
    let device = flex().autodiff();
    let inputs = inputs(&device);
    let weights = Tensor::<D>::random(
        operation(inputs.clone()).dims(),
        Distribution::Default,
        &flex(),
    );
    bencher
        .counter(ItemsCount::new(shape.tokens()))
        .bench_local(|| {
            (operation(inputs.clone()) * weights.clone())
                .sum()
                .backward()
        });
}

macro_rules! compare {
    ($name:ident, $shape:ident, $device:ident, $inputs:expr, |$arguments:pat_param, $ops:ident| $call:expr) => {
        mod $name {
            use super::*;

            #[divan::bench(args = SHAPES)]
            fn fused(bencher: Bencher, $shape: Shape) {
                use super::fused as $ops;
                train(bencher, $shape, |$device| $inputs, |$arguments| $call);
            }

            #[divan::bench(args = SHAPES)]
            fn composed(bencher: Bencher, $shape: Shape) {
                use super::compose as $ops;
                train(bencher, $shape, |$device| $inputs, |$arguments| $call);
            }
        }
    };
}

compare!(
    linear_to_qkv,
    shape,
    device,
    (
        random([shape.tokens(), shape.width], device).require_grad(),
        random([shape.width, 3 * shape.width], device).require_grad(),
        random([3 * shape.width], device).require_grad(),
    ),
    |(x, weight, bias), ops| ops::linear(x, weight, Some(bias))
);

compare!(
    linear_from_hidden,
    shape,
    device,
    (
        random([shape.tokens(), 4 * shape.width], device).require_grad(),
        random([4 * shape.width, shape.width], device).require_grad(),
        random([shape.width], device).require_grad(),
    ),
    |(x, weight, bias), ops| ops::linear(x, weight, Some(bias))
);

compare!(
    layer_norm,
    shape,
    device,
    (
        random([shape.tokens(), shape.width], device).require_grad(),
        random([shape.width], device).require_grad(),
        random([shape.width], device).require_grad(),
    ),
    |(x, gamma, beta), ops| ops::layer_norm(x, gamma, beta, 1e-5)
);

compare!(
    gelu,
    shape,
    device,
    random([shape.tokens(), 4 * shape.width], device).require_grad(),
    |x, ops| ops::gelu(x)
);

compare!(
    attention,
    shape,
    device,
    (
        random([shape.batch, shape.time, 3 * shape.width], device).require_grad(),
        shape.rotary(&flex()),
        shape.mask(&flex()),
        shape.attention(),
    ),
    |(qkv, rotary, mask, shape), ops| ops::attention(
        Projections::Interleaved(qkv),
        &shape,
        &rotary,
        mask
    )
);

compare!(
    token_log_probs,
    shape,
    device,
    (
        random([shape.tokens(), 256], device).require_grad(),
        Tensor::<1, Int>::arange(0..shape.tokens() as i64, &flex()).remainder_scalar(256),
    ),
    |(logits, targets), ops| ops::token_log_probs(logits, targets)
);

/// Forty-eight generation steps for 64 rows after 48 prompt slots: attention and cache only.
#[divan::bench(args = SHAPES)]
fn generation(bencher: Bencher, shape: Shape) {
    let device = flex();
    let (rows, prompt, new) = (64, 48, 48);
    let projections =
        |time| Projections::Interleaved(random([rows, time, 3 * shape.width], &device));
    let (prompt_qkv, qkv) = (projections(prompt), projections(1));
    let attention = shape.attention();
    let angles = |time| Rotary {
        cos: random([rows, time, 2], &device),
        sin: random([rows, time, 2], &device),
    };
    let (prompt_angles, angles) = (angles(prompt), angles(1));
    let mask = |time: usize| Tensor::<2, Bool>::full([rows, time], true, &device);
    bencher
        .counter(ItemsCount::new(rows * new))
        .bench_local(|| {
            let (_, mut cache) = fused::prefill(
                prompt_qkv.clone(),
                &attention,
                &prompt_angles,
                mask(prompt),
                prompt + new,
            );
            for slot in prompt..prompt + new {
                (_, cache) = fused::step(qkv.clone(), &attention, &angles, mask(slot + 1), cache);
            }
            cache
        });
}

/// Sampling a token for each of 64 rows.
#[divan::bench(args = [1.0, 0.9])]
fn sample(bencher: Bencher, top_p: f32) {
    let device = flex();
    let logits = random([64, 256], &device);
    let uniforms = Tensor::<1>::random([64], Distribution::Default, &device);
    bencher.bench_local(|| fused::sample(logits.clone(), 1.0, top_p, uniforms.clone()));
}
