//! Calls of a judge, the keys under which their answers are kept, and the secret that a server
//! wants to see.

use super::settings::ServerSettings;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;

/// A message of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn system(content: impl Into<String>) -> Self {
        Self {
            role: "system".to_owned(),
            content: content.into(),
        }
    }

    pub fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user".to_owned(),
            content: content.into(),
        }
    }
}

/// The prompt template that a call's messages were made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub id: String,
    /// The blake3 hash of the template's text.
    pub blake3: String,
}

impl Template {
    /// The template `id` with the parts of its text.
    pub fn new(id: impl Into<String>, parts: &[&str]) -> Self {
        let text = Value::from(parts.to_vec()).to_string();
        Self {
            id: id.into(),
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
        }
    }
}

/// A question to a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The name of the item, for messages: `question 81, turn 1`.
    pub name: String,
    pub messages: Vec<Message>,
    pub template: Template,
    /// The number of the repetition, from 0. Repetitions are asked one by one.
    pub repetition: u32,
}

/// The servers whose answers to a model's name are taken to be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The server at the base URL.
    #[default]
    Server,
    /// Any server: a model that has moved keeps its answers.
    Any,
}

/// All that can move the answer to a call, and its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct CallKey {
    pub identity: Value,
    /// The blake3 hash of the identity as JSON with sorted keys and without white space.
    pub blake3: String,
}

impl CallKey {
    /// The key of `call` under `settings`, read by the parser `parser` (a name with a version).
    pub fn new(settings: &ServerSettings, scope: Scope, parser: &str, call: &Call) -> Self {
        let server = match scope {
            Scope::Server => settings.base_url.trim_end_matches('/'),
            Scope::Any => "any",
        };
        let identity = json!({
            "version": 1,
            "server": server,
            "request": settings.body(&call.messages, call.repetition),
            "template": call.template,
            "parser": parser,
            "repetition": call.repetition,
        });
        let blake3 = blake3::hash(identity.to_string().as_bytes());
        Self {
            identity,
            blake3: blake3.to_hex().to_string(),
        }
    }
}

/// The fewest characters of a key. A shorter one could not be removed from replies without damage
/// to other text.
const SHORTEST_KEY: usize = 8;

/// A secret that a server wants to see. Its text appears in no message, file or debug output.
#[derive(Clone)]
pub struct ApiKey(String);

impl fmt::Debug for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("ApiKey(…)")
    }
}

/// The text that stands for the key.
pub(super) const REDACTED: &str = "[API key]";

impl ApiKey {
    /// The key in the environment variable `name`.
    ///
    /// # Errors
    /// A variable that is not set, or whose value cannot be a key. The value is not shown.
    pub fn of_environment(name: &str) -> Result<Self> {
        let value = std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| {
                Error::configuration(format!("the environment variable {name} is not set"))
                    .hint("set it to the key of the server, or leave out --api-key-env if the server needs none")
            })?;
        let value = value.into_string().unwrap_or_default();
        Self::new(value.trim()).map_err(|error| error.within(name))
    }

    /// # Errors
    /// A text that cannot be a key, which is not shown.
    pub fn new(text: &str) -> Result<Self> {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && text.len() >= SHORTEST_KEY {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::configuration(format!(
            "an API key has at least {SHORTEST_KEY} characters, without spaces, all of them ASCII"
        ))
        .hint("correct the variable, or leave out --api-key-env if the server needs no key"))
    }

    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "only a client sends it")
    )]
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// `text` without the key, in plain form or as JSON escapes it.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.replace(&self.0, REDACTED);
        let escaped = Value::from(self.0.as_str()).to_string();
        let escaped = escaped.trim_matches('"');
        for form in [escaped, &escaped.replace('/', "\\/")] {
            text = text.replace(form, REDACTED);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::ChatSampling;
    use super::*;

    fn settings() -> ServerSettings {
        ServerSettings {
            base_url: "http://h/v1".into(),
            model: "m".into(),
            sampling: ChatSampling::greedy(8),
        }
    }

    fn call() -> Call {
        Call {
            name: "1".into(),
            messages: vec![Message::user("question")],
            template: Template::new("t", &["a", "b"]),
            repetition: 0,
        }
    }

    fn hash(change: impl FnOnce(&mut ServerSettings, &mut Call)) -> String {
        let (mut settings, mut call) = (settings(), call());
        change(&mut settings, &mut call);
        CallKey::new(&settings, Scope::Server, "score/1", &call).blake3
    }

    #[test]
    fn a_key_holds_all_that_can_move_an_answer_and_nothing_else() {
        let first = hash(|_, _| ());
        assert_eq!(first, hash(|_, call| call.name = "other".into()));
        assert_eq!(first, hash(|settings, _| settings.base_url += "/"));
        let changed = [
            hash(|settings, _| settings.base_url = "http://other/v1".into()),
            hash(|settings, _| settings.model = "other".into()),
            hash(|settings, _| settings.sampling.max_tokens = 9),
            hash(|settings, _| settings.sampling.distribution = None),
            hash(|settings, _| settings.sampling.seed = Some(1)),
            hash(|settings, _| settings.sampling.seed = None),
            hash(|settings, _| settings.sampling.stop = vec!["x".into()]),
            hash(|_, call| call.messages[0].content = "other".into()),
            hash(|_, call| call.messages.insert(0, Message::system(""))),
            hash(|_, call| call.template.id = "other".into()),
            hash(|_, call| call.template = Template::new("t", &["ab", ""])),
            hash(|_, call| call.repetition = 1),
            CallKey::new(&settings(), Scope::Any, "score/1", &call()).blake3,
            CallKey::new(&settings(), Scope::Server, "score/2", &call()).blake3,
            first,
        ];
        let distinct: std::collections::BTreeSet<_> = changed.iter().collect();
        assert_eq!(distinct.len(), changed.len());
    }

    #[test]
    fn the_form_of_a_key_stays() {
        let key = CallKey::new(&settings(), Scope::Any, "score/1", &call());
        assert_eq!(
            key.identity.to_string(),
            concat!(
                r#"{"parser":"score/1","repetition":0,"request":{"max_tokens":8,"messages":"#,
                r#"[{"content":"question","role":"user"}],"model":"m","n":1,"seed":0,"stream":false,"#,
                r#""temperature":0.0,"top_p":1.0},"server":"any","template":{"blake3":"#,
                r#""5c6dd92419da90390f1f6e36d6b45d329d35e1d6a94568893a4e6c0c2dca4ddf","id":"t"},"version":1}"#
            )
        );
    }

    #[test]
    fn a_secret_appears_in_no_text() {
        let key = ApiKey::new("sk-\"ab/c\\123").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        let echoed = format!(
            "plain {} and {} and {}",
            key.0,
            Value::from(key.0.as_str()),
            Value::from(key.0.as_str()).to_string().replace('/', "\\/")
        );
        assert_eq!(
            key.redact(&echoed),
            "plain [API key] and \"[API key]\" and \"[API key]\""
        );
        for text in ["", "short", "with space in it", "tükenmişlik"] {
            let error = ApiKey::new(text).unwrap_err();
            assert!(text.is_empty() || !format!("{error:?}").contains(text));
        }
    }
}
