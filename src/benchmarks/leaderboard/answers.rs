//! Extraction and comparison of GSM8K's answers.

use super::conventions::Convention;
use crate::python::text::strip;
use regex::Regex;
use std::sync::LazyLock;

/// The answer of a completion without one.
pub const INVALID: &str = "[invalid]";

/// A pattern that is known to be valid.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("the pattern is a constant"));
    };
}

pattern!(WRITTEN, r"#### (-?[0-9.,]+)");
pattern!(NUMBER, r"(-?[$0-9.,]{2,})|(-?[0-9]+)");
pattern!(BEFORE_ANSWER, r"(?s).*#### ");
// Python's `$` also stands before a line feed at the end.
pattern!(LAST_STOP, r"\.(\n?)\z");

/// A rule by which an answer is read from a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extraction {
    /// The first `#### …`, without commas; answers are equal as texts (`tasks/gsm8k.py`).
    Written,
    /// The first `#### …`; answers are equal but for case, commas and dollar signs (filter
    /// `get-answer` at 46c7966).
    GetAnswer,
    /// The first `#### …`; a full stop at the end does not count either (`strict-match`).
    StrictMatch,
    /// The last number anywhere (`flexible-extract`).
    FlexibleExtract,
}

impl Extraction {
    /// The rules of a convention, the one of its headline first.
    pub fn of(convention: Convention) -> &'static [Self] {
        match convention {
            Convention::V030 | Convention::H3 => &[Self::Written],
            Convention::H4 => &[Self::GetAnswer],
            Convention::H5 => &[Self::StrictMatch, Self::FlexibleExtract],
        }
    }

    /// The name of the filter in the harness's result files.
    pub fn filter(self) -> &'static str {
        match self {
            Self::Written => "none",
            Self::GetAnswer => "get-answer",
            Self::StrictMatch => "strict-match",
            Self::FlexibleExtract => "flexible-extract",
        }
    }

    /// The answer in a completion, or [`INVALID`].
    pub fn answer(self, completion: &str) -> String {
        let found = match self {
            Self::Written => written_answer(completion).map(|answer| answer.replace(',', "")),
            Self::GetAnswer | Self::StrictMatch => written_answer(completion).map(str::to_owned),
            Self::FlexibleExtract => last_number(completion).map(str::to_owned),
        };
        found.unwrap_or_else(|| INVALID.to_owned())
    }

    /// Whether an extracted answer equals that of a solution.
    pub fn is_right(self, answer: &str, solution: &str) -> bool {
        match self {
            Self::Written => answer == Self::Written.answer(solution),
            _ => self.normal(answer) == self.normal(solution),
        }
    }

    /// A text without what the comparison ignores.
    fn normal(self, text: &str) -> String {
        let text = text.replace([',', '$'], "");
        let text = BEFORE_ANSWER.replace_all(&text, "");
        let text = match self {
            Self::StrictMatch | Self::FlexibleExtract => LAST_STOP.replace(&text, "$1"),
            Self::Written | Self::GetAnswer => text,
        };
        text.to_lowercase()
    }
}

/// The first `#### …` of a text.
pub fn written_answer(text: &str) -> Option<&str> {
    let found = WRITTEN.captures(text)?.get(1)?;
    Some(strip(found.as_str()))
}

/// The last number of a text.
fn last_number(text: &str) -> Option<&str> {
    let found = NUMBER.find_iter(text).last()?;
    Some(strip(found.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each convention's rules find the answer 1,072 in a completion.
    fn right(completion: &str) -> [bool; 4] {
        let solution = "She sold 48/2 = <<48/2=24>>24.\n#### 1,072";
        let rules = [
            Extraction::Written,
            Extraction::GetAnswer,
            Extraction::StrictMatch,
            Extraction::FlexibleExtract,
        ];
        rules.map(|rule| rule.is_right(&rule.answer(completion), solution))
    }

    #[test]
    fn rules_differ_in_stops_dollars_and_places() {
        assert_eq!(right("x\n#### 1072"), [true; 4]);
        assert_eq!(right("x\n#### 1,072."), [false, false, true, true]);
        assert_eq!(right("#### 12 then #### 1072"), [false, false, false, true]);
        assert_eq!(right("The answer is $1,072."), [false, false, false, true]);
        assert_eq!(right("it is 1072 apples, 3 left"), [false; 4]);
        assert_eq!(right("#### $1072"), [false, false, false, true]);
        assert_eq!(right("none"), [false; 4]);
    }

    #[test]
    fn answers_are_found_or_marked() {
        let answers = |text: &str| {
            [
                Extraction::Written,
                Extraction::GetAnswer,
                Extraction::FlexibleExtract,
            ]
            .map(|rule| rule.answer(text))
        };
        assert_eq!(answers("#### 1,072. end"), ["1072.", "1,072.", "1,072."]);
        assert_eq!(answers("a 7"), [INVALID, INVALID, "7"]);
        assert_eq!(answers(" a. b."), [INVALID; 3]);
    }
}
