//! A test of whether a base model can copy: given a post and the perfect summary up to a content
//! slot, the slot's word should be the most likely next token. A world whose base cannot copy
//! measures nothing, so pre-training must pass this test.

use crate::data::TextEncoder;
use crate::data::world::{Split, World};
use crate::device::fused;
use crate::model::generate::tokens;
use crate::model::{Batch, LanguageModel, Sequence};
use crate::{Error, Result};
use burn::tensor::Tensor;

const POSTS: u64 = 200;

/// Accuracy per content slot on validation posts, in the order of the perfect summary.
pub fn slot_accuracy(
    model: &LanguageModel,
    world: &World,
    encoder: &TextEncoder,
) -> Result<Vec<(&'static str, f64)>> {
    let mut names = Vec::new();
    let (mut rows, mut slots) = (Vec::new(), Vec::new());
    for index in 0..POSTS {
        let post = world.post(Split::Validation, 0, index);
        let canonical = world.canonical(&post);
        let response = encoder.response(&canonical)?;
        let mut places = Vec::new();
        for (name, word) in world.slots(&post.latent) {
            let place = canonical
                .split(' ')
                .position(|said| said == word)
                .ok_or_else(|| {
                    Error::data(format!(
                        "the perfect summary of {} does not hold its {name}, `{word}`",
                        post.id
                    ))
                })?;
            places.push(place);
            if index == 0 {
                names.push(name);
            }
        }
        rows.push(Sequence::new(encoder.prompt(&post.prompt)?, response.ids));
        slots.push(places);
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
    let right = |row: usize, slot: usize| {
        let place: usize = slots[row][slot];
        greedy[row * batch.response_width + place] == rows[row].response[place]
    };
    let accuracy =
        |slot| (0..rows.len()).filter(|&row| right(row, slot)).count() as f64 / rows.len() as f64;
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(slot, name)| (name, accuracy(slot)))
        .collect())
}
