//! The tokens of a forward pass, and the modes of attention of its layers.

use crate::device::fused::spans::Spans;
use crate::device::fused::{self, AttentionShape, KvCache, Projections, Rotary};
use burn::tensor::{Bool, Int, Tensor};

/// The tokens of one forward pass.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[b·t]`
    pub ids: Tensor<1, Int>,
    pub sight: Sight,
    pub rotary: Rotary,
    /// Number of rows, b.
    pub rows: usize,
}

/// The tokens that each token of a pass sees.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Those before it in its row. The mask, `[b, t]`, or `[b, columns so far + t]` where keys and
    /// values are kept, is true at real tokens.
    Rows(Tensor<2, Bool>),
    /// Those before it in its text; texts stand side by side in one row.
    Texts(Texts),
}

/// Texts that stand side by side in one row.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The spans of all tokens.
    pub all: Spans,
    /// A span for the last token of every text.
    pub ends: Spans,
    /// The slots of these last tokens, `[texts]`.
    pub end_slots: Tensor<1, Int>,
}

impl Tokens {
    /// The same tokens without autodiff.
    pub fn inner(self) -> Self {
        let Self {
            ids,
            sight,
            rotary,
            rows,
        } = self;
        let rotary = Rotary {
            cos: rotary.cos.inner(),
            sin: rotary.sin.inner(),
        };
        let sight = match sight {
            Sight::Rows(mask) => Sight::Rows(mask.inner()),
            Sight::Texts(texts) => Sight::Texts(Texts {
                end_slots: texts.end_slots.inner(),
                ..texts
            }),
        };
        Self {
            ids: ids.inner(),
            sight,
            rotary,
            rows,
        }
    }

    /// The mode of attention of layer `index` of `count` in a pass that keeps no keys: of texts, the
    /// last layer computes the last tokens alone.
    pub fn mode(&self, index: usize, count: usize) -> Attend<'_> {
        match &self.sight {
            Sight::Texts(texts) if index + 1 == count => Attend::Ends(texts),
            Sight::Texts(_) | Sight::Rows(_) => Attend::Whole,
        }
    }
}

/// The mode of attention in a forward pass.
pub enum Attend<'a> {
    /// Over the batch alone.
    Whole,
    /// Over texts, for the last token of each alone.
    Ends(&'a Texts),
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
    /// The rows of `x` `[b·t, d]` that a layer computes: those of all tokens, or of the last ones.
    pub fn asking(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Ends(texts) => x.select(0, texts.end_slots.clone()),
            Self::Whole | Self::Prefill { .. } | Self::Step { .. } => x,
        }
    }

    /// The context of every token that a layer computes, `[b·t, heads · head_size]` or, for the last
    /// tokens alone, `[texts, heads · head_size]`. Layers must be run in order.
    pub fn run(
        &mut self,
        projections: Projections,
        shape: &AttentionShape,
        tokens: &Tokens,
    ) -> Tensor<2> {
        let rotary = &tokens.rotary;
        let context = match (self, &tokens.sight) {
            (Self::Ends(texts), _) => {
                fused::attention_over(projections, shape, rotary, &texts.ends)
            }
            (_, Sight::Texts(texts)) => {
                fused::attention_over(projections, shape, rotary, &texts.all)
            }
            (Self::Whole, Sight::Rows(mask)) => {
                fused::attention(projections, shape, rotary, mask.clone())
            }
            (Self::Prefill { capacity, kept }, Sight::Rows(mask)) => {
                let (context, cache) =
                    fused::prefill(projections, shape, rotary, mask.clone(), *capacity);
                kept.push(Some(cache));
                context
            }
            (Self::Step { kept, layer }, Sight::Rows(mask)) => {
                // Removed so that the cache has only one owner and can be extended in place.
                let cache = kept[*layer]
                    .take()
                    .expect("prefill keeps one cache per layer");
                let (context, cache) = fused::step(projections, shape, rotary, mask.clone(), cache);
                kept[*layer] = Some(cache);
                *layer += 1;
                context
            }
        };
        let [b, t, width] = context.dims();
        context.reshape([b * t, width])
    }
}
