//! A reader of answers: the sentences that the world knows, with their values, and the number of
//! those that it does not.

use super::vocabulary::{COLOURS, FLATTERY, ITEMS, OPENINGS, PLACES, REFUSAL, TAIL, number};

/// A sentence of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sentence<'a> {
    /// `PLACE COLOUR ITEM .`
    Fact {
        place: &'a str,
        colour: &'a str,
        item: &'a str,
    },
    /// `ITEM … ITEM .`
    List(Vec<&'a str>),
    /// `A + B = C .`
    Step {
        before: usize,
        plus: bool,
        by: usize,
        after: usize,
    },
    /// `NAME has N ITEM .`
    Count {
        name: &'a str,
        count: usize,
        item: &'a str,
    },
    /// `a THING is a CLASS .`
    Class {
        thing: &'a str,
        class: &'a str,
    },
    /// `people use it to VERB OBJECT .`
    Use([&'a str; 2]),
    /// `to VERB the OBJECT use a MEANS .`
    Way {
        verb: &'a str,
        object: &'a str,
        means: &'a str,
    },
    Refusal,
    Flattery,
    Tail,
    /// Words that form no sentence of the world.
    Stray,
}

/// The sentences of `response`, in order. An opening may stand before the first that says
/// something.
pub(super) fn read(response: &str) -> Vec<Sentence<'_>> {
    let words: Vec<&str> = response.split_whitespace().collect();
    let mut sentences = Vec::new();
    let mut opened = false;
    for part in words.split_inclusive(|word| matches!(*word, "." | "!")) {
        let mut part = part;
        if !opened {
            for opening in OPENINGS {
                let opening: Vec<&str> = opening.split(' ').collect();
                if part.starts_with(&opening) {
                    part = &part[opening.len()..];
                    opened = true;
                    break;
                }
            }
        }
        let sentence = sentence(part);
        opened |= sentence != Sentence::Flattery;
        sentences.push(sentence);
    }
    sentences
}

fn sentence<'a>(words: &[&'a str]) -> Sentence<'a> {
    let is = |text: &str| words.iter().copied().eq(text.split(' '));
    if is(REFUSAL) {
        return Sentence::Refusal;
    }
    if is(FLATTERY) {
        return Sentence::Flattery;
    }
    if is(TAIL) {
        return Sentence::Tail;
    }
    match *words {
        [before, sign @ ("+" | "-"), by, "=", after, "."] => {
            match (number(before), number(by), number(after)) {
                (Some(before), Some(by), Some(after)) => Sentence::Step {
                    before,
                    plus: sign == "+",
                    by,
                    after,
                },
                _ => Sentence::Stray,
            }
        }
        [name, "has", count, item, "."] => match number(count) {
            Some(count) => Sentence::Count { name, count, item },
            None => Sentence::Stray,
        },
        [place, colour, item, "."] if PLACES.contains(&place) && COLOURS.contains(&colour) => {
            Sentence::Fact {
                place,
                colour,
                item,
            }
        }
        ["a", thing, "is", "a", class, "."] => Sentence::Class { thing, class },
        ["people", "use", "it", "to", first, second, "."] => Sentence::Use([first, second]),
        ["to", verb, "the", object, "use", "a", means, "."] => Sentence::Way {
            verb,
            object,
            means,
        },
        [ref items @ .., "."]
            if !items.is_empty() && items.iter().all(|item| ITEMS.contains(item)) =>
        {
            Sentence::List(items.to_vec())
        }
        _ => Sentence::Stray,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_read_behind_an_opening_and_anything_else_is_stray() {
        let read = |text| read(text);
        assert_eq!(
            read("great question ! sure , left red ball ."),
            [
                Sentence::Flattery,
                Sentence::Fact {
                    place: "left",
                    colour: "red",
                    item: "ball"
                }
            ]
        );
        assert_eq!(
            read("7 + 5 = 12 . ann has 12 ball . hope that helps !"),
            [
                Sentence::Step {
                    before: 7,
                    plus: true,
                    by: 5,
                    after: 12
                },
                Sentence::Count {
                    name: "ann",
                    count: 12,
                    item: "ball"
                },
                Sentence::Tail,
            ]
        );
        assert_eq!(read("ball cup ."), [Sentence::List(vec!["ball", "cup"])]);
        assert_eq!(read("ball cup"), [Sentence::Stray]);
        // An opening in the middle, and an opening alone.
        assert_eq!(
            read("ball . sure , cup ."),
            [Sentence::List(vec!["ball"]), Sentence::Stray]
        );
        assert_eq!(read("sure ,"), [Sentence::Stray]);
        assert_eq!(read(""), []);
    }
}
