//! Embedded worlds: seeded generators of text whose gold reward is exactly known. A world writes
//! prompts, has authors of any quality who answer them, and scores every answer.
//!
//! A folder for each world (`posts`: summaries of forum posts, the paper's section 6.1; `chat`:
//! answers in conversations, section 6.2), which implements [`World`]; `labels` has the annotators
//! and `flaw` the strength of an author's flaw, which all worlds share.
//!
//! ```
//! use touchstone::data::world::{Place, Split, WorldSettings};
//! let world = WorldSettings::default().open()?;
//! let place = Place::new(Split::Test, 0, 7);
//! assert_eq!(world.gold(place, &world.canonical(place), true), 1.0);
//! # Ok::<(), touchstone::Error>(())
//! ```

pub mod chat;
mod flaw;
mod labels;
pub mod posts;

pub use chat::ChatWorldSettings;
pub use flaw::Flaw;
pub use labels::{Annotator, temperature_for_agreement};
pub use posts::PostWorldSettings;

use crate::error::{Context, Error, Result};
use rand_chacha::ChaCha8Rng;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::Debug;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Tokenizer};

/// The token that ends a response, with id 0 in every world.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The token that fills a batch, with id 1, which is never generated on purpose. It differs from
/// the end, so that models learn to stop.
pub const PADDING: &str = "<|padding|>";

/// The purpose that a prompt may be used for. No prompt's content is in two splits, whatever the
/// seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Language-model pre-training of the base.
    Pretrain,
    /// Demonstrations: supervised fine-tuning, imitation, reward learning and its rollouts.
    Demonstrations,
    /// Pairs labelled by annotators.
    Preferences,
    /// Choices made while developing a method.
    Validation,
    /// Reported numbers only.
    Test,
    /// Acceptance of the world itself, so that calibrating it never touches the test prompts.
    Controls,
}

impl Split {
    pub const ALL: [Self; 6] = [
        Self::Pretrain,
        Self::Demonstrations,
        Self::Preferences,
        Self::Validation,
        Self::Test,
        Self::Controls,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Demonstrations => "demonstrations",
            Self::Preferences => "preferences",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::Controls => "controls",
        }
    }

    /// The split that owns a prompt with this content: a hash decides, so that a content is never
    /// in two splits.
    fn owner(content: &str) -> Self {
        let hash = blake3::hash(content.as_bytes());
        let first = hash.as_bytes().iter().take(4);
        let share = first.fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) % 100;
        match share {
            0..55 => Self::Pretrain,
            55..67 => Self::Demonstrations,
            67..79 => Self::Preferences,
            79..85 => Self::Validation,
            85..94 => Self::Test,
            _ => Self::Controls,
        }
    }
}

/// The name of a prompt of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub split: Split,
    pub seed: u64,
    /// The prompt's number in its split under this seed.
    pub index: u64,
}

impl Place {
    pub fn new(split: Split, seed: u64, index: u64) -> Self {
        Self { split, seed, index }
    }

    /// The identifier of the prompt, for example `test-0-17`.
    pub fn id(self) -> String {
        format!("{}-{}-{}", self.split.name(), self.seed, self.index)
    }
}

/// A word that a right answer holds, which a model of the world must be able to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: &'static str,
    pub word: String,
    /// Number of words before it in the canonical answer.
    pub position: usize,
}

/// A pair of a benchmark of rewards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchmarkPair {
    pub subset: &'static str,
    /// Texts of user and assistant in turn, beginning and ending with the user's.
    pub turns: Vec<String>,
    pub chosen: String,
    pub rejected: String,
}

/// Rows of a split of a task of the Open LLM Leaderboard, in the columns of the published data set.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRows {
    /// The folder of the task's data set, such as `arc_challenge`, and the subject's in MMLU's.
    pub folder: &'static str,
    /// The published name of the split.
    pub split: &'static str,
    pub rows: Vec<Value>,
}

/// A generator of prompts with authors and an exact reward. Every method is a pure function of its
/// arguments and the world's settings.
pub trait World: Debug + Send + Sync {
    /// The word-level tokenizer: [`END_OF_TEXT`] is id 0, [`PADDING`] id 1. It depends on no
    /// setting. A word from outside the world is an error at encoding, or becomes a token for
    /// unknown words where the world has one; decoding joins words with single spaces.
    ///
    /// # Errors
    /// Only if the tokenizer library refuses the fixed vocabulary.
    fn tokenizer(&self) -> Result<Tokenizer>;

    /// The text of a prompt as a model reads it: words joined by single spaces.
    fn prompt(&self, place: Place) -> String;

    /// The answer of a perfect author, with gold 1.
    fn canonical(&self, place: Place) -> String;

    /// The answer of an author of `quality` in [0, 1] (clamped).
    fn answer(&self, place: Place, quality: f64, author: &mut ChaCha8Rng) -> String;

    /// The exact reward of `response`, in [0, 1]; `ended` states whether the end of text followed
    /// it.
    fn gold(&self, place: Place, response: &str, ended: bool) -> f64;

    /// The words that a base model of this world must be able to find, in the order of the
    /// canonical answer.
    fn slots(&self, place: Place) -> Vec<Slot>;

    /// Text number `index` of pre-training under `seed`, as a prompt and an answer; an easy one
    /// belongs to the curriculum at the beginning. `author` draws the answer.
    fn pretraining(
        &self,
        seed: u64,
        index: u64,
        easy: bool,
        author: &mut ChaCha8Rng,
    ) -> (String, String);

    /// The template that makes a prompt of a conversation; `None` for a world without
    /// conversations.
    fn chat_template(&self) -> Option<&'static str> {
        None
    }

    /// The prompt of a conversation whose turns begin and end with the user's; in a world without
    /// conversations the last turn.
    fn conversation(&self, turns: &[String]) -> String {
        turns.last().cloned().unwrap_or_default()
    }

    /// A prompt in the format with which the released code of SPIN samples; in a world without
    /// conversations the prompt as it is.
    fn instruction(&self, prompt: &str) -> String {
        prompt.to_owned()
    }

    /// Pairs in the subsets of RewardBench, with this share of the published size of each; none in
    /// a world that has no such pairs.
    fn rewardbench(&self, _share: f64) -> Vec<BenchmarkPair> {
        Vec::new()
    }

    /// The number of these pairs.
    fn rewardbench_size(&self, _share: f64) -> usize {
        0
    }

    /// Questions for the tasks of the Open LLM Leaderboard; `None` in a world that has none.
    fn exams(&self) -> Option<&dyn Exams> {
        None
    }

    /// Questions of two turns; `None` in a world without conversations.
    fn questions(&self) -> Option<&dyn Questions> {
        None
    }
}

/// Questions of two turns, of which the second relies on the first, with exact gold.
pub trait Questions {
    /// The category of MT-Bench that question `index` takes the place of.
    fn category(&self, index: u64) -> &'static str;

    /// The user's two messages.
    fn turns(&self, index: u64) -> [String; 2];

    /// The exact reward of an answer to turn 0 or 1, in [0, 1]. The right answer to the second turn
    /// does not depend on what was answered to the first.
    fn gold_of_turn(&self, index: u64, turn: usize, answer: &str, ended: bool) -> f64;
}

/// Questions for the tasks of the Open LLM Leaderboard.
pub trait Exams {
    /// Rows of all tasks, with `documents` in each split that is evaluated.
    fn rows(&self, documents: usize) -> Vec<TaskRows>;
}

/// The embedded world of an experiment. Written without a `kind` it is the world of posts.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldSettings {
    Posts(PostWorldSettings),
    Chat(ChatWorldSettings),
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self::Posts(PostWorldSettings::default())
    }
}

impl WorldSettings {
    /// The version of the world's text and gold, which is part of every stage key.
    pub fn version(&self) -> u32 {
        match self {
            Self::Posts(_) => posts::VERSION,
            Self::Chat(_) => chat::VERSION,
        }
    }

    /// The same world with the default of every setting that no text of pre-training depends on, so
    /// that studies that differ in those alone share their bases.
    pub fn of_pretraining(&self) -> Self {
        match self {
            Self::Posts(_) => self.clone(),
            Self::Chat(settings) => Self::Chat(settings.of_pretraining()),
        }
    }

    /// The world.
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn open(&self) -> Result<Box<dyn World>> {
        match self {
            Self::Posts(settings) => Ok(Box::new(posts::PostWorld::new(settings)?)),
            Self::Chat(settings) => Ok(Box::new(chat::ChatWorld::new(settings)?)),
        }
    }
}

/// The key that tells worlds apart in a file.
pub(crate) const KIND: &str = "kind";

/// The worlds that a file can name by `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorldKind {
    Posts,
    Chat,
}

impl Serialize for WorldSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            kind: WorldKind,
            #[serde(flatten)]
            settings: &'a ChatWorldSettings,
        }
        match self {
            Self::Posts(settings) => settings.serialize(serializer),
            Self::Chat(settings) => Named {
                kind: WorldKind::Chat,
                settings,
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for WorldSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let kind = value
            .as_object_mut()
            .and_then(|settings| settings.remove(KIND))
            .map_or(Ok(WorldKind::Posts), serde_json::from_value)
            .map_err(D::Error::custom)?;
        let settings = match kind {
            WorldKind::Posts => serde_json::from_value(value).map(Self::Posts),
            WorldKind::Chat => serde_json::from_value(value).map(Self::Chat),
        };
        settings.map_err(D::Error::custom)
    }
}

impl JsonSchema for WorldSettings {
    fn schema_name() -> Cow<'static, str> {
        "WorldSettings".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let posts = generator.subschema_for::<PostWorldSettings>();
        let chat = generator.subschema_for::<ChatWorldSettings>();
        schemars::json_schema!({ "anyOf": [posts, chat] })
    }
}

/// Adds the key that tells worlds apart to the schema of the settings of one.
fn with_kind(schema: &mut Schema, kind: &str) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert(KIND.into(), serde_json::json!({ "const": kind }));
    }
}

/// The embedded world of a study, and the version of the world for which the study was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldAt {
    pub settings: WorldSettings,
    pub version: u32,
}

impl WorldAt {
    pub fn new(settings: &WorldSettings) -> Self {
        Self {
            settings: settings.clone(),
            version: settings.version(),
        }
    }

    /// The world.
    ///
    /// # Errors
    /// A version that the program does not have, or a setting out of its range.
    pub fn open(&self) -> Result<Box<dyn World>> {
        let version = self.settings.version();
        if self.version != version {
            return Err(Error::store(format!(
                "planned for world {}, the program has world {version}",
                self.version
            ))
            .hint("run `touchstone reproduce` again: it plans anew"));
        }
        self.settings.open()
    }
}

/// The word-level tokenizer with these words, whose first two are [`END_OF_TEXT`] and [`PADDING`].
/// It splits at white space. A word from outside becomes the token `unknown`; without one it is an
/// error. Decoding joins words with single spaces.
///
/// # Errors
/// Only if the tokenizer library refuses the vocabulary.
fn word_tokenizer(words: Vec<&'static str>, unknown: Option<&str>) -> Result<Tokenizer> {
    let vocabulary = words
        .into_iter()
        .zip(0u32..)
        .map(|(word, id)| (word.to_owned(), id))
        .collect();
    let model = WordLevel::builder().vocab(vocabulary);
    let model = match unknown {
        Some(token) => model.unk_token(token.to_owned()),
        None => model,
    };
    let model = model
        .build()
        .context(|| "building the world's tokenizer".into())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    let special = [END_OF_TEXT, PADDING].map(|token| AddedToken::from(token, true));
    tokenizer
        .add_special_tokens(special)
        .context(|| "adding the special tokens of the world's tokenizer".into())?;
    Ok(tokenizer)
}

/// An error for a setting out of its range.
fn within(name: &str, value: f64, holds: bool, range: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(
        Error::configuration(format!("world setting `{name}` is {value}"))
            .hint(format!("it must be {range}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_a_kind_are_of_posts_and_both_kinds_read_what_they_write() {
        for world in [
            WorldSettings::default(),
            WorldSettings::Chat(ChatWorldSettings::default()),
        ] {
            let written = serde_json::to_value(&world).unwrap();
            assert_eq!(
                serde_json::from_value::<WorldSettings>(written).unwrap(),
                world
            );
        }
        let read = |text: &str| serde_json::from_str::<WorldSettings>(text);
        assert_eq!(read("{}").unwrap(), WorldSettings::default());
        assert_eq!(
            read(r#"{"kind": "chat"}"#).unwrap(),
            WorldSettings::Chat(ChatWorldSettings::default())
        );
        assert!(read(r#"{"kind": "code"}"#).is_err());
        assert!(read(r#"{"kind": "chat", "posts": {}}"#).is_err());
    }

    #[test]
    fn every_world_gives_its_canonical_answer_gold_one_and_holds_its_slots_there() {
        for settings in [
            WorldSettings::default(),
            WorldSettings::Chat(ChatWorldSettings::default()),
        ] {
            let world = settings.open().unwrap();
            for index in 0..500 {
                let place = Place::new(Split::Test, 3, index);
                let canonical = world.canonical(place);
                assert_eq!(world.gold(place, &canonical, true), 1.0, "{canonical}");
                assert!(world.gold(place, &canonical, false) < 1.0);
                assert_eq!(world.prompt(place), world.prompt(place));
                let words: Vec<&str> = canonical.split(' ').collect();
                for slot in world.slots(place) {
                    assert_eq!(words[slot.position], slot.word, "{canonical}");
                }
            }
        }
    }
}
