//! Posts: the events behind them (the latent) and the text that describes them.

use super::settings::{MAX_PROMPT_WORDS, PostSettings};
use super::vocabulary::{
    COMMUNITIES, FORMER_TIMES, NEUTRAL_TITLES, OFF_TOPICS, RECENT_TIMES, Slot,
};
use crate::data::world::Split;
use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

/// A post to summarise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    /// The split, seed and index, for example `test-0-17`.
    pub id: String,
    /// The text that the model reads: words joined by single spaces, ending in `tldr :`.
    pub prompt: String,
    pub latent: Latent,
}

/// An event: a person related to the poster, a verb, and the thing of the poster's that it happened
/// to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub relation: String,
    pub verb: String,
    pub object: String,
}

/// A distractor that a summary can mistake for the main event, feeling or ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other<T> {
    pub value: T,
    /// Whether the distractor stands before the main one in the post.
    pub first: bool,
}

/// Everything that gold and authors need to know about a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    pub community: String,
    pub event: Event,
    pub feeling: String,
    pub ask: String,
    pub other_event: Option<Other<Event>>,
    pub other_feeling: Option<Other<String>>,
    pub other_ask: Option<Other<String>>,
    /// Irrelevant sentences, in the post's order.
    pub off_topic: Vec<String>,
}

impl Latent {
    /// The split that owns the main story, the tuple (relation, verb, object, feeling, ask): a hash
    /// of the five words decides, whatever the seed, so a tuple is never in two splits.
    pub fn split(&self) -> Split {
        let Event {
            relation,
            verb,
            object,
        } = &self.event;
        let tuple = [relation, verb, object, &self.feeling, &self.ask]
            .map(String::as_str)
            .join(" ");
        Split::owner(&tuple)
    }
}

fn word(slot: Slot, rng: &mut impl Rng) -> String {
    pick(slot.words(), rng).to_owned()
}

/// A value for `slot` that differs from `taken`.
pub(super) fn another(slot: Slot, taken: &str, rng: &mut impl Rng) -> &'static str {
    loop {
        let word = pick(slot.words(), rng);
        if word != taken {
            return word;
        }
    }
}

/// One of a fixed, non-empty list of words.
pub(super) fn pick(words: &'static [&'static str], rng: &mut impl Rng) -> &'static str {
    words.choose(rng).copied().unwrap_or_default()
}

/// A main story without distractors, from `split`.
pub(super) fn draw_simple(split: Split, rng: &mut impl Rng) -> Latent {
    loop {
        let latent = Latent {
            community: COMMUNITIES
                .choose(rng)
                .map(|(name, _)| *name)
                .unwrap_or_default()
                .to_owned(),
            event: Event {
                relation: word(Slot::Relation, rng),
                verb: word(Slot::Verb, rng),
                object: word(Slot::Object, rng),
            },
            feeling: word(Slot::Feeling, rng),
            ask: word(Slot::Ask, rng),
            other_event: None,
            other_feeling: None,
            other_ask: None,
            off_topic: Vec::new(),
        };
        if latent.split() == split {
            return latent;
        }
    }
}

/// Adds the distractors that make a post hard, as `settings` define them.
pub(super) fn complicate(latent: &mut Latent, settings: &PostSettings, rng: &mut impl Rng) {
    let Latent {
        event,
        feeling,
        ask,
        ..
    } = &*latent;
    let other_event = rng.random_bool(settings.other_event).then(|| Other {
        value: Event {
            relation: match rng.random_bool(settings.same_relation) {
                true => event.relation.clone(),
                false => another(Slot::Relation, &event.relation, rng).to_owned(),
            },
            verb: another(Slot::Verb, &event.verb, rng).to_owned(),
            object: another(Slot::Object, &event.object, rng).to_owned(),
        },
        first: rng.random_bool(settings.other_first),
    });
    let other_feeling = rng.random_bool(settings.other_feeling).then(|| Other {
        value: another(Slot::Feeling, feeling, rng).to_owned(),
        first: rng.random_bool(settings.other_first),
    });
    let other_ask = rng.random_bool(settings.other_ask).then(|| Other {
        value: another(Slot::Ask, ask, rng).to_owned(),
        first: rng.random_bool(settings.other_first),
    });
    for _ in 0..settings.max_off_topic {
        if rng.random_bool(settings.off_topic) {
            latent.off_topic.push(pick(&OFF_TOPICS, rng).to_owned());
        }
    }
    (latent.other_event, latent.other_feeling, latent.other_ask) =
        (other_event, other_feeling, other_ask);
}

/// Writes the post. Off-topic sentences that would make it longer than [`MAX_PROMPT_WORDS`] are
/// left out, of the text and of the latent alike.
pub(super) fn render(latent: &mut Latent, settings: &PostSettings, rng: &mut impl Rng) -> String {
    let title = match rng.random_bool(settings.telling_title) {
        true => format!("my {}", latent.event.relation),
        false => pick(&NEUTRAL_TITLES, rng).to_owned(),
    };
    let mut sentences = story(latent, settings, rng);
    let header = format!("{} title : {title} post :", latent.community);
    let mut length =
        words(&header) + words("tldr :") + sentences.iter().map(|s| words(s)).sum::<usize>();
    latent.off_topic.retain(|text| {
        let fits = length + words(text) < MAX_PROMPT_WORDS;
        if fits {
            length += words(text) + 1;
        }
        fits
    });
    for text in &latent.off_topic {
        sentences.insert(rng.random_range(0..=sentences.len()), format!("{text} ."));
    }
    format!("{header} {} tldr :", sentences.join(" "))
}

fn words(text: &str) -> usize {
    text.split(' ').count()
}

/// The sentences about events, feelings and asks, in this order; within each pair the latent says
/// which comes first.
fn story(latent: &Latent, settings: &PostSettings, rng: &mut impl Rng) -> Vec<String> {
    let main = event_sentence(&latent.event, &RECENT_TIMES, settings, rng);
    let other = latent.other_event.as_ref().map(|o| {
        (
            event_sentence(&o.value, &FORMER_TIMES, settings, rng),
            o.first,
        )
    });
    let mut sentences = ordered(main, other);

    let now = if rng.random() { "now i feel" } else { "i feel" };
    let other = latent.other_feeling.as_ref().map(|o| {
        let whose = if rng.random() {
            "they feel"
        } else {
            "then i felt"
        };
        (format!("{whose} {} .", o.value), o.first)
    });
    sentences.extend(ordered(format!("{now} {} .", latent.feeling), other));

    let modal = if rng.random() { "should" } else { "do" };
    let other = latent.other_ask.as_ref().map(|o| {
        let whose = if rng.random() {
            "friends say"
        } else {
            "i will not"
        };
        (format!("{whose} {} them .", o.value), o.first)
    });
    sentences.extend(ordered(format!("{modal} i {} them ?", latent.ask), other));
    sentences
}

/// The main sentence and the other one, in the post's order.
fn ordered(main: String, other: Option<(String, bool)>) -> Vec<String> {
    match other {
        None => vec![main],
        Some((other, true)) => vec![other, main],
        Some((other, false)) => vec![main, other],
    }
}

fn event_sentence(
    event: &Event,
    times: &'static [&'static str],
    settings: &PostSettings,
    rng: &mut impl Rng,
) -> String {
    let Event {
        relation,
        verb,
        object,
    } = event;
    let time = pick(times, rng);
    match rng.random_bool(settings.late_time) {
        true => format!("my {relation} {verb} my {object} {time} ."),
        false => format!("{time} my {relation} {verb} my {object} ."),
    }
}
