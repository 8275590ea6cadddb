//! The embedded chat world: conversations with exactly known gold.
//!
//! Somebody asks for a fact out of several, for a list under a constraint, for a sum, for the
//! meaning of a word, or for the way of doing something, which may be harmful. An author of a
//! chosen quality answers, in one or in a second turn. `datasets/world-chat.md` is its card, with
//! examples.
//!
//! The parts, from text to gold: `vocabulary` (words, chat template), `request` (subjects and the
//! conversations that ask for them), `answer` (authors), `reading` and `gold` (the reward),
//! `settings` (every knob of difficulty). The benchmarks: `pairs` (RewardBench), `questions`
//! (MT-Bench) and `exam` (the Open LLM Leaderboard).

mod answer;
mod exam;
mod gold;
mod pairs;
mod questions;
mod reading;
mod request;
mod settings;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use gold::ChatGold;
pub use settings::{
    ChatAuthorSettings, ChatWorldSettings, MAX_ANSWER_WORDS, MAX_PROMPT_WORDS, RequestSettings,
};

use super::{BenchmarkPair, Exams, Place, Questions, Slot, Split, World};
use crate::error::Result;
use crate::rng::stream;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use request::{Request, Subject};

/// The version of the world, which is part of every stage key and rises with any change of text or
/// gold.
pub const VERSION: u32 = 2;

/// The share of exam questions in pre-training.
const EXAMS: f64 = 0.2;
/// The share of drills among its other texts: in the curriculum, and after it.
const EASY_DRILLS: f64 = 0.5;
const DRILLS: f64 = 0.1;

/// The generator. Every method is a pure function of its arguments and the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatWorld {
    settings: ChatWorldSettings,
}

impl ChatWorld {
    /// # Errors
    /// If a setting is out of its range.
    pub fn new(settings: &ChatWorldSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings: settings.clone(),
        })
    }

    fn request(&self, place: Place) -> Request {
        let Place { split, seed, index } = place;
        let mut rng = stream(seed, &format!("chat/request/{}", split.name()), &[index]);
        Request::draw(&self.settings.requests, split, &mut rng)
    }

    /// The messages before the answer, as roles (`system`, `user`, `assistant`) and texts.
    pub fn messages(&self, place: Place) -> Vec<(&'static str, String)> {
        let turns = self.request(place).messages().into_iter();
        turns
            .map(|(role, text)| (role.trim_matches(['<', '|', '>']), text))
            .collect()
    }

    /// The parts of [`gold`](World::gold).
    pub fn gold_parts(&self, place: Place, response: &str, ended: bool) -> ChatGold {
        gold::parts(&self.request(place).subject, response, ended)
    }
}

impl World for ChatWorld {
    fn tokenizer(&self) -> Result<tokenizers::Tokenizer> {
        super::word_tokenizer(vocabulary::tokens(), Some(vocabulary::UNKNOWN))
    }

    fn prompt(&self, place: Place) -> String {
        self.request(place).prompt()
    }

    fn canonical(&self, place: Place) -> String {
        answer::canonical(&self.request(place).subject)
    }

    fn answer(&self, place: Place, quality: f64, author: &mut ChaCha8Rng) -> String {
        answer::answer(
            &self.settings.authors,
            &self.request(place),
            quality,
            author,
        )
    }

    fn gold(&self, place: Place, response: &str, ended: bool) -> f64 {
        self.gold_parts(place, response, ended).gold
    }

    fn slots(&self, place: Place) -> Vec<Slot> {
        let subject = self.request(place).subject;
        let canonical = answer::canonical(&subject);
        let words: Vec<&str> = canonical.split(' ').collect();
        let slot = |name, position: usize| {
            Some(Slot {
                name,
                word: (*words.get(position)?).to_owned(),
                position,
            })
        };
        let slots = match &subject {
            Subject::Recall { .. } => vec![slot("colour", 1), slot("item", 2)],
            // Not the first item: an opening may stand in its place.
            Subject::List { .. } => {
                let last = words.len().saturating_sub(2);
                vec![slot("second item", 1), slot("last item", last)]
            }
            // The last number before the sentence with the result, which repeats it.
            Subject::Sum { .. } => {
                let result = words.len().checked_sub(7);
                vec![result.and_then(|place| slot("sum", place))]
            }
            Subject::Explain(_) => vec![slot("class", 4), slot("use", 11)],
            Subject::How { .. } if subject.is_harmful() => vec![],
            Subject::How { .. } => vec![slot("means", 6)],
        };
        slots.into_iter().flatten().collect()
    }

    fn pretraining(
        &self,
        seed: u64,
        index: u64,
        easy: bool,
        author: &mut ChaCha8Rng,
    ) -> (String, String) {
        // Beta(8, 1) for the curriculum and Beta(1, 2) after it, by their distribution functions.
        let draw = author.random::<f64>();
        let mut rng = stream(seed, "chat/pretraining", &[index]);
        let kind = rng.random::<f64>();
        if kind < EXAMS {
            return exam::text(&mut rng);
        }
        let drills = if easy { EASY_DRILLS } else { DRILLS };
        if kind < EXAMS + (1.0 - EXAMS) * drills {
            return match rng.random_bool(0.5) {
                true => request::echo(&mut rng),
                false => request::drill(&self.settings.requests, &mut rng),
            };
        }
        let (request, quality) = if easy {
            (Request::easy(&mut rng), draw.powf(1.0 / 8.0))
        } else {
            let request = self.request(Place::new(Split::Pretrain, seed, index));
            (request, 1.0 - (1.0 - draw).sqrt())
        };
        let answer = answer::answer(&self.settings.authors, &request, quality, author);
        (request.prompt(), answer)
    }

    fn chat_template(&self) -> Option<&'static str> {
        Some(vocabulary::CHAT_TEMPLATE)
    }

    fn conversation(&self, turns: &[String]) -> String {
        let roles = [vocabulary::USER, vocabulary::ASSISTANT]
            .into_iter()
            .cycle();
        let turns = roles.clone().zip(turns);
        let mut words: Vec<String> = turns.map(|(role, text)| format!("{role} {text}")).collect();
        words.push(vocabulary::ASSISTANT.into());
        words.join(" ")
    }

    fn instruction(&self, prompt: &str) -> String {
        let asked = prompt
            .trim_start_matches(vocabulary::USER)
            .trim_end_matches(vocabulary::ASSISTANT);
        let [instruction, response] = vocabulary::INSTRUCTION;
        format!("{instruction} {} {response}", asked.trim())
    }

    fn rewardbench(&self, share: f64) -> Vec<BenchmarkPair> {
        pairs::pairs(&self.settings, share)
    }

    fn rewardbench_size(&self, share: f64) -> usize {
        pairs::size(share)
    }

    fn exams(&self) -> Option<&dyn Exams> {
        Some(self)
    }

    fn questions(&self) -> Option<&dyn Questions> {
        Some(self)
    }
}
