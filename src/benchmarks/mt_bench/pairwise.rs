//! Comparisons of two models, as FastChat's `show_result.py` counts them: a win is a win in both
//! orders, and anything else without an error is a tie.

use super::NAME;
use super::judge::PairRow;
use super::parse::{Winner, verdict};
use super::questions::Answers;
use super::summary::{Findings, Judged, Row, aggregates, item};
use crate::benchmarks::evaluation::{Evaluation, Summary};
use crate::benchmarks::{Aggregate, ItemScore, MODEL};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The metrics of a comparison: wins, losses, and wins with half a win for a tie.
const METRICS: [&str; 3] = ["win_rate", "loss_rate", "win_rate_adjusted"];

/// The name of the rival that takes the longer answer for the better one.
const LENGTH: &str = "length";

impl Row for PairRow {
    fn question(&self) -> u64 {
        self.question_id
    }

    fn turn(&self) -> u8 {
        self.turn
    }

    fn agrees(&self, other: &Self) -> bool {
        (self.g1_winner, self.g2_winner) == (other.g1_winner, other.g2_winner)
    }
}

/// Counts of comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub wins: usize,
    pub losses: usize,
    pub ties: usize,
    /// Ties in which the two orders have different verdicts.
    pub inconsistent: usize,
    /// Inconsistent comparisons in which the answer shown first has won both games.
    pub first_shown: usize,
}

/// The result of two games for the first model; `None` if a game has no verdict.
fn result(row: &PairRow) -> Option<Winner> {
    match (row.g1_winner, row.g2_winner) {
        (Winner::Error, _) | (_, Winner::Error) => None,
        (first, second) if first == second => Some(first),
        _ => Some(Winner::Tie),
    }
}

impl PairRow {
    /// 1 if the first model has won in both orders, 0 if it has lost in both, one half otherwise;
    /// `None` if a game has no verdict.
    pub fn score(&self) -> Option<f64> {
        let [_, _, adjusted] = values(result(self)?);
        Some(adjusted)
    }
}

/// The values of [`METRICS`] for a result.
fn values(winner: Winner) -> [f64; 3] {
    match winner {
        Winner::First => [1.0, 0.0, 1.0],
        Winner::Second => [0.0, 1.0, 0.0],
        Winner::Tie | Winner::Error => [0.0, 0.0, 0.5],
    }
}

/// The evaluation of the rows' first model against the second. With `answers` of both, the rival
/// `length` has the result that the number of words gives.
///
/// # Errors
/// Those of [`Judged::by_item`], an answer that is missing, and a file without a verdict.
pub fn evaluate(
    judged: &Judged<PairRow>,
    model: &str,
    identity: Value,
    answers: Option<(&Answers, &Answers)>,
) -> Result<(Evaluation, Findings, Counts)> {
    let (mut findings, mut counts) = (Findings::default(), Counts::default());
    let mut items = Vec::new();
    for (question, turn, row) in judged.by_item(&mut findings)? {
        let winner = row.and_then(|row| {
            findings.disagreeing += usize::from(!states_its_winners(row));
            let winner = result(row);
            findings.without_result += usize::from(winner.is_none());
            winner.inspect(|winner| counts.add(row, *winner))
        });
        let missing = match (row, winner) {
            (None, _) => Some("no judgment"),
            (Some(_), None) => Some("a game without a verdict"),
            _ => None,
        };
        let longer = match answers {
            None => None,
            Some((first, second)) => {
                let words = |answers: &Answers| -> Result<usize> {
                    Ok(answers.turn(question, turn)?.split_whitespace().count())
                };
                Some(longer(words(first)?, words(second)?))
            }
        };
        let mut add = |scorer: &str, winner: Option<Winner>| {
            for (place, metric) in METRICS.into_iter().enumerate() {
                items.push(ItemScore {
                    scorer: scorer.to_owned(),
                    task: question.category.clone(),
                    metric: metric.to_owned(),
                    item: item(question.question_id, turn),
                    cluster: question.question_id.to_string(),
                    value: winner.map(|winner| values(winner)[place]),
                    missing: missing.filter(|_| winner.is_none()).map(str::to_owned),
                });
            }
        };
        add(MODEL, winner);
        if let Some(longer) = longer {
            // Both scorers have the same items.
            add(LENGTH, winner.map(|_| longer));
        }
    }
    let summary = Summary {
        benchmark: NAME.to_owned(),
        convention: "fastchat-pairwise".to_owned(),
        model: model.to_owned(),
        identity: json!({"settings": identity, "findings": findings, "counts": counts}),
        aggregates: reported(&items),
    };
    let evaluation = Evaluation { summary, items };
    if evaluation.summary.aggregates.is_empty() {
        return Err(
            Error::data(format!("{}: no row has a verdict", judged.place))
                .hint("look at the judgments: the judge may not write its verdict as [[A]]"),
        );
    }
    evaluation.check(judged.place)?;
    Ok((evaluation, findings, counts))
}

/// The rates over all rows, then the adjusted win rate of each category.
fn reported(items: &[ItemScore]) -> Vec<Aggregate> {
    let of = |metric: &str| aggregates(items, &[metric.to_owned()]).into_iter();
    let rates = METRICS.into_iter().filter_map(|metric| of(metric).next());
    // The means of a single metric begin with two that are the same.
    rates.chain(of(METRICS[2]).skip(2)).collect()
}

fn longer(first: usize, second: usize) -> Winner {
    match first.cmp(&second) {
        std::cmp::Ordering::Greater => Winner::First,
        std::cmp::Ordering::Less => Winner::Second,
        std::cmp::Ordering::Equal => Winner::Tie,
    }
}

/// True if the winners of a row are those that its judgments state.
fn states_its_winners(row: &PairRow) -> bool {
    verdict(&row.g1_judgment) == row.g1_winner
        && verdict(&row.g2_judgment).swapped() == row.g2_winner
}

impl Counts {
    fn add(&mut self, row: &PairRow, winner: Winner) {
        match winner {
            Winner::First => self.wins += 1,
            Winner::Second => self.losses += 1,
            Winner::Tie | Winner::Error => self.ties += 1,
        }
        self.inconsistent += usize::from(row.g1_winner != row.g2_winner);
        let first_shown = (row.g1_winner, row.g2_winner) == (Winner::First, Winner::Second);
        self.first_shown += usize::from(first_shown);
    }
}
