//! Linear maps.

use super::like;
use super::lora::{Adapter, LoraSettings};
use crate::Result;
use crate::device::fused;
use crate::model::weights::{Weights, parameter};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use rand::Rng;

/// The linear map `x · W + c`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    /// The adapter that LoRA trains in their place, if used.
    lora: Option<Adapter>,
}

impl Linear {
    /// Takes the tensors `<name>.weight`, `[to, from]`, and, with a bias, `<name>.bias`.
    pub fn load(
        weights: &mut Weights,
        name: &str,
        [from, to]: [usize; 2],
        bias: bool,
        device: &Device,
    ) -> Result<Self> {
        let weight = format!("{name}.weight");
        let matrix = weights.take_transposed(&weight, [to, from])?;
        let load_bias = || {
            let bias = format!("{name}.bias");
            Ok(parameter(&bias, weights.take(&bias, &[to])?, [to], device))
        };
        let bias = bias.then(load_bias).transpose()?;
        Ok(Self {
            weight: parameter(&weight, matrix, [from, to], device),
            bias,
            lora: None,
        })
    }

    /// The map's result for `x`: `[n, in]` → `[n, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = (
            like(&self.weight, &x),
            self.bias.as_ref().map(|bias| like(bias, &x)),
        );
        match &self.lora {
            None => fused::linear(x, weight, bias),
            Some(adapter) => fused::linear(x.clone(), weight, bias) + adapter.forward(x),
        }
    }

    /// The map's result for `x` in some columns: `columns` takes a matrix `[rows, out]` to those that
    /// are wanted, in the order wanted.
    pub fn forward_columns(
        &self,
        x: Tensor<2>,
        columns: impl Fn(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let weight = columns(like(&self.weight, &x));
        let bias = self.bias.as_ref().map(|bias| {
            let bias: Tensor<1> = like(bias, &x);
            columns(bias.unsqueeze()).squeeze_dim(0)
        });
        match &self.lora {
            None => fused::linear(x, weight, bias),
            Some(adapter) => {
                fused::linear(x.clone(), weight, bias) + adapter.forward_columns(x, columns)
            }
        }
    }

    /// The map with an adapter beside it.
    pub fn adapted(self, settings: &LoraSettings, rng: &mut impl Rng) -> Self {
        Self {
            lora: Some(Adapter::new(&self.weight.val(), settings, rng)),
            ..self
        }
    }

    /// The map with its adapter added to the weight, in f32.
    pub fn merged(self) -> Self {
        match self.lora {
            None => self,
            Some(adapter) => {
                let weight = self
                    .weight
                    .map(|weight| weight.cast(FloatDType::F32) + adapter.product());
                Self {
                    weight,
                    bias: self.bias,
                    lora: None,
                }
            }
        }
    }

    /// The map with its weights in another type.
    pub fn in_dtype(self, dtype: FloatDType) -> Self {
        self.map(&mut Cast(dtype))
    }
}

/// A mapper that changes the type of every parameter.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        parameter.map(|value| value.cast(self.0))
    }
}
