//! Conversations as tokens, with the tokens that are trained on.

use super::conversation::{Conversation, ConversationPair, Message, Role};
use super::fit::{Limit, TooLong};
use super::jinja::holds_marks;
use super::template::{ChatTemplate, noncharacter};
use super::tokens::{ChatTokenizer, ControlNames, Token};
use super::turns::{Extent, Turn, not_a_beginning, turns};
use crate::model::{Ends, ModelTokenizer, Pair, Sequence};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// The system message of a conversation that may have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemRule {
    /// As it stands in the row, or none.
    AsGiven,
    /// An empty one is put first where there is none.
    EmptyIfAbsent,
    /// An error where there is one.
    Refuse,
}

/// The assistant's turns that are trained on, each with the token that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    EveryTurn,
    LastTurn,
}

/// The choices between a conversation and its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRules {
    pub system: SystemRule,
    pub loss: Loss,
    pub control_names: ControlNames,
    /// Tokens that a conversation or a prompt may have.
    pub max_tokens: usize,
    pub too_long: TooLong,
}

/// Tokens of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// Whether a token is trained on, as long as `ids`.
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
    /// The encoder of a tokenizer's folder, by the files in it.
    ///
    /// # Errors
    /// A folder without a tokenizer, a chat template or an end of texts, and rules that leave no room.
    pub fn open(folder: &Path, rules: ChatRules) -> Result<Self> {
        let tokenizer = ModelTokenizer::open(folder)?;
        let ends = Ends::of_folder(folder, Some(&tokenizer), tokenizer.vocabulary_size())?;
        Self::new(ChatTemplate::open(folder)?, tokenizer, ends, rules)
    }

    /// The encoder of a template and the tokenizer that it was made for; `ends` are the tokens at which sampling stops.
    ///
    /// # Errors
    /// A beginning-of-sequence token that the tokenizer lacks, and rules that leave no room.
    pub fn new(template: ChatTemplate, tokenizer: ModelTokenizer, ends: Ends, rules: ChatRules) -> Result<Self> {
        if rules.max_tokens < 2 {
            return Err(Error::configuration(format!(
                "max_tokens is {}, which leaves no room for a turn",
                rules.max_tokens
            ))
            .hint("allow as many tokens as the model has positions, or fewer to save memory"));
        }
        let tokenizer = ChatTokenizer::new(tokenizer, template.tokens())?;
        Ok(Self { template, tokenizer, ends, rules })
    }

    pub fn rules(&self) -> ChatRules {
        self.rules
    }

    /// The tokens of any messages, whatever the rules say of system messages and lengths, with the beginning of an assistant's
    /// turn behind them if `add_generation_prompt`.
    ///
    /// # Errors
    /// Messages that the template refuses, and text that the tokenizer cannot encode.
    pub fn tokens(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        self.ids(&self.named(messages)?, add_generation_prompt)
    }

    /// The tokens of a conversation that ends with an assistant's turn, and which of them are trained on.
    ///
    /// # Errors
    /// A conversation without such an end, one that the template refuses or the rules do not shorten enough, and a template
    /// in which the assistant's turns cannot be told from the rest.
    pub fn conversation(&self, conversation: &Conversation) -> Result<Encoded> {
        self.fit(conversation, 0, self.rules.loss).map(|(encoded, _)| encoded)
    }

    /// The tokens after which the model writes the assistant's next turn: those of all messages, or of those before the answer
    /// that is there.
    ///
    /// # Errors
    /// As [`conversation`](Self::conversation).
    pub fn prompt(&self, conversation: &Conversation) -> Result<Vec<u32>> {
        let asked = |messages: &[Message]| {
            let ids = self.ids(messages, true)?;
            Ok(Encoded { supervised: vec![false; ids.len()], ids })
        };
        let prompt = self.prepared(conversation.prompt()).and_then(|messages| self.limit().fit(&messages, 0, asked));
        prompt.map(|(encoded, _)| encoded.ids).map_err(|error| error.within(conversation.place()))
    }

    /// A conversation as prompt and response: all before the assistant's last turn, and that turn up to its end. Earlier turns
    /// are not trained on, whatever the rules say.
    ///
    /// # Errors
    /// As [`conversation`](Self::conversation), and a response too long to leave room for a prompt.
    pub fn sequence(&self, conversation: &Conversation) -> Result<Sequence> {
        let (encoded, _) = self.fit(conversation, 0, Loss::LastTurn)?;
        self.halves(encoded).map_err(|error| error.within(conversation.place()))
    }

    /// Two conversations as prompts and responses. Where turns are left out, they are the same in both.
    ///
    /// # Errors
    /// As [`sequence`](Self::sequence).
    pub fn pair(&self, pair: &ConversationPair) -> Result<Pair> {
        let (chosen, first) = self.fit(&pair.chosen, 0, Loss::LastTurn)?;
        let (rejected, dropped) = self.fit(&pair.rejected, first, Loss::LastTurn)?;
        let chosen = if dropped == first { chosen } else { self.fit(&pair.chosen, dropped, Loss::LastTurn)?.0 };
        let halves = |encoded, of: &Conversation| self.halves(encoded).map_err(|error| error.within(of.place()));
        Ok(Pair { chosen: halves(chosen, &pair.chosen)?, rejected: halves(rejected, &pair.rejected)? })
    }

    fn limit(&self) -> Limit {
        Limit { tokens: self.rules.max_tokens, rule: self.rules.too_long, kept: usize::from(self.tokenizer.begins()) }
    }

    /// The tokens of a conversation that fits, with at least `dropped` exchanges left out, and how many are.
    fn fit(&self, conversation: &Conversation, dropped: usize, loss: Loss) -> Result<(Encoded, usize)> {
        conversation.split()?;
        let messages = self.prepared(conversation.messages());
        messages
            .and_then(|messages| self.limit().fit(&messages, dropped, |kept| self.supervised(kept, loss)))
            .map_err(|error| error.within(conversation.place()))
    }

    fn ids(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let tokens = self.tokenizer.encode(&self.template.render_marked(messages, add_generation_prompt)?)?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }

    /// The messages with the names of control tokens as the rules want them.
    fn named(&self, messages: &[Message]) -> Result<Vec<Message>> {
        match messages.iter().position(|message| holds_marks(&message.content)) {
            Some(index) => Err(noncharacter(index)),
            None => {
                Ok(messages.iter().map(|message| self.tokenizer.prepared(message, self.rules.control_names)).collect())
            }
        }
    }

    /// The messages as the template gets them.
    fn prepared(&self, messages: &[Message]) -> Result<Vec<Message>> {
        let has_system = messages.iter().any(|message| message.role == Role::System);
        let inserted = match self.rules.system {
            SystemRule::Refuse if has_system => {
                return Err(Error::data("there is a system message, which this task does not take")
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
            last = self.tokens_of(&tokens, &turn, &text.text).ok_or_else(|| not_a_beginning(&self.template))?;
            supervised[last.clone()].fill(true);
        }
        if !self.is_ended(&tokens[last.clone()], &text.text)? {
            ids.insert(last.end, self.ends.appended());
            supervised.insert(last.end, true);
        }
        Ok(Encoded { ids, supervised })
    }

    /// The tokens of a turn up to its end; none where only a part of the turn is known and no end is in it.
    fn tokens_of(&self, tokens: &[Token], turn: &Turn, text: &str) -> Option<Range<usize>> {
        let Range { start, end } = turn.bytes;
        let first = tokens.partition_point(|token| token.end <= start);
        let behind = match turn.extent {
            Extent::Shared => tokens.partition_point(|token| token.end <= end),
            Extent::Marked | Extent::Whole => tokens.partition_point(|token| token.start < end),
        };
        let stops = |token: &Token| self.ends.contains(token.id) || self.tokenizer.is_control(*token, text);
        let stop = tokens[first..behind.max(first)].iter().rposition(stops).map(|stop| first + stop + 1);
        match (turn.extent, stop) {
            (Extent::Marked, None) if tokens.get(behind).is_some_and(stops) => Some(first..behind + 1),
            (Extent::Marked, _) | (Extent::Whole, None) => Some(first..behind.max(first)),
            (Extent::Whole | Extent::Shared, Some(stop)) => Some(first..stop),
            (Extent::Shared, None) => None,
        }
    }

    /// Whether the tokens of a last turn hold the end at which sampling stops.
    ///
    /// # Errors
    /// A turn that ends with another control token.
    fn is_ended(&self, turn: &[Token], text: &str) -> Result<bool> {
        if turn.iter().any(|token| self.ends.contains(token.id)) {
            return Ok(true);
        }
        match turn.iter().rev().find(|token| self.tokenizer.is_control(**token, text)) {
            None => Ok(false),
            Some(Token { id, .. }) => Err(Error::model(format!(
                "{} ends the assistant's turn with `{}`, at which sampling would not stop",
                self.template.origin(),
                self.tokenizer.name(*id).unwrap_or_default()
            ))
            .hint(format!("list its id {id} in eos_token_id of the model's generation_config.json"))),
        }
    }

    fn halves(&self, encoded: Encoded) -> Result<Sequence> {
        let start = encoded.supervised.iter().position(|trained| *trained).unwrap_or(encoded.ids.len());
        let (prompt, rest) = encoded.ids.split_at(start);
        let end = rest.iter().rposition(|id| self.ends.contains(*id)).map_or(0, |end| end + 1);
        if prompt.is_empty() || end == 0 {
            return Err(Error::data(format!("{} tokens leave no room for prompt and response", self.rules.max_tokens))
                .hint("raise max_tokens, or drop the row"));
        }
        Ok(Sequence::new(prompt.to_vec(), rest[..end].to_vec()))
    }
}
