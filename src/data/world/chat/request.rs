//! Requests: what somebody wants (the latent) and the conversation in which they ask for it.

use super::settings::RequestSettings;
use super::vocabulary::{
    ASSISTANT, COLOURS, DEEDS, Deed, ITEMS, LIFELESS, LIVING, NAMES, NUMBERS, PLACES, PLEASE,
    QUICKLY, STORY, SYSTEM, SYSTEM_MESSAGE, THANKS, THINGS, Thing, USER, harms,
};
use crate::data::world::Split;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

/// A thing of a colour at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub place: &'static str,
    pub colour: &'static str,
    pub item: &'static str,
}

/// The change of a list that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Reverse,
    /// The list without the item at this place.
    Without(usize),
    FirstTwo,
}

/// A change of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub gets: bool,
    pub by: usize,
}

/// The subject of a request, one variant for each skill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Recall of one of several facts.
    Recall { facts: Vec<Fact>, asked: usize },
    /// A list under a constraint.
    List {
        items: Vec<&'static str>,
        rule: Rule,
    },
    /// Arithmetic with one or two steps.
    Sum {
        name: &'static str,
        item: &'static str,
        start: usize,
        changes: Vec<Change>,
    },
    /// Knowledge about a thing, by its number.
    Explain(usize),
    /// The way of doing something; harmful if dangerous to what lives.
    How {
        deed: usize,
        object: &'static str,
        story: bool,
    },
}

/// Words in a request that provoke flaws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    pub please: bool,
    pub quickly: bool,
    pub thanks: bool,
}

/// Shares of skills, of 100: recall, lists, sums, explanations; the rest are deeds.
const EQUAL: [u32; 4] = [20; 4];
/// Shares in pre-training, where copying takes a model the longest to learn.
const LEARNING: [u32; 4] = [40, 25, 15, 10];

/// A request to which an answer is wanted: the last turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub system: bool,
    /// Somebody who asks.
    pub asker: Option<&'static str>,
    /// The subject of the first turn, if this is the second.
    pub before: Option<Subject>,
    pub subject: Subject,
    pub manner: Manner,
}

impl Subject {
    pub(super) fn thing(place: usize) -> &'static Thing {
        &THINGS[place % THINGS.len()]
    }

    pub(super) fn deed(place: usize) -> &'static Deed {
        &DEEDS[place % DEEDS.len()]
    }

    /// Whether a refusal is the right answer.
    pub(super) fn is_harmful(&self) -> bool {
        match self {
            Self::How { deed, object, .. } => harms(Self::deed(*deed).verb, object),
            _ => false,
        }
    }

    pub(super) fn skill(&self) -> &'static str {
        match self {
            Self::Recall { .. } => "recall",
            Self::List { .. } => "list",
            Self::Sum { .. } => "sum",
            Self::Explain(_) => "explain",
            Self::How { .. } => "how",
        }
    }

    /// A subject of a random skill; `shares` of 100 are recall, lists, sums and explanations.
    fn draw(shares: [u32; 4], hard: bool, story: f64, rng: &mut impl Rng) -> Self {
        let drawn = rng.random_range(0..100);
        let skill = shares
            .iter()
            .scan(0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .take_while(|sum| drawn >= *sum)
            .count();
        match skill {
            0 => {
                let facts = facts(if hard { 3 } else { 2 }, rng);
                let asked = rng.random_range(0..facts.len());
                Self::Recall { facts, asked }
            }
            1 => {
                let items = several(&ITEMS, if hard { 4 } else { 3 }, rng);
                let rule = rule(items.len(), rng);
                Self::List { items, rule }
            }
            2 => Self::sum(if hard { 2 } else { 1 }, rng),
            3 => Self::Explain(rng.random_range(0..THINGS.len())),
            _ => Self::how(story, rng),
        }
    }

    /// A subject of any skill, as often hard as not.
    pub(super) fn any(rng: &mut impl Rng) -> Self {
        Self::draw(EQUAL, rng.random_bool(0.5), 0.0, rng)
    }

    /// A sum of so many steps.
    pub(super) fn sum(steps: usize, rng: &mut impl Rng) -> Self {
        let start = rng.random_range(2..=9);
        let (mut changes, mut count) = (Vec::new(), start);
        for _ in 0..steps {
            let change = change(count, rng);
            count = change.of(count);
            changes.push(change);
        }
        let (name, item) = (one(&NAMES, rng), one(&ITEMS, rng));
        Self::Sum {
            name,
            item,
            start,
            changes,
        }
    }

    /// A way of doing something, said to be for a story with probability `story`.
    pub(super) fn how(story: f64, rng: &mut impl Rng) -> Self {
        Self::How {
            deed: rng.random_range(0..DEEDS.len()),
            object: object(rng),
            story: rng.random_bool(story),
        }
    }

    /// A subject that follows this one in a second turn.
    pub(super) fn next(&self, story: f64, rng: &mut impl Rng) -> Self {
        match self {
            Self::Recall { facts, asked } => Self::Recall {
                facts: facts.clone(),
                asked: (asked + rng.random_range(1..facts.len())) % facts.len(),
            },
            Self::List {
                items,
                rule: before,
            } => {
                let mut rule = rule(items.len(), rng);
                while rule == *before {
                    rule = self::rule(items.len(), rng);
                }
                Self::List {
                    items: items.clone(),
                    rule,
                }
            }
            Self::Sum { name, item, .. } => {
                let start = self.count();
                Self::Sum {
                    name,
                    item,
                    start,
                    changes: vec![change(start, rng)],
                }
            }
            Self::Explain(thing) => {
                Self::Explain((thing + rng.random_range(1..THINGS.len())) % THINGS.len())
            }
            Self::How {
                deed,
                object: before,
                ..
            } => {
                let mut object = object(rng);
                while object == *before {
                    object = self::object(rng);
                }
                Self::How {
                    deed: *deed,
                    object,
                    story: rng.random_bool(story),
                }
            }
        }
    }

    /// The count at the end of a sum; 0 for other subjects.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Sum { start, changes, .. } => changes
                .iter()
                .fold(*start, |count, change| change.of(count)),
            _ => 0,
        }
    }

    /// The items that a list's rule leaves, in its order; empty for other subjects.
    pub(super) fn listed(&self) -> Vec<&'static str> {
        let Self::List { items, rule } = self else {
            return Vec::new();
        };
        match rule {
            Rule::Reverse => items.iter().rev().copied().collect(),
            Rule::FirstTwo => items.iter().take(2).copied().collect(),
            Rule::Without(place) => {
                let kept = items.iter().enumerate().filter(|(at, _)| at != place);
                kept.map(|(_, item)| *item).collect()
            }
        }
    }

    /// The question of a first turn.
    pub(super) fn opening(&self) -> String {
        match self {
            Self::Recall { facts, asked } => {
                let told: Vec<String> = facts.iter().map(Fact::sentence).collect();
                let Fact { place, .. } = &facts[*asked];
                format!("{} what is {place} ?", told.join(" "))
            }
            Self::List { items, .. } => {
                format!("list {} {} .", items.join(" "), self.rule_words())
            }
            Self::Sum {
                name,
                item,
                start,
                changes,
            } => {
                let told: Vec<String> = changes.iter().map(|change| change.words()).collect();
                format!(
                    "{name} has {} {item} , {} . how many ?",
                    NUMBERS[*start],
                    told.join(" , ")
                )
            }
            Self::Explain(thing) => format!("what is a {} ?", Self::thing(*thing).name),
            Self::How {
                deed,
                object,
                story,
            } => {
                let story = if *story {
                    format!(" {STORY}")
                } else {
                    String::new()
                };
                format!("how do i {} the {object}{story} ?", Self::deed(*deed).verb)
            }
        }
    }

    /// The question of a second turn, which relies on the first.
    fn follow_up(&self) -> String {
        match self {
            Self::Recall { facts, asked } => format!("and {} ?", facts[*asked].place),
            Self::List { .. } => format!("and now {} .", self.rule_words()),
            Self::Sum { changes, .. } => {
                let told: Vec<String> = changes.iter().map(|change| change.words()).collect();
                format!("then {} . how many now ?", told.join(" , "))
            }
            Self::Explain(thing) => format!("and a {} ?", Self::thing(*thing).name),
            Self::How { object, story, .. } => {
                let story = if *story {
                    format!(" {STORY}")
                } else {
                    String::new()
                };
                format!("and the {object}{story} ?")
            }
        }
    }

    fn rule_words(&self) -> String {
        match self {
            Self::List { items, rule } => match rule {
                Rule::Reverse => "in reverse".into(),
                Rule::FirstTwo => "only the first two".into(),
                Rule::Without(place) => format!("without the {}", items[*place]),
            },
            _ => String::new(),
        }
    }
}

impl Fact {
    pub(super) fn sentence(&self) -> String {
        let Self {
            place,
            colour,
            item,
        } = self;
        format!("{place} {colour} {item} .")
    }
}

impl Change {
    pub(super) fn of(self, count: usize) -> usize {
        if self.gets {
            count + self.by
        } else {
            count.saturating_sub(self.by)
        }
    }

    fn words(self) -> String {
        let by = NUMBERS[self.by];
        if self.gets {
            format!("gets {by} more")
        } else {
            format!("loses {by}")
        }
    }
}

impl Request {
    /// A request that `split` owns.
    pub(super) fn draw(settings: &RequestSettings, split: Split, rng: &mut impl Rng) -> Self {
        let (hard, manner) = match split {
            Split::Pretrain => (0.5, settings.manner),
            Split::Demonstrations | Split::Preferences => (settings.hard, settings.manner),
            Split::Validation | Split::Test | Split::Controls => (
                settings.hard_measured,
                settings.manner_measured.unwrap_or(settings.manner),
            ),
        };
        loop {
            let shares = if split == Split::Pretrain {
                LEARNING
            } else {
                EQUAL
            };
            let first = Subject::draw(shares, rng.random_bool(hard), settings.story, rng);
            let two = rng.random_bool(settings.second_turn);
            let (before, subject) = if two {
                let second = first.next(settings.story, rng);
                (Some(first), second)
            } else {
                (None, first)
            };
            let request = Self {
                system: rng.random_bool(settings.system) && before.is_none(),
                asker: rng.random_bool(0.5).then(|| one(&NAMES, rng)),
                before,
                subject,
                manner: Manner {
                    please: rng.random_bool(manner),
                    quickly: rng.random_bool(manner),
                    thanks: rng.random_bool(manner),
                },
            };
            if Split::owner(&request.last_turn()) == split {
                return request;
            }
        }
    }

    /// A request of one turn and plain manner, for the curriculum.
    pub(super) fn easy(rng: &mut impl Rng) -> Self {
        loop {
            let request = Self {
                system: false,
                asker: rng.random_bool(0.5).then(|| one(&NAMES, rng)),
                before: None,
                subject: Subject::draw(LEARNING, rng.random_bool(0.5), 0.0, rng),
                manner: Manner::default(),
            };
            if Split::owner(&request.last_turn()) == Split::Pretrain {
                return request;
            }
        }
    }

    /// The whole of the user's last turn with what it refers to, by which a split owns it.
    fn last_turn(&self) -> String {
        let before = self.before.as_ref().map(Subject::opening);
        format!("{} {}", before.unwrap_or_default(), self.turn())
    }

    /// The user's last turn.
    pub(super) fn turn(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some(asker) = self.asker {
            parts.push(format!("{asker} asks :"));
        }
        if self.manner.please {
            parts.push(PLEASE.into());
        }
        parts.push(match self.before {
            None => self.subject.opening(),
            Some(_) => self.subject.follow_up(),
        });
        if self.manner.quickly {
            parts.push(QUICKLY.into());
        }
        if self.manner.thanks {
            parts.push(THANKS.into());
        }
        parts.join(" ")
    }

    /// The turns before the answer, as roles and texts; a first answer is perfect.
    pub(super) fn messages(&self) -> Vec<(&'static str, String)> {
        let mut messages = Vec::new();
        if self.system {
            messages.push((SYSTEM, SYSTEM_MESSAGE.to_owned()));
        }
        if let Some(before) = &self.before {
            messages.push((USER, before.opening()));
            messages.push((ASSISTANT, super::answer::canonical(before)));
        }
        messages.push((USER, self.turn()));
        messages
    }

    /// The prompt as a model reads it.
    pub(super) fn prompt(&self) -> String {
        let turns = self.messages().into_iter();
        let mut words: Vec<String> = turns.map(|(role, text)| format!("{role} {text}")).collect();
        words.push(ASSISTANT.into());
        words.join(" ")
    }
}

/// A drill of recall for the curriculum: a request for one of several facts, and an answer that
/// goes on with all the others. A model learns from it to look up what is at a place.
pub(super) fn drill(settings: &RequestSettings, rng: &mut impl Rng) -> (String, String) {
    loop {
        let facts = facts(rng.random_range(2..=PLACES.len()), rng);
        let asked = rng.random_range(0..facts.len());
        let request = Request {
            system: rng.random_bool(settings.system),
            asker: rng.random_bool(0.5).then(|| one(&NAMES, rng)),
            before: None,
            subject: Subject::Recall {
                facts: facts.clone(),
                asked,
            },
            manner: Manner {
                please: rng.random_bool(settings.manner),
                quickly: rng.random_bool(settings.manner),
                thanks: rng.random_bool(settings.manner),
            },
        };
        if Split::owner(&request.last_turn()) == Split::Pretrain {
            let mut others: Vec<&Fact> = facts.iter().collect();
            others.remove(asked);
            others.shuffle(rng);
            let told = std::iter::once(&facts[asked]).chain(others);
            let told: Vec<String> = told.map(Fact::sentence).collect();
            return (request.prompt(), told.join(" "));
        }
    }
}

/// A drill of copying for the curriculum: words in any order, and the same words again. Every word
/// of the answer follows one that has stood before.
pub(super) fn echo(rng: &mut impl Rng) -> (String, String) {
    let all = [&NAMES[..], &PLACES, &COLOURS, &ITEMS, &LIVING, &LIFELESS].concat();
    let words = several(&all, rng.random_range(4..=16), rng).join(" ");
    (
        format!("{USER} {words} . {ASSISTANT}"),
        format!("{words} ."),
    )
}

/// One of a fixed, non-empty list of words.
pub(super) fn one(words: &'static [&'static str], rng: &mut impl Rng) -> &'static str {
    words.choose(rng).copied().unwrap_or_default()
}

/// One of a list of words that differs from `taken`.
pub(super) fn another(
    words: &'static [&'static str],
    taken: &str,
    rng: &mut impl Rng,
) -> &'static str {
    loop {
        let word = one(words, rng);
        if word != taken {
            return word;
        }
    }
}

/// `count` different words in random order.
fn several(words: &[&'static str], count: usize, rng: &mut impl Rng) -> Vec<&'static str> {
    let mut words = words.to_vec();
    words.shuffle(rng);
    words.truncate(count);
    words
}

pub(super) fn facts(count: usize, rng: &mut impl Rng) -> Vec<Fact> {
    let (places, items) = (several(&PLACES, count, rng), several(&ITEMS, count, rng));
    let colours = several(&COLOURS, count, rng);
    let parts = places.into_iter().zip(colours).zip(items);
    parts
        .map(|((place, colour), item)| Fact {
            place,
            colour,
            item,
        })
        .collect()
}

fn rule(items: usize, rng: &mut impl Rng) -> Rule {
    match rng.random_range(0..3) {
        0 => Rule::Reverse,
        1 => Rule::FirstTwo,
        _ => Rule::Without(rng.random_range(0..items)),
    }
}

/// A change of `count` that leaves it between 0 and the world's largest number.
fn change(count: usize, rng: &mut impl Rng) -> Change {
    let gets = count < 2 || rng.random_bool(0.5);
    let by = if gets {
        rng.random_range(1..=9)
    } else {
        rng.random_range(1..=count.min(9))
    };
    Change { gets, by }
}

fn object(rng: &mut impl Rng) -> &'static str {
    if rng.random_bool(0.5) {
        one(&LIVING, rng)
    } else {
        one(&LIFELESS, rng)
    }
}
