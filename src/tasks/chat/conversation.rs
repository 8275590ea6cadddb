//! Conversations as data sets hold them, with the order of roles checked and a place in every
//! error.

use crate::data::dataset::{Record, Row};
use crate::{Error, Result};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// The role that data sets and templates call `name`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant]
            .into_iter()
            .find(|role| role.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.pad(self.name())
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }

    pub fn is_assistant(&self) -> bool {
        self.role == Role::Assistant
    }
}

/// Messages in order: optionally a system message, then alternating turns of user and assistant,
/// beginning with the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    place: String,
    messages: Vec<Message>,
}

impl Conversation {
    /// The conversation of `messages`. Its errors begin with `place`, such as `train.jsonl, line
    /// 3`.
    ///
    /// # Errors
    /// Messages in the wrong order, or an empty list.
    pub fn new(place: impl Into<String>, messages: Vec<Message>) -> Result<Self> {
        let place = place.into();
        match disorder(&messages) {
            None => Ok(Self { place, messages }),
            Some((what, remedy)) => Err(Error::data(format!("{place}: {what}")).hint(remedy)),
        }
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Everything before the last assistant turn, and that turn.
    ///
    /// # Errors
    /// A conversation without an assistant turn, or with a message after the last one.
    pub fn split(&self) -> Result<(&[Message], &Message)> {
        match self.messages.split_last() {
            Some((response, prompt)) if response.is_assistant() => Ok((prompt, response)),
            _ if self.messages.iter().any(Message::is_assistant) => Err(self
                .error("the last message is not the assistant's")
                .hint("training and scoring need an answer at the end: drop the last message, or the row")),
            _ => Err(self.error("no message is the assistant's").hint(
                "training and scoring need an answer: add it as a message of the role `assistant`, or drop the row",
            )),
        }
    }

    /// The messages for which an answer is generated: all of them, or those before the existing
    /// answer.
    pub fn prompt(&self) -> &[Message] {
        match self.messages.split_last() {
            Some((response, prompt)) if response.is_assistant() => prompt,
            _ => &self.messages,
        }
    }

    /// The messages up to the first answer.
    ///
    /// # Errors
    /// A conversation without an answer.
    pub fn first_exchange(&self) -> Result<Self> {
        match self.messages.iter().position(Message::is_assistant) {
            Some(answer) => Ok(Self {
                place: self.place.clone(),
                messages: self.messages[..=answer].to_vec(),
            }),
            None => self.split().map(|_| self.clone()),
        }
    }

    /// The error about the first turn without text, if there is one. A system message may be empty.
    pub fn empty_turn(&self) -> Option<Error> {
        let mut turns = (1..).zip(&self.messages);
        let (number, turn) = turns.find(|(_, message)| {
            message.role != Role::System && message.content.trim().is_empty()
        })?;
        let error = self.error(&format!("message {number}, the {}'s, is empty", turn.role));
        Some(error.hint("fill it in, or drop the row"))
    }

    fn error(&self, what: &str) -> Error {
        Error::data(format!("{}: {what}", self.place))
    }
}

impl Record for Conversation {
    const COLUMNS: &'static [&'static str] = &["messages"];

    fn read(mut row: Row) -> Result<Self> {
        let messages = messages(&mut row, "messages")?;
        Self::new(row.place.to_string(), messages)
    }
}

/// Two conversations that differ only in their last turn, with the first one preferred. The two
/// columns hold whole conversations, or only the answers if the column `prompt` holds the messages
/// before them, as text or as messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationPair {
    pub chosen: Conversation,
    pub rejected: Conversation,
}

impl Record for ConversationPair {
    const COLUMNS: &'static [&'static str] = &["chosen", "rejected"];
    const OPTIONAL: &'static [&'static str] = &["prompt"];

    fn read(mut row: Row) -> Result<Self> {
        let before = match row.cells.get("prompt") {
            Some(Value::Array(_)) => messages(&mut row, "prompt")?,
            _ => row
                .optional_text("prompt")?
                .map(|text| Message::new(Role::User, text))
                .into_iter()
                .collect(),
        };
        let mut side = |name: &str| {
            let answer = messages(&mut row, name)?;
            let alone = answer.first().is_some_and(Message::is_assistant);
            let before = if alone { before.clone() } else { Vec::new() };
            Conversation::new(
                format!("{}, `{name}`", row.place),
                [before, answer].concat(),
            )
        };
        let (chosen, rejected) = (side("chosen")?, side("rejected")?);
        if chosen.split()?.0 != rejected.split()?.0 {
            return Err(row.error("`chosen` and `rejected` differ before their last turn").hint(
                "two answers are compared where they answer the same messages: drop the row, or cut both to those",
            ));
        }
        Ok(Self { chosen, rejected })
    }
}

/// The messages in the column `name`.
fn messages(row: &mut Row, name: &str) -> Result<Vec<Message>> {
    let turns = row.parts(name).map_err(|error| {
        let helps = error.help().is_some();
        match helps {
            true => error,
            false => error.hint(r#"messages are a list, as in [{"role": "user", "content": "…"}]"#),
        }
    })?;
    turns.into_iter().map(message).collect()
}

fn message(mut turn: Row) -> Result<Message> {
    if turn.cells.contains_key("from") && !turn.cells.contains_key("role") {
        let error = turn.error(&format!(
            "`{}from` stands where `role` is read",
            turn.prefix
        ));
        return Err(
            error.hint("rename `from` to `role` and `value` to `content`, with the roles system, user and assistant")
        );
    }
    let name = turn.text("role")?;
    let Some(role) = Role::named(&name) else {
        let error = turn.error(&format!(
            "`{}role` is {name:?}, which is not a role that is read",
            turn.prefix
        ));
        return Err(error.hint(remedy_of_role(&name)));
    };
    if matches!(
        turn.cells.get("content"),
        Some(Value::Array(_) | Value::Object(_))
    ) {
        let error = turn.error(&format!(
            "`{}content` is a list or a struct, not text",
            turn.prefix
        ));
        return Err(
            error.hint("join the text of its parts; images and calls of tools are not read")
        );
    }
    Ok(Message {
        role,
        content: turn.text("content")?,
    })
}

fn remedy_of_role(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "human" | "prompter" | "user" => "write `user`",
        "gpt" | "bot" | "model" | "chatbot" | "assistant" => "write `assistant`",
        "developer" | "system" => "write `system`",
        _ => "the roles are system, user and assistant; drop rows that call tools",
    }
}

/// The fault in the order of messages, and its remedy; `None` if the order is correct.
fn disorder(messages: &[Message]) -> Option<(String, &'static str)> {
    let turns = match messages {
        [] => {
            return Some((
                "there is no message".into(),
                "fill them in, or drop the row",
            ));
        }
        [
            Message {
                role: Role::System, ..
            },
            turns @ ..,
        ] => turns,
        turns => turns,
    };
    let first = messages.len() - turns.len() + 1;
    if turns.is_empty() {
        return Some((
            "a system message stands alone".into(),
            "add the user's message, or drop the row",
        ));
    }
    turns.iter().enumerate().find_map(|(index, message)| {
        let (number, expected) = (
            first + index,
            if index % 2 == 0 {
                Role::User
            } else {
                Role::Assistant
            },
        );
        match message.role {
            role if role == expected => None,
            Role::System => Some((
                format!("message {number} is a system message"),
                "only the first message may be one: join them there",
            )),
            role if index == 0 => Some((
                format!("message {number} is the first turn and the {role}'s"),
                "a conversation begins with the user: add that message, or drop the row",
            )),
            role => Some((
                format!("messages {} and {number} are both the {role}'s", number - 1),
                "user and assistant take turns: join the two, or drop the row",
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::RowPlace;
    use serde_json::json;

    fn row(cells: Value) -> Row<'static> {
        let Value::Object(cells) = cells else {
            panic!("a row is an object")
        };
        let place = RowPlace {
            file: "x.jsonl",
            by_line: true,
            number: 7,
            typed: false,
        };
        Row {
            place,
            untyped: false,
            prefix: String::new(),
            cells,
            has: Vec::new(),
        }
    }

    fn read(messages: Value) -> Result<Conversation> {
        Conversation::read(row(json!({ "messages": messages })))
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn assistant(text: &str) -> Value {
        json!({"role": "assistant", "content": text})
    }

    #[test]
    fn a_row_is_a_conversation_that_splits_before_its_last_answer() {
        let system = json!({"role": "system", "content": ""});
        let read = read(json!([
            system,
            user("a"),
            assistant("b"),
            user("c"),
            assistant("d")
        ]))
        .unwrap();
        let (prompt, response) = read.split().unwrap();
        assert_eq!((prompt.len(), response.content.as_str()), (4, "d"));
        assert_eq!((read.place(), read.prompt()), ("x.jsonl, line 7", prompt));
    }

    #[test]
    fn an_open_conversation_is_a_prompt_and_has_no_response() {
        let open = read(json!([user("a"), assistant("b"), user("c")])).unwrap();
        assert_eq!(open.prompt().len(), 3);
        assert!(
            open.split()
                .unwrap_err()
                .to_string()
                .contains("the last message is not the assistant's")
        );
        let unanswered = read(json!([user("a")])).unwrap();
        assert!(
            unanswered
                .split()
                .unwrap_err()
                .to_string()
                .contains("no message is the assistant's")
        );
    }

    #[test]
    fn faults_are_told_with_row_message_and_remedy() {
        for (messages, fault, remedy) in [
            (json!([]), "there is no message", "drop the row"),
            (
                json!([{"role": "system", "content": "s"}]),
                "stands alone",
                "add the user's message",
            ),
            (
                json!([assistant("a")]),
                "message 1 is the first turn",
                "begins with the user",
            ),
            (
                json!([user("a"), user("b")]),
                "messages 1 and 2 are both the user's",
                "take turns",
            ),
            (
                json!([user("a"), {"role": "system", "content": ""}]),
                "message 2 is a system message",
                "join them",
            ),
            (
                json!([{"role": "human", "content": "a"}]),
                "`messages[0].role` is \"human\"",
                "write `user`",
            ),
            (
                json!([user("a"), {"role": "tool", "content": "a"}]),
                "`messages[1].role` is \"tool\"",
                "drop rows",
            ),
            (
                json!([{"from": "human", "value": "a"}]),
                "`messages[0].from`",
                "rename `from`",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "`messages[0].content` is a list",
                "join",
            ),
            (
                json!([{"role": "user", "content": 3}]),
                "`messages[0].content` is a number",
                "in quotes",
            ),
            (
                json!([{"role": "user"}]),
                "no messages[0].content",
                "fill it in",
            ),
        ] {
            let error = read(messages).unwrap_err();
            let told = error.to_string();
            assert!(
                told.starts_with("x.jsonl, line 7: ") && told.contains(fault),
                "{fault}: {told}"
            );
            let hint = error
                .help()
                .map(|hint| hint.to_string())
                .unwrap_or_default();
            assert!(hint.contains(remedy), "{fault}: {hint}");
        }
    }

    #[test]
    fn a_pair_is_whole_or_answers_its_prompt() {
        let whole = row(
            json!({"prompt": "q", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}),
        );
        let text =
            row(json!({"prompt": "q", "chosen": [assistant("a")], "rejected": [assistant("b")]}));
        let listed = row(
            json!({"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}),
        );
        let whole = ConversationPair::read(whole).unwrap();
        assert_eq!(ConversationPair::read(text).unwrap(), whole);
        assert_eq!(ConversationPair::read(listed).unwrap(), whole);
        assert_eq!(whole.rejected.place(), "x.jsonl, line 7, `rejected`");
    }

    #[test]
    fn a_pair_of_different_prompts_or_without_an_answer_is_refused() {
        let apart =
            json!({"chosen": [user("q"), assistant("a")], "rejected": [user("p"), assistant("b")]});
        let error = ConversationPair::read(row(apart)).unwrap_err();
        assert!(
            error.to_string().contains("differ before their last turn"),
            "{error}"
        );
        let open = json!({"chosen": [user("q")], "rejected": [user("q"), assistant("b")]});
        let error = ConversationPair::read(row(open)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.jsonl, line 7, `chosen`: no message is the assistant's"
        );
    }
}
