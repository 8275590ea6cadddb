//! The tokens of all pairs, and what was cut off or refused on the way.

use super::read_out::{PadTrap, ReadOut};
use super::rows::{Pair, several};
use super::text::Template;
use super::tokens::Tokens;
use super::{Convention, implicit};
use crate::model::{self, Sequence};
use crate::{Error, Result};

/// The kind of score that a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The scalar of a sequence classifier.
    Reward,
    /// The log-probability of a policy, with or without a reference.
    Implicit,
}

/// Rules for the tokens of a pair.
#[derive(Debug)]
pub struct Rules {
    pub kind: Kind,
    pub convention: Convention,
    pub template: Template,
    /// The most tokens of a text; by default that of the convention.
    pub max_length: Option<usize>,
    pub read_out: ReadOut,
    /// The id that the model's configuration names as padding, or the tokenizer's.
    pub pad: Option<u32>,
    /// Positions of the model, or of the smaller of two models.
    pub positions: usize,
    /// Rows of the embedding, or of the smaller of two.
    pub vocabulary: usize,
}

/// Pairs as tokens, with what is odd about them as sentences.
#[derive(Clone, Debug, Default)]
pub struct EncodedPairs {
    pub pairs: Vec<model::Pair>,
    pub notices: Vec<String>,
}

impl Rules {
    /// The most tokens of a text; `None` if nothing is cut off.
    pub fn limit(&self, tokens: &Tokens) -> Option<usize> {
        let default = match (self.kind, self.convention) {
            (Kind::Reward, Convention::Rlhflow) => tokens.longest,
            _ => Some(implicit::MAX_LENGTH),
        };
        self.max_length.or(default)
    }

    /// The tokens of `pairs`.
    ///
    /// # Errors
    /// A text that cannot be encoded, has more tokens than the model has positions, or has tokens
    /// outside the vocabulary.
    pub fn encode(&self, tokens: &Tokens, pairs: &[Pair]) -> Result<EncodedPairs> {
        let mut done = EncodedPairs::default();
        let (mut cut, mut trap) = (Vec::new(), PadTrap::default());
        for pair in pairs {
            let (encoded, is_cut) = self
                .pair(tokens, pair, &mut trap)
                .map_err(|error| error.within(&pair.place))?;
            self.check(&encoded, pair)?;
            if is_cut {
                cut.push(pair.place.clone());
            }
            done.pairs.push(encoded);
        }
        if let Some(limit) = self.limit(tokens) {
            let what = format!("pairs are longer than {limit} tokens and were cut");
            done.notices.extend(several(&what, &cut));
        }
        done.notices.extend(trap.told(self.pad, self.read_out));
        Ok(done)
    }

    /// The tokens of one pair, and true if some were cut off.
    fn pair(
        &self,
        tokens: &Tokens,
        pair: &Pair,
        trap: &mut PadTrap,
    ) -> Result<(model::Pair, bool)> {
        let texts = self.template.texts(pair)?;
        let limit = self.limit(tokens);
        match (self.kind, &self.template) {
            (Kind::Implicit, Template::Plain) => Ok((tokens.plain(&texts, pair.unended)?, false)),
            (Kind::Implicit, _) => {
                let most = limit.unwrap_or(implicit::MAX_LENGTH);
                let done = implicit::pair(tokens, &texts, most)?;
                Ok((done.pair, done.cut))
            }
            (Kind::Reward, Template::Plain) => {
                let model::Pair { chosen, rejected } = tokens.plain(&texts, pair.unended)?;
                let whole = |side: Sequence| [side.prompt, side.response].concat();
                Ok((self.read(whole(chosen), whole(rejected), trap), false))
            }
            (Kind::Reward, template) => {
                let side = |text| tokens.classified(text, template, self.convention, limit);
                let (chosen, rejected) = (side(&texts.chosen)?, side(&texts.rejected)?);
                let cut = chosen.cut || rejected.cut;
                Ok((self.read(chosen.ids, rejected.ids, trap), cut))
            }
        }
    }

    /// Two texts up to the token at which each is read, with their common beginning as the prompt,
    /// which is then computed once.
    fn read(
        &self,
        mut chosen: Vec<u32>,
        mut rejected: Vec<u32>,
        trap: &mut PadTrap,
    ) -> model::Pair {
        trap.add(&chosen, &rejected, self.pad);
        for ids in [&mut chosen, &mut rejected] {
            ids.truncate(self.read_out.position(ids, self.pad) + 1);
        }
        let both = chosen.iter().zip(&rejected);
        let common = both.take_while(|(a, b)| a == b).count();
        let prompt = chosen[..common].to_vec();
        model::Pair {
            chosen: Sequence::new(prompt.clone(), chosen.split_off(common)),
            rejected: Sequence::new(prompt, rejected.split_off(common)),
        }
    }

    fn check(&self, encoded: &model::Pair, pair: &Pair) -> Result<()> {
        for (name, side) in [("chosen", &encoded.chosen), ("rejected", &encoded.rejected)] {
            let place = format!("{}, `{name}`", pair.place);
            if side.len() > self.positions {
                return Err(Error::data(format!(
                    "{place}: {} tokens are too many for the model's {} positions",
                    side.len(),
                    self.positions
                ))
                .hint(format!(
                    "cut texts with --max-length {}, or drop the row",
                    self.positions
                )));
            }
            let mut ids = side.prompt.iter().chain(&side.response);
            if let Some(id) = ids.find(|id| **id as usize >= self.vocabulary) {
                return Err(Error::data(format!(
                    "{place}: token {id} is outside the vocabulary of {}",
                    self.vocabulary
                ))
                .hint("policy and reference read the tokens of the policy's tokenizer: take models of one family"));
            }
        }
        Ok(())
    }
}
