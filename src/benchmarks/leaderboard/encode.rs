//! From requests to tokens, as `lm_eval/models/huggingface.py` and `api/model.py` make them: where a
//! context ends, which tokens stand before a text, and what is cut.

use super::conventions::{Convention, PairEncoding, SpecialTokens};
use crate::model::ModelTokenizer;
use crate::python::text::strip_end;
use crate::{Error, Result};

/// A pair of context and continuation as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPair {
    pub context: Vec<u32>,
    pub continuation: Vec<u32>,
}

impl EncodedPair {
    /// The tokens that a model of `positions` positions sees and predicts: the last of them, since
    /// contexts are cut from the left and continuations never are. The last token is only predicted,
    /// and takes no position.
    ///
    /// # Errors
    /// A continuation without tokens, or one that fills all positions.
    pub fn fitted(&self, positions: usize) -> Result<Fitted> {
        let scored = self.continuation.len();
        let whole = [&self.context[..], &self.continuation].concat();
        let cut = whole.len().saturating_sub(positions + 1);
        if scored == 0 || scored >= whole.len() - cut {
            return Err(Error::data(format!(
                "a continuation of {scored} tokens after {} of context cannot be scored in {positions} positions",
                self.context.len()
            ))
            .hint("continuations are never cut; take a model with more positions"));
        }
        Ok(Fitted {
            ids: whole[cut..].to_vec(),
            scored,
            cut,
        })
    }
}

/// A pair that fits a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    pub ids: Vec<u32>,
    /// Number of tokens at the end that belong to the continuation.
    pub scored: usize,
    /// Number of tokens that were cut from the left.
    pub cut: usize,
}

/// The encoder of one model under one convention.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a ModelTokenizer,
    encoding: PairEncoding,
    /// Tokens before and after every text.
    around: [Vec<u32>; 2],
    /// The only token of an empty context.
    empty: u32,
}

impl<'a> Encoder<'a> {
    /// The encoder with `end`, the end-of-sequence token.
    ///
    /// # Errors
    /// A tokenizer that cannot encode.
    pub fn new(tokenizer: &'a ModelTokenizer, end: u32, convention: Convention) -> Result<Self> {
        let around = match convention.special_tokens() {
            SpecialTokens::Never => [Vec::new(), Vec::new()],
            SpecialTokens::AsTokenizer => added(tokenizer)?,
        };
        Ok(Self {
            tokenizer,
            encoding: convention.pair_encoding(),
            empty: around[0].last().copied().unwrap_or(end),
            around,
        })
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// A text that the tokenizer cannot spell.
    pub fn text(&self, text: &str) -> Result<Vec<u32>> {
        let [before, after] = &self.around;
        Ok([&before[..], &self.tokenizer.encode(text)?, after].concat())
    }

    /// The tokens of several continuations of contexts. White space at the end of a context belongs
    /// to its continuation. A context that stands before several continuations is encoded once.
    ///
    /// # Errors
    /// A text that the tokenizer cannot spell.
    pub fn pairs<'b>(
        &self,
        pairs: impl IntoIterator<Item = (&'b str, &'b str)>,
    ) -> Result<Vec<EncodedPair>> {
        let mut known: Option<(&str, Vec<u32>)> = None;
        let mut encoded = Vec::new();
        for (context, continuation) in pairs {
            if context.is_empty() {
                encoded.push(EncodedPair {
                    context: vec![self.empty],
                    continuation: self.tokenizer.encode(continuation)?,
                });
                continue;
            }
            let (body, moved) = match self.encoding {
                PairEncoding::Together => {
                    let body = strip_end(context);
                    (body, &context[body.len()..])
                }
                PairEncoding::Apart => (context, ""),
            };
            let context = match &known {
                Some((text, ids)) if *text == body => ids.clone(),
                _ => self.text(body)?,
            };
            let continuation = match self.encoding {
                PairEncoding::Together => {
                    let whole = self.text(&format!("{body}{moved}{continuation}"))?;
                    whole.get(context.len()..).unwrap_or_default().to_vec()
                }
                PairEncoding::Apart => self.text(continuation)?,
            };
            known = Some((body, context.clone()));
            encoded.push(EncodedPair {
                context,
                continuation,
            });
        }
        Ok(encoded)
    }
}

/// The tokens that a tokenizer adds before and after a text.
fn added(tokenizer: &ModelTokenizer) -> Result<[Vec<u32>; 2]> {
    let probe = "a";
    let plain = tokenizer.encode(probe)?;
    let library = tokenizer.library();
    let with = library.encode_fast(probe, true).map_err(|cause| {
        Error::model("the tokenizer cannot add its special tokens")
            .caused_by(cause)
            .hint("its tokenizer.json is damaged; fetch it again")
    })?;
    let with = with.get_ids();
    let start = with
        .windows(plain.len().max(1))
        .position(|part| part == plain);
    match start {
        Some(start) => Ok([with[..start].to_vec(), with[start + plain.len()..].to_vec()]),
        None => Err(Error::model(
            "the tokenizer encodes a text in another way where it adds special tokens",
        )
        .hint("choose convention h4, which adds none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(context: usize, continuation: usize) -> EncodedPair {
        let ids: Vec<u32> = (0..(context + continuation) as u32).collect();
        let (context, continuation) = ids.split_at(context);
        EncodedPair {
            context: context.to_vec(),
            continuation: continuation.to_vec(),
        }
    }

    #[test]
    fn contexts_are_cut_from_the_left() {
        let whole = pair(4, 2).fitted(5).unwrap();
        assert_eq!(
            (whole.ids, whole.scored, whole.cut),
            (vec![0, 1, 2, 3, 4, 5], 2, 0)
        );
        let cut = pair(4, 2).fitted(3).unwrap();
        assert_eq!((cut.ids, cut.scored, cut.cut), (vec![2, 3, 4, 5], 2, 2));
        // One token of context must remain; the reference allows as many tokens as positions.
        assert_eq!(pair(4, 3).fitted(3).unwrap().ids, [3, 4, 5, 6]);
        assert!(pair(4, 4).fitted(3).is_err());
        assert!(pair(4, 0).fitted(9).is_err());
    }
}
