//! Parts that layers are made of: linear maps with their adapters, norms, angles of positions.

mod angles;
mod linear;
pub mod lora;
mod norm;

pub use angles::Angles;
pub use linear::Linear;
pub use norm::{LayerNorm, Norm, RmsNorm};

use burn::module::Param;
use burn::tensor::{FloatDType, Tensor};

/// The value of a parameter in the type of `x`; gradients flow through the change of type.
pub fn like<const D: usize, const E: usize>(
    parameter: &Param<Tensor<D>>,
    x: &Tensor<E>,
) -> Tensor<D> {
    parameter.val().cast(FloatDType::from(x.dtype()))
}
