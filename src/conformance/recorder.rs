//! A recorder of a training run, as seen from outside the training loop.

use crate::methods::optimise::{Monitor, StepReport};
use crate::model::weights::Weights;
use std::cell::RefCell;

/// Records the loss, norm and gradients of every optimiser step.
#[derive(Debug, Default)]
pub struct Recorder {
    pub losses: RefCell<Vec<f32>>,
    /// L2 norms of all gradients of a step together, before clipping.
    pub norms: RefCell<Vec<f32>>,
    pub gradients: RefCell<Vec<Weights>>,
}

impl Monitor for Recorder {
    fn gradients(&self, _step: usize, read: &dyn Fn() -> Weights) {
        self.gradients.borrow_mut().push(read());
    }

    fn stepped(&self, _step: usize, report: &StepReport) {
        self.losses.borrow_mut().push(report.loss);
        self.norms.borrow_mut().push(report.gradient_norm);
    }
}
