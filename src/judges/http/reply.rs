//! Replies of a chat-completions server. Servers leave fields out and add their own, so a reply is
//! read field by field.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first choice of a reply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The text; `None` if the server sent null or nothing.
    pub content: Option<String>,
    /// The reason why the text ends: `stop`, `length`, `content_filter`, or a server's own.
    pub finish_reason: Option<String>,
    /// The model by the server's own name.
    pub model: Option<String>,
    pub system_fingerprint: Option<String>,
    pub usage: Option<Usage>,
    /// Log-probabilities as the server sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<Value>,
}

/// The tokens of a request and its answer, as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// The reason why a body is not a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoReply {
    /// Not JSON: cut off, or from something other than the server.
    NotJson(String),
    /// JSON without a choice.
    NoChoice,
}

impl Reply {
    /// Reads the body of an answer with status 200.
    ///
    /// # Errors
    /// A body that is not JSON, or has no choice with a message.
    pub fn parse(body: &str) -> Result<Self, NoReply> {
        let value: Value =
            serde_json::from_str(body).map_err(|cause| NoReply::NotJson(cause.to_string()))?;
        let choice = &value["choices"][0];
        if !choice["message"].is_object() {
            return Err(NoReply::NoChoice);
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Self {
            content: content(&choice["message"]["content"]),
            finish_reason: text(&choice["finish_reason"]),
            model: text(&value["model"]),
            system_fingerprint: text(&value["system_fingerprint"]),
            usage: usage(&value["usage"]),
            logprobs: Some(choice["logprobs"].clone()).filter(|value| !value.is_null()),
        })
    }

    /// The text, without distinction between none and an empty one.
    pub fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }
}

/// The text of a message, which some servers send as a list of parts.
fn content(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect(),
        ),
        _ => None,
    }
}

fn usage(value: &Value) -> Option<Usage> {
    Some(Usage {
        prompt_tokens: value["prompt_tokens"].as_u64()?,
        completion_tokens: value["completion_tokens"].as_u64().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_may_be_missing_null_or_new() {
        let parse = |value: Value| Reply::parse(&value.to_string());
        let whole = parse(json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4-0613", "new": [1],
            "system_fingerprint": "fp_1", "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null,
                         "message": {"role": "assistant", "content": "[[7]]", "refusal": null}}],
        }))
        .unwrap();
        let expected = Reply {
            content: Some("[[7]]".into()),
            finish_reason: Some("stop".into()),
            model: Some("gpt-4-0613".into()),
            system_fingerprint: Some("fp_1".into()),
            usage: Some(Usage {
                prompt_tokens: 5,
                completion_tokens: 2,
            }),
            logprobs: None,
        };
        assert_eq!(whole, expected);
        let bare = parse(json!({"choices": [{"message": {}}]})).unwrap();
        assert_eq!(bare, Reply::default());
        let null = json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}], "usage": null});
        let null = parse(null).unwrap();
        assert_eq!(
            (null.content, null.finish_reason.as_deref()),
            (None, Some("content_filter"))
        );
        let parts = json!({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "x"}, {"type": "text", "text": "b"}]}}]});
        assert_eq!(parse(parts).unwrap().text(), "ab");
    }

    #[test]
    fn bodies_without_a_choice_are_told_from_bodies_that_are_cut_off() {
        let cut = r#"{"choices": [{"message": {"content": "[[7"#;
        assert!(matches!(Reply::parse(cut), Err(NoReply::NotJson(_))));
        assert!(matches!(Reply::parse(""), Err(NoReply::NotJson(_))));
        for body in [
            "{}",
            "[]",
            "null",
            r#"{"choices": []}"#,
            r#"{"error": {"message": "x"}}"#,
        ] {
            assert_eq!(Reply::parse(body), Err(NoReply::NoChoice), "{body}");
        }
    }
}
