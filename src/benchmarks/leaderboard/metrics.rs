//! From the likelihoods of a document's candidates, or its completion, to its scores; means and
//! standard errors.

use super::answers::Extraction;
use super::conventions::Convention;
use super::document::{Answer, Document, Targets};
use serde::{Deserialize, Serialize};

/// The likelihood of a continuation after its context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// The sum of the tokens' log-probabilities.
    pub log_likelihood: f64,
    /// Whether every token is the most likely one where it stands.
    pub is_greedy: bool,
}

/// A model's answer to the requests of one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Likelihoods(Vec<Likelihood>),
    Completion(String),
}

/// A score of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The metric, under the same name in all conventions.
    pub metric: &'static str,
    /// The score, or the reason for none.
    pub value: Result<f64, String>,
}

/// Accuracy of the most likely candidate.
pub const ACC: &str = "acc";
/// Accuracy of the candidate that is most likely by character.
pub const ACC_NORM: &str = "acc_norm";
/// TruthfulQA: whether the most likely candidate is the true one.
pub const MC1: &str = "mc1";
/// TruthfulQA: the share of probability on true candidates.
pub const MC2: &str = "mc2";
/// GSM8K: whether the answer is right.
pub const EXACT_MATCH: &str = "exact_match";
/// GSM8K: whether the last number of the completion is right.
pub const FLEXIBLE: &str = "exact_match_flexible";

/// The scores of a document, the one of the task's headline not necessarily first.
pub fn scores(document: &Document, response: &Response, convention: Convention) -> Vec<Score> {
    let score = |metric, value| Score { metric, value };
    match (&document.answer, response) {
        (Answer::Solution(solution), Response::Completion(text)) => Extraction::of(convention)
            .iter()
            .map(|rule| {
                let right = rule.is_right(&rule.answer(text), solution);
                let metric = match rule {
                    Extraction::FlexibleExtract => FLEXIBLE,
                    _ => EXACT_MATCH,
                };
                score(metric, Ok(f64::from(right)))
            })
            .collect(),
        (
            Answer::Choice {
                candidates, gold, ..
            },
            Response::Likelihoods(all),
        ) => {
            let likely = finite(all, candidates.len());
            let pick = |metric, choose: &dyn Fn(&[f64]) -> usize| {
                let right = likely.clone().map(|likely| choose(&likely) == *gold);
                score(metric, right.map(f64::from))
            };
            let mut scores = vec![pick(ACC, &argmax)];
            if has_normalised_accuracy(document, convention) {
                scores.push(pick(ACC_NORM, &|likely| {
                    argmax(&by_length(likely, candidates))
                }));
            }
            scores
        }
        (Answer::Context { gold, .. }, Response::Likelihoods(all)) => {
            let right = finite(all, 2).map(|likely| argmax(&likely) == *gold);
            vec![score(ACC, right.map(f64::from))]
        }
        (Answer::Truth { mc1, mc2 }, Response::Likelihoods(all)) => {
            if !convention.is_before_yaml() {
                let value = finite(all, mc2.choices.len());
                return vec![score(
                    MC2,
                    value.and_then(|likely| truth(&likely, mc2, convention)),
                )];
            }
            let (first, second) = all.split_at(mc1.choices.len().min(all.len()));
            let likely = finite(first, mc1.choices.len());
            let right = likely.map(|likely| f64::from(argmax(&likely) == 0));
            let share = finite(second, mc2.choices.len());
            let share = share.and_then(|likely| truth(&likely, mc2, convention));
            vec![score(MC1, right), score(MC2, share)]
        }
        (Answer::Solution(_), Response::Likelihoods(_)) => {
            vec![score(
                EXACT_MATCH,
                Err("likelihoods for a solution".to_owned()),
            )]
        }
        (_, Response::Completion(_)) => {
            vec![score(ACC, Err("a completion for candidates".to_owned()))]
        }
    }
}

/// Whether the accuracy by length is among a task's metrics: of MMLU, whose candidates are letters,
/// up to v0.3.0 alone.
fn has_normalised_accuracy(document: &Document, convention: Convention) -> bool {
    let letters = match &document.answer {
        Answer::Choice {
            candidates, texts, ..
        } => candidates != texts,
        _ => true,
    };
    convention.is_before_yaml() || !letters
}

/// The log-likelihoods of `count` candidates, or what is wrong with them.
fn finite(all: &[Likelihood], count: usize) -> Result<Vec<f64>, String> {
    if all.len() != count {
        return Err(format!("{} likelihoods for {count} candidates", all.len()));
    }
    let likely: Vec<f64> = all.iter().map(|it| it.log_likelihood).collect();
    match likely.iter().position(|value| !value.is_finite()) {
        None => Ok(likely),
        Some(place) => Err(format!(
            "the log-likelihood of candidate {} is {}",
            place + 1,
            likely[place]
        )),
    }
}

/// The place of the largest value, the first of equal ones, as `numpy.argmax`.
pub fn argmax(values: &[f64]) -> usize {
    let better = |best: usize, place: usize| {
        if values[place] > values[best] {
            place
        } else {
            best
        }
    };
    (1..values.len()).fold(0, better)
}

/// Log-likelihoods by character (code point) of the candidates.
pub fn by_length(likely: &[f64], candidates: &[String]) -> Vec<f64> {
    let length = candidates.iter().map(|it| it.chars().count() as f64);
    likely
        .iter()
        .zip(length)
        .map(|(value, length)| value / length)
        .collect()
}

/// Log-likelihoods by byte of the candidates' UTF-8 (`acc_bytes` since v0.4.3, which none of the six
/// tasks reports).
pub fn by_bytes(likely: &[f64], candidates: &[String]) -> Vec<f64> {
    let length = candidates.iter().map(|it| it.len() as f64);
    likely
        .iter()
        .zip(length)
        .map(|(value, length)| value / length)
        .collect()
}

/// The share of probability on true candidates. Until 2c8ffb8 (2025-03) these are the candidates
/// before the first false one; in the data set two questions have a true one behind it.
///
/// # Errors
/// Probabilities that are all 0 as numbers: the reference's mean is NaN then.
pub fn truth(likely: &[f64], targets: &Targets, convention: Convention) -> Result<f64, String> {
    let probabilities: Vec<f64> = likely.iter().map(|value| value.exp()).collect();
    let sum: f64 = probabilities.iter().sum();
    if sum == 0.0 {
        return Err("the probabilities of all candidates are too small for a number".to_owned());
    }
    let first_false = targets.labels.iter().position(|label| !label);
    let is_true = |place: usize| match convention {
        Convention::H5 => targets.labels[place],
        _ => first_false.is_none_or(|first| place < first),
    };
    let shares = probabilities.iter().enumerate();
    Ok(shares
        .filter(|(place, _)| is_true(*place))
        .map(|(_, probability)| probability / sum)
        .sum())
}

/// The mean of values; `None` of none.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard error of the mean, with n − 1 in the variance; `None` of fewer than two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let (mean, n) = (mean(values)?, values.len() as f64);
    let squares: f64 = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    // Expected values by NumPy, from the rules above.

    #[test]
    fn the_first_of_equal_candidates_is_picked() {
        assert_eq!(argmax(&[-4.0, -4.0]), 0);
        assert_eq!(argmax(&[-4.0, -3.0, -3.0]), 1);
        let by_character = by_length(&[-3.0, -3.0, -3.0], &texts(&["x", "yy", "zzz"]));
        assert_eq!(argmax(&by_character), 2);
        // Two characters of four bytes: −3 and −1.97 a character, −1.5 and −1.97 a byte.
        let candidates = texts(&["éé", "abc"]);
        assert_eq!(argmax(&by_length(&[-6.0, -5.9], &candidates)), 1);
        assert_eq!(argmax(&by_bytes(&[-6.0, -5.9], &candidates)), 0);
    }

    #[test]
    fn truth_is_cut_at_the_first_false_candidate_or_masked() {
        let targets = Targets {
            choices: texts(&["a", "b", "c", "d"]),
            labels: vec![true, false, true, false],
        };
        let likely = [-10.0, -12.0, -11.0, -9.5];
        let of = |convention| truth(&likely, &targets, convention).unwrap();
        assert!((of(Convention::H4) - 0.317_265_325_676_664_77).abs() < 1e-15);
        assert!((of(Convention::H5) - 0.433_980_716_389_671_84).abs() < 1e-15);
        let small = truth(&[-800.0; 4], &targets, Convention::H4);
        assert!(small.unwrap_err().contains("too small"));
    }

    #[test]
    fn standard_errors_have_one_degree_of_freedom_less() {
        let values = [1.0, 0.0, 1.0, 1.0, 0.0];
        assert_eq!(mean(&values), Some(0.6));
        assert!((standard_error(&values).unwrap() - 0.244_948_974_278_318).abs() < 1e-15);
        assert_eq!([standard_error(&[1.0]), mean(&[])], [None, None]);
    }
}
