//! Authors: people of some quality q who summarise a post. Their errors depend on the post: each
//! community has a habit, and an author who reads only the beginning mistakes the other event for
//! the main one.

use super::post::{Event, Latent, Other, another, pick};
use super::settings::{AuthorSettings, MAX_SUMMARY_WORDS};
use super::vocabulary::{
    FILLERS, Habit, OFF_TOPICS, RECENT_TIMES, RUDE_CLOSINGS, Slot, TAILS, habit,
};
use crate::data::world::Flaw;
use rand::Rng;
use rand::seq::IndexedRandom;

/// Words of the sentence frames that a careless author may drop.
const GRAMMATICAL: [&str; 5] = ["my", "i", "and", "should", "them"];

/// The parts of a summary before they become words.
struct SummaryParts {
    event: Event,
    feeling: Option<String>,
    ask: Option<String>,
    time: Option<&'static str>,
    /// Filler words before the event, the feeling and the question.
    fillers: [Option<&'static str>; 3],
    repeated: bool,
    off_topic: Option<String>,
    closings: Vec<&'static str>,
}

impl SummaryParts {
    /// The canonical summary: everything that matters and nothing else.
    fn perfect(latent: &Latent) -> Self {
        Self {
            event: latent.event.clone(),
            feeling: Some(latent.feeling.clone()),
            ask: Some(latent.ask.clone()),
            time: None,
            fillers: [None; 3],
            repeated: false,
            off_topic: None,
            closings: Vec::new(),
        }
    }

    fn words(&self) -> Vec<&str> {
        let Event {
            relation,
            verb,
            object,
        } = &self.event;
        let event = [
            "my",
            relation.as_str(),
            verb.as_str(),
            "my",
            object.as_str(),
        ];
        let mut words: Vec<&str> = Vec::with_capacity(MAX_SUMMARY_WORDS + 1);
        words.extend(self.time);
        words.extend(self.fillers[0]);
        words.extend(event);
        if let Some(feeling) = &self.feeling {
            words.push("and");
            words.extend(self.fillers[1]);
            words.extend(["i", "feel", feeling.as_str()]);
        }
        words.push(".");
        if self.repeated {
            words.extend(event);
            words.push(".");
        }
        if let Some(text) = &self.off_topic {
            words.extend(text.split(' '));
            words.push(".");
        }
        if let Some(ask) = &self.ask {
            words.extend(self.fillers[2]);
            words.extend(["should", "i", ask.as_str(), "them", "?"]);
        }
        for closing in &self.closings {
            words.extend(closing.split(' '));
            words.push(".");
        }
        words
    }

    /// Drops the repeated event, then fillers from the last, until the summary is short enough.
    fn shorten(&mut self) {
        if self.words().len() > MAX_SUMMARY_WORDS {
            self.repeated = false;
        }
        for place in (0..self.fillers.len()).rev() {
            if self.words().len() > MAX_SUMMARY_WORDS {
                self.fillers[place] = None;
            }
        }
    }
}

/// The summary with gold 1.
pub(super) fn canonical(latent: &Latent) -> String {
    SummaryParts::perfect(latent).words().join(" ")
}

/// The summary of an author of `quality` in [0, 1]; quality 1 gives the canonical one.
pub(super) fn summary(
    settings: &AuthorSettings,
    latent: &Latent,
    quality: f64,
    rng: &mut impl Rng,
) -> String {
    let mut author = Author {
        error: 1.0 - quality.clamp(0.0, 1.0),
        habit: habit(&latent.community),
        settings,
        rng,
    };
    let mut draft = SummaryParts::perfect(latent);
    author.misread(&mut draft, latent);
    author.decorate(&mut draft, latent);
    draft.shorten();
    let mut words = draft.words();
    author.blunder(&mut words);
    words.join(" ")
}

/// An author who is writing a summary, with `error` = 1 − quality.
struct Author<'a, R> {
    error: f64,
    habit: Option<Habit>,
    settings: &'a AuthorSettings,
    rng: &'a mut R,
}

impl<R: Rng> Author<'_, R> {
    fn commits(&mut self, strength: f64) -> bool {
        self.rng.random::<f64>() < strength * self.error
    }

    fn commits_flaw(&mut self, flaw: Flaw, provoked: bool) -> bool {
        self.commits(flaw.strength(provoked))
    }

    fn indulges(&mut self, flaw: Flaw, habit: Habit) -> bool {
        self.commits_flaw(flaw, self.habit == Some(habit))
    }

    /// Mistakes the other event, feeling or ask for the main one, or makes a value up.
    fn misread(&mut self, draft: &mut SummaryParts, latent: &Latent) {
        if let Some(other) = &latent.other_event
            && self.commits_flaw(self.settings.confusion, other.first)
        {
            self.confuse_events(&mut draft.event, &other.value);
        }
        for (mine, others) in [
            (&mut draft.feeling, &latent.other_feeling),
            (&mut draft.ask, &latent.other_ask),
        ] {
            if let Some(Other { value, first }) = others
                && self.commits_flaw(self.settings.confusion, *first)
            {
                *mine = Some(value.clone());
            }
        }
        let Event {
            relation,
            verb,
            object,
        } = &mut draft.event;
        let slots = [
            (Slot::Relation, Some(relation)),
            (Slot::Verb, Some(verb)),
            (Slot::Object, Some(object)),
        ];
        let rest = [
            (Slot::Feeling, draft.feeling.as_mut()),
            (Slot::Ask, draft.ask.as_mut()),
        ];
        for (slot, value) in slots.into_iter().chain(rest) {
            if let Some(value) = value
                && self.commits(self.settings.wrong_value)
            {
                *value = another(slot, value, self.rng).to_owned();
            }
        }
    }

    fn confuse_events(&mut self, event: &mut Event, other: &Event) {
        if self.rng.random_bool(self.settings.whole_event) {
            event.clone_from(other);
            return;
        }
        match self.rng.random_range(0..3) {
            0 => event.relation.clone_from(&other.relation),
            1 => event.verb.clone_from(&other.verb),
            _ => event.object.clone_from(&other.object),
        }
    }

    /// Leaves clauses out and adds irrelevant ones.
    fn decorate(&mut self, draft: &mut SummaryParts, latent: &Latent) {
        let settings = self.settings;
        if self.indulges(settings.no_feeling, Habit::NoFeeling) {
            draft.feeling = None;
        }
        if self.indulges(settings.no_question, Habit::NoQuestion) {
            draft.ask = None;
        }
        if self.indulges(settings.time, Habit::Time) {
            draft.time = Some(pick(&RECENT_TIMES, self.rng));
        }
        for filler in &mut draft.fillers {
            if self.indulges(settings.filler, Habit::Filler) {
                *filler = Some(pick(&FILLERS, self.rng));
            }
        }
        draft.repeated = self.commits(settings.repeat);
        if self.indulges(settings.off_topic, Habit::OffTopic) {
            let own = latent.off_topic.choose(self.rng).cloned();
            draft.off_topic = Some(own.unwrap_or_else(|| pick(&OFF_TOPICS, self.rng).to_owned()));
        }
        if self.indulges(settings.rude, Habit::Rude) {
            draft.closings.push(pick(&RUDE_CLOSINGS, self.rng));
        }
        if self.indulges(settings.tail, Habit::Tail) {
            draft.closings.push(pick(&TAILS, self.rng));
        }
    }

    /// Writes carelessly: drops a grammatical word, or the last punctuation mark.
    fn blunder(&mut self, words: &mut Vec<&str>) {
        if self.commits(self.settings.slip) {
            let places: Vec<usize> = (0..words.len())
                .filter(|&i| GRAMMATICAL.contains(&words[i]))
                .collect();
            if let Some(&place) = places.choose(self.rng) {
                words.remove(place);
            }
        }
        if self.commits(self.settings.unfinished) {
            words.pop();
        }
    }
}
