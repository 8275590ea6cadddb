//! Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685): a frozen linear map x·W + c becomes x·W
//! + c + (α/r)·(x·A)·B.

use super::like;
use crate::device::fused;
use crate::model::weights::parameter;
use burn::module::{Module, Param};
use burn::tensor::{FloatDType, Tensor};
use rand::Rng;

/// Shape and strength of adapters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraSettings {
    /// r: columns of A and rows of B.
    pub rank: usize,
    /// α; the adapter's output is scaled by α/r.
    pub alpha: f64,
}

/// The two small matrices beside one frozen linear map.
#[derive(Module, Debug)]
pub struct Adapter {
    /// A, `[in, r]`.
    a: Param<Tensor<2>>,
    /// B, `[r, out]`.
    b: Param<Tensor<2>>,
    /// α/r.
    #[module(skip)]
    scale: f64,
}

impl Adapter {
    /// An adapter beside `weight` `[in, out]` that adds nothing yet: B = 0, and A uniform in
    /// ±1/√in, as in the authors' code.
    pub fn new(weight: &Tensor<2>, settings: &LoraSettings, rng: &mut impl Rng) -> Self {
        let ([from, to], rank, device) = (weight.dims(), settings.rank, weight.device());
        let width = (from as f64).powf(-0.5);
        let a = (0..from * rank)
            .map(|_| (width * (2.0 * rng.random::<f64>() - 1.0)) as f32)
            .collect();
        Self {
            a: parameter("lora.a", a, [from, rank], &device),
            b: parameter("lora.b", vec![0.0; rank * to], [rank, to], &device),
            scale: settings.alpha / rank as f64,
        }
    }

    /// The adapter's contribution for `x`: `[n, in]` -> `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward_columns(x, |b| b)
    }

    /// The adapter's contribution in some columns: see [`Linear::forward_columns`](super::Linear).
    pub fn forward_columns(
        &self,
        x: Tensor<2>,
        columns: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let (a, b) = (like(&self.a, &x), columns(like(&self.b, &x)));
        fused::linear(fused::linear(x, a, None), b, None) * self.scale
    }

    /// (α/r)·A·B in f32, `[in, out]`: the adapter's contribution to the weight.
    pub fn product(&self) -> Tensor<2> {
        let (a, b) = (
            self.a.val().cast(FloatDType::F32),
            self.b.val().cast(FloatDType::F32),
        );
        a.matmul(b) * self.scale
    }
}
