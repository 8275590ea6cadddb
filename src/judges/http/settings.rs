//! The settings of a hosted judge.

use super::key::Message;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The fields that settings have a name for.
const OWN: [&str; 12] = [
    "model",
    "messages",
    "n",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "logprobs",
    "top_logprobs",
];

/// A model on a server, and how its answers are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// The address before `/chat/completions`, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model by the name under which it is asked for.
    pub model: String,
    pub sampling: ChatSampling,
}

/// The sampling fields of a request. Every field is sent, since servers differ in their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatSampling {
    /// Temperature and top-p; `None` for models that refuse both.
    pub distribution: Option<Distribution>,
    /// The most tokens of an answer.
    pub max_tokens: u32,
    /// The name under which `max_tokens` is sent.
    pub limit: TokenLimit,
    /// The seed of repetition 0; repetition r is sent the seed plus r. `None` sends no seed.
    pub seed: Option<u64>,
    /// Texts that end an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The number of most likely tokens, with log-probabilities, to return for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// Further fields that a server reads, such as llama.cpp's `cache_prompt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

/// The distribution that tokens are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    pub temperature: f64,
    pub top_p: f64,
}

/// The name of the field that limits an answer's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimit {
    MaxTokens,
    /// The name that reasoning models of OpenAI want.
    MaxCompletionTokens,
}

impl TokenLimit {
    fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

impl ChatSampling {
    /// The most likely answer of at most `max_tokens` tokens.
    pub fn greedy(max_tokens: u32) -> Self {
        Self {
            distribution: Some(Distribution {
                temperature: 0.0,
                top_p: 1.0,
            }),
            max_tokens,
            limit: TokenLimit::MaxTokens,
            seed: Some(0),
            stop: Vec::new(),
            top_logprobs: None,
            extra: BTreeMap::new(),
        }
    }

    fn check(&self) -> Result<()> {
        if let Some(Distribution { temperature, top_p }) = self.distribution
            && !((0.0..=2.0).contains(&temperature) && top_p > 0.0 && top_p <= 1.0)
        {
            return Err(Error::configuration(format!(
                "the judge's temperature {temperature} with top-p {top_p}"
            ))
            .hint("give a temperature from 0 to 2 and a top-p above 0, at most 1"));
        }
        if self.max_tokens == 0 || self.top_logprobs.is_some_and(|most| most > 20) {
            return Err(Error::configuration(format!(
                "the judge's answer of at most {} tokens with {} log-probabilities for each",
                self.max_tokens,
                self.top_logprobs.unwrap_or(0)
            ))
            .hint("give at least one token, and at most 20 log-probabilities"));
        }
        Ok(())
    }
}

impl ServerSettings {
    /// Checks the address and the ranges of the sampling fields.
    ///
    /// # Errors
    /// An address that is no http or https URL or carries a secret, a model without a name, a value
    /// out of its range, and a further field that has a name of its own here.
    pub fn check(&self) -> Result<()> {
        let url = self.base_url.as_str();
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split('/').next());
        // The address itself is not shown where it may hold a password.
        if host.is_some_and(|host| host.contains('@')) || url.contains(['?', '#']) {
            return Err(Error::configuration(
                "the judge's base URL has a user, a query or a fragment",
            )
            .hint("give the plain address, and the key by --api-key-env"));
        }
        if host.is_none_or(str::is_empty) || url.contains(char::is_whitespace) {
            return Err(
                Error::configuration(format!("`{url}` is not the base URL of a server"))
                    .hint("write it as https://api.openai.com/v1 or http://localhost:8000/v1"),
            );
        }
        if let Some(base) = url.trim_end_matches('/').strip_suffix("/chat/completions") {
            return Err(Error::configuration(format!(
                "`{url}` is the address of requests, not the base URL"
            ))
            .hint(format!("give {base}")));
        }
        if self.model.trim().is_empty() {
            return Err(Error::configuration("the judge's model has no name")
                .hint("name it as the server does: GET <base URL>/models lists the names"));
        }
        self.sampling.check()?;
        match self
            .sampling
            .extra
            .keys()
            .find(|name| OWN.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(Error::configuration(format!(
                "`{name}` is not a further field of a request"
            ))
            .hint("it has an option of its own")),
        }
    }

    /// The address that requests go to.
    pub fn address(&self) -> String {
        format!("{}/chat/completions", self.base_url.trim_end_matches('/'))
    }

    /// The body of a request.
    pub fn body(&self, messages: &[Message], repetition: u32) -> Map<String, Value> {
        let ChatSampling {
            distribution,
            max_tokens,
            limit,
            seed,
            stop,
            top_logprobs,
            extra,
        } = &self.sampling;
        let mut body = Map::new();
        let mut set = |name: &str, value: Value| {
            body.insert(name.to_owned(), value);
        };
        for (name, value) in extra {
            set(name, value.clone());
        }
        set("model", json!(self.model));
        set("messages", json!(messages));
        set("n", json!(1));
        set("stream", json!(false));
        set(limit.name(), json!(max_tokens));
        if let Some(Distribution { temperature, top_p }) = distribution {
            set("temperature", json!(temperature));
            set("top_p", json!(top_p));
        }
        if let Some(seed) = seed {
            set("seed", json!(seed.wrapping_add(repetition.into())));
        }
        if !stop.is_empty() {
            set("stop", json!(stop));
        }
        if let Some(most) = top_logprobs {
            set("logprobs", json!(true));
            set("top_logprobs", json!(most));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str) -> ServerSettings {
        ServerSettings {
            base_url: base_url.to_owned(),
            model: "m".to_owned(),
            sampling: ChatSampling::greedy(64),
        }
    }

    #[test]
    fn a_request_states_every_sampling_field() {
        let messages = [Message::system("s"), Message::user("u")];
        let body = Value::Object(settings("http://h/v1").body(&messages, 2));
        let expected = json!({
            "model": "m",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "temperature": 0.0, "top_p": 1.0, "max_tokens": 64, "n": 1, "seed": 2, "stream": false,
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn switches_change_names_and_leave_fields_out() {
        let mut settings = settings("http://h/v1");
        settings.sampling.limit = TokenLimit::MaxCompletionTokens;
        settings.sampling.distribution = None;
        settings.sampling.seed = None;
        settings.sampling.stop = vec!["\n".into()];
        settings.sampling.top_logprobs = Some(5);
        settings
            .sampling
            .extra
            .insert("cache_prompt".into(), json!(false));
        let body = Value::Object(settings.body(&[], 0));
        let expected = json!({
            "model": "m", "messages": [], "max_completion_tokens": 64, "n": 1, "stream": false,
            "stop": ["\n"], "logprobs": true, "top_logprobs": 5, "cache_prompt": false,
        });
        assert_eq!(body, expected);
        settings.check().unwrap();
    }

    #[test]
    fn addresses_that_cannot_be_asked_are_refused_without_their_secrets() {
        for url in [
            "https://api.openai.com/v1",
            "http://localhost:8000/v1/",
            "http://[::1]:8000",
        ] {
            settings(url).check().unwrap();
        }
        for url in [
            "",
            "ftp://h",
            "h/v1",
            "http://",
            "http://h/v1/chat/completions",
            "http://a b/",
        ] {
            settings(url).check().unwrap_err();
        }
        for url in [
            "https://u:secret@h/v1",
            "https://h/v1?key=secret",
            "https://h/v1#secret",
        ] {
            let error = settings(url).check().unwrap_err();
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn values_out_of_range_and_fields_given_twice_are_refused() {
        let refused = |change: fn(&mut ChatSampling)| {
            let mut settings = settings("http://h/v1");
            change(&mut settings.sampling);
            settings.check().unwrap_err().to_string()
        };
        refused(|it| it.max_tokens = 0);
        refused(|it| it.top_logprobs = Some(21));
        refused(|it| {
            it.distribution = Some(Distribution {
                temperature: f64::NAN,
                top_p: 1.0,
            })
        });
        refused(|it| {
            it.distribution = Some(Distribution {
                temperature: 0.0,
                top_p: 0.0,
            })
        });
        for name in [
            "seed",
            "messages",
            "max_completion_tokens",
            "logprobs",
            "stop",
            "n",
        ] {
            let mut settings = settings("http://h/v1");
            settings.sampling.seed = None;
            settings.sampling.extra.insert(name.to_owned(), json!(1));
            assert_eq!(
                settings.check().unwrap_err().to_string(),
                format!("`{name}` is not a further field of a request")
            );
        }
    }
}
