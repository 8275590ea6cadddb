//! Answers in conversations: the assistant's last turn is the response, and everything before it,
//! in the form of the model's chat template, is the prompt.

use super::chat::{
    ChatEncoder, ChatRules, ControlNames, Conversation, ConversationPair, Loss, SystemRule, TooLong,
};
use super::{Example, Task, TokenizerConfig};
use crate::data::TextEncoder;
use crate::data::dataset::Dataset;
use crate::data::rows::{Demonstration, Response, ResponsePair, RowText};
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
    /// Special tokens and the chat template, where the tokenizer's files do not have them.
    #[serde(default, skip_serializing_if = "TokenizerConfig::is_empty")]
    pub tokenizer: TokenizerConfig,
}

/// The chat task with a tokenizer, its chat template and its limits.
pub struct Conversations {
    /// Encodes prompts, which are fitted to the limit.
    fitting: ChatEncoder,
    /// Encodes whole conversations, from which responses are taken.
    whole: ChatEncoder,
    encoder: TextEncoder,
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
        Ok(RowText::encoded(&answer.content[..], sequence.response))
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
}

/// The messages before the answer, each with its role, by which prompts are compared.
fn written(conversation: &Conversation) -> String {
    let messages = conversation.prompt().iter();
    let lines: Vec<String> = messages
        .map(|message| format!("{}: {}", message.role, message.content))
        .collect();
    lines.join("\n")
}
