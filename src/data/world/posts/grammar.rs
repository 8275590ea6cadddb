//! A reader of responses against the world's small grammar: the stated clauses with their values,
//! irrelevant text, and the number of grammatical errors.

use super::vocabulary::{FILLERS, OFF_TOPICS, RECENT_TIMES, RUDE_CLOSINGS, Slot, TAILS};

/// One recognised stretch of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// An event: `my RELATION VERB my OBJECT`.
    Event {
        relation: &'a str,
        verb: &'a str,
        object: &'a str,
    },
    /// A feeling: `i feel FEELING`.
    Feeling(&'a str),
    /// A question: `should i ASK them`.
    Ask(&'a str),
    OffTopic,
    Rude,
    Tail,
    Filler,
    Time,
    And,
    Stop,
    QuestionMark,
    /// A word that fits nowhere.
    Stray,
}

impl Piece<'_> {
    fn is_statement(self) -> bool {
        matches!(
            self,
            Self::Event { .. }
                | Self::Feeling(_)
                | Self::Ask(_)
                | Self::OffTopic
                | Self::Rude
                | Self::Tail
        )
    }
}

/// A response split into pieces.
pub(super) struct Reading<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    /// The number of clauses recognised although a grammatical word is missing.
    slips: usize,
}

enum ClauseWord {
    Word(&'static str),
    Value(Slot),
}
use ClauseWord::{Value, Word};

const EVENT: [ClauseWord; 5] = [
    Word("my"),
    Value(Slot::Relation),
    Value(Slot::Verb),
    Word("my"),
    Value(Slot::Object),
];
const FEELING: [ClauseWord; 3] = [Word("i"), Word("feel"), Value(Slot::Feeling)];
const ASK: [ClauseWord; 4] = [Word("should"), Word("i"), Value(Slot::Ask), Word("them")];

impl<'a> Reading<'a> {
    pub(super) fn of(words: &[&'a str]) -> Self {
        let mut reading = Self {
            pieces: Vec::with_capacity(words.len()),
            slips: 0,
        };
        let mut rest = words;
        while let Some(first) = rest.first() {
            let (piece, length) = match clause(rest) {
                Some((piece, length, whole)) => {
                    reading.slips += usize::from(!whole);
                    (piece, length)
                }
                None => phrase(rest).unwrap_or_else(|| (single(first), 1)),
            };
            reading.pieces.push(piece);
            rest = &rest[length..];
        }
        reading
    }

    /// The number of grammatical errors: missing grammatical words, stray words, statements that
    /// run on without punctuation, misplaced `and`, `.` or `?`, and a missing mark at the end.
    pub(super) fn errors(&self) -> usize {
        let stray = self
            .pieces
            .iter()
            .filter(|piece| **piece == Piece::Stray)
            .count();
        // Fillers, time words and stray words may be anywhere; the order of the rest matters.
        let solid: Vec<Piece> = self
            .pieces
            .iter()
            .copied()
            .filter(|piece| !matches!(piece, Piece::Filler | Piece::Time | Piece::Stray))
            .collect();
        let misplaced = (0..solid.len())
            .filter(|&i| {
                let before = i.checked_sub(1).map(|i| solid[i]);
                !fits(before, solid[i], solid.get(i + 1).copied())
            })
            .count();
        let open_end = !matches!(self.pieces.last(), Some(Piece::Stop | Piece::QuestionMark));
        self.slips + stray + misplaced + usize::from(open_end)
    }
}

/// Whether `piece` may stand between its neighbours.
fn fits(before: Option<Piece>, piece: Piece, after: Option<Piece>) -> bool {
    match piece {
        Piece::And => {
            matches!(before, Some(Piece::Event { .. })) && matches!(after, Some(Piece::Feeling(_)))
        }
        Piece::Stop => {
            before.is_some_and(|before| before.is_statement() && !matches!(before, Piece::Ask(_)))
        }
        Piece::QuestionMark => matches!(before, Some(Piece::Ask(_))),
        _ => !before.is_some_and(Piece::is_statement),
    }
}

/// A clause at the start of `words`, with its length and whether all its grammatical words are
/// there.
fn clause<'a>(words: &[&'a str]) -> Option<(Piece<'a>, usize, bool)> {
    let templates = [&EVENT[..], &FEELING, &ASK];
    let whole = templates
        .iter()
        .find_map(|template| matched(template, None, words).map(|found| (found, true)));
    let ((values, length), whole) = whole.or_else(|| {
        templates.iter().find_map(|template| {
            (0..template.len())
                .filter(|&i| matches!(template[i], Word(_)))
                .find_map(|missing| matched(template, Some(missing), words))
                .map(|found| (found, false))
        })
    })?;
    let piece = match values[..] {
        [relation, verb, object] => Piece::Event {
            relation,
            verb,
            object,
        },
        [feeling] if Slot::Feeling.words().contains(&feeling) => Piece::Feeling(feeling),
        [ask] => Piece::Ask(ask),
        _ => return None,
    };
    Some((piece, length, whole))
}

/// The values of `template` (without its part `missing`) at the start of `words`, and the number of
/// words that it covers.
fn matched<'a>(
    template: &[ClauseWord],
    missing: Option<usize>,
    words: &[&'a str],
) -> Option<(Vec<&'a str>, usize)> {
    let mut values = Vec::new();
    let mut length = 0;
    for (i, part) in template.iter().enumerate() {
        if missing == Some(i) {
            continue;
        }
        let word = *words.get(length)?;
        match part {
            Word(expected) if *expected == word => {}
            Value(slot) if slot.words().contains(&word) => values.push(word),
            _ => return None,
        }
        length += 1;
    }
    Some((values, length))
}

/// A fixed phrase at the start of `words`, with its length.
fn phrase<'a>(words: &[&'a str]) -> Option<(Piece<'a>, usize)> {
    let lists = [
        (&OFF_TOPICS[..], Piece::OffTopic),
        (&RUDE_CLOSINGS, Piece::Rude),
        (&TAILS, Piece::Tail),
    ];
    lists.iter().find_map(|(list, piece)| {
        list.iter().find_map(|phrase| {
            let length = phrase.split(' ').count();
            let start = words.get(..length)?;
            phrase
                .split(' ')
                .eq(start.iter().copied())
                .then_some((*piece, length))
        })
    })
}

fn single(word: &str) -> Piece<'_> {
    match word {
        "and" => Piece::And,
        "." => Piece::Stop,
        "?" => Piece::QuestionMark,
        _ if FILLERS.contains(&word) => Piece::Filler,
        _ if RECENT_TIMES.contains(&word) => Piece::Time,
        _ => Piece::Stray,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> usize {
        let words: Vec<&str> = text.split_whitespace().collect();
        Reading::of(&words).errors()
    }

    #[test]
    fn accepts_what_is_well_formed() {
        for text in [
            "my boss sold my bike and i feel sad . should i sue them ?",
            "today honestly my boss sold my bike . well should i sue them ? shut up . and so on .",
            "my boss sold my bike . my boss sold my bike . it rained a lot .",
        ] {
            assert_eq!(errors(text), 0, "{text}");
        }
    }

    #[test]
    fn counts_what_is_broken() {
        for (text, count) in [
            ("", 1),
            ("boss sold my bike .", 1),
            ("my boss sold my bike", 1),
            ("my boss sold my bike i feel sad .", 1),
            ("my boss sold my bike and . should i sue them ?", 2),
            ("should i sue them .", 1),
            ("i feel sad . ?", 1),
            ("boss sold bike sad sue", 6),
            ("my boss sold my bike post title .", 2),
        ] {
            assert_eq!(errors(text), count, "{text}");
        }
    }
}
