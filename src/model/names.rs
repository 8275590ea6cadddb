//! How parameters are called and laid out in Hugging Face checkpoints.

use crate::model::weights::{Weights, host, transposed};
use burn::tensor::Tensor;

const EMBEDDING: &str = "embed_in";

/// Puts the values of the parameter at `path` of a module, or of its gradient, into `weights`.
///
/// Modules name their fields as checkpoints do. Matrices are `[in, out]` in memory and `[out, in]` on disk; the embedding,
/// `[vocab_size, hidden_size]` in both, is a table and not a matrix.
pub fn store<const D: usize>(weights: &mut Weights, path: &[String], tensor: Tensor<D>) {
    let leaf = path.last().map(String::as_str).unwrap_or_default();
    let mut name = path.join(".");
    if !matches!(leaf, "weight" | "bias") {
        name.push_str(".weight");
    }
    match tensor.dims().as_slice() {
        &[from, to] if leaf != EMBEDDING => {
            weights.insert(name, &[to, from], transposed(&host(tensor), from, to));
        }
        shape => {
            let shape = shape.to_vec();
            weights.insert(name, &shape, host(tensor));
        }
    }
}
