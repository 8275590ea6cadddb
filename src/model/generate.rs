//! Sampling of responses with a key–value cache. A response is a function of weights, prompt and
//! the item's own random stream, never of batch size or neighbours. Generation stops when all rows
//! have ended, and ended rows leave the batch.

use crate::device::{self, fused};
use crate::model::batch::{Batch, Sequence};
use crate::model::heads::LanguageModel;
use crate::model::tokenizer::Ends;
use crate::model::weights::host;
use crate::{Error, Result};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Settings for drawing responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Temperature; 0 takes the most likely token.
    pub temperature: f32,
    /// Nucleus mass; 1 keeps the whole distribution.
    pub top_p: f32,
    /// The number of most likely tokens that are kept, with all that are as likely as the last of
    /// them, before the nucleus is; `None` keeps all. As in transformers.
    pub top_k: Option<NonZeroUsize>,
    pub max_new_tokens: usize,
    /// Tokens that end a response and are part of it.
    pub ends: Ends,
    /// Number of rows generated together.
    pub batch_size: usize,
}

/// One response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// Token ids, including the end-of-sequence token if one was drawn.
    pub ids: Vec<u32>,
    /// True if an end-of-sequence token was drawn within the limit.
    pub ended: bool,
}

/// Responses to `prompts`; item `i` draws one uniform per step from `stream(i)`. `done` receives
/// the number of finished responses.
///
/// # Errors
/// Logits that are not finite, with row and token; a device failure.
pub fn generate(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    stream: impl Fn(usize) -> ChaCha8Rng,
    done: impl FnMut(usize),
) -> Result<Vec<Generated>> {
    generate_until(model, prompts, sampling, stream, |_, _| Ok(false), done)
}

/// Does the same as [`generate`], but also ends the response of item `i` where `stop(i, ids)` holds
/// for its tokens so far, the last of which it keeps; such a response has not `ended`.
///
/// # Errors
/// Those of [`generate`] and of `stop`.
pub fn generate_until(
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    stream: impl Fn(usize) -> ChaCha8Rng,
    stop: impl Fn(usize, &[u32]) -> Result<bool>,
    done: impl FnMut(usize),
) -> Result<Vec<Generated>> {
    let look_every = match device::is_host(&model.device()) {
        true => 1,
        false => LOOK_EVERY,
    };
    generate_looking(look_every, model, prompts, sampling, stream, stop, done)
}

/// Number of steps whose tokens are looked at together, so that a device with memory of its own
/// need not wait for the host after each: rows that end meanwhile go on for nothing.
const LOOK_EVERY: usize = 8;

/// Does the same as [`generate_until`], looking at tokens after every `look_every` steps.
fn generate_looking(
    look_every: usize,
    model: &LanguageModel,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    stream: impl Fn(usize) -> ChaCha8Rng,
    stop: impl Fn(usize, &[u32]) -> Result<bool>,
    mut done: impl FnMut(usize),
) -> Result<Vec<Generated>> {
    // Prompts of similar length share a batch, so that little work is spent on padding.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| prompts[i].len());
    let mut responses = vec![Generated::default(); prompts.len()];
    let mut finished = 0;
    for items in order.chunks(sampling.batch_size.max(1)) {
        let row = |&item: &usize| Row {
            item,
            stream: stream(item),
            prompt_length: prompts[item].len(),
            response: Generated::default(),
            closed: false,
        };
        let rows = items.iter().map(row).collect();
        for row in generate_batch(model, rows, sampling, look_every, &stop, prompts)? {
            responses[row.item] = row.response;
        }
        finished += items.len();
        done(finished);
    }
    Ok(responses)
}

/// A row of a batch.
struct Row {
    /// Index into the prompts of all batches.
    item: usize,
    stream: ChaCha8Rng,
    prompt_length: usize,
    response: Generated,
    /// True if nothing more is drawn for the row.
    closed: bool,
}

/// Steps whose tokens are on the device and have not been looked at.
#[derive(Default)]
struct Unseen {
    tokens: Vec<Tensor<1, Int>>,
    /// Sums of the magnitudes of every row's logits, `[n, 1]`.
    magnitudes: Vec<Tensor<2>>,
}

fn generate_batch(
    model: &LanguageModel,
    rows: Vec<Row>,
    sampling: &Sampling,
    look_every: usize,
    stop: &impl Fn(usize, &[u32]) -> Result<bool>,
    prompts: &[Vec<u32>],
) -> Result<Vec<Row>> {
    let (device, most) = (model.device(), sampling.max_new_tokens);
    if most == 0 {
        return Ok(rows);
    }
    let sequences: Vec<Sequence> = rows
        .iter()
        .map(|row| Sequence::new(prompts[row.item].clone(), Vec::new()))
        .collect();
    let batch = Batch::new(&sequences, &device);
    let (b, width) = (batch.rows(), batch.prompt_width);
    let (states, mut kept) = model.decoder.prefill(&batch, width + most);
    let [_, d] = states.dims();
    let last = states
        .reshape([b, width, d])
        .slice([0..b, width - 1..width, 0..d])
        .reshape([b, d]);
    let mut logits = model.logits(model.decoder.normalise(last));
    // The rows of the tensors; ended ones stay among them until enough have ended.
    let (mut active, mut done) = (rows, Vec::with_capacity(b));
    let mut mask = columns(&active, width, most, &device);
    let mut unseen = Unseen::default();
    let mut uniforms = drawn(&mut active, look_every.min(most), &device);
    for step in 0..most {
        let (ahead, last_step) = (unseen.tokens.len(), step + 1 == most);
        unseen.magnitudes.push(logits.clone().abs().sum_dim(1));
        let uniform = uniforms.clone().narrow(1, ahead, 1).squeeze_dim(1);
        let mut tokens = draw(logits, uniform, sampling);
        unseen.tokens.push(tokens.clone());
        if ahead + 1 == look_every || last_step {
            look(
                std::mem::take(&mut unseen),
                step,
                &mut active,
                sampling,
                stop,
            )?;
            let open: Vec<usize> = (0..active.len()).filter(|&i| !active[i].closed).collect();
            if open.is_empty() || last_step {
                break;
            }
            if open.len() * 4 <= active.len() * 3 {
                let rows = integers(open.iter().map(|&i| i as i32), &device);
                for cache in kept.iter_mut() {
                    *cache = cache
                        .take()
                        .map(|cache| fused::select_rows(cache, rows.clone()));
                }
                tokens = tokens.select(0, rows);
                let (open, closed) = active.into_iter().partition(|row| !row.closed);
                active = open;
                done.extend::<Vec<Row>>(closed);
                mask = columns(&active, width, most, &device);
            }
            uniforms = drawn(&mut active, look_every.min(most - step - 1), &device);
        }
        let positions: Vec<u32> = active
            .iter()
            .map(|row| (row.prompt_length + step) as u32)
            .collect();
        let ids = tokens.reshape([active.len(), 1]);
        let seen = mask.clone().narrow(1, 0, width + step + 1);
        let states = model.decoder.step(ids, &positions, seen, &mut kept);
        logits = model.logits(model.decoder.normalise(states));
    }
    done.extend(active);
    Ok(done)
}

/// Copies tokens of `unseen` steps, the last of which is `step`, to the host, and appends them to
/// the rows that were open.
///
/// # Errors
/// Logits that are not finite, with row and token; a device failure.
fn look(
    unseen: Unseen,
    step: usize,
    active: &mut [Row],
    sampling: &Sampling,
    stop: &impl Fn(usize, &[u32]) -> Result<bool>,
) -> Result<()> {
    let first = step + 1 - unseen.tokens.len();
    let magnitudes = host(Tensor::cat(unseen.magnitudes, 0))?;
    let tokens = tokens(Tensor::cat(unseen.tokens, 0))?;
    let n = active.len();
    for (ahead, (magnitudes, tokens)) in magnitudes.chunks(n).zip(tokens.chunks(n)).enumerate() {
        check(magnitudes, sampling.temperature, |row| {
            let Row { item, closed, .. } = active[row];
            let place = || format!("row {}, response token {}", item + 1, first + ahead + 1);
            (!closed).then(place)
        })?;
        for (row, &token) in active.iter_mut().zip(tokens) {
            if !row.closed {
                row.response.ids.push(token);
                row.response.ended = sampling.ends.contains(token);
                row.closed = row.response.ended || stop(row.item, &row.response.ids)?;
            }
        }
    }
    Ok(())
}

/// Refuses logits that define no distribution, by the sums of every row's magnitudes: a sum is finite
/// only if all its terms are. `place` names a row; a row that has ended has no name.
fn check(
    magnitudes: &[f32],
    temperature: f32,
    place: impl Fn(usize) -> Option<String>,
) -> Result<()> {
    let scale = if temperature > 0.0 { temperature } else { 1.0 };
    let wrong = magnitudes
        .iter()
        .enumerate()
        .filter(|(_, magnitude)| !(**magnitude / scale).is_finite());
    match wrong.filter_map(|(row, magnitude)| place(row).zip(Some(magnitude))).next() {
        None => Ok(()),
        Some((place, magnitude)) if magnitude.is_finite() => {
            Err(Error::divergence(format!("{place}: the logits overflow at temperature {temperature}"))
                .hint("raise the temperature, or set it to 0 to take the most likely token"))
        }
        Some((place, _)) => Err(Error::divergence(format!("{place}: the model's logits are not finite")).hint(
            "the model computes numbers that are too large or undefined; take another checkpoint, or compute in f32",
        )),
    }
}

/// One uniform number for each active row and each of the next `steps` steps, `[n, steps]`.
fn drawn(active: &mut [Row], steps: usize, device: &Device) -> Tensor<2> {
    let uniforms: Vec<f32> = active
        .iter_mut()
        .flat_map(|row| (0..steps).map(|_| row.stream.random::<f32>()))
        .collect();
    Tensor::from_data(TensorData::new(uniforms, [active.len(), steps]), device)
}

/// Draws one token per row.
fn draw(logits: Tensor<2>, uniforms: Tensor<1>, sampling: &Sampling) -> Tensor<1, Int> {
    let logits = match sampling.top_k {
        Some(kept) if sampling.temperature > 0.0 => most_likely(logits, kept.get()),
        _ => logits,
    };
    fused::sample(logits, sampling.temperature, sampling.top_p, uniforms)
}

/// The logit of a token that is left out. It is finite, and its probability is 0 at any
/// temperature.
const LEFT_OUT: f32 = -1e30;

/// `logits` `[n, vocabulary]` with all below the `kept`-th largest of their row left out.
fn most_likely(logits: Tensor<2>, kept: usize) -> Tensor<2> {
    if kept >= logits.dims()[1] {
        return logits;
    }
    let last = logits.clone().topk(kept, 1).min_dim(1);
    let below = logits.clone().lower(last);
    logits.mask_fill(below, LEFT_OUT)
}

/// The sampled tokens, copied to the host.
///
/// # Errors
/// A device failure.
pub fn tokens(sampled: Tensor<1, Int>) -> Result<Vec<u32>> {
    let tokens = sampled.try_into_data().map_err(|cause| {
        Error::device("sampled tokens cannot be read from their device").caused_by(format!("{cause:?}")).hint(
            "the device failed, or its memory is full; run the command again, with a smaller batch if it fails again",
        )
    })?;
    Ok(tokens.iter::<i64>().map(|token| token as u32).collect())
}

/// True where a column holds a real token: the prompt (left-padded to `width`) and `generated`
/// columns after it.
fn columns(active: &[Row], width: usize, generated: usize, device: &Device) -> Tensor<2, Bool> {
    let total = width + generated;
    let mask: Vec<bool> = active
        .iter()
        .flat_map(|row| (0..total).map(|column| column >= width - row.prompt_length))
        .collect();
    Tensor::from_data(TensorData::new(mask, [active.len(), total]), device)
}

fn integers(values: impl Iterator<Item = i32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.collect();
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DecoderConfig;
    use crate::rng::stream;
    use std::collections::BTreeSet;

    #[test]
    fn looking_less_often_changes_no_response() {
        let config: DecoderConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 64,
        }))
        .unwrap();
        let device = Device::default();
        let mut rng = stream(1, "test/model", &[]);
        let model = LanguageModel::random(&config, 0.4, &mut rng, &device).unwrap();
        let prompts: Vec<Vec<u32>> = (0..23)
            .map(|i| vec![2 + i % 9; 1 + i as usize % 5])
            .collect();
        for temperature in [1.0, 0.0] {
            let sampling = Sampling {
                temperature,
                top_p: 0.95,
                top_k: None,
                max_new_tokens: 21,
                ends: 1.into(),
                batch_size: 9,
            };
            let drawn = |look_every| {
                generate_looking(
                    look_every,
                    &model,
                    &prompts,
                    &sampling,
                    |item| stream(1, "test/sample", &[item as u64]),
                    |item, ids| Ok(item % 3 == 0 && ids.ends_with(&[5])),
                    |_| {},
                )
                .unwrap()
            };
            let each = drawn(1);
            let lengths: BTreeSet<usize> = each.iter().map(|row| row.ids.len()).collect();
            assert!(lengths.len() > 3 || temperature == 0.0, "{lengths:?}");
            for look_every in [2, 8, 21, 50] {
                assert_eq!(drawn(look_every), each, "{look_every}");
            }
        }
    }

    #[test]
    fn the_most_likely_tokens_are_kept_with_their_equals() {
        let device = Device::default();
        let logits = [[1.0_f32, 3.0, 2.0, 0.0], [5.0, 1.0, 5.0, 1.0]];
        let kept = |count| host(most_likely(Tensor::from_floats(logits, &device), count)).unwrap();
        let out = LEFT_OUT;
        // transformers' TopKLogitsWarper leaves out what is below the k-th largest.
        assert_eq!(kept(1), [out, 3.0, out, out, 5.0, out, 5.0, out]);
        assert_eq!(kept(2), [out, 3.0, 2.0, out, 5.0, out, 5.0, out]);
        assert_eq!(kept(3), [1.0, 3.0, 2.0, out, 5.0, 1.0, 5.0, 1.0]);
        for count in [4, 50] {
            assert_eq!(kept(count), logits.concat());
        }
    }
}
