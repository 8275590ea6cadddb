//! A training run as the outside sees it.

use crate::methods::optimise::{Monitor, StepReport};
use crate::model::weights::Weights;
use std::cell::RefCell;

/// Keeps every optimiser step's loss, norm and gradients.
#[derive(Debug, Default)]
pub struct Recorder {
    pub losses: RefCell<Vec<f32>>,
    /// L2 norms of all gradients of a step, before clipping.
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
