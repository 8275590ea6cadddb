//! The operations as functions of LibTorch's tensors.

use super::{AttentionShape, Rounding};
use tch::{Device, Kind, Tensor};

/// The exact GELU, in LibTorch's word for it.
pub(super) const EXACT: &str = "none";

pub(super) fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f64) -> Tensor {
    // The last argument, a switch for cuDNN, has no effect.
    x.to_kind(gamma.kind())
        .layer_norm(gamma.size(), Some(gamma), Some(beta), epsilon, false)
        .to_kind(x.kind())
}

pub(super) fn rms_norm(x: &Tensor, gamma: &Tensor, epsilon: f64, rounding: Rounding) -> Tensor {
    let (exact, width) = (x.to_kind(Kind::Float), gamma.size());
    match rounding {
        Rounding::BeforeScale => {
            exact
                .rms_norm(width, None::<&Tensor>, epsilon)
                .to_kind(x.kind())
                * gamma.to_kind(x.kind())
        }
        Rounding::AfterScale => exact
            .rms_norm(width, Some(gamma.to_kind(Kind::Float)), epsilon)
            .to_kind(x.kind()),
    }
}

/// Queries `[b, heads, t, head_size]`, keys and values `[b, key_heads, t, head_size]`.
pub(super) struct Heads {
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
}

impl Heads {
    /// The heads of `[b, t, heads · 3 · head_size]`, in GPT-NeoX's order.
    pub(super) fn of_interleaved(qkv: &Tensor, shape: &AttentionShape) -> Self {
        let (heads, size) = (shape.heads as i64, shape.head_size as i64);
        let all = split(qkv, heads, 3 * size);
        let part = |index: i64| all.narrow(3, index * size, size);
        Self {
            queries: part(0),
            keys: part(1),
            values: part(2),
        }
    }

    pub(super) fn of_separate(
        [queries, keys, values]: [&Tensor; 3],
        shape: &AttentionShape,
    ) -> Self {
        let (heads, key_heads, size) = (
            shape.heads as i64,
            shape.key_heads as i64,
            shape.head_size as i64,
        );
        Self {
            queries: split(queries, heads, size),
            keys: split(keys, key_heads, size),
            values: split(values, key_heads, size),
        }
    }
}

/// `[b, t, heads · width]` -> `[b, heads, t, width]`
fn split(x: &Tensor, heads: i64, width: i64) -> Tensor {
    let (batch, time, _) = sizes(x);
    x.reshape([batch, time, heads, width]).transpose(1, 2)
}

fn sizes(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

/// Causal self-attention of heads that are not rotated yet; `cos` and `sin` are `[b, t, pairs]`,
/// `key_mask` is `[b, t]` -> `[b, t, heads · head_size]`.
pub(super) fn attention(
    heads: Heads,
    angles: [&Tensor; 2],
    key_mask: &Tensor,
    shape: &AttentionShape,
) -> Tensor {
    let [queries, keys] = [&heads.queries, &heads.keys].map(|x| rotated(x, angles));
    let seen = seen(key_mask, shape.window);
    let mixed = scaled_dot_product([&queries, &keys, &heads.values], &seen);
    let size = mixed.size();
    mixed
        .transpose(1, 2)
        .reshape([size[0], size[2], size[1] * size[3]])
}

/// Attention of rotated queries `[b, heads, s, head_size]` over keys and values `[b, key_heads, t,
/// head_size]` where `seen` `[b, 1, s, t]` is true: on a processor by products and a softmax, which keep
/// their weights and round less than the kernel for it.
pub(super) fn attend(heads: [&Tensor; 3], seen: &Tensor) -> Tensor {
    if heads[0].device() != Device::Cpu {
        return scaled_dot_product(heads, seen);
    }
    let [queries, keys, values] = shared(heads);
    let scale = (queries.size()[3] as f64).powf(-0.5);
    // Queries are fewer than scores; in bf16 only scores are exact enough to be scaled.
    let scores = match queries.kind() {
        Kind::Float => (&queries * scale).matmul(&keys.transpose(2, 3)),
        _ => queries.matmul(&keys.transpose(2, 3)).to_kind(Kind::Float) * scale,
    };
    // Finite, so that a slot that sees nothing has weights; its result is dropped.
    let weights = scores
        .masked_fill(&seen.logical_not(), f64::from(f32::MIN / 2.0))
        .softmax(-1, Kind::Float);
    let blind = seen.any_dim(-1, true).logical_not();
    weights
        .to_kind(queries.kind())
        .matmul(&values)
        .masked_fill(&blind, 0.0)
}

/// Does the same as [`attend`] by LibTorch's kernel, which keeps no weights.
fn scaled_dot_product(heads: [&Tensor; 3], seen: &Tensor) -> Tensor {
    let [queries, keys, values] = shared(heads);
    // A slot that sees nothing sees everything here, and its result is dropped: a softmax over
    // nothing is not defined.
    let blind = seen.any_dim(-1, true).logical_not();
    let seen = seen.logical_or(&blind);
    Tensor::scaled_dot_product_attention(
        &queries,
        &keys,
        &values,
        Some(seen),
        0.0,
        false,
        None,
        false,
    )
    .masked_fill(&blind, 0.0)
}

/// Queries, keys and values with as many heads of keys as of queries: kernels that share keys among
/// heads have no masks.
fn shared([queries, keys, values]: [&Tensor; 3]) -> [Tensor; 3] {
    let group = queries.size()[1] / keys.size()[1];
    let [keys, values] = [keys, values].map(|x| match group {
        1 => x.shallow_clone(),
        _ => x.repeat_interleave_self_int(group, 1, None),
    });
    [queries.shallow_clone(), keys, values]
}

/// True where slot `i` sees slot `j`, `[b, 1, t, t]`.
fn seen(key_mask: &Tensor, window: Option<usize>) -> Tensor {
    let time = key_mask.size()[1];
    let all = Tensor::ones([time, time], (Kind::Bool, key_mask.device()));
    let mut past = all.tril(0);
    if let Some(window) = window {
        past = past.logical_and(&all.triu(1 - window as i64));
    }
    past.logical_and(&key_mask.unsqueeze(1).unsqueeze(1))
}

/// `x` `[b, heads, t, head_size]` with its first dimensions rotated, in the type of the angles.
fn rotated(x: &Tensor, [cos, sin]: [&Tensor; 2]) -> Tensor {
    let (_, _, half) = sizes(cos);
    if half == 0 {
        return x.shallow_clone();
    }
    let [cos, sin] = [cos.unsqueeze(1), sin.unsqueeze(1)];
    let [first, second] = [0, half].map(|start| x.narrow(3, start, half).to_kind(cos.kind()));
    let turned = [
        &first * &cos - &second * &sin,
        &second * &cos + &first * &sin,
    ];
    let mut parts = Vec::from(turned.map(|part| part.to_kind(x.kind())));
    let size = x.size()[3];
    if size > 2 * half {
        parts.push(x.narrow(3, 2 * half, size - 2 * half));
    }
    Tensor::cat(&parts, 3)
}

/// The log-probabilities of `targets` `[n]`, in f32, and the logarithms `[n, 1]` of the sums that
/// they are relative to.
pub(super) fn token_log_probs(logits: &Tensor, targets: &Tensor) -> [Tensor; 2] {
    let exact = logits.to_kind(Kind::Float);
    let total = exact.logsumexp([-1i64], true);
    let chosen = exact.gather(1, &targets.unsqueeze(1), false);
    [(chosen - &total).squeeze_dim(1), total]
}

/// The gradient of [`token_log_probs`] by the logits, from that by its result.
pub(super) fn token_log_probs_gradient(
    logits: &Tensor,
    targets: &Tensor,
    total: &Tensor,
    gradient: &Tensor,
) -> Tensor {
    let gradient = gradient.unsqueeze(1);
    let mut by_logits = (logits.to_kind(Kind::Float) - total).exp_();
    let _ = by_logits.g_mul_(&-&gradient);
    by_logits
        .scatter_add_(1, &targets.unsqueeze(1), &gradient)
        .to_kind(logits.kind())
}

/// Logits `states · head / temperature`, of which only those of a piece of the rows are in memory at a
/// time; for gradients they are computed once more.
pub(super) struct ScaledHead<'a> {
    /// `[n, d]`
    states: &'a Tensor,
    /// `[d, vocabulary]`
    head: &'a Tensor,
    temperature: f64,
}

impl<'a> ScaledHead<'a> {
    /// Rows whose logits are in memory together.
    const PIECE: i64 = 8192;

    pub(super) fn new(states: &'a Tensor, head: &'a Tensor, temperature: f64) -> Self {
        Self {
            states,
            head,
            temperature,
        }
    }

    /// The log-probabilities of `targets` `[n]`, in f32, and the logarithms `[n, 1]` of the sums that
    /// they are relative to.
    pub(super) fn log_probs(&self, targets: &Tensor) -> [Tensor; 2] {
        let (mut chosen, mut totals) = (Vec::new(), Vec::new());
        for [states, targets] in self.pieces([self.states, targets]) {
            let [log_probs, total] = token_log_probs(&self.logits(&states), &targets);
            chosen.push(log_probs);
            totals.push(total);
        }
        [chosen, totals].map(|parts| Tensor::cat(&parts, 0))
    }

    /// The gradients of [`log_probs`](Self::log_probs) by states and head, those that are `wanted`,
    /// from that by its result.
    pub(super) fn gradients(
        &self,
        targets: &Tensor,
        totals: &Tensor,
        gradient: &Tensor,
        [by_states, by_head]: [bool; 2],
    ) -> [Option<Tensor>; 2] {
        let mut of_states = Vec::new();
        let mut of_head = by_head.then(|| self.head.zeros_like().to_kind(Kind::Float));
        let rows = [self.states, targets, totals, gradient];
        for [states, targets, totals, gradient] in self.pieces(rows) {
            let logits = self.logits(&states);
            let by_logits = token_log_probs_gradient(&logits, &targets, &totals, &gradient);
            let by_products = self.divided(by_logits).to_kind(self.head.kind());
            if by_states {
                of_states.push(by_products.matmul(&self.head.transpose(0, 1)));
            }
            if let Some(sum) = &mut of_head {
                *sum += states.transpose(0, 1).matmul(&by_products);
            }
        }
        [
            by_states.then(|| Tensor::cat(&of_states, 0)),
            of_head.map(|sum| sum.to_kind(self.head.kind())),
        ]
    }

    fn logits(&self, states: &Tensor) -> Tensor {
        self.divided(states.matmul(self.head).to_kind(Kind::Float))
    }

    /// `x` divided by the temperature.
    fn divided(&self, x: Tensor) -> Tensor {
        if self.temperature == 1.0 {
            x
        } else {
            x / self.temperature
        }
    }

    /// Pieces of tensors with a row for each of the states.
    fn pieces<const N: usize>(&self, tensors: [&Tensor; N]) -> impl Iterator<Item = [Tensor; N]> {
        let count = self.states.size()[0];
        let tensors = tensors.map(Tensor::shallow_clone);
        (0..count).step_by(Self::PIECE as usize).map(move |start| {
            let length = Self::PIECE.min(count - start);
            tensors
                .each_ref()
                .map(|tensor| tensor.narrow(0, start, length))
        })
    }
}
