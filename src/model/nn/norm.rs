//! Norms. Their weights stay f32 whatever the model's type.

use crate::Result;
use crate::device::fused::{self, Rounding};
use crate::model::weights::{Weights, parameter};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// Layer normalisation (Ba, Kiros & Hinton 2016).
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// Takes the tensors `<name>.weight` and `<name>.bias`.
    pub fn load(
        weights: &mut Weights,
        name: &str,
        size: usize,
        epsilon: f64,
        device: &Device,
    ) -> Result<Self> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Self {
            weight: parameter(&weight, weights.take(&weight, &[size])?, [size], device),
            bias: parameter(&bias, weights.take(&bias, &[size])?, [size], device),
            epsilon,
        })
    }

    /// The normalised rows of `x` `[n, size]`, which may have any type; the result has the same
    /// type.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon)
    }
}

/// Root-mean-square normalisation (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
    #[module(skip)]
    rounding: Rounding,
}

impl RmsNorm {
    /// Takes the tensor `<name>.weight`.
    pub fn load(
        weights: &mut Weights,
        name: &str,
        size: usize,
        (epsilon, rounding): (f64, Rounding),
        device: &Device,
    ) -> Result<Self> {
        let weight = format!("{name}.weight");
        Ok(Self {
            weight: parameter(&weight, weights.take(&weight, &[size])?, [size], device),
            epsilon,
            rounding,
        })
    }

    /// The normalised rows of `x` `[n, size]`, which may have any type; the result has the same
    /// type.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        fused::rms_norm(x, self.weight.val(), self.epsilon, self.rounding)
    }

    /// The rows of `x` `[n, parts · size]` with each part of `size` values normalised separately.
    pub fn forward_parts(&self, x: Tensor<2>) -> Tensor<2> {
        let ([n, width], [size]) = (x.dims(), self.weight.val().dims());
        self.forward(x.reshape([n * width / size, size]))
            .reshape([n, width])
    }
}

/// The norm after the last layer.
#[derive(Module, Debug)]
pub enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Norm {
    /// The normalised rows of `x` `[n, size]`, which may have any type; the result has the same
    /// type.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}
