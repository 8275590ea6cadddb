//! How parameters are called and laid out in Hugging Face checkpoints. Modules name their fields as checkpoints do, so that
//! a parameter's path in its module is nearly its name.

use crate::model::weights::{Weights, host, transposed};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

const EMBEDDING: &str = "embed_in";

/// The values of every parameter of `module`.
pub fn weights<M: Module>(module: &M) -> Weights {
    tensors(module, "model in memory", &Values)
}

/// What is read of each parameter.
pub trait Read {
    /// A tensor of the parameter's shape; a parameter without one is left out.
    fn read<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>>;
}

struct Values;

impl Read for Values {
    fn read<const D: usize>(&self, parameter: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        Some(parameter.val())
    }
}

/// What `read` finds for every parameter of `module`, named and laid out as in a checkpoint. Values come to the host when
/// they are asked for.
pub fn tensors<M: Module>(module: &M, origin: &str, read: &impl Read) -> Weights {
    let mut visitor = Visitor { read, path: Vec::new(), found: Weights::new(origin) };
    module.visit(&mut visitor);
    visitor.found
}

struct Visitor<'a, R> {
    read: &'a R,
    path: Vec<String>,
    found: Weights,
}

impl<R: Read> ModuleVisitor for Visitor<'_, R> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let Some(tensor) = self.read.read(parameter) else { return };
        let leaf = self.path.last().map(String::as_str).unwrap_or_default();
        let mut name = self.path.join(".");
        if !matches!(leaf, "weight" | "bias") {
            name.push_str(".weight");
        }
        // Matrices are `[in, out]` in memory and `[out, in]` on disk; the embedding is a table, `[vocab_size, hidden_size]`
        // in both.
        match tensor.dims().as_slice() {
            &[from, to] if leaf != EMBEDDING => {
                self.found.insert_computed(name, &[to, from], move || Ok(transposed(&host(tensor.clone())?, from, to)));
            }
            shape => {
                let shape = shape.to_vec();
                self.found.insert_computed(name, &shape, move || host(tensor.clone()));
            }
        }
    }
}
