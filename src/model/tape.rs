//! Gradient checkpointing by layers (Chen et al. 2016, arXiv 1604.06174): the forward pass keeps
//! only each layer's input, and the backward pass recomputes the layer to differentiate it. The
//! memory of a pass falls from all activations of all layers to those of one layer, at the cost of
//! one more forward pass.
//!
//! The library's own checkpointing chooses among single operations and saves little, so whole
//! layers are checkpointed here: the decoder's output starts a new graph, and [`Decoder::replay`]
//! propagates the gradient from there, layer by layer.

use crate::model::arch::Tokens;
use crate::model::decoder::Decoder;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Forward passes that wait to be replayed.
#[derive(Clone, Debug, Default)]
pub struct Tape(Arc<Mutex<Vec<Pass>>>);

/// One forward pass through a decoder.
#[derive(Debug)]
struct Pass {
    tokens: Tokens,
    /// Inputs of every layer, `[b·t, d]`, without a graph.
    inputs: Vec<Tensor<2>>,
    /// Output of the last layer, at which the graph of the loss begins.
    output: Tensor<2>,
}

impl Tape {
    /// The states that `decoder` computes from `tokens`, as the first node of a new graph: `[b·t,
    /// d]`, or `[texts, d]` of texts.
    pub(super) fn forward(&self, decoder: &Decoder, tokens: Tokens) -> Tensor<2> {
        let (plain, seen) = (decoder.valid(), tokens.clone().inner());
        let mut inputs = Vec::with_capacity(plain.layers.len());
        let mut x = plain.embed(&seen);
        for (index, layer) in plain.layers.iter().enumerate() {
            inputs.push(x.clone());
            x = layer.forward(x, &seen, &mut seen.mode(index, plain.layers.len()));
        }
        let output = x.autodiff().require_grad();
        self.passes().push(Pass {
            tokens,
            inputs,
            output: output.clone(),
        });
        output
    }

    fn passes(&self) -> std::sync::MutexGuard<'_, Vec<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Decoder {
    /// Differentiates the checkpointed forward passes since the last call. `found` contains the
    /// gradients of a loss of their outputs; those of the decoder's parameters are added to
    /// `total`.
    pub fn replay(&self, found: &mut Gradients, total: &mut GradientsParams) {
        let Some(tape) = &self.tape else { return };
        for Pass {
            tokens,
            inputs,
            output,
        } in std::mem::take(&mut *tape.passes())
        {
            let Some(mut gradient) = output.grad_remove(found) else {
                continue;
            };
            for (index, (layer, input)) in self.layers.iter().zip(inputs).enumerate().rev() {
                let input = input.autodiff().require_grad();
                let mode = &mut tokens.mode(index, self.layers.len());
                let output = layer.forward(input.clone(), &tokens, mode);
                let mut found = (output * gradient).sum().backward();
                add_gradients(layer, &mut found, total);
                gradient = match input.grad_remove(&mut found) {
                    Some(gradient) => gradient,
                    None => unreachable!("a layer's output is a function of its input"),
                };
            }
            if self.embedding.is_require_grad() {
                let mut found = (self.embed(&tokens) * gradient).sum().backward();
                add_gradients(&self.embedding, &mut found, total);
            }
        }
    }
}

/// Moves the gradients of `module`'s parameters from `found` to `total`, adding to existing ones.
pub fn add_gradients<M: Module>(module: &M, found: &mut Gradients, total: &mut GradientsParams) {
    struct Add<'a> {
        found: &'a mut Gradients,
        total: &'a mut GradientsParams,
    }
    impl ModuleVisitor for Add<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            let Some(gradient) = parameter.val().grad_remove(self.found) else {
                return;
            };
            let gradient = match self.total.remove::<D>(parameter.id) {
                Some(sum) => sum + gradient,
                None => gradient,
            };
            self.total.register(parameter.id, gradient);
        }
    }
    module.visit(&mut Add { found, total });
}
