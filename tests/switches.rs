//! What the switches of training must leave alone, and what they must change.

mod common;

use common::{micro_batches, optimiser, rows, small_model};
use std::cell::RefCell;
use std::collections::BTreeMap;
use touchstone::methods::optimise::Monitor;
use touchstone::methods::sft::{SftSettings, sft};
use touchstone::model::weights::Weights;

/// Keeps every step's gradients.
#[derive(Default)]
struct Recorder {
    steps: RefCell<Vec<BTreeMap<String, Vec<f32>>>>,
}

impl Monitor for Recorder {
    fn gradients(&self, step: usize, read: &dyn Fn() -> Weights) {
        let mut steps = self.steps.borrow_mut();
        assert_eq!(step, steps.len());
        steps.push(read().iter().map(|(name, values)| (name.into(), values.to_vec())).collect());
    }
}

#[test]
fn gradients_are_named_and_laid_out_as_weights_are() {
    let settings = SftSettings { epochs: 1, batch_size: 4, prompt_weight: 0.0, optimiser: optimiser() };
    let (recorder, model) = (Recorder::default(), small_model(1));
    sft(model.clone(), &rows(4, 2), &settings, &micro_batches(3), 7, &recorder).unwrap();
    let (weights, gradients) = (model.weights(), &recorder.steps.borrow()[0]);
    assert!(gradients.keys().map(String::as_str).eq(weights.iter().map(|(name, _)| name)), "{:?}", gradients.keys());
    // Lowering the loss: the first step of AdamW is against the sign of every gradient that is not negligible.
    let one = SftSettings {
        optimiser: touchstone::methods::optimise::OptimiserSettings { weight_decay: 0.0, ..settings.optimiser },
        ..settings
    };
    let (trained, _) =
        sft(model, &rows(4, 2), &one, &micro_batches(3), 7, &touchstone::methods::optimise::Unwatched).unwrap();
    let trained = trained.weights();
    for (name, before) in weights.iter() {
        for ((before, after), gradient) in before.iter().zip(trained.get(name).unwrap()).zip(&gradients[name]) {
            assert!(
                gradient.abs() < 1e-4 || (after - before) * gradient < 0.0,
                "{name}: {gradient} moved {before} to {after}"
            );
        }
    }
}
