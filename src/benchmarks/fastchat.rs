//! Conversation templates of FastChat (`fastchat/conversation.py`, commit 0e6d3e4) that models of the
//! paper's kind are asked in: for prompts of MT-Bench, and for texts of RewardBench where a tokenizer
//! has no chat template of its own.

use crate::{Error, Result};
use std::str::FromStr;

/// A template by its FastChat name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub name: &'static str,
    separators: Separators,
    system: &'static str,
    /// The names of user and assistant.
    roles: [&'static str; 2],
    /// The texts after a user's and after an assistant's message.
    after: [&'static str; 2],
    /// A text at which an answer is cut.
    pub stop_text: Option<&'static str>,
    /// Tokens at which an answer is cut.
    pub stop_tokens: &'static [u32],
}

/// The way in which roles and messages are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separators {
    /// `CHATML` and `ADD_NEW_LINE_SINGLE`: role, line, message.
    Lines,
    /// `LLAMA2` without a system message.
    Instructions,
    /// `ADD_COLON_TWO`: role, colon, message.
    Colons,
}

const STYLES: [Style; 5] = [
    Style {
        name: "tulu",
        separators: Separators::Lines,
        system: "",
        roles: ["<|user|>", "<|assistant|>"],
        after: ["\n", "\n"],
        stop_text: None,
        stop_tokens: &[],
    },
    Style {
        name: "zephyr",
        separators: Separators::Lines,
        system: "<|system|>\n</s>\n",
        roles: ["<|user|>", "<|assistant|>"],
        after: ["</s>\n", "</s>\n"],
        stop_text: Some("</s>"),
        stop_tokens: &[2],
    },
    Style {
        name: "mistral",
        separators: Separators::Instructions,
        system: "[INST] ",
        roles: ["[INST]", "[/INST]"],
        after: [" ", "</s>"],
        stop_text: None,
        stop_tokens: &[],
    },
    Style {
        name: "vicuna_v1.1",
        separators: Separators::Colons,
        system: "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                 detailed, and polite answers to the user's questions. ",
        roles: ["USER", "ASSISTANT"],
        after: [" ", "</s>"],
        stop_text: None,
        stop_tokens: &[],
    },
    Style {
        name: "llama-2",
        separators: Separators::Instructions,
        system: "[INST] ",
        roles: ["[INST]", "[/INST]"],
        after: [" ", " </s><s>"],
        stop_text: None,
        stop_tokens: &[],
    },
];

impl Style {
    /// The names of all templates.
    pub fn names() -> [&'static str; 5] {
        STYLES.map(|style| style.name)
    }

    /// The template that FastChat calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        STYLES.into_iter().find(|style| style.name == name)
    }

    /// The text of messages that alternate between user and assistant, as `get_prompt` of FastChat
    /// writes it. An empty message is written as the beginning of a turn that is still to come, with
    /// no separator after its role.
    pub fn render(&self, messages: &[&str]) -> String {
        let mut text = self.system.to_owned();
        for (index, message) in messages.iter().enumerate() {
            let (role, after) = (self.roles[index % 2], self.after[index % 2]);
            let (before, none) = match self.separators {
                Separators::Lines => ("\n", "\n"),
                Separators::Instructions => (" ", ""),
                Separators::Colons => (": ", ":"),
            };
            match (*message, self.separators) {
                ("", _) => text += &format!("{role}{none}"),
                // The first role is part of the system text.
                (message, Separators::Instructions) if index == 0 => {
                    text += &format!("{message}{after}");
                }
                (message, _) => text += &format!("{role}{before}{message}{after}"),
            }
        }
        text
    }

    /// The prompt after which the assistant writes: `messages` are those of user and assistant in
    /// turn, a user's last.
    pub fn prompt(&self, messages: &[&str]) -> String {
        self.render(&[messages, &[""]].concat())
    }
}

impl FromStr for Style {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::named(name).ok_or_else(|| {
            Error::configuration(format!("there is no template `{name}`")).hint(format!(
                "tokenizer is the model's own chat template; FastChat's are {}",
                Self::names().join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system message of Vicuna 1.1.
    const VICUNA: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
                          helpful, detailed, and polite answers to the user's questions.";

    /// Texts of fschat 0.2.36.
    #[test]
    fn texts_are_those_of_fastchat() {
        let system = VICUNA;
        for (name, one, four, open) in [
            (
                "tulu",
                "<|user|>\nQ1\n",
                "<|user|>\nQ1\n<|assistant|>\nA1\n<|user|>\nQ2\n<|assistant|>\nA2\n",
                "<|user|>\nQ1\n<|assistant|>\n",
            ),
            (
                "zephyr",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2</s>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\n",
            ),
            (
                "mistral",
                "[INST] Q1 ",
                "[INST] Q1 [/INST] A1</s>[INST] Q2 [/INST] A2</s>",
                "[INST] Q1 [/INST]",
            ),
            (
                "vicuna_v1.1",
                &format!("{system} USER: Q1 "),
                &format!("{system} USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"),
                &format!("{system} USER: Q1 ASSISTANT:"),
            ),
            (
                "llama-2",
                "[INST] Q1 ",
                "[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s><s>",
                "[INST] Q1 [/INST]",
            ),
        ] {
            let style = Style::named(name).unwrap();
            assert_eq!(style.render(&["Q1"]), one);
            assert_eq!(style.render(&["Q1", "A1", "Q2", "A2"]), four);
            assert_eq!(style.render(&["Q1", ""]), open);
        }
        assert_eq!(Style::named("vicuna"), None);
    }

    /// Prompts that FastChat 0e6d3e4 makes of Q1, A1 and Q2, with its system message of vicuna left out
    /// here; an empty answer leaves out its separator there too.
    #[test]
    fn prompts_are_those_of_fastchat() {
        let prompts = |name: &str| {
            let style: Style = name.parse().unwrap();
            [vec!["Q1"], vec!["Q1", "A1", "Q2"], vec!["Q1", "", "Q2"]].map(|messages| {
                style
                    .prompt(&messages)
                    .replace(style.system.trim_start_matches("[INST] "), "")
            })
        };
        let plain = |name: &str| {
            let style: Style = name.parse().unwrap();
            [vec!["Q1"], vec!["Q1", "A1", "Q2"], vec!["Q1", "", "Q2"]]
                .map(|messages| style.prompt(&messages))
        };
        assert_eq!(
            plain("zephyr"),
            [
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\n<|user|>\nQ2</s>\n<|assistant|>\n",
            ]
        );
        assert_eq!(
            plain("mistral"),
            [
                "[INST] Q1 [/INST]",
                "[INST] Q1 [/INST] A1</s>[INST] Q2 [/INST]",
                "[INST] Q1 [/INST][INST] Q2 [/INST]",
            ]
        );
        assert_eq!(
            plain("llama-2")[1],
            "[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST]"
        );
        assert_eq!(
            plain("tulu"),
            [
                "<|user|>\nQ1\n<|assistant|>\n",
                "<|user|>\nQ1\n<|assistant|>\nA1\n<|user|>\nQ2\n<|assistant|>\n",
                "<|user|>\nQ1\n<|assistant|>\n<|user|>\nQ2\n<|assistant|>\n",
            ]
        );
        assert_eq!(
            prompts("vicuna_v1.1"),
            [
                "USER: Q1 ASSISTANT:",
                "USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
                "USER: Q1 ASSISTANT:USER: Q2 ASSISTANT:",
            ]
        );
        assert!("vicuna".parse::<Style>().is_err());
    }
}
