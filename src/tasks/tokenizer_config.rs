//! The special tokens and the chat template of a tokenizer, as an experiment states them.

use crate::{Context, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// Keys of `tokenizer_config.json` for a tokenizer whose files do not have them. They take the
/// place of those that its files do have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
}

impl TokenizerConfig {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes the keys into the copy of a tokenizer in `folder`.
    ///
    /// # Errors
    /// A `tokenizer_config.json` that is not a JSON object, and a folder that cannot be written.
    pub fn write_into(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: &[u8]| {
            let path = folder.join(name);
            std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
        };
        let named = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
        ];
        if named.iter().any(|(_, token)| token.is_some()) {
            let mut keys = present(&folder.join(CONFIG))?;
            for (key, token) in named {
                if let Some(token) = token {
                    keys.insert(key.into(), token.as_str().into());
                }
            }
            let text = serde_json::to_vec_pretty(&keys);
            write(CONFIG, &text.context(|| format!("cannot encode {CONFIG}"))?)?;
        }
        match &self.chat_template {
            Some(template) => write(TEMPLATE, template.as_bytes()),
            None => Ok(()),
        }
    }
}

/// The keys of the file at `path`; none if there is no such file.
fn present(path: &Path) -> Result<Map<String, Value>> {
    match std::fs::read(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        read => {
            let text = read.context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_slice(&text).map_err(|cause| {
                Error::model(format!("{} is not a JSON object", path.display())).caused_by(cause)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_keys_replace_those_of_the_files_and_leave_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let config = r#"{"eos_token": {"content": "<end>"}, "model_max_length": 7}"#;
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        TokenizerConfig::default()
            .write_into(folder.path())
            .unwrap();
        assert_eq!(read(CONFIG), config);
        let stated = TokenizerConfig {
            eos_token: Some("</s>".into()),
            chat_template: Some("{{ messages }}".into()),
            ..TokenizerConfig::default()
        };
        stated.write_into(folder.path()).unwrap();
        let keys: Value = serde_json::from_str(&read(CONFIG)).unwrap();
        assert_eq!(
            keys,
            serde_json::json!({"eos_token": "</s>", "model_max_length": 7})
        );
        assert_eq!(read(TEMPLATE), "{{ messages }}");
        std::fs::write(folder.path().join(CONFIG), "[1]").unwrap();
        let error = stated.write_into(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not a JSON object"), "{error}");
    }
}
