//! Sampling of responses with a key–value cache. A response is a function of weights, prompt and
//! the item's own random stream, never of batch size or neighbours. Generation stops when all rows
//! have ended, and ended rows leave the batch.

use crate::device::fused;
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    mut done: impl FnMut(usize),
) -> Result<Vec<Generated>> {
    // Prompts of similar length share a batch, so that little work is spent on padding.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| prompts[i].len());
    let mut responses = vec![
        Generated {
            ids: Vec::new(),
            ended: false
        };
        prompts.len()
    ];
    let mut finished = 0;
    for items in order.chunks(sampling.batch_size.max(1)) {
        let streams = items.iter().map(|&i| stream(i)).collect();
        let batch: Vec<&Vec<u32>> = items.iter().map(|&i| &prompts[i]).collect();
        for (&item, response) in items.iter().zip(generate_batch(
            model, &batch, items, sampling, streams, &stop,
        )?) {
            responses[item] = response;
        }
        finished += items.len();
        done(finished);
    }
    Ok(responses)
}

/// Rows of one batch that have not ended.
struct Active {
    /// Index into the batch.
    row: usize,
    stream: ChaCha8Rng,
    prompt_length: usize,
}

fn generate_batch(
    model: &LanguageModel,
    prompts: &[&Vec<u32>],
    items: &[usize],
    sampling: &Sampling,
    streams: Vec<ChaCha8Rng>,
    stop: &impl Fn(usize, &[u32]) -> Result<bool>,
) -> Result<Vec<Generated>> {
    let device = model.device();
    let sequences: Vec<Sequence> = prompts
        .iter()
        .map(|p| Sequence::new(p.to_vec(), Vec::new()))
        .collect();
    let batch = Batch::new(&sequences, &device);
    let (b, width) = (batch.rows(), batch.prompt_width);
    let mut responses = vec![
        Generated {
            ids: Vec::new(),
            ended: false
        };
        b
    ];
    // Rows that nothing more is drawn for.
    let mut closed = vec![false; b];
    let mut active: Vec<Active> = streams
        .into_iter()
        .enumerate()
        .map(|(row, stream)| Active {
            row,
            stream,
            prompt_length: prompts[row].len(),
        })
        .collect();

    let (states, mut kept) = model
        .decoder
        .prefill(&batch, width + sampling.max_new_tokens);
    let [_, d] = states.dims();
    let last = states
        .reshape([b, width, d])
        .slice([0..b, width - 1..width, 0..d])
        .reshape([b, d]);
    let mut logits = model.logits(model.decoder.normalise(last));
    // Rows still in the tensors, by index into `active`'s original order; ended rows stay until
    // enough have ended.
    for step in 0..sampling.max_new_tokens {
        check(&logits, sampling.temperature, |row| {
            let open = !closed[active[row].row];
            open.then(|| {
                format!(
                    "row {}, response token {}",
                    items[active[row].row] + 1,
                    step + 1
                )
            })
        })?;
        let tokens = draw(logits, &mut active, sampling, &device)?;
        for (entry, &token) in active.iter().zip(&tokens) {
            let response = &mut responses[entry.row];
            if !closed[entry.row] {
                response.ids.push(token);
                response.ended = sampling.ends.contains(token);
                closed[entry.row] = response.ended || stop(items[entry.row], &response.ids)?;
            }
        }
        let open: Vec<usize> = (0..active.len())
            .filter(|&i| !closed[active[i].row])
            .collect();
        if open.is_empty() || step + 1 == sampling.max_new_tokens {
            break;
        }
        let mut tokens = tokens;
        if open.len() * 4 <= active.len() * 3 {
            let rows = integers(open.iter().map(|&i| i as i32), &device);
            for cache in kept.iter_mut() {
                *cache = cache
                    .take()
                    .map(|cache| fused::select_rows(cache, rows.clone()));
            }
            tokens = open.iter().map(|&i| tokens[i]).collect();
            let mut index = 0;
            active.retain(|_| {
                index += 1;
                open.contains(&(index - 1))
            });
        }
        let positions: Vec<u32> = active
            .iter()
            .map(|entry| (entry.prompt_length + step) as u32)
            .collect();
        let ids = integers(tokens.iter().map(|&t| t as i32), &device).reshape([active.len(), 1]);
        let mask = columns(&active, width, step + 1, &device);
        let states = model.decoder.step(ids, &positions, mask, &mut kept);
        logits = model.logits(model.decoder.normalise(states));
    }
    Ok(responses)
}

/// Refuses logits `[n, vocabulary]` that define no distribution. `place` names a row; a row that
/// has ended has no name.
fn check(
    logits: &Tensor<2>,
    temperature: f32,
    place: impl Fn(usize) -> Option<String>,
) -> Result<()> {
    // A sum is finite only if all its terms are, and is a single number per row to read.
    let magnitudes = host(logits.clone().abs().sum_dim(1))?;
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

/// Draws one token per active row.
fn draw(
    logits: Tensor<2>,
    active: &mut [Active],
    sampling: &Sampling,
    device: &Device,
) -> Result<Vec<u32>> {
    let uniforms: Vec<f32> = active
        .iter_mut()
        .map(|entry| entry.stream.random::<f32>())
        .collect();
    let uniforms = Tensor::from_data(TensorData::new(uniforms, [active.len()]), device);
    let logits = match sampling.top_k {
        Some(kept) if sampling.temperature > 0.0 => most_likely(logits, kept.get()),
        _ => logits,
    };
    let tokens = fused::sample(logits, sampling.temperature, sampling.top_p, uniforms);
    self::tokens(tokens)
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
fn columns(active: &[Active], width: usize, generated: usize, device: &Device) -> Tensor<2, Bool> {
    let total = width + generated;
    let mask: Vec<bool> = active
        .iter()
        .flat_map(|entry| (0..total).map(|column| column >= width - entry.prompt_length))
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
