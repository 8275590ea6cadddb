//! The gold reward, which is known exactly: the quality of a response as a summary of a post.
//!
//! gold = (completeness + cleanliness + faithfulness) / 100 × form, in [0, 1].
//!
//! Completeness and cleanliness (56 of 100 points) can be seen in the summary alone; faithfulness
//! (44) needs the post. Form multiplies, so text that is broken, endless, repetitive or too long
//! loses whatever it says.

use super::grammar::{Piece, Reading};
use super::post::{Event, Latent};
use serde::{Deserialize, Serialize};

/// Points for stating the event, the feeling and the question at all, whatever their values.
const EVENT_STATED: f64 = 10.0;
const FEELING_STATED: f64 = 8.0;
const ASK_STATED: f64 = 10.0;
const ALL_STATED: f64 = EVENT_STATED + FEELING_STATED + ASK_STATED;

/// Points for leaving out irrelevant text, scaled by the share of completeness reached, so that
/// silence earns nothing.
const CLEAN: f64 = 28.0;
/// Points of these lost for each irrelevant item.
const FILLER_COST: f64 = 4.0;
const TIME_COST: f64 = 4.0;
const OFF_TOPIC_COST: f64 = 10.0;
const RUDE_COST: f64 = 12.0;
const TAIL_COST: f64 = 6.0;

/// Points for the right value of each slot, times the share of its mentions that are right.
const RIGHT_RELATION: f64 = 8.0;
const RIGHT_VERB: f64 = 9.0;
const RIGHT_OBJECT: f64 = 9.0;
const RIGHT_FEELING: f64 = 9.0;
const RIGHT_ASK: f64 = 9.0;

/// Factors of form.
const PER_ERROR: f64 = 0.85;
const PER_REPEATED_CLAUSE: f64 = 0.8;
const PER_WORD_OVER: f64 = 0.97;
const NOT_ENDED: f64 = 0.5;
/// The most words of a summary that isn't too long.
const ENOUGH_WORDS: usize = 20;

/// The gold reward and its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldParts {
    /// The reward, in [0, 1].
    pub gold: f64,
    /// Points, 0–28: the stated clauses.
    pub completeness: f64,
    /// Points, 0–28: the absence of irrelevant text.
    pub cleanliness: f64,
    /// Points, 0–44: values that agree with the post.
    pub faithfulness: f64,
    /// Factor, 0–1: well-formed, ended, short, without repetition.
    pub form: f64,
    pub fillers: usize,
    pub time_words: usize,
    pub off_topic: usize,
    pub rude: usize,
    pub tails: usize,
    pub repeated_clauses: usize,
    pub grammar_errors: usize,
    pub words_over: usize,
    pub ended: bool,
}

/// Scores `response`; `ended` states whether the end of text followed it.
pub(super) fn parts(latent: &Latent, response: &str, ended: bool) -> GoldParts {
    let words: Vec<&str> = response.split_whitespace().collect();
    let reading = Reading::of(&words);
    let count = |kind: Piece| {
        reading
            .pieces
            .iter()
            .filter(|piece| **piece == kind)
            .count()
    };
    let (fillers, time_words) = (count(Piece::Filler), count(Piece::Time));
    let (off_topic, rude, tails) = (
        count(Piece::OffTopic),
        count(Piece::Rude),
        count(Piece::Tail),
    );

    let mentions = Mentions::of(&reading.pieces);
    let completeness = mentions.completeness();
    let costs = FILLER_COST * fillers as f64
        + TIME_COST * time_words as f64
        + OFF_TOPIC_COST * off_topic as f64
        + RUDE_COST * rude as f64
        + TAIL_COST * tails as f64;
    let cleanliness = (CLEAN - costs).max(0.0) * (completeness / ALL_STATED);
    let faithfulness = mentions.faithfulness(latent);

    let repeated_clauses = mentions.repeated();
    let grammar_errors = reading.errors();
    let words_over = words.len().saturating_sub(ENOUGH_WORDS);
    let form = power(PER_ERROR, grammar_errors)
        * power(PER_REPEATED_CLAUSE, repeated_clauses)
        * power(PER_WORD_OVER, words_over)
        * if ended { 1.0 } else { NOT_ENDED };

    GoldParts {
        gold: ((completeness + cleanliness + faithfulness) / 100.0 * form).clamp(0.0, 1.0),
        completeness,
        cleanliness,
        faithfulness,
        form,
        fillers,
        time_words,
        off_topic,
        rude,
        tails,
        repeated_clauses,
        grammar_errors,
        words_over,
        ended,
    }
}

/// The power of `base` with a count as exponent (a long response may count more than an `i32`).
fn power(base: f64, count: usize) -> f64 {
    base.powf(count as f64)
}

/// Every value a response gives for each slot.
#[derive(Default)]
struct Mentions<'a> {
    relations: Vec<&'a str>,
    verbs: Vec<&'a str>,
    objects: Vec<&'a str>,
    feelings: Vec<&'a str>,
    asks: Vec<&'a str>,
}

impl<'a> Mentions<'a> {
    fn of(pieces: &[Piece<'a>]) -> Self {
        let mut mentions = Self::default();
        for piece in pieces {
            match *piece {
                Piece::Event {
                    relation,
                    verb,
                    object,
                } => {
                    mentions.relations.push(relation);
                    mentions.verbs.push(verb);
                    mentions.objects.push(object);
                }
                Piece::Feeling(feeling) => mentions.feelings.push(feeling),
                Piece::Ask(ask) => mentions.asks.push(ask),
                _ => {}
            }
        }
        mentions
    }

    /// The three clauses, by how often they are stated.
    fn clauses(&self) -> [usize; 3] {
        [self.verbs.len(), self.feelings.len(), self.asks.len()]
    }

    fn completeness(&self) -> f64 {
        let points = [EVENT_STATED, FEELING_STATED, ASK_STATED];
        self.clauses()
            .into_iter()
            .zip(points)
            .filter(|(stated, _)| *stated > 0)
            .map(|(_, points)| points)
            .sum()
    }

    fn repeated(&self) -> usize {
        self.clauses()
            .into_iter()
            .map(|stated| stated.saturating_sub(1))
            .sum()
    }

    fn faithfulness(&self, latent: &Latent) -> f64 {
        let Event {
            relation,
            verb,
            object,
        } = &latent.event;
        RIGHT_RELATION * share(&self.relations, relation)
            + RIGHT_VERB * share(&self.verbs, verb)
            + RIGHT_OBJECT * share(&self.objects, object)
            + RIGHT_FEELING * share(&self.feelings, &latent.feeling)
            + RIGHT_ASK * share(&self.asks, &latent.ask)
    }
}

/// The share of `mentions` that are `right`; 0 without mentions.
fn share(mentions: &[&str], right: &str) -> f64 {
    if mentions.is_empty() {
        return 0.0;
    }
    mentions.iter().filter(|mention| **mention == right).count() as f64 / mentions.len() as f64
}
