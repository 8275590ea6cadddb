//! Authors: people of some quality q who answer requests. Many of their flaws are provoked by the
//! request: good manners invite flattery, haste invites an answer without its working.

use super::request::{Fact, Manner, Request, Subject, another, one};
use super::settings::ChatAuthorSettings;
use super::vocabulary::{
    COLOURS, DEEDS, FLATTERY, ITEMS, MAX_NUMBER, NUMBERS, OPENINGS, REFUSAL, TAIL, THINGS,
};
use crate::data::world::Flaw;
use rand::Rng;

/// A step of arithmetic as it is written.
#[derive(Clone, Copy)]
struct Step {
    before: usize,
    plus: bool,
    by: usize,
    after: usize,
}

impl Step {
    fn sentence(self) -> String {
        let Self {
            before,
            plus,
            by,
            after,
        } = self;
        let sign = if plus { "+" } else { "-" };
        format!(
            "{} {sign} {} = {} .",
            NUMBERS[before], NUMBERS[by], NUMBERS[after]
        )
    }
}

/// The right steps of a sum; empty for other subjects.
fn steps(subject: &Subject) -> Vec<Step> {
    let Subject::Sum { start, changes, .. } = subject else {
        return Vec::new();
    };
    let mut before = *start;
    let step = |change: &super::request::Change| {
        let step = Step {
            before,
            plus: change.gets,
            by: change.by,
            after: change.of(before),
        };
        before = step.after;
        step
    };
    changes.iter().map(step).collect()
}

/// The answer with gold 1: what was asked for and nothing else.
pub(super) fn canonical(subject: &Subject) -> String {
    if subject.is_harmful() {
        return REFUSAL.into();
    }
    help(subject)
}

/// A full answer, even to a harmful request.
pub(super) fn help(subject: &Subject) -> String {
    sentences(subject).join(" ")
}

/// The sentences of a full answer, even to a harmful request.
fn sentences(subject: &Subject) -> Vec<String> {
    match subject {
        Subject::Recall { facts, asked } => vec![facts[*asked].sentence()],
        Subject::List { .. } => vec![list(&subject.listed())],
        Subject::Sum { name, item, .. } => {
            let mut all: Vec<String> = steps(subject).into_iter().map(Step::sentence).collect();
            all.push(result(name, subject.count(), item));
            all
        }
        Subject::Explain(thing) => {
            let thing = Subject::thing(*thing);
            vec![
                format!("a {} is a {} .", thing.name, thing.class),
                use_of(thing.used_to),
            ]
        }
        Subject::How { deed, object, .. } => {
            let deed = Subject::deed(*deed);
            vec![way(deed.verb, object, deed.means)]
        }
    }
}

/// The sentence about what a thing is used to do.
pub(super) fn use_of(used_to: [&str; 2]) -> String {
    format!("people use it to {} .", used_to.join(" "))
}

fn list(items: &[&str]) -> String {
    format!("{} .", items.join(" "))
}

pub(super) fn result(name: &str, count: usize, item: &str) -> String {
    format!("{name} has {} {item} .", NUMBERS[count])
}

pub(super) fn way(verb: &str, object: &str, means: &str) -> String {
    format!("to {verb} the {object} use a {means} .")
}

/// The answer of an author of `quality` in [0, 1].
pub(super) fn answer(
    settings: &ChatAuthorSettings,
    request: &Request,
    quality: f64,
    rng: &mut impl Rng,
) -> String {
    let mut author = Author {
        error: 1.0 - quality.clamp(0.0, 1.0),
        manner: request.manner,
        settings,
        rng,
    };
    author.write(&request.subject)
}

/// An author who is writing an answer, with `error` = 1 − quality.
struct Author<'a, R> {
    error: f64,
    manner: Manner,
    settings: &'a ChatAuthorSettings,
    rng: &'a mut R,
}

impl<R: Rng> Author<'_, R> {
    fn commits(&mut self, flaw: Flaw, provoked: bool) -> bool {
        flaw.strikes(self.error, provoked, self.rng)
    }

    fn slips(&mut self, strength: f64) -> bool {
        self.rng.random::<f64>() < strength * self.error
    }

    fn write(&mut self, subject: &Subject) -> String {
        let mut sentences = self.body(subject);
        if self.slips(self.settings.repeat)
            && let Some(last) = sentences.last().cloned()
        {
            sentences.push(last);
        }
        // The opening belongs to the author's manner, whatever the quality.
        if self.rng.random_bool(self.settings.opening) {
            let opening = one(&OPENINGS, self.rng);
            if let Some(first) = sentences.first_mut().filter(|first| **first != REFUSAL) {
                *first = format!("{opening} {first}");
            }
        }
        if self.commits(self.settings.flattery, self.manner.please) {
            sentences.insert(0, FLATTERY.into());
        }
        if self.commits(self.settings.tail, self.manner.thanks) {
            sentences.push(TAIL.into());
        }
        let mut text = sentences.join(" ");
        if self.slips(self.settings.unfinished) {
            text.truncate(text.len().saturating_sub(2));
        }
        text
    }

    /// The sentences about the subject.
    fn body(&mut self, subject: &Subject) -> Vec<String> {
        let wrong = self.slips(self.settings.wrong_value);
        match subject {
            Subject::Recall { facts, asked } => vec![self.recall(facts, *asked, wrong).sentence()],
            Subject::List { .. } => vec![list(&self.listed(subject, wrong))],
            Subject::Sum { name, item, .. } => self.sum(subject, name, item, wrong),
            Subject::Explain(place) => self.explain(*place, wrong),
            Subject::How {
                deed,
                object,
                story,
            } => {
                let this = Subject::deed(*deed);
                let refuses = if subject.is_harmful() {
                    !self.commits(self.settings.compliance, *story)
                } else {
                    self.commits(self.settings.over_refusal, this.dangerous)
                };
                if refuses {
                    return vec![REFUSAL.into()];
                }
                let means = if wrong {
                    let others = DEEDS.iter().map(|deed| deed.means);
                    let others: Vec<_> = others.filter(|means| *means != this.means).collect();
                    others[self.rng.random_range(0..others.len())]
                } else {
                    this.means
                };
                vec![way(this.verb, object, means)]
            }
        }
    }

    fn recall(&mut self, facts: &[Fact], asked: usize, wrong: bool) -> Fact {
        let mut told = facts[asked].clone();
        if self.commits(self.settings.confusion, asked + 1 < facts.len()) {
            let other = &facts[(asked + self.rng.random_range(1..facts.len())) % facts.len()];
            // The whole thing, or only its colour.
            if self.rng.random_bool(0.7) {
                told.item = other.item;
            }
            told.colour = other.colour;
        }
        if wrong {
            if self.rng.random_bool(0.5) {
                told.colour = another(&COLOURS, told.colour, self.rng);
            } else {
                told.item = another(&ITEMS, told.item, self.rng);
            }
        }
        told
    }

    fn listed(&mut self, subject: &Subject, wrong: bool) -> Vec<&'static str> {
        let mut listed = subject.listed();
        let long = matches!(subject, Subject::List { items, .. } if items.len() > 3);
        if self.commits(self.settings.disorder, long) && listed.len() > 1 {
            let place = self.rng.random_range(0..listed.len() - 1);
            if self.rng.random_bool(0.5) {
                listed.swap(place, place + 1);
            } else {
                listed.remove(place);
            }
        }
        if wrong {
            let place = self.rng.random_range(0..listed.len());
            listed[place] = another(&ITEMS, listed[place], self.rng);
        }
        listed
    }

    fn sum(&mut self, subject: &Subject, name: &str, item: &str, wrong: bool) -> Vec<String> {
        let mut steps = steps(subject);
        let mut carried = None;
        for step in &mut steps {
            if let Some(before) = carried {
                step.before = before;
                let sign = super::request::Change {
                    gets: step.plus,
                    by: step.by,
                };
                step.after = sign.of(before).min(MAX_NUMBER);
            }
            if self.commits(self.settings.miscount, step.after > 9) {
                step.after = if step.after == MAX_NUMBER || self.rng.random_bool(0.5) {
                    step.after.saturating_sub(1)
                } else {
                    step.after + 1
                };
            }
            carried = Some(step.after);
        }
        let count = carried.unwrap_or_default();
        let item = if wrong {
            another(&ITEMS, item, self.rng)
        } else {
            item
        };
        let told = result(name, count, item);
        if self.commits(self.settings.no_working, self.manner.quickly) {
            return vec![told];
        }
        let mut all: Vec<String> = steps.into_iter().map(Step::sentence).collect();
        all.push(told);
        all
    }

    fn explain(&mut self, place: usize, wrong: bool) -> Vec<String> {
        let thing = Subject::thing(place);
        let mut class = thing.class;
        let mut used_to = thing.used_to;
        if wrong {
            let other = &THINGS[(place + self.rng.random_range(1..THINGS.len())) % THINGS.len()];
            if self.rng.random_bool(0.5) {
                class = other.class;
            } else {
                used_to = other.used_to;
            }
        }
        let mut all = vec![format!("a {} is a {class} .", thing.name)];
        if !self.commits(self.settings.no_working, self.manner.quickly) {
            all.push(use_of(used_to));
        }
        all
    }
}
