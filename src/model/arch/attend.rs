//! The tokens of a forward pass, and the modes of attention of its layers.

use crate::device::fused::{self, AttentionShape, KvCache, Projections, Rotary};
use burn::tensor::{Bool, Int, Tensor};

/// The tokens of one forward pass.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[b·t]`
    pub ids: Tensor<1, Int>,
    /// `[b, t]`, or `[b, columns so far + t]` where keys and values are kept.
    pub mask: Tensor<2, Bool>,
    pub rotary: Rotary,
    /// Number of rows, b.
    pub rows: usize,
}

impl Tokens {
    /// The same tokens without autodiff.
    pub fn inner(self) -> Self {
        let Self {
            ids,
            mask,
            rotary,
            rows,
        } = self;
        let rotary = Rotary {
            cos: rotary.cos.inner(),
            sin: rotary.sin.inner(),
        };
        Self {
            ids: ids.inner(),
            mask: mask.inner(),
            rotary,
            rows,
        }
    }
}

/// The mode of attention in a forward pass.
pub enum Attend<'a> {
    /// Over the batch alone.
    Whole,
    /// Over the batch alone, keeping keys and values with room for this many columns.
    Prefill {
        capacity: usize,
        kept: &'a mut Vec<Option<KvCache>>,
    },
    /// One new token per row, over the kept keys and values.
    Step {
        kept: &'a mut Vec<Option<KvCache>>,
        layer: usize,
    },
}

impl Attend<'_> {
    /// The context of every token, `[b·t, heads · head_size]`. Layers must be run in order.
    pub fn run(
        &mut self,
        projections: Projections,
        shape: &AttentionShape,
        tokens: &Tokens,
    ) -> Tensor<2> {
        let (rotary, mask) = (&tokens.rotary, tokens.mask.clone());
        let context = match self {
            Self::Whole => fused::attention(projections, shape, rotary, mask),
            Self::Prefill { capacity, kept } => {
                let (context, cache) = fused::prefill(projections, shape, rotary, mask, *capacity);
                kept.push(Some(cache));
                context
            }
            Self::Step { kept, layer } => {
                // Removed so that the cache has only one owner and can be extended in place.
                let cache = kept[*layer]
                    .take()
                    .expect("prefill keeps one cache per layer");
                let (context, cache) = fused::step(projections, shape, rotary, mask, cache);
                kept[*layer] = Some(cache);
                *layer += 1;
                context
            }
        };
        let [b, t, width] = context.dims();
        context.reshape([b * t, width])
    }
}
