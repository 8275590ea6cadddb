//! Answers in conversations: the assistant's last turn is the response, and everything before it,
//! in the form of the model's chat template, is the prompt.

use super::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, ConversationPair, Loss, Message, Role,
    SystemRule, TooLong,
};
use super::{Checked, Example, Task, TokenizerConfig};
use crate::data::TextEncoder;
use crate::data::dataset::Dataset;
use crate::data::rows::{Demonstration, Encodable, Response, ResponsePair, RowText};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The rules of the chat task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatTask {
    /// The rule for the system message.
    pub system: SystemRule,
    /// The treatment of control tokens' names in messages.
    pub control_names: ControlNames,
    /// The treatment of a prompt that exceeds `generation.max_prompt_tokens`.
    pub too_long: TooLong,
    /// The answer of a conversation that is learned; the messages before it are its prompt, and
    /// those after it are left out.
    #[serde(default, skip_serializing_if = "WhichAnswer::is_last")]
    pub answer: WhichAnswer,
    /// The treatment of an answer that exceeds `generation.max_response_tokens`.
    #[serde(default, skip_serializing_if = "LongAnswer::is_cut")]
    pub long_answer: LongAnswer,
    /// Special tokens and the chat template, where the tokenizer's files do not have them.
    #[serde(default, skip_serializing_if = "TokenizerConfig::is_empty")]
    pub tokenizer: TokenizerConfig,
}

/// An answer of a conversation of several exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhichAnswer {
    /// The first one, so that every conversation is one exchange.
    First,
    /// The last one, so that the whole conversation counts.
    #[default]
    Last,
}

impl WhichAnswer {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

/// The treatment of an answer that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LongAnswer {
    /// The first tokens are kept, without an end.
    #[default]
    Cut,
    /// The answer is an error.
    Refuse,
}

impl LongAnswer {
    fn is_cut(&self) -> bool {
        *self == Self::Cut
    }
}

/// The chat task with a tokenizer, its chat template and its limits.
pub struct Conversations {
    /// Encodes prompts, which are fitted to the limit.
    fitting: ChatEncoder,
    /// Encodes whole conversations, from which responses are taken.
    whole: ChatEncoder,
    encoder: TextEncoder,
    answer: WhichAnswer,
    long_answer: LongAnswer,
}

impl Conversations {
    /// The task with the tokenizer and the chat template in `folder`.
    ///
    /// # Errors
    /// A folder without a chat template.
    pub fn open(folder: &Path, encoder: TextEncoder, settings: &ChatTask) -> Result<Self> {
        let ChatTask {
            system,
            control_names,
            too_long,
            answer,
            long_answer,
            ..
        } = *settings;
        let rules = |max_tokens, too_long| ChatRules {
            system,
            loss: Loss::LastTurn,
            control_names,
            max_tokens,
            too_long,
        };
        Ok(Self {
            fitting: ChatEncoder::open(folder, rules(encoder.max_prompt_tokens, too_long))?,
            whole: ChatEncoder::open(folder, rules(usize::MAX, TooLong::Refuse))?,
            encoder,
            answer,
            long_answer,
        })
    }

    /// The prompt of a conversation, fitted to the limit, with its decoded tokens as text.
    fn prompt(&self, conversation: &Conversation) -> Result<RowText> {
        let ids = self.fitting.prompt(conversation)?;
        let text = self.encoder.decoded(ids.clone(), false)?.text;
        Ok(RowText::encoded(text, ids))
    }

    /// The last turn of a conversation, with the tokens that it has there.
    ///
    /// # Errors
    /// A template that begins the answer of a conversation otherwise than it asks for one, so that
    /// a policy would learn from prompts that it never meets.
    fn response(&self, conversation: &Conversation) -> Result<RowText> {
        let (_, answer) = conversation.split()?;
        let sequence = self.whole.sequence(conversation)?;
        if sequence.prompt != self.whole.prompt(conversation)? {
            return Err(Error::model(
                "the chat template puts text between its generation prompt and an answer",
            )
            .within(conversation.place())
            .hint("use a template whose generation prompt is how its answers begin"));
        }
        let (tokens, most) = (sequence.response.len(), self.encoder.max_response_tokens);
        if self.long_answer == LongAnswer::Refuse && tokens > most {
            return Err(Error::data(format!(
                "the answer has {tokens} tokens where {most} are allowed"
            ))
            .within(conversation.place())
            .hint(
                "raise generation.max_response_tokens, shorten the answer, or let it be cut: long_answer = \"cut\" \
                 in [task]",
            ));
        }
        Ok(RowText::encoded(&answer.content[..], sequence.response))
    }

    /// The part of a conversation that ends with the answer that counts.
    ///
    /// # Errors
    /// A conversation without an answer, and an empty turn.
    fn example(&self, conversation: Conversation) -> Result<Conversation> {
        let part = match self.answer {
            WhichAnswer::First => conversation.first_exchange()?,
            WhichAnswer::Last => conversation,
        };
        part.split()?;
        match part.empty_turn() {
            None => Ok(part),
            Some(error) => Err(error),
        }
    }

    fn answer(&self, conversation: &Conversation) -> Result<Response> {
        self.encoder.response(&self.response(conversation)?)
    }
}

impl Task for Conversations {
    fn demonstrations(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<Demonstration>>> {
        let mut examples = Vec::new();
        for (index, row) in set.rows::<Conversation>()?.enumerate() {
            let conversation = row?;
            if wanted(index) {
                let conversation = self.example(conversation)?;
                examples.push(Example {
                    index,
                    whole: written(&conversation),
                    row: Demonstration {
                        id: index.to_string(),
                        prompt: self.prompt(&conversation)?,
                        response: self.response(&conversation)?,
                    },
                });
            }
        }
        Ok(examples)
    }

    fn comparisons(
        &self,
        set: &Dataset,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Example<ResponsePair>>> {
        let mut examples = Vec::new();
        for (index, row) in set.rows::<ConversationPair>()?.enumerate() {
            let ConversationPair { chosen, rejected } = row?;
            if wanted(index) {
                let both = [&chosen, &rejected];
                if let Some(error) = both.into_iter().find_map(Conversation::empty_turn) {
                    return Err(error);
                }
                examples.push(Example {
                    index,
                    whole: written(&chosen),
                    row: ResponsePair {
                        id: index.to_string(),
                        prompt: self.prompt(&chosen)?,
                        chosen: self.answer(&chosen)?,
                        rejected: self.answer(&rejected)?,
                    },
                });
            }
        }
        Ok(examples)
    }

    fn asked(&self, place: &str, turns: &[String]) -> Result<RowText> {
        self.prompt(&Conversation::new(place, alternating(turns))?)
    }

    fn answered(
        &self,
        place: &str,
        turns: &[String],
        responses: [&str; 2],
    ) -> Result<ResponsePair> {
        let side = |text: &str| {
            let mut messages = alternating(turns);
            messages.push(Message::new(Role::Assistant, text));
            self.answer(&Conversation::new(place, messages)?)
        };
        Ok(ResponsePair {
            id: place.to_owned(),
            prompt: self.asked(place, turns)?,
            chosen: side(responses[0])?,
            rejected: side(responses[1])?,
        })
    }

    fn check(&self, set: &Dataset) -> Result<Checked> {
        let examples = self.demonstrations(set, &|_| true)?;
        let long = |example: &&Example<Demonstration>| {
            let tokens = example.row.response.ids().map_or(0, <[u32]>::len);
            tokens > self.encoder.max_response_tokens
        };
        Ok(Checked {
            cut: examples.iter().filter(long).count(),
            whole: examples.into_iter().map(|example| example.whole).collect(),
        })
    }

    fn usable_demonstrations(&self, set: &Dataset) -> Result<Vec<usize>> {
        let rows = set.rows::<Conversation>()?;
        let parts = rows.map(|row| {
            row.and_then(|conversation| match self.answer {
                WhichAnswer::First => conversation.first_exchange(),
                WhichAnswer::Last => Ok(conversation),
            })
        });
        spoken(parts, |part| part.empty_turn().is_some())
    }

    fn usable_comparisons(&self, set: &Dataset) -> Result<Vec<usize>> {
        spoken(set.rows::<ConversationPair>()?, |pair| {
            let both = [&pair.chosen, &pair.rejected];
            both.into_iter().any(|side| side.empty_turn().is_some())
        })
    }
}

/// Messages of user and assistant in turn, the user's first.
fn alternating(turns: &[String]) -> Vec<Message> {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    turns
        .iter()
        .zip(roles)
        .map(|(text, role)| Message::new(role, text.as_str()))
        .collect()
}

/// The positions of the rows of `rows` that have no empty turn.
fn spoken<T>(
    rows: impl Iterator<Item = Result<T>>,
    empty: impl Fn(&T) -> bool,
) -> Result<Vec<usize>> {
    let numbered = rows.enumerate().filter_map(|(index, row)| match row {
        Ok(row) => (!empty(&row)).then_some(Ok(index)),
        Err(error) => Some(Err(error)),
    });
    numbered.collect()
}

/// The messages before the answer, each with its role, by which prompts are compared.
fn written(conversation: &Conversation) -> String {
    let messages = conversation.prompt().iter();
    let lines: Vec<String> = messages
        .map(|message| format!("{}: {}", message.role, message.content))
        .collect();
    lines.join("\n")
}
