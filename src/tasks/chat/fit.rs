//! Shortening of conversations that are too long, by whole turns from the oldest on, or by the
//! oldest tokens.

use super::conversation::{Message, Role};
use super::encode::Encoded;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The treatment of a conversation with more tokens than allowed. The token that begins a sequence
/// is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// A conversation that is too long is an error.
    Refuse,
    /// The oldest tokens are cut off, in the middle of a message if necessary.
    CutTokens,
    /// The oldest exchanges of user and assistant are left out whole and the system message is
    /// kept; it is an error if the last exchange alone is too long.
    DropTurns,
    /// The oldest exchanges are left out as in [`DropTurns`](Self::DropTurns); if the last exchange
    /// alone is too long, its oldest tokens are cut off.
    DropTurnsThenCut,
}

/// A limit on tokens with the rule for longer conversations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub tokens: usize,
    pub rule: TooLong,
    /// Number of tokens at the beginning that are never cut off.
    pub kept: usize,
}

impl Limit {
    /// The tokens that `encode` makes of `messages` without as few of the oldest exchanges as
    /// possible, but at least `dropped`, and the number left out.
    ///
    /// Errors of `encode`, and a conversation that remains too long under the rule.
    pub fn fit(
        self,
        messages: &[Message],
        mut dropped: usize,
        encode: impl Fn(&[Message]) -> Result<Encoded>,
    ) -> Result<(Encoded, usize)> {
        loop {
            let encoded = encode(&without_oldest(messages, dropped))?;
            if encoded.ids.len() <= self.tokens {
                return Ok((encoded, dropped));
            }
            let alone = exchanges(messages) <= dropped + 1;
            match self.rule {
                TooLong::DropTurns | TooLong::DropTurnsThenCut if !alone => dropped += 1,
                TooLong::CutTokens | TooLong::DropTurnsThenCut => {
                    return Ok((self.cut(encoded), dropped));
                }
                TooLong::Refuse => {
                    return Err(self
                        .error("the conversation", encoded.ids.len())
                        .hint("raise the limit, drop the row, or have old turns left out with `drop_turns`"));
                }
                TooLong::DropTurns => {
                    return Err(self.error("the last exchange alone", encoded.ids.len()).hint(
                        "raise the limit, drop the row, or have its oldest tokens cut off with `drop_turns_then_cut`",
                    ));
                }
            }
        }
    }

    fn cut(self, mut encoded: Encoded) -> Encoded {
        let excess = self.kept..self.kept + encoded.ids.len() - self.tokens;
        encoded.ids.drain(excess.clone());
        encoded.supervised.drain(excess);
        encoded
    }

    fn error(self, what: &str, tokens: usize) -> Error {
        Error::data(format!(
            "{what} has {tokens} tokens where {} are allowed",
            self.tokens
        ))
    }
}

/// The number of exchanges, each of which begins with a message of the user.
fn exchanges(messages: &[Message]) -> usize {
    messages
        .iter()
        .filter(|message| message.role == Role::User)
        .count()
}

/// The messages without the first `count` exchanges; a system message is kept.
fn without_oldest(messages: &[Message], count: usize) -> Vec<Message> {
    let system = messages
        .iter()
        .take_while(|message| message.role == Role::System);
    let users = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.role == Role::User);
    let from = users
        .map(|(index, _)| index)
        .nth(count)
        .unwrap_or(messages.len());
    system.chain(&messages[from..]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token for every message.
    fn encode(messages: &[Message]) -> Result<Encoded> {
        let ids: Vec<u32> = messages
            .iter()
            .filter_map(|message| message.content.parse().ok())
            .collect();
        Ok(Encoded {
            supervised: ids.iter().map(|id| id % 2 == 0).collect(),
            ids,
        })
    }

    fn fitted(tokens: usize, rule: TooLong, dropped: usize) -> Result<(Vec<u32>, usize)> {
        let roles = [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::User,
            Role::Assistant,
        ];
        let messages: Vec<_> = roles
            .into_iter()
            .enumerate()
            .map(|(at, role)| Message::new(role, at.to_string()))
            .collect();
        let (encoded, dropped) = Limit {
            tokens,
            rule,
            kept: 1,
        }
        .fit(&messages, dropped, encode)?;
        assert!(
            encoded
                .ids
                .iter()
                .zip(&encoded.supervised)
                .all(|(id, on)| (id % 2 == 0) == *on)
        );
        Ok((encoded.ids, dropped))
    }

    #[test]
    fn what_fits_is_left_alone_unless_more_must_go() {
        for rule in [
            TooLong::Refuse,
            TooLong::CutTokens,
            TooLong::DropTurns,
            TooLong::DropTurnsThenCut,
        ] {
            assert_eq!(fitted(5, rule, 0).unwrap(), (vec![0, 1, 2, 3, 4], 0));
            assert_eq!(fitted(5, rule, 1).unwrap(), (vec![0, 3, 4], 1));
        }
    }

    #[test]
    fn exchanges_go_whole_and_the_system_message_stays() {
        assert_eq!(
            fitted(4, TooLong::DropTurns, 0).unwrap(),
            (vec![0, 3, 4], 1)
        );
        assert_eq!(
            fitted(2, TooLong::DropTurnsThenCut, 0).unwrap(),
            (vec![0, 4], 1)
        );
        let told = |rule| fitted(2, rule, 0).unwrap_err().to_string();
        assert_eq!(
            told(TooLong::DropTurns),
            "the last exchange alone has 3 tokens where 2 are allowed"
        );
        assert_eq!(
            told(TooLong::Refuse),
            "the conversation has 5 tokens where 2 are allowed"
        );
    }

    #[test]
    fn tokens_are_cut_behind_the_beginning() {
        assert_eq!(
            fitted(3, TooLong::CutTokens, 0).unwrap(),
            (vec![0, 3, 4], 0)
        );
        assert_eq!(fitted(2, TooLong::CutTokens, 0).unwrap(), (vec![0, 4], 0));
    }
}
