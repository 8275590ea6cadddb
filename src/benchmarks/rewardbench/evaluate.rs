//! The evaluation of a model and its trivial rivals from the rewards of all pairs.

use super::rows::{Pair, present, several};
use super::scores::Rewards;
use super::{ACCURACY, Convention, NAME, sections};
use crate::benchmarks::evaluation::Summary;
use crate::benchmarks::{Evaluation, ItemScore, MODEL};
use serde_json::Value;
use std::collections::BTreeMap;

/// The rival that prefers the response with more characters.
pub const LENGTH: &str = "length";
/// The rival that tosses a fair coin; its score is the expectation.
pub const RANDOM: &str = "random";
/// The rival that prefers the response that the policy itself finds more probable.
pub const LOG_PROBABILITY: &str = "log_probability";

/// The evaluation of the model that gave `rewards` to `pairs`.
pub fn evaluation(
    pairs: &[Pair],
    rewards: &[Rewards],
    convention: Convention,
    model: &str,
    identity: Value,
) -> Evaluation {
    let mut items: Vec<ItemScore> = pairs
        .iter()
        .zip(rewards)
        .map(|(pair, it)| of_rewards(pair, MODEL, convention, [it.chosen, it.rejected], "reward"))
        .collect();
    let length = |text: &str| text.chars().count() as f64;
    items.extend(pairs.iter().map(|pair| {
        let score = convention.score(length(&pair.chosen), length(&pair.rejected));
        item(pair, LENGTH, Ok(score))
    }));
    items.extend(pairs.iter().map(|pair| item(pair, RANDOM, Ok(0.5))));
    let log_probabilities = pairs.iter().zip(rewards).filter_map(|(pair, it)| {
        let both = it.log_probabilities?;
        Some(of_rewards(
            pair,
            LOG_PROBABILITY,
            convention,
            both,
            "log-probability",
        ))
    });
    items.extend(log_probabilities);
    Evaluation {
        summary: Summary {
            benchmark: NAME.to_owned(),
            convention: convention.name().to_owned(),
            model: model.to_owned(),
            identity,
            aggregates: sections::aggregates(&present(pairs), convention),
        },
        items,
    }
}

fn of_rewards(
    pair: &Pair,
    scorer: &str,
    convention: Convention,
    rewards: [Option<f64>; 2],
    what: &str,
) -> ItemScore {
    let score = match rewards {
        [Some(chosen), Some(rejected)] => Ok(convention.score(chosen, rejected)),
        [None, Some(_)] => Err(format!("the {what} of `chosen` is not finite")),
        [Some(_), None] => Err(format!("the {what} of `rejected` is not finite")),
        [None, None] => Err(format!("the {what}s of both responses are not finite")),
    };
    item(pair, scorer, score)
}

fn item(pair: &Pair, scorer: &str, score: Result<f64, String>) -> ItemScore {
    ItemScore {
        scorer: scorer.to_owned(),
        task: pair.subset.clone(),
        metric: ACCURACY.to_owned(),
        item: pair.item.clone(),
        cluster: pair.cluster.clone(),
        value: score.as_ref().ok().copied(),
        missing: score.err(),
    }
}

/// The accuracy of each subset as the references compute it: a pair without finite rewards is
/// wrong.
pub fn accuracies(
    pairs: &[Pair],
    rewards: &[Rewards],
    convention: Convention,
) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (pair, it) in pairs.iter().zip(rewards) {
        let (sum, count) = sums.entry(pair.subset.clone()).or_default();
        *sum += verdict(it, convention);
        *count += 1;
    }
    let mean = |(name, (sum, count)): (String, (f64, usize))| (name, sum / count as f64);
    sums.into_iter().map(mean).collect()
}

/// The score of a pair as the references compute it.
pub fn verdict(rewards: &Rewards, convention: Convention) -> f64 {
    let number = |reward: Option<f64>| reward.unwrap_or(f64::NAN);
    convention.score(number(rewards.chosen), number(rewards.rejected))
}

/// Sentences about ties and missing rewards.
pub fn notices(pairs: &[Pair], rewards: &[Rewards], convention: Convention) -> Vec<String> {
    let tied = |it: &Rewards| it.chosen.is_some() && it.chosen == it.rejected;
    let mut by_subset: BTreeMap<&str, usize> = BTreeMap::new();
    for (pair, _) in pairs.iter().zip(rewards).filter(|(_, it)| tied(it)) {
        *by_subset.entry(&pair.subset).or_default() += 1;
    }
    let count: usize = by_subset.values().sum();
    let named: Vec<String> = by_subset
        .iter()
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let each = match convention {
        Convention::Allenai => "each counts as wrong",
        Convention::Rlhflow => "each counts as half right",
    };
    let ties = match count {
        0 => format!("no ties: the rewards of all {} pairs differ", pairs.len()),
        _ => format!(
            "{count} of {} pairs tie exactly ({}); {each} ({convention})",
            pairs.len(),
            named.join(", ")
        ),
    };
    let missing: Vec<String> = pairs
        .iter()
        .zip(rewards)
        .filter(|(_, it)| it.chosen.is_none() || it.rejected.is_none())
        .map(|(pair, _)| pair.place.clone())
        .collect();
    let what =
        "pairs have a reward that is not finite: missing among the items, wrong in eval-set.json";
    [Some(ties), several(what, &missing)]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(subset: &str, item: &str, chosen: &str, rejected: &str) -> Pair {
        Pair {
            place: format!("x.jsonl, line {item}"),
            subset: subset.into(),
            item: item.into(),
            cluster: item.into(),
            prompt: vec!["q".into()],
            chosen: chosen.into(),
            rejected: rejected.into(),
            unended: [false; 2],
        }
    }

    fn rewards(chosen: f64, rejected: f64) -> Rewards {
        let finite = |value: f64| value.is_finite().then_some(value);
        Rewards {
            chosen: finite(chosen),
            rejected: finite(rejected),
            log_probabilities: Some([Some(-1.0), Some(-2.0)]),
        }
    }

    /// The four pairs of rewards by which the two references' tie rules differ.
    #[test]
    fn ties_are_wrong_or_half_right() {
        let cases = [(1.0, 0.5), (0.25, 0.25), (-1.0, 2.0), (0.0, -0.0)];
        let scores = |it: Convention| cases.map(|(chosen, rejected)| it.score(chosen, rejected));
        assert_eq!(scores(Convention::Allenai), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(scores(Convention::Rlhflow), [1.0, 0.5, 0.0, 0.5]);
        assert_eq!(Convention::Rlhflow.score(f64::NAN, f64::NAN), 0.0);
    }

    #[test]
    fn a_reward_that_is_not_finite_is_missing_by_name() {
        let pairs = [
            pair("hep-go", "1", "ab", "c"),
            pair("hep-go", "2", "é", "e"),
            pair("shp", "1", "a", "bc"),
        ];
        let rewards = [
            rewards(f64::NAN, 1.0),
            rewards(0.5, 0.5),
            rewards(2.0, f64::INFINITY),
        ];
        let convention = Convention::Rlhflow;
        let done = evaluation(&pairs, &rewards, convention, "m", Value::Null);
        done.check("here").unwrap();
        let values = |scorer: &str| -> Vec<Option<f64>> {
            let of = done.items.iter().filter(|it| it.scorer == scorer);
            of.map(|it| it.value).collect()
        };
        assert_eq!(values(MODEL), [None, Some(0.5), None]);
        assert_eq!(values(LENGTH), [Some(1.0), Some(0.5), Some(0.0)]);
        assert_eq!(values(RANDOM), [Some(0.5); 3]);
        assert_eq!(values(LOG_PROBABILITY), [Some(1.0); 3]);
        assert_eq!(
            done.items[0].missing.as_deref(),
            Some("the reward of `chosen` is not finite")
        );
        let accuracies = accuracies(&pairs, &rewards, convention);
        assert_eq!(accuracies["hep-go"], 0.25);
        assert_eq!(accuracies["shp"], 0.0);
        assert_eq!(
            notices(&pairs, &rewards, convention),
            [
                "1 of 3 pairs tie exactly (hep-go 1); each counts as half right (rlhflow)",
                "2 pairs have a reward that is not finite: missing among the items, wrong in eval-set.json: \
                 x.jsonl, line 1; x.jsonl, line 1"
            ]
        );
    }
}
