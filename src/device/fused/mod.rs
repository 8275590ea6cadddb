//! The operations that take most of a decoder's time, each as one call.
//!
//! [`compose`] defines each operation by plain tensor operations that run and differentiate on
//! every backend. [`flex`] does the same work on the processor in one pass, with gradients of its
//! own: for models of a few hundred dimensions, passes over memory take the time rather than
//! arithmetic. `libtorch` calls the kernels that LibTorch has for some operations. Each function
//! here chooses an implementation by its tensors.

mod cache;
pub mod compose;
mod flex;
#[cfg(feature = "tch")]
mod libtorch;
pub mod spans;

pub use cache::{KvCache, prefill, select_rows, step};
pub use compose::{AttentionShape, Projections, Rotary, Rounding};

use burn::backend::Dispatch;
use burn::tensor::{Bool, FloatDType, Int, Tensor};
use flex::{Fused, Generation};
#[cfg(feature = "tch")]
use libtorch::Torch;
use spans::Spans;

/// `x · weight + bias` over rows: `x` [n, d_in], `weight` [d_in, d_out], `bias` [d_out] -> [n,
/// d_out].
///
/// Two-dimensional on purpose: flattening batch and time keeps the gradient of `weight` one matrix
/// product.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    if !flex::runs(&x) {
        return compose::linear(x, weight, bias);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::fused_linear_with_bias(x, weight, bias.into_dispatch()),
        None => Dispatch::fused_linear(x, weight),
    })
}

/// Layer normalisation (Ba, Kiros & Hinton 2016) of each row of `x` [n, d] with the biased
/// variance, in the type of `gamma` and `beta`; the result is of the type of `x`.
pub fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&x) {
        let [x, gamma, beta] = [
            x.into_dispatch(),
            gamma.into_dispatch(),
            beta.into_dispatch(),
        ];
        return Tensor::from_dispatch(Dispatch::torch_layer_norm(x, gamma, beta, epsilon));
    }
    if !flex::runs(&x) {
        return compose::layer_norm(x, gamma, beta, epsilon);
    }
    let [_, width] = x.dims();
    assert_eq!(
        (gamma.dims(), beta.dims()),
        ([width], [width]),
        "layer_norm: scale and shift must be as wide as x"
    );
    let (x, gamma, beta) = (
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
    );
    Tensor::from_dispatch(Dispatch::fused_layer_norm(x, gamma, beta, epsilon as f32))
}

/// Root-mean-square normalisation (Zhang & Sennrich 2019) of each row of `x` [n, d] in f32, scaled
/// by `gamma` [d]; the result is of the type of `x`, rounded to it as `rounding` says.
pub fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64, rounding: Rounding) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&x) {
        let (x, gamma) = (x.into_dispatch(), gamma.into_dispatch());
        return Tensor::from_dispatch(Dispatch::torch_rms_norm(x, gamma, epsilon, rounding));
    }
    if !flex::runs(&x) {
        return compose::rms_norm(x, gamma, epsilon, rounding);
    }
    let [_, width] = x.dims();
    assert_eq!(
        gamma.dims(),
        [width],
        "rms_norm: the scale must be as wide as x"
    );
    Tensor::from_dispatch(Dispatch::fused_rms_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        epsilon as f32,
    ))
}

/// The exact Gaussian error linear unit, `x · Φ(x)` (Hendrycks & Gimpel 2016), to 4e-7 of max(1,
/// |x|).
pub fn gelu(x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&x) {
        return Tensor::from_dispatch(Dispatch::torch_gelu(x.into_dispatch()));
    }
    if !flex::runs(&x) {
        return compose::gelu(x);
    }
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch()))
}

/// The gated SiLU, `gate · σ(gate) · up` (Shazeer 2020, arXiv 2002.05202), value by value.
pub fn silu_gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&gate) {
        let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
        return Tensor::from_dispatch(Dispatch::torch_silu_gate(gate, up));
    }
    if !flex::runs(&gate) {
        return compose::silu_gate(gate, up);
    }
    assert_eq!(
        gate.dims(),
        up.dims(),
        "silu_gate: one gate for every value"
    );
    Tensor::from_dispatch(Dispatch::fused_silu_gate(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// Causal self-attention of `projections` with the heads and the window of `shape`, softmax in f32
/// -> [b, t, heads · head_size].
///
/// `key_mask` [b, t] is true at real tokens, which stand side by side; padding may stand on either
/// side. Slot `i` sees slots `i - window < j <= i` that hold real tokens; a slot that sees none
/// yields zeros. The angles are constants: no gradient reaches them.
pub fn attention(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    key_mask: Tensor<2, Bool>,
) -> Tensor<3> {
    let queries = projections.queries();
    #[cfg(feature = "tch")]
    if libtorch::runs(&queries) {
        return libtorch::attention(projections, shape, rotary, key_mask);
    }
    if !flex::runs(&queries) {
        return compose::attention(projections, shape, rotary, key_mask);
    }
    let [batch, time, _] = queries.dims();
    assert_eq!(
        key_mask.dims(),
        [batch, time],
        "attention: the mask must cover every slot"
    );
    let real: Vec<bool> = key_mask.into_data().iter::<bool>().collect();
    over_spans(projections, shape, rotary, Spans::of_rows(&real, time))
}

/// Causal self-attention within texts that stand side by side, `projections` and `rotary` of one
/// row, [1, n, …]: each query of `spans` sees the keys of its span up to its own. With
/// [`Projections::Separate`] there may be fewer queries than keys; the result has a row for each
/// query, [1, queries, heads · head_size]. Otherwise as [`attention`].
pub fn attention_over(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    spans: &Spans,
) -> Tensor<3> {
    let queries = projections.queries();
    assert_eq!(
        queries.dims()[..2],
        [1, spans.queries()],
        "attention: the spans must list every query"
    );
    #[cfg(feature = "tch")]
    if libtorch::runs(&queries) {
        let attend = |queries, keys, values, hidden: Tensor<4, Bool>| {
            libtorch::attend(queries, keys, values, hidden.bool_not())
        };
        return compose::attention_over_by(attend, projections, shape, rotary, spans);
    }
    if !flex::runs(&queries) {
        return compose::attention_over(projections, shape, rotary, spans);
    }
    over_spans(projections, shape, rotary, spans.clone())
}

fn over_spans(
    projections: Projections,
    shape: &AttentionShape,
    rotary: &Rotary,
    spans: Spans,
) -> Tensor<3> {
    let [keys, _] = projections.keys_and_values();
    assert_eq!(
        rotary.cos.dims(),
        rotary.sin.dims(),
        "attention: as many sines as cosines"
    );
    assert_eq!(
        rotary.cos.dims()[..2],
        keys.dims()[..2],
        "attention: every slot needs its angles"
    );
    let (cos, sin) = (
        rotary.cos.clone().into_dispatch(),
        rotary.sin.clone().into_dispatch(),
    );
    Tensor::from_dispatch(match projections {
        Projections::Interleaved(all) => {
            Dispatch::fused_attention(all.into_dispatch(), cos, sin, spans, *shape)
        }
        Projections::Separate {
            queries,
            keys,
            values,
        } => {
            let [queries, keys, values] = [queries, keys, values].map(Tensor::into_dispatch);
            Dispatch::fused_separate_attention(queries, keys, values, cos, sin, spans, *shape)
        }
    })
}

/// The rows `ids` [n] of `table` [rows, d] -> [n, d].
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&table) && ids.dims()[0] > 0 {
        let (table, ids) = (table.into_dispatch(), ids.into_dispatch());
        return Tensor::from_dispatch(Dispatch::torch_embedding(table, ids));
    }
    table.select(0, ids)
}

/// Log-probability of `targets` [n] under the softmax of each row of `logits` [n, vocabulary], in
/// f32 -> [n].
pub fn token_log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&logits) {
        let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
        return Tensor::from_dispatch(Dispatch::torch_token_log_probs(logits, targets));
    }
    if !flex::runs(&logits) {
        return compose::token_log_probs(logits, targets);
    }
    assert_eq!(
        targets.dims()[0],
        logits.dims()[0],
        "token_log_probs: one target a row"
    );
    Tensor::from_dispatch(Dispatch::fused_token_log_probs(
        logits.into_dispatch(),
        targets.into_dispatch(),
    ))
}

/// Log-probability of `targets` [n] under the softmax of `states · head / temperature`, in f32: `states`
/// [n, d], `head` [d, vocabulary] -> [n].
pub fn head_log_probs(
    states: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    temperature: f32,
) -> Tensor<1> {
    #[cfg(feature = "tch")]
    if libtorch::runs(&states) {
        let [states, head] = [states, head].map(Tensor::into_dispatch);
        let targets = targets.into_dispatch();
        return Tensor::from_dispatch(Dispatch::torch_head_log_probs(
            states,
            head,
            targets,
            f64::from(temperature),
        ));
    }
    let logits = linear(states, head, None).cast(FloatDType::F32);
    let logits = if temperature == 1.0 {
        logits
    } else {
        logits / temperature
    };
    token_log_probs(logits, targets)
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
    if !flex::generates(&logits) {
        return compose::sample(logits, temperature, top_p, uniforms);
    }
    assert_eq!(
        uniforms.dims()[0],
        logits.dims()[0],
        "sample: one uniform a row"
    );
    let (logits, uniforms) = (logits.into_dispatch(), uniforms.into_dispatch());
    Tensor::from_dispatch(Dispatch::draw(logits, uniforms, temperature, top_p))
}

#[cfg(test)]
mod tests;
