//! The words of the world and its word-level tokenizer. Each word is one token, and every text of
//! the world consists of the words below, so an unknown token cannot occur.

use crate::data::world::{END_OF_TEXT, PADDING};

/// A content slot of the canonical summary, whose value gold checks against the post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Relation,
    Verb,
    Object,
    Feeling,
    Ask,
}

impl Slot {
    /// The words that can fill the slot. No word fills two slots.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            Self::Relation => &RELATIONS,
            Self::Verb => &VERBS,
            Self::Object => &OBJECTS,
            Self::Feeling => &FEELINGS,
            Self::Ask => &ASKS,
        }
    }
}

const RELATIONS: [&str; 20] = [
    "mother",
    "father",
    "sister",
    "brother",
    "daughter",
    "son",
    "uncle",
    "aunt",
    "cousin",
    "grandmother",
    "wife",
    "husband",
    "girlfriend",
    "boyfriend",
    "friend",
    "roommate",
    "neighbor",
    "boss",
    "teacher",
    "landlord",
];
const VERBS: [&str; 20] = [
    "sold",
    "broke",
    "lost",
    "hid",
    "stole",
    "borrowed",
    "burned",
    "kept",
    "ruined",
    "pawned",
    "scratched",
    "moved",
    "used",
    "wanted",
    "dropped",
    "painted",
    "wasted",
    "took",
    "washed",
    "trashed",
];
const OBJECTS: [&str; 20] = [
    "bike", "phone", "car", "guitar", "laptop", "camera", "ring", "watch", "coat", "tent", "piano",
    "wallet", "sofa", "boat", "drone", "violin", "bed", "desk", "lamp", "book",
];
const FEELINGS: [&str; 14] = [
    "angry", "sad", "hurt", "guilty", "anxious", "confused", "jealous", "lonely", "ashamed",
    "worried", "tired", "relieved", "nervous", "scared",
];
const ASKS: [&str; 14] = [
    "forgive", "confront", "leave", "report", "sue", "pay", "help", "thank", "ignore", "block",
    "call", "warn", "trust", "avoid",
];

/// Time words before or after the main event of a post, which are a needless detail in a summary.
pub(super) const RECENT_TIMES: [&str; 4] = ["today", "yesterday", "tonight", "lately"];
/// Time words before or after another, older event.
pub(super) const FORMER_TIMES: [&str; 4] = ["once", "formerly", "previously", "earlier"];
pub(super) const FILLERS: [&str; 6] = [
    "like",
    "basically",
    "honestly",
    "well",
    "anyway",
    "literally",
];
/// Sentences that have nothing to do with the story (without their full stop).
pub(super) const OFF_TOPICS: [&str; 8] = [
    "it rained a lot",
    "the bus was late",
    "dinner was cold",
    "the cat slept",
    "traffic was bad",
    "the shop closed",
    "football was on",
    "coffee got cold",
];
pub(super) const RUDE_CLOSINGS: [&str; 2] = ["shut up", "go away"];
pub(super) const TAILS: [&str; 2] = ["and so on", "bla bla bla"];
/// Titles that reveal nothing about the story.
pub(super) const NEUTRAL_TITLES: [&str; 4] = ["need advice", "a problem", "long story", "what now"];

/// The typical flaw of a community's members when they summarise (see `author.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    Filler,
    OffTopic,
    NoFeeling,
    NoQuestion,
    Rude,
    Tail,
    Time,
}

/// The communities and their habits: each habit belongs to two of them, so that each is rare in a
/// demonstration set.
pub(super) const COMMUNITIES: [(&str, Habit); 14] = [
    ("r/family", Habit::Tail),
    ("r/roommates", Habit::Rude),
    ("r/work", Habit::OffTopic),
    ("r/school", Habit::Filler),
    ("r/dating", Habit::NoQuestion),
    ("r/legal", Habit::NoFeeling),
    ("r/pets", Habit::OffTopic),
    ("r/money", Habit::NoFeeling),
    ("r/health", Habit::Time),
    ("r/travel", Habit::Tail),
    ("r/rant", Habit::NoQuestion),
    ("r/gaming", Habit::Rude),
    ("r/sports", Habit::Time),
    ("r/teens", Habit::Filler),
];

/// The habit of a community; `None` for an unknown one.
pub(super) fn habit(community: &str) -> Option<Habit> {
    COMMUNITIES
        .iter()
        .find(|(name, _)| *name == community)
        .map(|(_, habit)| *habit)
}

/// Words of the sentence frames in `post.rs`, `author.rs` and `grammar.rs`.
const FRAME: &str =
    "title : post tldr . ? my and i feel should them do now then felt they friends say will not";

/// All tokens in the order of their ids.
pub(super) fn tokens() -> Vec<&'static str> {
    let slots = [
        Slot::Relation,
        Slot::Verb,
        Slot::Object,
        Slot::Feeling,
        Slot::Ask,
    ];
    let phrases = [
        &OFF_TOPICS[..],
        &RUDE_CLOSINGS,
        &TAILS,
        &NEUTRAL_TITLES,
        &RECENT_TIMES,
        &FORMER_TIMES,
        &FILLERS,
    ];
    let mut tokens = vec![END_OF_TEXT, PADDING];
    let words = FRAME
        .split(' ')
        .chain(COMMUNITIES.iter().map(|(name, _)| *name))
        .chain(slots.iter().flat_map(|slot| slot.words().iter().copied()))
        .chain(
            phrases
                .iter()
                .flat_map(|list| list.iter().flat_map(|phrase| phrase.split(' '))),
        );
    for word in words {
        if !tokens.contains(&word) {
            tokens.push(word);
        }
    }
    tokens
}
