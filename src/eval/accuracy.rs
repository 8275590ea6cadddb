//! Accuracy of a reward on pairs: the share of pairs whose preferred response scores higher, where
//! a tie counts one half. Explicit rewards, implicit ones and the heuristics that any reward must
//! beat are measured on the same pairs.

use super::check_finite;
use crate::Result;
use crate::data::TextEncoder;
use crate::data::rows::ResponsePair;
use crate::judges::{Judge, Prompt, Row};
use half::bf16;

/// The results of a judge on pairs, by the total score and by the score per token of the response.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    /// 1 where the preferred response scores higher, ½ where both score the same, else 0.
    pub by_score: Vec<f64>,
    pub per_token: Vec<f64>,
    /// By the total score in bf16, as a head in that type gives it: near scores become ties.
    pub in_bf16: Vec<f64>,
}

/// Ranks `pairs` with `judge`.
///
/// # Errors
/// A pair that cannot be converted to tokens, or a score that is not finite.
pub fn rank(judge: &dyn Judge, pairs: &[ResponsePair], encoder: &TextEncoder) -> Result<Ranked> {
    let prompts = pairs
        .iter()
        .map(|pair| Ok(Prompt::new(&pair.prompt).with_tokens(encoder.prompt(&pair.prompt)?)))
        .collect::<Result<Vec<_>>>()?;
    let rows: Vec<Row> = pairs
        .iter()
        .zip(&prompts)
        .flat_map(|(pair, prompt)| [(prompt, &pair.chosen), (prompt, &pair.rejected)])
        .collect();
    let scores = judge.scores(&rows)?;
    check_finite(&scores, |at| side(pairs, at))?;
    let per_token: Vec<f64> = scores
        .iter()
        .zip(&rows)
        .map(|(score, (_, response))| score / response.ids.len().max(1) as f64)
        .collect();
    let in_bf16: Vec<f64> = scores
        .iter()
        .map(|score| bf16::from_f64(*score).to_f64())
        .collect();
    let values = |scores: &[f64]| {
        let ranked = pairs.iter().zip(scores.chunks(2));
        ranked
            .map(|(pair, sides)| {
                if pair.is_identical() {
                    0.5
                } else {
                    win(sides[0], sides[1])
                }
            })
            .collect()
    };
    Ok(Ranked {
        by_score: values(&scores),
        per_token: values(&per_token),
        in_bf16: values(&in_bf16),
    })
}

/// The value of a comparison of two finite scores: 1 where the first is higher, 0 where it is
/// lower, ½ for an exact tie.
pub fn win(first: f64, second: f64) -> f64 {
    if first > second {
        1.0
    } else if first == second {
        0.5
    } else {
        0.0
    }
}

/// Describes the response whose score is at index `at`, where the two responses of each pair follow
/// each other.
fn side(pairs: &[ResponsePair], at: usize) -> String {
    let side = if at.is_multiple_of(2) {
        "preferred"
    } else {
        "other"
    };
    format!(
        "the {side} response of pair {} (`{}`)",
        at / 2 + 1,
        pairs[at / 2].id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Response;
    use proptest::prelude::*;

    fn pair(id: &str) -> ResponsePair {
        let side = |text: &str, ids: &[u32]| Response {
            text: text.into(),
            ids: ids.to_vec(),
            ended: true,
        };
        ResponsePair {
            id: id.into(),
            prompt: "p".into(),
            chosen: side("a", &[1, 0]),
            rejected: side("b", &[2, 0]),
        }
    }

    #[test]
    fn a_score_that_is_not_finite_names_its_pair() {
        let pairs = [pair("first"), pair("second")];
        let check = |scores: &[f64]| check_finite(scores, |at| side(&pairs, at));
        check(&[0.0, -1.0, 1.0, 2.0]).unwrap();
        for (scores, named) in [
            (
                [0.0, f64::NAN, 1.0, 2.0],
                "the other response of pair 1 (`first`) is NaN",
            ),
            (
                [0.0, 1.0, f64::INFINITY, 2.0],
                "the preferred response of pair 2 (`second`) is inf",
            ),
        ] {
            let error = check(&scores).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Divergence);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    proptest! {
        /// Few distinct scores, so that ties are frequent.
        #[test]
        fn swapping_the_sides_gives_the_rest_of_one(scores in prop::collection::vec((-3_i8..3, -3_i8..3), 1..50)) {
            let accuracy = |swap: bool| {
                let values = scores.iter().map(|(a, b)| {
                    let (a, b) = (f64::from(*a), f64::from(*b));
                    if swap { win(b, a) } else { win(a, b) }
                });
                values.sum::<f64>() / scores.len() as f64
            };
            prop_assert!((accuracy(false) + accuracy(true) - 1.0).abs() < 1e-12);
        }
    }
}
