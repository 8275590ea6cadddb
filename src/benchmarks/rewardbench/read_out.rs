//! The token at which a sequence classifier's reward is read, and the trap of a padding token that
//! also ends turns.

use serde::{Deserialize, Serialize};

/// A rule for the token at which the reward of a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadOut {
    /// The last token of the text.
    LastToken,
    /// The token before the first padding id, as transformers 4 finds it in a text with padding on
    /// its right; the last token if there is none, or if the first token is one.
    FirstPad,
    /// The last token that is not the padding id, as in transformers 5; the first token if there is
    /// none.
    LastNonPad,
}

impl ReadOut {
    /// The index of the token of `ids` at which a model with the padding id `pad` is read.
    pub fn position(self, ids: &[u32], pad: Option<u32>) -> usize {
        let last = ids.len().saturating_sub(1);
        let is_pad = |id: &u32| Some(*id) == pad;
        match self {
            Self::LastToken => last,
            Self::FirstPad => match ids.iter().position(is_pad) {
                None | Some(0) => last,
                Some(first) => first - 1,
            },
            Self::LastNonPad => ids.iter().rposition(|id| !is_pad(id)).unwrap_or(0),
        }
    }
}

/// Counts of texts that transformers would read at another token than the last one, because their
/// padding id also occurs in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PadTrap {
    pub texts: usize,
    /// Texts in which transformers 4 would read at another token.
    pub first_pad: usize,
    /// Texts in which transformers 5 would read at another token.
    pub last_non_pad: usize,
    pub pairs: usize,
    /// Pairs whose two texts are the same up to the tokens that transformers 4 would read: ties by
    /// construction.
    pub tied: usize,
}

impl PadTrap {
    pub fn add(&mut self, chosen: &[u32], rejected: &[u32], pad: Option<u32>) {
        for ids in [chosen, rejected] {
            let moved = |rule: ReadOut| rule.position(ids, pad) + 1 != ids.len();
            self.texts += 1;
            self.first_pad += usize::from(moved(ReadOut::FirstPad));
            self.last_non_pad += usize::from(moved(ReadOut::LastNonPad));
        }
        self.pairs += 1;
        let read = |ids: &[u32]| ids[..=ReadOut::FirstPad.position(ids, pad)].to_vec();
        let same = chosen != rejected && read(chosen) == read(rejected);
        self.tied += usize::from(same);
    }

    /// A sentence about the trap; `None` if no text falls into it.
    pub fn told(&self, pad: Option<u32>, rule: ReadOut) -> Option<String> {
        let pad = pad.filter(|_| self.first_pad + self.last_non_pad > 0)?;
        let Self {
            texts,
            first_pad,
            last_non_pad,
            pairs,
            tied,
        } = self;
        let here = match rule {
            ReadOut::LastToken => "here every text is read at its last token",
            ReadOut::FirstPad => "here texts are read as by transformers 4",
            ReadOut::LastNonPad => "here texts are read as by transformers 5",
        };
        Some(format!(
            "the padding id {pad} also stands inside texts: transformers 4 would read {first_pad} of {texts} texts at \
             another token than the last, which makes {tied} of {pairs} pairs tie, and transformers 5 {last_non_pad}; {here}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_rules_differ_only_where_the_padding_id_stands_in_a_text() {
        let positions = |ids: &[u32], pad| {
            [ReadOut::LastToken, ReadOut::FirstPad, ReadOut::LastNonPad]
                .map(|rule| rule.position(ids, pad))
        };
        let turns = [1, 5, 2, 6, 7, 2];
        assert_eq!(positions(&turns, Some(0)), [5, 5, 5]);
        assert_eq!(positions(&turns, None), [5, 5, 5]);
        assert_eq!(positions(&turns, Some(2)), [5, 1, 4]);
        assert_eq!(positions(&[2, 5, 6], Some(2)), [2, 2, 2]);
        assert_eq!(positions(&[2, 2], Some(2)), [1, 1, 0]);
    }

    #[test]
    fn a_turn_that_ends_with_the_padding_id_ties_every_pair() {
        let mut trap = PadTrap::default();
        trap.add(&[1, 5, 2, 6, 2], &[1, 5, 2, 7, 2], Some(2));
        trap.add(&[1, 5, 3, 6], &[1, 5, 3, 7], Some(2));
        let expected = PadTrap {
            texts: 4,
            first_pad: 2,
            last_non_pad: 2,
            pairs: 2,
            tied: 1,
        };
        assert_eq!(trap, expected);
        assert!(trap.told(Some(2), ReadOut::LastToken).is_some());
        assert!(
            PadTrap::default()
                .told(Some(2), ReadOut::LastToken)
                .is_none()
        );
    }
}
