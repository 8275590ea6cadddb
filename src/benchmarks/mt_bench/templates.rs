//! Judge prompts: FastChat's `judge_prompts.jsonl`, whose texts have the placeholders of Python's
//! `str.format`.

use super::questions::rows_of;
use crate::judges::http::{Message, Template};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A judge prompt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct JudgePrompt {
    pub name: String,
    /// `single` or `pairwise`.
    #[serde(rename = "type")]
    pub kind: String,
    pub system_prompt: String,
    pub prompt_template: String,
    /// The form of the verdict: `[[rating]]` or `[[A]]`.
    pub output_format: String,
}

/// Judge prompts by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgePrompts {
    prompts: BTreeMap<String, JudgePrompt>,
    place: String,
}

impl JudgePrompts {
    /// Reads `judge_prompts.jsonl`. Of several prompts of one name, the last counts, as in
    /// FastChat.
    ///
    /// # Errors
    /// A file that cannot be read, and a row that is not a judge prompt.
    pub fn read(path: &Path) -> Result<Self> {
        let rows: Vec<JudgePrompt> = rows_of(path, "judge prompts")?;
        Ok(Self {
            prompts: rows
                .into_iter()
                .map(|row| (row.name.clone(), row))
                .collect(),
            place: path.display().to_string(),
        })
    }

    /// The prompt of a name, whose verdicts must have the form `output_format`.
    ///
    /// # Errors
    /// A prompt that the file lacks, or whose verdicts have another form.
    pub fn get(&self, name: &str, output_format: &str) -> Result<&JudgePrompt> {
        let prompt = self.prompts.get(name).ok_or_else(|| {
            Error::data(format!("{} has no judge prompt `{name}`", self.place)).hint(super::FILES)
        })?;
        match prompt.output_format == output_format {
            true => Ok(prompt),
            false => Err(Error::data(format!(
                "{}: the verdicts of `{name}` have the form {}, not {output_format}",
                self.place, prompt.output_format
            ))
            .hint(super::FILES)),
        }
    }
}

impl JudgePrompt {
    /// The user's message, with `values` in the place of their names.
    ///
    /// # Errors
    /// A placeholder that has no value, and braces that Python would refuse.
    pub fn user_prompt(&self, values: &[(&str, &str)]) -> Result<String> {
        format(&self.prompt_template, values).map_err(|why| {
            Error::data(format!("judge prompt `{}`: {why}", self.name)).hint(super::FILES)
        })
    }

    /// The messages of a request with this user's message. As in FastChat, an empty system prompt
    /// is not sent.
    pub fn messages(&self, user_prompt: &str) -> Vec<Message> {
        let system = (!self.system_prompt.is_empty()).then(|| Message::system(&self.system_prompt));
        system
            .into_iter()
            .chain([Message::user(user_prompt)])
            .collect()
    }

    /// The name and hash under which answers to this prompt are kept.
    pub fn template(&self) -> Template {
        Template::new(&self.name, &[&self.system_prompt, &self.prompt_template])
    }
}

/// Replaces `{name}` by its value, `{{` and `}}` by a brace, as Python's `str.format` does with
/// text values and plain names.
fn format(template: &str, values: &[(&str, &str)]) -> std::result::Result<String, String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text += before;
        rest = if let Some(after) = from.strip_prefix("{{") {
            text.push('{');
            after
        } else if let Some(after) = from.strip_prefix("}}") {
            text.push('}');
            after
        } else if from.starts_with('}') {
            return Err("a single `}`, which `str.format` refuses".to_owned());
        } else {
            let (name, after) = from[1..]
                .split_once('}')
                .ok_or("a `{` without its `}`, which `str.format` refuses")?;
            let value = values.iter().find(|(known, _)| *known == name);
            let (_, value) = value.ok_or_else(|| {
                let known: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
                format!(
                    "the placeholder {{{name}}} has no value here; there are {}",
                    known.join(", ")
                )
            })?;
            text += value;
            after
        };
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn placeholders_are_filled_as_python_fills_them() {
        let values = [("a", "x{b}"), ("b", "y")];
        // Expected values are those of Python 3.12.
        assert_eq!(
            format("{a}-{b}{b} {{a}} }}{{", &values).unwrap(),
            "x{b}-yy {a} }{"
        );
        assert_eq!(format("{{{a}}}", &values).unwrap(), "{x{b}}");
        assert_eq!(format("", &values).unwrap(), "");
        for refused in [
            "{", "}", "{a", "a}b", "{c}", "{}", "{a!r}", "{a:>3}", "{ a }",
        ] {
            assert!(format(refused, &values).is_err(), "{refused}");
        }
    }
}
