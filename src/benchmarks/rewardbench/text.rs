//! The texts of a pair: its messages through a chat template.

use super::rows::Pair;
use crate::benchmarks::fastchat::Style;
use crate::tasks::chat::{ChatTemplate, Message, Role};
use crate::{Error, Result};
use std::path::Path;

/// The name of the template in the tokenizer's own files, in the result file too.
pub const TOKENIZER: &str = "tokenizer";
/// The name of texts without a template.
pub const PLAIN: &str = "plain";

/// A source of texts.
#[derive(Debug)]
pub enum Template {
    /// The chat template of the tokenizer.
    Tokenizer(Box<ChatTemplate>),
    FastChat(Style),
    /// The prompt and, as the next tokens, the response with an end, as the models of a study without
    /// conversations read them.
    Plain,
}

/// The texts of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The text of the prompt alone, without the beginning of an answer.
    pub prompt: String,
    /// The whole text with the chosen response; the response alone if the template is plain.
    pub chosen: String,
    pub rejected: String,
}

impl Template {
    /// The template `name` for the tokenizer in `folder`; by default the tokenizer's own.
    ///
    /// # Errors
    /// An unknown name, and a tokenizer without a usable template of its own.
    pub fn open(name: Option<&str>, folder: &Path) -> Result<Self> {
        match name {
            Some(PLAIN) => Ok(Self::Plain),
            None | Some(TOKENIZER) => {
                let opened = ChatTemplate::open(folder);
                let template = opened.map_err(|error| match name {
                    None if error.to_string().contains("has no chat template") => error.hint(
                        "name a template of FastChat, as --template tulu, the reference's default; or --template plain for \
                         a model of a study on posts",
                    ),
                    _ => error,
                })?;
                Ok(Self::Tokenizer(Box::new(template)))
            }
            Some(name) => Style::named(name).map(Self::FastChat).ok_or_else(|| {
                let known = Style::names().join(", ");
                Error::configuration(format!("there is no template `{name}`"))
                    .hint(format!("choose {TOKENIZER}, {PLAIN}, {known}"))
            }),
        }
    }

    /// The name in RewardBench's result file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokenizer(_) => TOKENIZER,
            Self::FastChat(style) => style.name,
            Self::Plain => PLAIN,
        }
    }

    /// The texts of a pair.
    ///
    /// # Errors
    /// Messages that the chat template refuses; several messages without a template.
    pub fn texts(&self, pair: &Pair) -> Result<Texts> {
        let prompt: Vec<&str> = pair.prompt.iter().map(String::as_str).collect();
        if let Self::Plain = self {
            let [only] = prompt[..] else {
                return Err(Error::data(format!(
                    "{}: a prompt of {} messages, and the plain template has none",
                    pair.place,
                    prompt.len()
                ))
                .hint("name a template of conversations, as --template tulu"));
            };
            return Ok(Texts {
                prompt: only.to_owned(),
                chosen: pair.chosen.clone(),
                rejected: pair.rejected.clone(),
            });
        }
        let with = |response: &str| self.render(&[&prompt[..], &[response]].concat());
        let texts = || {
            Ok(Texts {
                prompt: self.render(&prompt)?,
                chosen: with(&pair.chosen)?,
                rejected: with(&pair.rejected)?,
            })
        };
        texts().map_err(|error: Error| error.within(&pair.place))
    }

    /// The text of messages that alternate between user and assistant.
    fn render(&self, messages: &[&str]) -> Result<String> {
        match self {
            Self::Plain => Ok(messages.concat()),
            Self::FastChat(style) => Ok(style.render(messages)),
            Self::Tokenizer(template) => {
                let role = |index: usize| match index.is_multiple_of(2) {
                    true => Role::User,
                    false => Role::Assistant,
                };
                let messages: Vec<Message> = messages
                    .iter()
                    .enumerate()
                    .map(|(index, content)| Message::new(role(index), *content))
                    .collect();
                Ok(template.render(&messages, false)?.text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(prompt: &[&str]) -> Pair {
        Pair {
            place: "x.jsonl, line 1".into(),
            subset: "hep-go".into(),
            item: "1".into(),
            cluster: "c".into(),
            prompt: prompt.iter().map(|&turn| turn.to_owned()).collect(),
            chosen: "yes".into(),
            rejected: "no".into(),
            unended: [false; 2],
        }
    }

    #[test]
    fn a_prompt_ends_without_the_beginning_of_an_answer() {
        let texts = Template::FastChat("tulu".parse().unwrap())
            .texts(&pair(&["q"]))
            .unwrap();
        assert_eq!(texts.prompt, "<|user|>\nq\n");
        assert_eq!(texts.chosen, "<|user|>\nq\n<|assistant|>\nyes\n");
        assert_eq!(texts.rejected, "<|user|>\nq\n<|assistant|>\nno\n");
    }

    #[test]
    fn the_tokenizers_own_template_is_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let error = Template::open(None, folder.path()).unwrap_err();
        let hint = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(hint.contains("--template tulu"), "{hint}");
        let source = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}";
        std::fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
        let own = Template::open(None, folder.path()).unwrap();
        let texts = own.texts(&pair(&["q", "a", "r"])).unwrap();
        assert_eq!(texts.prompt, "u:q;a:a;u:r;");
        assert_eq!(texts.rejected, "u:q;a:a;u:r;a:no;");
        assert_eq!(
            Template::open(Some("tulu"), folder.path()).unwrap().name(),
            "tulu"
        );
        assert!(Template::open(Some("tulip"), folder.path()).is_err());
    }

    #[test]
    fn plain_texts_have_one_prompt() {
        let texts = Template::Plain.texts(&pair(&["q"])).unwrap();
        assert_eq!([texts.prompt, texts.chosen], ["q", "yes"]);
        let error = Template::Plain.texts(&pair(&["q", "a", "r"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.jsonl, line 1: a prompt of 3 messages, and the plain template has none"
        );
    }
}
