//! A hosted judge as a [`Judge`] of studies: a score of a response from 1 to 10.

use super::ask::{Asking, JudgeServer, Outcome};
use super::cache::Cache;
use super::key::{Call, Message, Template};
use super::reply::Reply;
use super::settings::{ChatSampling, Distribution, ServerSettings};
use crate::experiment::{HostedJudgeSettings, Rubric};
use crate::judges::{Grade, Identity, Judge, Row, Sources};
use crate::model::layout::Head;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// The environment variable with the API key of judges in studies. A study's files and keys hold
/// neither the key nor its place.
pub const KEY_VARIABLE: &str = "TOUCHSTONE_JUDGE_API_KEY";
/// The environment variable with the folder that keeps the answers of judges in studies.
const CACHE_VARIABLE: &str = "TOUCHSTONE_JUDGE_CACHE";
const CACHE: &str = "judge-cache";

/// The version of [`score`].
const PARSER: &str = "rubric-score/1";

/// A hosted judge that rates responses by a rubric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpJudge {
    pub server: ServerSettings,
    pub rubric: Rubric,
    /// The share of calls that may stay without an answer.
    #[serde(default, skip_serializing_if = "is_none_missing")]
    pub max_missing: f64,
}

fn is_none_missing(share: &f64) -> bool {
    *share == 0.0
}

impl From<&HostedJudgeSettings> for HttpJudge {
    fn from(settings: &HostedJudgeSettings) -> Self {
        let mut sampling = ChatSampling::greedy(settings.max_tokens);
        sampling.distribution = Some(Distribution {
            temperature: settings.temperature,
            top_p: 1.0,
        });
        Self {
            server: ServerSettings {
                base_url: settings.base_url.clone(),
                model: settings.model.clone(),
                sampling,
            },
            rubric: settings.rubric,
            max_missing: settings.max_missing,
        }
    }
}

impl Rubric {
    fn name(self) -> &'static str {
        match self {
            Self::Quality1 => "quality-1",
        }
    }

    fn system(self) -> &'static str {
        match self {
            Self::Quality1 => concat!(
                "You grade responses to prompts. Judge how well the response does what the prompt asks: whether it is ",
                "correct, complete, relevant and clear. Length in itself is no merit. Give one or two sentences of ",
                "reasons. Then end with a line of exactly this form, where N is a whole number from 1 (useless) to 10 ",
                "(cannot be improved):\nScore: N"
            ),
        }
    }

    fn template(self) -> Template {
        Template::new(
            self.name(),
            &[
                self.system(),
                &messages(self, "{prompt}", "{response}")[1].content,
            ],
        )
    }
}

fn messages(rubric: Rubric, prompt: &str, response: &str) -> Vec<Message> {
    vec![
        Message::system(rubric.system()),
        Message::user(format!(
            "<prompt>\n{prompt}\n</prompt>\n\n<response>\n{response}\n</response>"
        )),
    ]
}

/// The score of a reply: the whole number after the last `Score:`; `None` if there is none from 1
/// to 10.
fn score(reply: &Reply) -> Option<u8> {
    let text = reply.text();
    let (_, rest) = text.rsplit_once("Score:")?;
    let rest = rest.trim_start().trim_start_matches('*').trim_start();
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let fraction = after
        .strip_prefix('.')
        .is_some_and(|after| after.starts_with(|letter: char| letter.is_ascii_digit()));
    let score = digits.parse().ok().filter(|score| (1..=10).contains(score));
    score.filter(|_| !fraction)
}

impl Identity for HttpJudge {
    fn reads(&self) -> &'static [Head] {
        &[]
    }

    fn open(&self, _from: &dyn Sources) -> Result<Box<dyn Judge>> {
        self.server.check()?;
        let filled = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = filled(CACHE_VARIABLE).map_or_else(|| CACHE.into(), PathBuf::from);
        let mut server = JudgeServer::new(self.server.clone(), Cache::new(folder));
        server.key_variable = filled(KEY_VARIABLE).map(|_| KEY_VARIABLE.to_owned());
        server.most_missing = self.max_missing;
        Ok(Box::new(Pointwise {
            server,
            rubric: self.rubric,
        }))
    }
}

/// The reason for a missing score where there is an answer.
const UNREADABLE: &str = "its answer has no line `Score: N` with N from 1 to 10";

fn call_name(index: usize) -> String {
    format!("response {}", index + 1)
}

/// A rubric under a server.
struct Pointwise {
    server: JudgeServer,
    rubric: Rubric,
}

impl Judge for Pointwise {
    fn scores(&self, rows: &[Row]) -> Result<Vec<f64>> {
        let grades = self.grades(rows)?.into_iter().enumerate();
        let score = |(index, grade): (usize, Grade)| {
            grade.map_err(|why| {
                Error::server(format!(
                    "the judge {} gives {} no score",
                    self.server.settings.model,
                    call_name(index)
                ))
                .caused_by(why)
                .hint("take a judge that follows its instructions, or allow it more tokens")
            })
        };
        grades.map(score).collect()
    }

    fn grades(&self, rows: &[Row]) -> Result<Vec<Grade>> {
        let template = self.rubric.template();
        let call = |(index, (prompt, response)): (usize, &Row)| Call {
            name: call_name(index),
            messages: messages(self.rubric, prompt.text, &response.text),
            template: template.clone(),
            repetition: 0,
        };
        let calls: Vec<Call> = rows.iter().enumerate().map(call).collect();
        let asking = Asking {
            parser: PARSER,
            parse: &|reply| json!(score(reply)),
            progress: &mut |_| (),
        };
        let (outcomes, _) = self.server.ask(&calls, asking)?;
        let grade = |outcome: Outcome| {
            let score = outcome?.parsed.as_f64();
            score.ok_or_else(|| UNREADABLE.to_owned())
        };
        Ok(outcomes.into_iter().map(grade).collect())
    }

    /// False: a grade is not a sum over tokens.
    fn divides_by_tokens(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_the_whole_number_after_the_last_mark() {
        let score = |text: &str| {
            super::score(&Reply {
                content: Some(text.to_owned()),
                ..Reply::default()
            })
        };
        assert_eq!(score("Fine.\nScore: 7"), Some(7));
        assert_eq!(score("Score: 3 at first; no.\n**Score:** 10"), Some(10));
        assert_eq!(score("Score: 8/10."), Some(8));
        for text in [
            "",
            "7",
            "Score: none",
            "Score: 0",
            "Score: 11",
            "Score: 7.5",
            "Score: -3",
        ] {
            assert_eq!(score(text), None, "{text}");
        }
        assert_eq!(super::score(&Reply::default()), None);
    }

    /// A text that changes under its name would mix answers to two rubrics in studies.
    #[test]
    fn a_rubric_keeps_its_text() {
        assert_eq!(
            Rubric::Quality1.template().blake3,
            "a5489e232b9f0636121e230b5f6fd762b6f99c1ebec402aabb3c402a745c6744"
        );
    }
}
