//! Trivial rivals of a model: what a task's number is worth is what it is above theirs.

use super::document::{Answer, Document, Targets};
use super::metrics::{MC1, MC2, Response, Score};

/// The expected score of a choice at random.
pub const RANDOM: &str = "random";
/// The choice of the candidate with the most characters, the first of equal ones.
pub const LONGEST: &str = "longest";
/// The choice of the candidate with the fewest characters, the first of equal ones.
pub const SHORTEST: &str = "shortest";

/// The scores of the rivals under each of `metrics`. A task whose answers are written has none.
pub fn scores(
    document: &Document,
    metrics: &[&'static str],
    response: &Response,
) -> Vec<(&'static str, Score)> {
    if matches!(response, Response::Completion(_)) {
        return Vec::new();
    }
    let of_metric = |metric: &&'static str| {
        let values = match &document.answer {
            Answer::Choice { texts, gold, .. } => of_one(texts, *gold),
            Answer::Context { texts, gold, .. } => of_one(texts, *gold),
            Answer::Truth { mc1, .. } if *metric == MC1 => of_one(&mc1.choices, 0),
            Answer::Truth { mc2, .. } if *metric == MC2 => of_several(mc2),
            Answer::Truth { .. } | Answer::Solution(_) => return Vec::new(),
        };
        let score = |(rival, value)| {
            let value = Ok(value);
            let metric = *metric;
            (rival, Score { metric, value })
        };
        values.into_iter().map(score).collect()
    };
    metrics.iter().flat_map(of_metric).collect()
}

/// The scores where one candidate is right.
fn of_one(texts: &[String], gold: usize) -> [(&'static str, f64); 3] {
    let [longest, shortest] = extremes(texts);
    [
        (RANDOM, 1.0 / texts.len() as f64),
        (LONGEST, f64::from(longest == gold)),
        (SHORTEST, f64::from(shortest == gold)),
    ]
}

/// The scores where several candidates may be true: the share of them that are, and whether the one
/// that a rival puts all its probability on is.
fn of_several(targets: &Targets) -> [(&'static str, f64); 3] {
    let [longest, shortest] = extremes(&targets.choices);
    let is_true = |place: usize| f64::from(targets.labels[place]);
    let all = targets.labels.len() as f64;
    let share = targets.labels.iter().filter(|label| **label).count() as f64 / all;
    [
        (RANDOM, share),
        (LONGEST, is_true(longest)),
        (SHORTEST, is_true(shortest)),
    ]
}

/// The places of the longest and the shortest text, each the first of equal ones.
fn extremes(texts: &[String]) -> [usize; 2] {
    let lengths: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
    let first = |better: fn(usize, usize) -> bool| {
        (1..lengths.len()).fold(0, |best, place| {
            if better(lengths[place], lengths[best]) {
                place
            } else {
                best
            }
        })
    };
    [first(|a, b| a > b), first(|a, b| a < b)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rivals_look_at_lengths_alone() {
        let texts = ["bb", "aaa", "é", "ccc", "d"].map(str::to_owned);
        assert_eq!(extremes(&texts), [1, 2]);
        assert_eq!(
            of_one(&texts, 1),
            [(RANDOM, 0.2), (LONGEST, 1.0), (SHORTEST, 0.0)]
        );
        let targets = Targets {
            choices: texts.to_vec(),
            labels: vec![true, false, true, false, false],
        };
        assert_eq!(
            of_several(&targets),
            [(RANDOM, 0.4), (LONGEST, 0.0), (SHORTEST, 1.0)]
        );
    }
}
