//! Work of networks: processed tokens, and floating-point operations as counted by
//! [`footprint`](super::footprint) for the actual lengths of texts. Padding is not counted.

use super::footprint::{Load, backward_factor, forward_flops};
use super::{DecoderConfig, Sequence};
use std::iter::Sum;
use std::ops::Add;

/// Tokens processed by networks, counted once per pass, and the operations needed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    pub tokens: usize,
    pub flops: f64,
}

impl Passes {
    /// One pass of a language model over `rows`, with the head on the responses. Sampling the
    /// responses is the same work, since keys and values are kept.
    pub fn likelihood<'a>(
        config: &DecoderConfig,
        rows: impl IntoIterator<Item = &'a Sequence>,
    ) -> Self {
        rows.into_iter()
            .map(|row| Self::of(config, row, row.response.len(), config.vocab_size()))
            .sum()
    }

    /// One pass of a language model over `rows`, with the head on every token.
    pub fn whole_likelihood<'a>(
        config: &DecoderConfig,
        rows: impl IntoIterator<Item = &'a Sequence>,
    ) -> Self {
        rows.into_iter()
            .map(|row| Self::of(config, row, row.len(), config.vocab_size()))
            .sum()
    }

    /// One pass of a reward model over `rows`.
    pub fn score<'a>(config: &DecoderConfig, rows: impl IntoIterator<Item = &'a Sequence>) -> Self {
        rows.into_iter()
            .map(|row| Self::of(config, row, 1, 1))
            .sum()
    }

    /// One pass of a value network over `rows`, with the head on the responses.
    pub fn values<'a>(
        config: &DecoderConfig,
        rows: impl IntoIterator<Item = &'a Sequence>,
    ) -> Self {
        rows.into_iter()
            .map(|row| Self::of(config, row, row.response.len(), 1))
            .sum()
    }

    fn of(config: &DecoderConfig, row: &Sequence, read: usize, outputs: usize) -> Self {
        let load = Load {
            rows: 1.0,
            width: row.len() as f64,
            read: read as f64,
            outputs: outputs as f64,
            last: row.len() as f64,
        };
        Self {
            tokens: row.len(),
            flops: forward_flops(config, &load),
        }
    }

    /// The same passes with the gradients of all parameters; with checkpointing layers are computed
    /// twice.
    pub fn with_gradients(self, gradient_checkpointing: bool) -> Self {
        Self {
            flops: self.flops * backward_factor(gradient_checkpointing),
            ..self
        }
    }

    pub fn times(self, times: usize) -> Self {
        Self {
            tokens: self.tokens * times,
            flops: self.flops * times as f64,
        }
    }
}

impl Add for Passes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            flops: self.flops + other.flops,
        }
    }
}

impl Sum for Passes {
    fn sum<I: Iterator<Item = Self>>(passes: I) -> Self {
        passes.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LanguageModel;
    use crate::model::arch::Sizes;

    fn rows() -> [Sequence; 2] {
        [
            Sequence::new(vec![1; 7], vec![2; 3]),
            Sequence::new(vec![1; 2], vec![2; 9]),
        ]
    }

    /// Checked by hand, product for product.
    #[test]
    fn a_pass_costs_two_operations_per_parameter_and_token_attention_and_its_head() {
        let model = LanguageModel::tiny(1);
        let config = model.config();
        let Sizes {
            hidden_size: d,
            intermediate_size: inner,
            layers,
            ..
        } = config.sizes();
        let row = Sequence::new(vec![1; 7], vec![2; 3]);
        let linear = 2 * (3 * d * d + d * d + 2 * d * inner) * 10;
        // Scores and the weighted sum of values, over the columns that a token sees, on average
        // half of all.
        let attention = 2 * d * 10 * 10;
        let trunk = (layers * (linear + attention)) as f64;
        let found = Passes::likelihood(config, [&row]);
        assert_eq!(
            found,
            Passes {
                tokens: 10,
                flops: trunk + (2 * 3 * d * config.vocab_size()) as f64
            }
        );
        assert_eq!(Passes::score(config, [&row]).flops, trunk + (2 * d) as f64);
        assert_eq!(
            Passes::values(config, [&row]).flops,
            trunk + (2 * 3 * d) as f64
        );
        assert_eq!(
            Passes::whole_likelihood(config, [&row]).flops,
            trunk + (2 * 10 * d * config.vocab_size()) as f64
        );
    }

    #[test]
    fn passes_add_up() {
        let model = LanguageModel::tiny(1);
        let [first, second] = &rows();
        let both = Passes::score(model.config(), &rows());
        assert_eq!(
            both,
            Passes::score(model.config(), [first]) + Passes::score(model.config(), [second])
        );
        assert_eq!(both.times(2), both + both);
        assert_eq!(
            both.with_gradients(false),
            Passes {
                flops: 3.0 * both.flops,
                ..both
            }
        );
        assert_eq!(both.with_gradients(true).flops, 4.0 * both.flops);
    }
}
