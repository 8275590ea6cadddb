//! A model's answers to the questions, as FastChat's `gen_model_answer.py` makes them: a temperature
//! for each category, the second turn after the model's own first answer, and FastChat's rules for
//! where an answer ends.

use super::questions::{AnswerRow, Question};
use crate::benchmarks::fastchat::Style;
use crate::model::checkpoint::Checkpoint;
use crate::model::generate::generate;
use crate::model::{Ends, LanguageModel, ModelTokenizer, Sampling};
use crate::python::text::strip;
use crate::rng::stream;
use crate::tasks::chat::{
    ChatEncoder, ChatRules, ControlNames, Loss, Message, Role, SystemRule, TooLong,
};
use crate::{Context, Error, Result};
use serde_json::Value;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

/// The answer that stands for one that could not be made, as in FastChat.
pub const ERROR_ANSWER: &str = "ERROR";

/// Settings of the answers beside the temperatures of the categories.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answering {
    pub max_new_tokens: usize,
    /// The tokens that are kept in sampling; transformers keeps 50 unless the model says otherwise.
    pub top_k: Option<NonZeroUsize>,
    pub top_p: f32,
    pub seed: u64,
    pub batch_size: usize,
}

/// The template that turns a conversation into tokens.
enum Template {
    /// The model's own chat template.
    Own(Box<ChatEncoder>),
    FastChat(Style),
}

/// A model that answers questions.
pub struct Answerer {
    model: LanguageModel,
    /// The tokenizer as Hugging Face's `tokenizer(text)` uses it: names of control tokens in a
    /// prompt become those tokens, and the tokenizer's own beginning is added.
    tokenizer: ModelTokenizer,
    template: Template,
    ends: Ends,
    /// The texts of special tokens, which are deleted from answers.
    specials: Vec<String>,
    positions: usize,
}

/// The name of the template that is the model's own.
pub const OWN_TEMPLATE: &str = "tokenizer";

impl Answerer {
    /// The model in a folder under the template `tokenizer` or one of FastChat's.
    ///
    /// # Errors
    /// A template that is unknown or that the folder lacks, and a folder that cannot be read.
    pub fn open(checkpoint: &Checkpoint, template: &str, model: LanguageModel) -> Result<Self> {
        let tokenizer = checkpoint.tokenizer()?;
        let positions = model.config().sizes().positions;
        let template = match template {
            OWN_TEMPLATE => {
                let rules = ChatRules {
                    system: SystemRule::AsGiven,
                    loss: Loss::LastTurn,
                    control_names: ControlNames::Text,
                    max_tokens: positions,
                    too_long: TooLong::Refuse,
                };
                Template::Own(Box::new(ChatEncoder::open(checkpoint.folder(), rules)?))
            }
            name => Template::FastChat(name.parse()?),
        };
        Ok(Self {
            ends: checkpoint.ends(Some(&tokenizer))?,
            specials: special_tokens(checkpoint.folder())?,
            tokenizer,
            template,
            model,
            positions,
        })
    }

    /// The rows of `questions`, which share a temperature, in their order.
    ///
    /// # Errors
    /// A prompt that cannot be encoded, and those of sampling.
    pub fn answer(
        &self,
        questions: &[&Question],
        model_id: &str,
        settings: &Answering,
    ) -> Result<Vec<AnswerRow>> {
        let mut turns: Vec<Vec<String>> = vec![Vec::new(); questions.len()];
        let most = questions.iter().map(|question| question.turns.len()).max();
        for turn in 0..most.unwrap_or(0) {
            let asked: Vec<usize> = (0..questions.len())
                .filter(|index| turn < questions[*index].turns.len())
                .collect();
            let prompts: Vec<Vec<u32>> = asked
                .iter()
                .map(|index| self.prompt(questions[*index], &turns[*index]))
                .collect::<Result<_>>()?;
            let asked_questions: Vec<&Question> =
                asked.iter().map(|index| questions[*index]).collect();
            let answers = self.sample(&asked_questions, turn, &prompts, settings)?;
            for (index, answer) in asked.into_iter().zip(answers) {
                turns[index].push(answer);
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let tstamp = now.unwrap_or_default().as_secs_f64();
        let row = |(question, turns): (&&Question, Vec<String>)| {
            AnswerRow::new(question, model_id, turns, tstamp)
        };
        Ok(questions.iter().zip(turns).map(row).collect())
    }

    /// The tokens of a prompt: the question's turns with the answers that there are.
    fn prompt(&self, question: &Question, answers: &[String]) -> Result<Vec<u32>> {
        let place = || {
            format!(
                "question {}, turn {}",
                question.question_id,
                answers.len() + 1
            )
        };
        let mut messages = Vec::new();
        for (index, turn) in question.turns.iter().take(answers.len() + 1).enumerate() {
            messages.push(turn.as_str());
            messages.extend(answers.get(index).map(String::as_str));
        }
        let ids = match &self.template {
            Template::FastChat(style) => self.encode(&style.prompt(&messages)),
            Template::Own(encoder) => {
                let roles = [Role::User, Role::Assistant].into_iter().cycle();
                let messages: Vec<Message> = messages
                    .iter()
                    .zip(roles)
                    .map(|(text, role)| Message::new(role, *text))
                    .collect();
                encoder.tokens(&messages, true)
            }
        };
        ids.map_err(|error| error.within(&place()))
    }

    /// The tokens of a text as `tokenizer(text)` of transformers makes them.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut library = self.tokenizer.library().clone();
        library.set_encode_special_tokens(false);
        let encoded = library.encode_fast(text, true);
        let encoded = encoded.map_err(|cause| {
            Error::data("the tokenizer cannot encode the prompt").caused_by(cause)
        })?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The answers to one turn. A prompt that leaves less room than `max_new_tokens` is answered by
    /// itself with as many tokens as fit; without room its answer is [`ERROR_ANSWER`].
    fn sample(
        &self,
        questions: &[&Question],
        turn: usize,
        prompts: &[Vec<u32>],
        settings: &Answering,
    ) -> Result<Vec<String>> {
        let room = |index: usize| {
            let left = self.positions.saturating_sub(prompts[index].len());
            left.min(settings.max_new_tokens)
        };
        let mut answers = vec![ERROR_ANSWER.to_owned(); prompts.len()];
        let (whole, short): (Vec<usize>, Vec<usize>) =
            (0..prompts.len()).partition(|index| room(*index) == settings.max_new_tokens);
        let groups = std::iter::once(whole).chain(short.into_iter().map(|index| vec![index]));
        for group in groups.filter(|group| group.first().is_some_and(|first| room(*first) > 0)) {
            let sampling = Sampling {
                temperature: questions[group[0]].temperature(),
                top_p: settings.top_p,
                top_k: settings.top_k,
                max_new_tokens: room(group[0]),
                ends: self.ends.clone(),
                batch_size: settings.batch_size,
            };
            let asked: Vec<Vec<u32>> = group.iter().map(|index| prompts[*index].clone()).collect();
            let stream = |item: usize| {
                let question = questions[group[item]].question_id;
                stream(settings.seed, "mt-bench/answers", &[question, turn as u64])
            };
            let drawn = generate(&self.model, &asked, &sampling, stream, |_| {})?;
            for (index, drawn) in group.into_iter().zip(drawn) {
                answers[index] = self.text(&drawn.ids)?;
            }
        }
        Ok(answers)
    }

    /// The text of an answer's tokens by FastChat's rules.
    fn text(&self, ids: &[u32]) -> Result<String> {
        let (stop_tokens, stop_text) = match &self.template {
            Template::FastChat(style) => (style.stop_tokens, style.stop_text),
            Template::Own(_) => (&[][..], None),
        };
        let end = ids.iter().position(|id| stop_tokens.contains(id));
        let decoded = self
            .tokenizer
            .library()
            .decode(&ids[..end.unwrap_or(ids.len())], false);
        let text = decoded.map_err(|cause| {
            Error::data("the tokenizer cannot decode an answer").caused_by(cause)
        })?;
        Ok(cut(&text, stop_text, &self.specials))
    }
}

/// A decoded answer by FastChat's rules: up to the stop text, if that is anywhere but at the start;
/// without the texts of special tokens; without white space around it.
fn cut(text: &str, stop_text: Option<&str>, specials: &[String]) -> String {
    let stop = stop_text
        .and_then(|stop| text.find(stop))
        .filter(|at| *at > 0);
    let text = text[..stop.unwrap_or(text.len())].to_owned();
    let text = specials
        .iter()
        .fold(text, |text, special| text.replace(special, ""));
    // Python's `str.strip` also takes the separators U+001C to U+001F.
    strip(&text).to_owned()
}

/// The keys of special tokens in the order of transformers' `special_tokens_map`.
const SPECIAL_KEYS: [&str; 8] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
];

/// The texts of the special tokens that a folder's files name.
fn special_tokens(folder: &Path) -> Result<Vec<String>> {
    let mut texts: Vec<String> = Vec::new();
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let failed = || format!("cannot read {}", path.display());
        let bytes = std::fs::read(&path).context(failed)?;
        let keys: Value = serde_json::from_slice(&bytes).context(failed)?;
        for key in SPECIAL_KEYS {
            let values = match &keys[key] {
                Value::Array(several) => several.iter().collect(),
                one => vec![one],
            };
            let named = values
                .into_iter()
                .filter_map(|value| value.as_str().or_else(|| value["content"].as_str()));
            for text in named.filter(|text| !text.is_empty()) {
                if !texts.iter().any(|known| known == text) {
                    texts.push(text.to_owned());
                }
            }
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_as_fastchat_cuts_it() {
        let specials = ["<s>", "</s>", "<unk>"].map(str::to_owned);
        let cut = |text: &str, stop| cut(text, stop, &specials);
        assert_eq!(cut("an answer</s> and more</s>", Some("</s>")), "an answer");
        // A stop text at the very start does not cut, and is deleted as a special token.
        assert_eq!(cut("</s>rest</s>", Some("</s>")), "rest");
        assert_eq!(cut("<s> a</s> b <unk>", None), "a b");
        assert_eq!(cut("</s>", Some("</s>")), "");
        assert_eq!(cut("\u{1c}\u{a0} x \n\u{3000}", None), "x");
    }

    #[test]
    fn special_tokens_are_texts_tables_and_lists() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(special_tokens(folder.path()).unwrap(), Vec::<String>::new());
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "tokenizer_config.json",
            r#"{"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": null}"#,
        );
        write(
            "special_tokens_map.json",
            r#"{"bos_token": "<s>", "additional_special_tokens": ["<x>", {"content": "<y>"}]}"#,
        );
        assert_eq!(
            special_tokens(folder.path()).unwrap(),
            ["<s>", "</s>", "<x>", "<y>"]
        );
        write("tokenizer_config.json", "{");
        assert!(special_tokens(folder.path()).is_err());
    }
}
