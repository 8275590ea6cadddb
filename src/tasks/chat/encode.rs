//! Conversion of conversations to tokens, with a mask of the tokens to train on.

use super::conversation::{Conversation, ConversationPair, Message, Role};
use super::fit::{Limit, TooLong};
use super::jinja::holds_marks;
use super::template::{ChatTemplate, noncharacter};
use super::tokens::{ChatTokenizer, ControlNames, Token};
use super::turns::{Extent, Turn, not_a_beginning, turns};
use crate::model::{Ends, ModelTokenizer, Pair, Sequence};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// The rule for the system message, which a conversation may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemRule {
    /// The system message is used as it stands in the row, if there is one.
    AsGiven,
    /// An empty system message is put first if there is none.
    EmptyIfAbsent,
    /// A system message is an error.
    Refuse,
}

/// The assistant turns to train on, each with the token that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    EveryTurn,
    LastTurn,
}

/// The rules that determine the tokens of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRules {
    pub system: SystemRule,
    pub loss: Loss,
    pub control_names: ControlNames,
    /// Maximum number of tokens of a conversation or a prompt.
    pub max_tokens: usize,
    pub too_long: TooLong,
}

/// Tokens of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// For each of `ids`, whether the token is trained on.
    pub supervised: Vec<bool>,
}

/// A chat template with its tokenizer and the rules of a task.
#[derive(Clone, Debug)]
pub struct ChatEncoder {
    template: ChatTemplate,
    tokenizer: ChatTokenizer,
    ends: Ends,
    rules: ChatRules,
}

impl ChatEncoder {
    /// The encoder made from the files in a tokenizer's folder.
    ///
    /// # Errors
    /// A folder without a tokenizer, a chat template or an end-of-text token, and rules that leave
    /// no room.
    pub fn open(folder: &Path, rules: ChatRules) -> Result<Self> {
        let tokenizer = ModelTokenizer::open(folder)?;
        let ends = Ends::of_folder(folder, Some(&tokenizer), tokenizer.vocabulary_size())?;
        Self::new(ChatTemplate::open(folder)?, tokenizer, ends, rules)
    }

    /// The encoder of a template and its tokenizer; `ends` are the tokens at which sampling stops.
    ///
    /// # Errors
    /// A beginning-of-sequence token that the tokenizer lacks, and rules that leave no room.
    pub fn new(
        template: ChatTemplate,
        tokenizer: ModelTokenizer,
        ends: Ends,
        rules: ChatRules,
    ) -> Result<Self> {
        if rules.max_tokens < 2 {
            return Err(Error::configuration(format!(
                "max_tokens is {}, which leaves no room for a turn",
                rules.max_tokens
            ))
            .hint("allow as many tokens as the model has positions, or fewer to save memory"));
        }
        let tokenizer = ChatTokenizer::new(tokenizer, template.tokens())?;
        Ok(Self {
            template,
            tokenizer,
            ends,
            rules,
        })
    }

    pub fn rules(&self) -> ChatRules {
        self.rules
    }

    /// The tokens of any messages, regardless of the rules on system messages and lengths, followed
    /// by the beginning of an assistant turn if `add_generation_prompt`.
    ///
    /// # Errors
    /// Messages that the template refuses, and text that the tokenizer cannot encode.
    pub fn tokens(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        self.ids(&self.named(messages)?, add_generation_prompt)
    }

    /// The tokens of a conversation that ends with an assistant turn, and the mask of those to
    /// train on.
    ///
    /// # Errors
    /// A conversation without an assistant turn at its end, one that the template refuses or that
    /// remains too long under the rules, and a template whose assistant turns cannot be separated
    /// from the rest.
    pub fn conversation(&self, conversation: &Conversation) -> Result<Encoded> {
        self.fit(conversation, 0, self.rules.loss)
            .map(|(encoded, _)| encoded)
    }

    /// The tokens after which the model writes the assistant's next turn: those of all messages, or
    /// of those before the existing answer.
    ///
    /// # Errors
    /// The errors of [`conversation`](Self::conversation).
    pub fn prompt(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let asked = |messages: &[Message]| {
            let ids = self.ids(messages, true)?;
            Ok(Encoded {
                supervised: vec![false; ids.len()],
                ids,
            })
        };
        let prompt = self
            .prepared(conversation.prompt())
            .and_then(|messages| self.limit().fit(&messages, 0, asked));
        prompt
            .map(|(encoded, _)| encoded.ids)
            .map_err(|error| error.within(conversation.place()))
    }

    /// A conversation as prompt and response: everything before the assistant's last turn, and that
    /// turn up to its end. Earlier turns are never trained on, regardless of the rules.
    ///
    /// # Errors
    /// The errors of [`conversation`](Self::conversation), and a response that leaves no room for a
    /// prompt.
    pub fn sequence(&self, conversation: &Conversation) -> Result<Sequence> {
        let (encoded, _) = self.fit(conversation, 0, Loss::LastTurn)?;
        self.halves(encoded)
            .map_err(|error| error.within(conversation.place()))
    }

    /// Two conversations as prompts and responses. If turns are left out, the same ones are left
    /// out of both.
    ///
    /// # Errors
    /// The errors of [`sequence`](Self::sequence).
    pub fn pair(&self, pair: &ConversationPair) -> Result<Pair> {
        let (chosen, first) = self.fit(&pair.chosen, 0, Loss::LastTurn)?;
        let (rejected, dropped) = self.fit(&pair.rejected, first, Loss::LastTurn)?;
        let chosen = if dropped == first {
            chosen
        } else {
            self.fit(&pair.chosen, dropped, Loss::LastTurn)?.0
        };
        let halves = |encoded, of: &Conversation| {
            self.halves(encoded)
                .map_err(|error| error.within(of.place()))
        };
        Ok(Pair {
            chosen: halves(chosen, &pair.chosen)?,
            rejected: halves(rejected, &pair.rejected)?,
        })
    }

    fn limit(&self) -> Limit {
        Limit {
            tokens: self.rules.max_tokens,
            rule: self.rules.too_long,
            kept: usize::from(self.tokenizer.begins()),
        }
    }

    /// The tokens of a conversation that fits the limit, with at least `dropped` exchanges left
    /// out, and the number left out.
    fn fit(
        &self,
        conversation: &Conversation,
        dropped: usize,
        loss: Loss,
    ) -> Result<(Encoded, usize)> {
        conversation.split()?;
        let messages = self.prepared(conversation.messages());
        messages
            .and_then(|messages| {
                self.limit()
                    .fit(&messages, dropped, |kept| self.supervised(kept, loss))
            })
            .map_err(|error| error.within(conversation.place()))
    }

    fn ids(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let tokens = self.tokenizer.encode(
            &self
                .template
                .render_marked(messages, add_generation_prompt)?,
        )?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }

    /// The messages with the names of control tokens treated according to the rules.
    fn named(&self, messages: &[Message]) -> Result<Vec<Message>> {
        match messages
            .iter()
            .position(|message| holds_marks(&message.content))
        {
            Some(index) => Err(noncharacter(index)),
            None => Ok(messages
                .iter()
                .map(|message| self.tokenizer.prepared(message, self.rules.control_names))
                .collect()),
        }
    }

    /// The messages in the form in which the template receives them.
    fn prepared(&self, messages: &[Message]) -> Result<Vec<Message>> {
        let has_system = messages.iter().any(|message| message.role == Role::System);
        let inserted = match self.rules.system {
            SystemRule::Refuse if has_system => {
                return Err(Error::data(
                    "there is a system message, which this task does not take",
                )
                .hint("remove it from the row, or set the system rule to `as_given`"));
            }
            SystemRule::EmptyIfAbsent if !has_system => Some(Message::new(Role::System, "")),
            _ => None,
        };
        Ok(inserted.into_iter().chain(self.named(messages)?).collect())
    }

    fn supervised(&self, messages: &[Message], loss: Loss) -> Result<Encoded> {
        let text = self.template.render_marked(messages, false)?;
        let tokens = self.tokenizer.encode(&text)?;
        let mut ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let mut supervised = vec![false; ids.len()];
        let mut last = 0..0;
        for turn in turns(&self.template, messages, &text, loss)? {
            last = self
                .tokens_of(&tokens, &turn, &text.text)
                .ok_or_else(|| not_a_beginning(&self.template))?;
            supervised[last.clone()].fill(true);
        }
        if !self.is_ended(&tokens[last.clone()], &text.text)? {
            ids.insert(last.end, self.ends.appended());
            supervised.insert(last.end, true);
        }
        Ok(Encoded { ids, supervised })
    }

    /// The tokens of a turn up to its end; `None` if only part of the turn is known and that part
    /// contains no end.
    fn tokens_of(&self, tokens: &[Token], turn: &Turn, text: &str) -> Option<Range<usize>> {
        let Range { start, end } = turn.bytes;
        let first = tokens.partition_point(|token| token.end <= start);
        let behind = match turn.extent {
            Extent::Shared => tokens.partition_point(|token| token.end <= end),
            Extent::Marked | Extent::Whole => tokens.partition_point(|token| token.start < end),
        };
        let stops =
            |token: &Token| self.ends.contains(token.id) || self.tokenizer.is_control(*token, text);
        let stop = tokens[first..behind.max(first)]
            .iter()
            .rposition(stops)
            .map(|stop| first + stop + 1);
        match (turn.extent, stop) {
            (Extent::Marked, None) if tokens.get(behind).is_some_and(stops) => {
                Some(first..behind + 1)
            }
            (Extent::Marked, _) | (Extent::Whole, None) => Some(first..behind.max(first)),
            (Extent::Whole | Extent::Shared, Some(stop)) => Some(first..stop),
            (Extent::Shared, None) => None,
        }
    }

    /// True if the tokens of a last turn contain an end at which sampling stops.
    ///
    /// # Errors
    /// A turn that ends with a control token at which sampling does not stop.
    fn is_ended(&self, turn: &[Token], text: &str) -> Result<bool> {
        if turn.iter().any(|token| self.ends.contains(token.id)) {
            return Ok(true);
        }
        match turn
            .iter()
            .rev()
            .find(|token| self.tokenizer.is_control(**token, text))
        {
            None => Ok(false),
            Some(Token { id, .. }) => Err(Error::model(format!(
                "{} ends the assistant's turn with `{}`, at which sampling would not stop",
                self.template.origin(),
                self.tokenizer.name(*id).unwrap_or_default()
            ))
            .hint(format!(
                "list its id {id} in eos_token_id of the model's generation_config.json"
            ))),
        }
    }

    fn halves(&self, encoded: Encoded) -> Result<Sequence> {
        let start = encoded
            .supervised
            .iter()
            .position(|trained| *trained)
            .unwrap_or(encoded.ids.len());
        let (prompt, rest) = encoded.ids.split_at(start);
        let end = rest
            .iter()
            .rposition(|id| self.ends.contains(*id))
            .map_or(0, |end| end + 1);
        if prompt.is_empty() || end == 0 {
            return Err(Error::data(format!(
                "{} tokens leave no room for prompt and response",
                self.rules.max_tokens
            ))
            .hint("raise max_tokens, or drop the row"));
        }
        Ok(Sequence::new(prompt.to_vec(), rest[..end].to_vec()))
    }
}
