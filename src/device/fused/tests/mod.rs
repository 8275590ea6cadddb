//! Requirements on each operation, whichever implementation computes it.

mod agreement;
mod attention;
mod cache;
#[cfg(feature = "tch")]
mod libtorch;
mod rows;
mod sampling;

use super::Rotary;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random inputs of one test, the same in every run.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count)
            .map(|_| (self.0.random::<f32>() - 0.5) * 2.0 * scale)
            .collect()
    }

    fn tensor<const D: usize>(
        &mut self,
        shape: [usize; D],
        scale: f32,
        device: &Device,
    ) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(self.values(shape.iter().product(), scale), shape),
            device,
        )
    }

    /// Angles of [batch, time, half], different in every row.
    fn rotary(&mut self, [batch, time, half]: [usize; 3], device: &Device) -> Rotary {
        let angles = self.tensor([batch, time, half], 3.0, device);
        Rotary {
            cos: angles.clone().cos(),
            sin: angles.sin(),
        }
    }

    /// A mask of [batch, time] with random padding: left in even rows, right in odd ones, no
    /// padding in the first.
    fn padding(&mut self, [batch, time]: [usize; 2], device: &Device) -> Tensor<2, Bool> {
        let mut real = vec![true; batch * time];
        for (row, slots) in real.chunks_mut(time).enumerate().skip(1) {
            let count = self.0.random_range(0..=time);
            if row % 2 == 0 {
                slots[..count].fill(false);
            } else {
                slots[time - count..].fill(false);
            }
        }
        Tensor::from_data(TensorData::new(real, [batch, time]), device)
    }
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Largest difference, relative to the largest magnitude expected (at least 1).
fn difference(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let scale = expected
        .iter()
        .fold(1.0f32, |scale, value| scale.max(value.abs()));
    actual.iter().zip(expected).fold(0.0, |worst: f32, (a, b)| {
        if (a - b).is_nan() {
            f32::NAN
        } else {
            worst.max((a - b).abs())
        }
    }) / scale
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    let difference = difference(actual, expected);
    assert!(
        difference <= tolerance,
        "differs by {difference:e}, more than {tolerance:e}"
    );
}

/// Compares automatic gradients of `f` at `inputs` with central differences along random
/// directions.
#[track_caller]
fn assert_gradients(dice: &mut Dice, inputs: &[Tensor<2>], f: impl Fn(&[Tensor<2>]) -> Tensor<1>) {
    let device = Device::flex();
    let tracked: Vec<Tensor<2>> = inputs.iter().map(track).collect();
    let gradients = f(&tracked).backward();
    for (index, input) in inputs.iter().enumerate() {
        let gradient = tracked[index]
            .grad(&gradients)
            .expect("every input has a gradient");
        for _ in 0..3 {
            let direction = dice.tensor(input.dims(), 1.0, &device);
            let along = |step: f64| {
                let mut moved = inputs.to_vec();
                moved[index] = input.clone() + direction.clone() * step;
                f64::from(f(&moved).into_scalar::<f32>())
            };
            let h = 2e-3;
            let expected =
                (8.0 * (along(h) - along(-h)) - (along(2.0 * h) - along(-2.0 * h))) / (12.0 * h);
            let actual = f64::from(
                (gradient.clone() * direction.clone())
                    .sum()
                    .into_scalar::<f32>(),
            );
            let scale = f64::from(
                (gradient.clone() * gradient.clone())
                    .sum()
                    .into_scalar::<f32>(),
            )
            .sqrt();
            assert!(
                (actual - expected).abs() <= 2e-3 * (1.0 + scale.max(expected.abs())),
                "input {index}: gradient {actual}, finite difference {expected}"
            );
        }
    }
}

/// A copy of `x` whose gradient is recorded.
fn track<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(x.to_data(), &Device::flex().autodiff()).require_grad()
}
