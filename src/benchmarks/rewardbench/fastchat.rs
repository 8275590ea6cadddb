//! Conversation templates of FastChat (`fastchat/conversation.py`, commit 0e6d3e4) for tokenizers
//! without a chat template of their own.

/// A template by its name in FastChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastChat {
    Tulu,
    Zephyr,
    Mistral,
    Vicuna,
    Llama2,
}

/// The system message of Vicuna 1.1.
const VICUNA: &str = "A chat between a curious user and an artificial intelligence assistant. The assistant gives \
                      helpful, detailed, and polite answers to the user's questions.";

impl FastChat {
    pub const ALL: [Self; 5] = [
        Self::Tulu,
        Self::Zephyr,
        Self::Mistral,
        Self::Vicuna,
        Self::Llama2,
    ];

    /// The template that FastChat calls `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tulu => "tulu",
            Self::Zephyr => "zephyr",
            Self::Mistral => "mistral",
            Self::Vicuna => "vicuna_v1.1",
            Self::Llama2 => "llama-2",
        }
    }

    /// The text of messages that alternate between user and assistant, as `get_prompt` of FastChat
    /// writes it. An empty message is written as the beginning of a turn that is still to come.
    pub fn render(self, messages: &[&str]) -> String {
        let user = |index: usize| index.is_multiple_of(2);
        let mut text = match self {
            Self::Tulu => String::new(),
            Self::Zephyr => "<|system|>\n</s>\n".to_owned(),
            Self::Mistral | Self::Llama2 => "[INST] ".to_owned(),
            Self::Vicuna => format!("{VICUNA} "),
        };
        for (index, message) in messages.iter().enumerate() {
            let turn = match self {
                Self::Tulu | Self::Zephyr => {
                    let role = if user(index) {
                        "<|user|>"
                    } else {
                        "<|assistant|>"
                    };
                    let end = if self == Self::Tulu { "\n" } else { "</s>\n" };
                    match message.is_empty() {
                        true => format!("{role}\n"),
                        false => format!("{role}\n{message}{end}"),
                    }
                }
                Self::Vicuna => {
                    let (role, end) = if user(index) {
                        ("USER", " ")
                    } else {
                        ("ASSISTANT", "</s>")
                    };
                    match message.is_empty() {
                        true => format!("{role}:"),
                        false => format!("{role}: {message}{end}"),
                    }
                }
                Self::Mistral | Self::Llama2 => {
                    let role = if user(index) { "[INST]" } else { "[/INST]" };
                    let end = match (user(index), self) {
                        (true, _) => " ",
                        (false, Self::Mistral) => "</s>",
                        (false, _) => " </s><s>",
                    };
                    match (message.is_empty(), index) {
                        (true, _) => role.to_owned(),
                        (false, 0) => format!("{message} "),
                        (false, _) => format!("{role} {message}{end}"),
                    }
                }
            };
            text.push_str(&turn);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of fschat 0.2.36.
    #[test]
    fn texts_are_those_of_fastchat() {
        let system = VICUNA;
        for (template, one, four, open) in [
            (
                FastChat::Tulu,
                "<|user|>\nQ1\n",
                "<|user|>\nQ1\n<|assistant|>\nA1\n<|user|>\nQ2\n<|assistant|>\nA2\n",
                "<|user|>\nQ1\n<|assistant|>\n",
            ),
            (
                FastChat::Zephyr,
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2</s>\n",
                "<|system|>\n</s>\n<|user|>\nQ1</s>\n<|assistant|>\n",
            ),
            (
                FastChat::Mistral,
                "[INST] Q1 ",
                "[INST] Q1 [/INST] A1</s>[INST] Q2 [/INST] A2</s>",
                "[INST] Q1 [/INST]",
            ),
            (
                FastChat::Vicuna,
                &format!("{system} USER: Q1 "),
                &format!("{system} USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>"),
                &format!("{system} USER: Q1 ASSISTANT:"),
            ),
            (
                FastChat::Llama2,
                "[INST] Q1 ",
                "[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s><s>",
                "[INST] Q1 [/INST]",
            ),
        ] {
            assert_eq!(template.render(&["Q1"]), one);
            assert_eq!(template.render(&["Q1", "A1", "Q2", "A2"]), four);
            assert_eq!(template.render(&["Q1", ""]), open);
            assert_eq!(FastChat::named(template.name()), Some(template));
        }
        assert_eq!(FastChat::named("vicuna"), None);
    }
}
