//! The reading of scores and verdicts, as FastChat reads them (`fastchat/llm_judge/common.py`).

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use std::sync::LazyLock;

/// The name and version of [`score`], for the keys of answers.
pub const SCORE_PARSER: &str = "mt-bench-score/1";
/// The name and version of [`verdict`], for the keys of answers.
pub const VERDICT_PARSER: &str = "mt-bench-verdict/1";

/// The judgment of a call that has failed.
pub const ERROR_JUDGMENT: &str = "$ERROR$";

/// The score of a judgment without one.
pub const NO_SCORE: i64 = -1;

/// FastChat's patterns for one score, the first that occurs counts. `\d` is any decimal digit of
/// Unicode, as in Python.
static PATTERNS: LazyLock<Option<[Regex; 2]>> = LazyLock::new(|| {
    let pattern = |text| Regex::new(text).ok();
    Some([
        pattern(r"\[\[(\d+\.?\d*)\]\]")?,
        pattern(r"\[(\d+\.?\d*)\]")?,
    ])
});

/// The score that a judgment states, without a check of its range; `None` if it states none.
///
/// # Errors
/// A number that Python's `ast.literal_eval` refuses, such as `08`: FastChat ends there.
pub fn score(judgment: &str) -> Result<Option<Number>, String> {
    let Some(patterns) = PATTERNS.as_ref() else {
        return Err("the patterns of scores cannot be compiled".to_owned());
    };
    let found = patterns
        .iter()
        .find_map(|pattern| pattern.captures(judgment));
    let text = found.as_ref().and_then(|found| found.get(1));
    text.map(|text| literal(text.as_str())).transpose()
}

/// A number as Python's `ast.literal_eval` reads it: whole if it has no point.
fn literal(text: &str) -> Result<Number, String> {
    let refused = |why: &str| {
        Err(format!(
            "the score `{text}` {why}, and FastChat ends with an error"
        ))
    };
    if !text.is_ascii() {
        return refused("has digits that Python does not read as a number");
    }
    if text.contains('.') {
        let value = text.parse().ok().and_then(Number::from_f64);
        return value.map_or_else(|| refused("is too large"), Ok);
    }
    let digits = text.trim_start_matches('0');
    match digits {
        "" => Ok(Number::from(0)),
        _ if digits.len() < text.len() => refused("has a leading zero, which Python refuses"),
        _ => match (
            text.parse::<u64>(),
            text.parse().ok().and_then(Number::from_f64),
        ) {
            (Ok(whole), _) => Ok(Number::from(whole)),
            (Err(_), Some(large)) => Ok(large),
            (Err(_), None) => refused("is too large"),
        },
    }
}

/// The winner of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Winner {
    #[serde(rename = "model_1")]
    First,
    #[serde(rename = "model_2")]
    Second,
    #[serde(rename = "tie")]
    Tie,
    /// A judgment without a verdict.
    #[serde(rename = "error")]
    Error,
}

impl Winner {
    /// The winner with the sides changed over.
    pub fn swapped(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            same => same,
        }
    }
}

/// The verdict of a judgment, where the first of the models is assistant A: the first of the three
/// marks that occurs anywhere, in the order A, B, tie.
pub fn verdict(judgment: &str) -> Winner {
    let marks = [
        ("[[A]]", Winner::First),
        ("[[B]]", Winner::Second),
        ("[[C]]", Winner::Tie),
    ];
    let found = marks.into_iter().find(|(mark, _)| judgment.contains(mark));
    found.map_or(Winner::Error, |(_, winner)| winner)
}

/// A score as JSON for the cache: the number, null for none, or the reason for a refusal.
pub fn score_as_json(judgment: &str) -> Value {
    match score(judgment) {
        Ok(score) => score.map_or(Value::Null, Value::Number),
        Err(why) => Value::String(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judgments with the score that FastChat's expressions make of them in Python 3.12, or `raises`.
    #[test]
    fn scores_are_those_of_python() {
        for (judgment, expected) in [
            ("Rating: [[7]]", "7"),
            ("[[7.5]]", "7.5"),
            ("[[7.]]", "7.0"),
            ("[[100]]", "100"),
            ("[[0]]", "0"),
            ("[[00]]", "0"),
            ("[[08.5]]", "8.5"),
            ("[[08.]]", "8.0"),
            ("[5]", "5"),
            ("see [1] and [[9]]", "9"),
            ("[[7] and [6]", "7"),
            ("[[[8]]]", "8"),
            ("[[3]] then [[4]]", "3"),
            ("[[ 7 ]] or [2]", "2"),
            ("[[-3]]", "none"),
            ("[[7/10]]", "none"),
            ("[[.5]]", "none"),
            ("[[1.2.3]]", "none"),
            ("[[]]", "none"),
            ("[[rating]]", "none"),
            ("", "none"),
            ("Rating: 7", "none"),
            ("[[08]]", "raises"),
            ("[[007]] [[5]]", "raises"),
            ("[[٧]]", "raises"),
            ("[[18446744073709551616]]", "1.8446744073709552e+19"),
        ] {
            let told = match score(judgment) {
                Ok(None) => "none".to_owned(),
                Ok(Some(number)) => number.to_string(),
                Err(_) => "raises".to_owned(),
            };
            assert_eq!(told, expected, "{judgment}");
        }
    }

    #[test]
    fn a_verdict_is_the_first_mark_in_the_order_of_the_reference() {
        for (judgment, expected) in [
            ("[[A]]", Winner::First),
            ("so [[B]] wins", Winner::Second),
            ("[[C]]", Winner::Tie),
            ("[[C]], no, [[B]], no, [[A]]", Winner::First),
            ("[[B]] or [[C]]", Winner::Second),
            ("[A]", Winner::Error),
            ("", Winner::Error),
        ] {
            assert_eq!(verdict(judgment), expected, "{judgment}");
        }
        assert_eq!(Winner::First.swapped(), Winner::Second);
        assert_eq!(Winner::Tie.swapped(), Winner::Tie);
    }
}
