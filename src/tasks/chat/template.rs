//! Chat templates: a model's own rule for turning messages into text, stored in its tokenizer's
//! files.

use super::conversation::Message;
use super::jinja::{self, Raised};
use crate::model::contents;
use crate::{Context, Error, Result};
use minijinja::{Environment, ErrorKind, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

const TEMPLATE: &str = "chat_template.jinja";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// The name of the only template in its environment.
const NAME: &str = "chat";

/// Template variables that hold control tokens; the keys in tokenizer files are the same.
const TOKEN_KEYS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Control tokens by the names of template variables, such as `eos_token`. If a model lacks one of
/// them, it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens(BTreeMap<&'static str, String>);

impl SpecialTokens {
    /// The tokens that `tokenizer_config.json` in `folder` names, and any others that
    /// `special_tokens_map.json` names.
    ///
    /// # Errors
    /// A file that is damaged, and a token that is neither text nor a table with its `content`.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut tokens = Self::default();
        for path in [folder.join(CONFIG), folder.join(SPECIAL_TOKENS)] {
            if path.is_file() {
                tokens.add(&contents::json(&path)?, &path.display().to_string())?;
            }
        }
        Ok(tokens)
    }

    /// These tokens with `key` set to `token`; unchanged if templates have no variable of that
    /// name.
    pub fn with(mut self, key: &str, token: impl Into<String>) -> Self {
        if let Some(key) = TOKEN_KEYS.into_iter().find(|known| *known == key) {
            self.0.insert(key, token.into());
        }
        self
    }

    /// The text of a token; `None` if no file names it or if it is empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|token| !token.is_empty())
    }

    fn add(&mut self, keys: &Json, origin: &str) -> Result<()> {
        for key in TOKEN_KEYS {
            let token = match keys.get(key) {
                None => continue,
                Some(Json::Null) => "",
                Some(value) => value
                    .as_str()
                    .or_else(|| value["content"].as_str())
                    .ok_or_else(|| {
                        Error::model(format!(
                            "{origin}: {key} is {value}, which does not name a token"
                        ))
                        .hint("write the token as text, or as a table with its text as `content`")
                    })?,
            };
            let known = self.0.entry(key).or_default();
            if known.is_empty() {
                token.clone_into(known);
            }
        }
        Ok(())
    }
}

/// The text of a conversation, and the positions of the assistant's turns in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// Byte ranges that the template marks as generated, in order; empty if it marks nothing.
    pub generated: Vec<Range<usize>>,
    /// Positions inside the names of control tokens that come from messages.
    pub(super) spelled: Vec<usize>,
}

/// A chat template with its control tokens.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// File and key of the template, for messages.
    origin: String,
    tokens: SpecialTokens,
    marks: bool,
}

impl ChatTemplate {
    /// The template in the tokenizer's folder: `chat_template.jinja`, otherwise `chat_template` of
    /// `tokenizer_config.json`; from a list, the one named `default`.
    ///
    /// A folder without a template, a damaged file, or an invalid template.
    pub fn open(folder: &Path) -> Result<Self> {
        let (tokens, file) = (SpecialTokens::open(folder)?, folder.join(TEMPLATE));
        if file.is_file() {
            let source = String::from_utf8(contents::read(&file)?)
                .context(|| format!("{} is not UTF-8", file.display()));
            return Self::new(file.display().to_string(), &source?, tokens);
        }
        let config = folder.join(CONFIG);
        let keys = if config.is_file() {
            contents::json(&config)?
        } else {
            Json::Null
        };
        let origin = format!("{}, chat_template", config.display());
        let source = match &keys["chat_template"] {
            Json::String(source) => source,
            Json::Array(named) => default_of(named, &origin)?,
            Json::Null => {
                return Err(Error::model(format!("{} has no chat template", folder.display())).hint(format!(
                    "put the template of the model there as {TEMPLATE}; base models have none, and take that of the format \
                     that they are to learn"
                )));
            }
            _ => {
                return Err(Error::model(format!(
                    "{origin} is neither text nor a list of named templates"
                ))
                .hint(FETCH));
            }
        };
        Self::new(origin, source, tokens)
    }

    /// The template with the text `source`; messages call it `origin`.
    ///
    /// # Errors
    /// A syntax error, text that does not use `messages`, or a control token that `tokens` lacks.
    pub fn new(origin: impl Into<String>, source: &str, tokens: SpecialTokens) -> Result<Self> {
        let origin = origin.into();
        let (source, marks) = jinja::repaired(source);
        let mut environment = jinja::environment();
        jinja::set_clock(&mut environment, None);
        environment
            .add_template_owned(NAME, source)
            .map_err(|cause| broken(&origin, cause))?;
        let uses = environment
            .get_template(NAME)
            .map_err(|cause| broken(&origin, cause))?
            .undeclared_variables(false);
        if !uses.contains("messages") {
            return Err(Error::model(format!(
                "{origin} is not a chat template: it uses no `messages`"
            ))
            .hint(FETCH));
        }
        if let Some(key) = TOKEN_KEYS
            .into_iter()
            .find(|key| uses.contains(*key) && !tokens.0.contains_key(key))
        {
            return Err(Error::model(format!(
                "{origin} writes `{key}`, which no file of the tokenizer names"
            ))
            .hint(format!(
                "name the token as {key} in {CONFIG}, or null if the model has none"
            )));
        }
        Ok(Self {
            environment,
            origin,
            tokens,
            marks,
        })
    }

    /// The same template with the clock fixed at `now`: a date in its text is that day's, in UTC.
    pub fn at(mut self, now: SystemTime) -> Self {
        jinja::set_clock(&mut self.environment, Some(now));
        self
    }

    /// File and key of the template.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// True if the template marks the assistant's turns with `{% generation %}`.
    pub fn marks_turns(&self) -> bool {
        self.marks
    }

    /// The text of `messages`, followed by the beginning of an assistant turn if
    /// `add_generation_prompt`.
    ///
    /// # Errors
    /// A template that refuses the messages, fails on them, or needs a feature that this engine
    /// lacks.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered> {
        if let Some(index) = messages
            .iter()
            .position(|message| jinja::holds_marks(&message.content))
        {
            return Err(noncharacter(index));
        }
        self.render_marked(messages, add_generation_prompt)
    }

    /// The text of `messages` as [`render`](Self::render) returns it, for messages that may contain
    /// marks.
    pub(super) fn render_marked(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        let fixed = [
            ("messages", Value::from_serialize(messages)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let tokens = self
            .tokens
            .0
            .iter()
            .map(|(key, token)| (*key, Value::from(token.as_str())));
        let variables: Value = fixed.into_iter().chain(tokens).collect();
        let rendered = self
            .environment
            .get_template(NAME)
            .and_then(|template| template.render(variables));
        let found = jinja::unmarked(&rendered.map_err(|cause| self.failed(cause))?);
        Ok(Rendered {
            text: found.text,
            generated: found.generated,
            spelled: found.spelled,
        })
    }

    fn failed(&self, cause: minijinja::Error) -> Error {
        if let Some(Raised(message)) = cause.source().and_then(|source| source.downcast_ref()) {
            return Error::data(format!("the chat template refuses the conversation: {message}")).hint(format!(
                "{} says so: give it the roles that it takes, with a system message only if it allows one",
                self.origin
            ));
        }
        let hint = match cause.kind() {
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
            | ErrorKind::UnknownTest => {
                "the template needs what is not there: write that line without it"
            }
            ErrorKind::UndefinedError => {
                "the template reads what the messages do not have; they have role and content"
            }
            _ => "the template fails on these messages: mend that line, or take another template",
        };
        broken(&self.origin, cause).hint(hint)
    }
}

const FETCH: &str = "fetch the file again from the model's repository";

/// The error for `messages[index]` containing a code point that serves as a mark here.
pub(super) fn noncharacter(index: usize) -> Error {
    Error::data(format!(
        "message {} holds a noncharacter of U+FDD0 to U+FDD2",
        index + 1
    ))
    .hint("these code points are never text: remove them")
}

/// The template named `default` in a list.
fn default_of<'a>(named: &'a [Json], origin: &str) -> Result<&'a String> {
    let default = named
        .iter()
        .find(|template| template["name"] == "default")
        .map(|template| &template["template"]);
    if let Some(Json::String(source)) = default {
        return Ok(source);
    }
    let names: Vec<&str> = named
        .iter()
        .filter_map(|template| template["name"].as_str())
        .collect();
    Err(Error::model(format!(
        "{origin} has no template called default, only {}",
        names.join(", ")
    ))
    .hint(format!("save the one that is meant as {TEMPLATE}")))
}

fn broken(origin: &str, cause: minijinja::Error) -> Error {
    let line = cause
        .line()
        .map(|line| format!(", line {line}"))
        .unwrap_or_default();
    let what = cause
        .detail()
        .map_or_else(|| cause.kind().to_string(), str::to_owned);
    Error::model(format!("{origin}: the template{line} fails: {what}"))
        .hint("mend that line of the template")
        .caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;
    use miette::Diagnostic;
    use serde_json::json;
    use std::fs;

    const ECHO: &str = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            fs::write(folder.path().join(name), contents).unwrap();
        }
        folder
    }

    fn text(files: &[(&str, &str)]) -> Result<String> {
        let rendered = ChatTemplate::open(folder(files).path())?
            .render(&[Message::new(Role::User, "q")], true);
        rendered.map(|rendered| rendered.text)
    }

    #[test]
    fn the_template_is_of_its_own_file_then_of_the_configuration() {
        let string = json!({"chat_template": ECHO, "eos_token": "</s>"}).to_string();
        let listed = json!({"eos_token": {"content": "</s>"}, "chat_template": [
            {"name": "tools", "template": "-"}, {"name": "default", "template": ECHO}]})
        .to_string();
        assert_eq!(text(&[(CONFIG, &string)]).unwrap(), "q</s>");
        assert_eq!(text(&[(CONFIG, &listed)]).unwrap(), "q</s>");
        assert_eq!(
            text(&[(CONFIG, &string), (TEMPLATE, "{{ messages[0].role }}\n")]).unwrap(),
            "user"
        );
    }

    #[test]
    fn tokens_are_of_the_configuration_then_of_the_map() {
        let map = (
            SPECIAL_TOKENS,
            r#"{"eos_token": {"content": "<e>"}, "bos_token": "<b>"}"#,
        );
        assert_eq!(text(&[(TEMPLATE, ECHO), map]).unwrap(), "q<e>");
        let files = [
            (TEMPLATE, ECHO),
            (CONFIG, r#"{"eos_token": "</s>", "bos_token": null}"#),
            map,
        ];
        assert_eq!(text(&files).unwrap(), "q</s>");
        let tokens = SpecialTokens::open(folder(&files).path()).unwrap();
        assert_eq!(
            (tokens.get("bos_token"), tokens.get("pad_token")),
            (Some("<b>"), None)
        );
    }

    #[test]
    fn folders_without_a_usable_template_are_refused_with_a_remedy() {
        let named = |template: &str| {
            json!({"chat_template": [{"name": "rag", "template": template}]}).to_string()
        };
        let (rag, number) = (named(ECHO), r#"{"chat_template": 3}"#);
        for (files, what, remedy) in [
            (vec![], "has no chat template", "chat_template.jinja"),
            (
                vec![(CONFIG, rag.as_str())],
                "no template called default, only rag",
                "save the one",
            ),
            (
                vec![(CONFIG, number)],
                "is neither text nor a list",
                "fetch",
            ),
            (
                vec![(TEMPLATE, ECHO)],
                "writes `eos_token`, which no file",
                "name the token as eos_token",
            ),
            (
                vec![(TEMPLATE, "{% for m in messages %}\n{{ m.content }")],
                "line 2 fails",
                "mend that line",
            ),
            (
                vec![(TEMPLATE, "<html>404</html>")],
                "uses no `messages`",
                "fetch",
            ),
            (
                vec![(TEMPLATE, ECHO), (CONFIG, r#"{"eos_token": 2}"#)],
                "eos_token is 2",
                "as text",
            ),
        ] {
            let error = text(&files).unwrap_err();
            let hint = error
                .help()
                .map(|hint| hint.to_string())
                .unwrap_or_default();
            assert!(
                error.to_string().contains(what) && hint.contains(remedy),
                "{what}: {error} ({hint})"
            );
        }
    }

    #[test]
    fn failures_tell_the_template_its_line_and_a_remedy() {
        let fails = |source: &str| {
            let template = ChatTemplate::new("t.jinja", source, SpecialTokens::default()).unwrap();
            let error = template
                .render(&[Message::new(Role::User, "q")], false)
                .unwrap_err();
            (
                error.to_string(),
                error
                    .help()
                    .map(|hint| hint.to_string())
                    .unwrap_or_default(),
            )
        };
        let (told, hint) = fails("{{ messages }}{{ raise_exception('No ' ~ messages[0].role) }}");
        assert_eq!(told, "the chat template refuses the conversation: No user");
        assert!(hint.starts_with("t.jinja says so"), "{hint}");
        let (told, hint) = fails("{{ messages }}\n{{ 'a' | shout }}");
        assert!(
            told.starts_with("t.jinja: the template, line 2 fails") && hint.contains("without it"),
            "{told} ({hint})"
        );
        let (told, hint) = fails("{{ messages[0].tool.name }}");
        assert!(
            told.contains("line 1 fails") && hint.contains("role and content"),
            "{told} ({hint})"
        );
    }

    #[test]
    fn a_template_that_writes_the_date_can_be_held_to_a_day() {
        let source = "{{ strftime_now('%d %B %Y') }} {{ messages | length }}";
        let template = ChatTemplate::new("t", source, SpecialTokens::default()).unwrap();
        let text = template
            .at(SystemTime::UNIX_EPOCH)
            .render(&[], false)
            .unwrap()
            .text;
        assert_eq!(text, "01 January 1970 0");
    }

    #[test]
    fn generation_blocks_are_told_by_their_bytes() {
        let source = "{% for m in messages %}é{% generation %}\n  {{ m.content }}{% endgeneration %}\n.{% endfor %}";
        let template = ChatTemplate::new("t", source, SpecialTokens::default()).unwrap();
        let rendered = template
            .render(
                &[
                    Message::new(Role::Assistant, "a"),
                    Message::new(Role::Assistant, "b"),
                ],
                false,
            )
            .unwrap();
        assert_eq!(
            (rendered.text.as_str(), rendered.generated),
            ("é  a.é  b.", vec![2..5, 8..11])
        );
        assert!(template.marks_turns());
    }
}
