//! Log-probabilities and sampled tokens from logits.

use burn::tensor::{FloatDType, Int, Tensor, activation};

/// Log-probability of `targets` [n] under the softmax of each row of `logits` [n, vocabulary], in
/// f32 -> [n].
pub fn token_log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    activation::log_softmax(logits.cast(FloatDType::F32), 1)
        .gather(1, targets.unsqueeze_dim::<2>(1))
        .squeeze_dim(1)
}

/// Draws one token a row from `logits` [n, vocabulary] by inverting the distribution function at
/// `uniforms` [n] in [0, 1) -> [n].
///
/// `temperature` 0 takes the largest logit. `top_p < 1` keeps the smallest set of most likely
/// tokens whose probability reaches `top_p` (nucleus sampling, Holtzman et al. 2020), at least one,
/// and draws among them. A row's token depends on that row's logits and uniform alone.
pub fn sample(
    logits: Tensor<2>,
    temperature: f32,
    top_p: f32,
    uniforms: Tensor<1>,
) -> Tensor<1, Int> {
    if temperature == 0.0 {
        return logits.argmax(1).squeeze_dim(1);
    }
    let probabilities =
        activation::softmax(logits.cast(FloatDType::F32).div_scalar(temperature), 1);
    let uniforms = uniforms.cast(FloatDType::F32).unsqueeze_dim::<2>(1);
    if top_p >= 1.0 {
        return invert(probabilities, uniforms).squeeze_dim(1);
    }
    let (sorted, tokens) = probabilities.sort_descending_with_indices(1);
    let before = sorted.clone().cumsum(1) - sorted.clone();
    let beyond = before.greater_equal_elem(top_p.max(f32::MIN_POSITIVE));
    let rank = invert(sorted.mask_fill(beyond, 0.0), uniforms);
    tokens.gather(1, rank).squeeze_dim(1)
}

/// The first index whose cumulated `mass` [n, k] exceeds `uniforms` [n, 1] times the row's total ->
/// [n, 1].
///
/// The mass is cumulated over blocks first, then within the block that is chosen: a sum over blocks
/// runs in parallel, where cumulating a whole vocabulary is one number after another on some
/// devices. The result is never an index without mass, even where rounding makes the threshold
/// equal to the total.
fn invert(mass: Tensor<2>, uniforms: Tensor<2>) -> Tensor<2, Int> {
    const BLOCK: usize = 64;
    let [rows, width] = mass.dims();
    let blocks = width.div_ceil(BLOCK);
    let missing = blocks * BLOCK - width;
    let mass = match missing {
        0 => mass,
        _ => {
            let nothing = Tensor::zeros([rows, missing], (&mass.device(), mass.dtype()));
            Tensor::cat(vec![mass, nothing], 1)
        }
    };
    let mass = mass.reshape([rows, blocks, BLOCK]);
    let sums = mass.clone().sum_dim(2).squeeze_dim::<2>(2);
    let cumulated = sums.clone().cumsum(1);
    let threshold = cumulated.clone().narrow(1, blocks - 1, 1) * uniforms;
    let block = first_above(cumulated.clone(), threshold.clone());
    let before = (cumulated - sums).gather(1, block.clone());
    let chosen = block.clone().unsqueeze_dim::<3>(2).expand([rows, 1, BLOCK]);
    let within = mass.gather(1, chosen).squeeze_dim::<2>(1);
    let index = first_above(within.cumsum(1), threshold - before);
    block * BLOCK as i64 + index
}

/// The first index at which `cumulated` [n, k] exceeds `threshold` [n, 1], or reaches its last value
/// -> [n, 1].
fn first_above(cumulated: Tensor<2>, threshold: Tensor<2>) -> Tensor<2, Int> {
    let last = cumulated.dims()[1] - 1;
    let total = cumulated.clone().narrow(1, last, 1);
    let below_draw = cumulated.clone().lower_equal(threshold).int().sum_dim(1);
    let below_total = cumulated.lower(total).int().sum_dim(1);
    below_draw.min_pair(below_total)
}
