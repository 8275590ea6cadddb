//! A test of whether a base model can copy: given a prompt and the perfect answer up to a content
//! slot, the slot's word should be the most likely next token. A world whose base cannot copy
//! measures nothing, so pre-training must pass this test.

use crate::Result;
use crate::data::TextEncoder;
use crate::data::world::{Place, Split, World};
use crate::device::fused;
use crate::model::generate::tokens;
use crate::model::{Batch, LanguageModel, Sequence};
use burn::tensor::Tensor;

const POSTS: u64 = 200;

/// Accuracy per content slot on validation prompts, in the order in which the slots first occur.
pub fn slot_accuracy(
    model: &LanguageModel,
    world: &dyn World,
    encoder: &TextEncoder,
) -> Result<Vec<(&'static str, f64)>> {
    let (mut rows, mut slots) = (Vec::new(), Vec::new());
    for index in 0..POSTS {
        let place = Place::new(Split::Validation, 0, index);
        let response = encoder.response(&world.canonical(place))?;
        rows.push(Sequence::new(
            encoder.prompt(&world.prompt(place))?,
            response.ids,
        ));
        slots.push(world.slots(place));
    }
    let batch = Batch::new(&rows, &model.device());
    let logits = model.logits(model.response_states(&batch));
    let greedy = fused::sample(
        logits,
        0.0,
        1.0,
        Tensor::zeros([batch.rows() * batch.response_width], &model.device()),
    );
    let greedy = tokens(greedy)?;
    let mut found: Vec<(&'static str, usize, usize)> = Vec::new();
    for (row, slots) in slots.iter().enumerate() {
        for slot in slots {
            let place = row * batch.response_width + slot.position;
            let right = greedy[place] == rows[row].response[slot.position];
            match found.iter_mut().find(|(name, ..)| *name == slot.name) {
                Some((_, hits, all)) => (*hits, *all) = (*hits + usize::from(right), *all + 1),
                None => found.push((slot.name, usize::from(right), 1)),
            }
        }
    }
    let share = |(name, hits, all): (_, usize, usize)| (name, hits as f64 / all as f64);
    Ok(found.into_iter().map(share).collect())
}
