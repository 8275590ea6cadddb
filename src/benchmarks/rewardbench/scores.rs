//! Rewards of pairs, computed in batches, kept in a file as they come so that an interrupted
//! evaluation goes on where it stopped.

use crate::data::rows;
use crate::model::checkpoint::Normalisation;
use crate::model::weights::host;
use crate::model::{Batch, LanguageModel, Packed, Pair, RewardModel, Sequence};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::path::Path;

/// The reward of a policy without a reference, from the log-probabilities of its response's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferenceFree {
    /// Their mean.
    Avg,
    /// Their sum.
    Sum,
    /// Their Euclidean norm, negated.
    Norm,
}

impl ReferenceFree {
    fn of(self, log_probs: &[f32]) -> f64 {
        let all = log_probs.iter().map(|it| f64::from(*it));
        match self {
            Self::Sum => all.sum(),
            Self::Avg => all.sum::<f64>() / log_probs.len() as f64,
            Self::Norm => -all.map(|it| it * it).sum::<f64>().sqrt(),
        }
    }
}

/// A model that gives rewards.
pub enum Scorer {
    Classifier {
        model: Box<RewardModel>,
        normalisation: Normalisation,
    },
    /// log π(y|x) − log π_ref(y|x).
    Policy {
        policy: Box<LanguageModel>,
        reference: Box<LanguageModel>,
    },
    /// A function of the tokens' log-probabilities under π.
    PolicyAlone {
        policy: Box<LanguageModel>,
        reward: ReferenceFree,
    },
}

/// The rewards of one pair; a number that is not finite is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    pub chosen: Option<f64>,
    pub rejected: Option<f64>,
    /// log π(y|x) of both responses, if the model is a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_probabilities: Option<[Option<f64>; 2]>,
}

impl Scorer {
    /// The rewards of `pairs`.
    ///
    /// # Errors
    /// A device failure.
    pub fn score(&self, pairs: &[&Pair]) -> Result<Vec<Rewards>> {
        let sides: Vec<&Sequence> = pairs
            .iter()
            .flat_map(|it| [&it.chosen, &it.rejected])
            .collect();
        match self {
            Self::Classifier {
                model,
                normalisation,
            } => {
                let packed = Packed::new(sides, &model.device());
                let raw = host(model.rewards(&packed))?;
                let rewards = raw.into_iter().map(|it| f64::from(normalisation.apply(it)));
                Ok(paired(rewards, None))
            }
            Self::Policy { policy, reference } => {
                let sum = |own: &[f32]| ReferenceFree::Sum.of(own);
                let own = log_probabilities(policy, &sides, sum)?;
                let base = log_probabilities(reference, &sides, sum)?;
                let rewards = own.iter().zip(&base).map(|(own, base)| own - base);
                Ok(paired(rewards, Some(&own)))
            }
            Self::PolicyAlone { policy, reward } => {
                let both = log_probabilities(policy, &sides, |own| {
                    (reward.of(own), ReferenceFree::Sum.of(own))
                })?;
                let (rewards, sums): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
                Ok(paired(rewards.into_iter(), Some(&sums)))
            }
        }
    }
}

/// A function of the log-probabilities of each response's tokens.
fn log_probabilities<T>(
    model: &LanguageModel,
    sides: &[&Sequence],
    of: impl Fn(&[f32]) -> T,
) -> Result<Vec<T>> {
    let batch = Batch::new(sides.iter().copied(), &model.device());
    let all = host(model.response_log_probs(&batch, 1.0))?;
    let rows = all.chunks(batch.response_width.max(1));
    let lengths = &batch.response_lengths;
    Ok(rows
        .zip(lengths)
        .map(|(row, length)| of(&row[..*length]))
        .collect())
}

/// The rewards of chosen and rejected responses in turn, as pairs.
fn paired(rewards: impl Iterator<Item = f64>, log_probs: Option<&[f64]>) -> Vec<Rewards> {
    let finite = |value: f64| value.is_finite().then_some(value);
    let rewards: Vec<f64> = rewards.collect();
    let pair = |(index, both): (usize, &[f64])| Rewards {
        chosen: finite(both[0]),
        rejected: finite(both[1]),
        log_probabilities: log_probs.map(|it| [finite(it[2 * index]), finite(it[2 * index + 1])]),
    };
    rewards.chunks_exact(2).enumerate().map(pair).collect()
}

/// The rewards of `pairs`, `batch` pairs at a time, the longest first. Those in the file `kept` are
/// taken from there, and new ones are added to it; `progress` is told how many are done.
///
/// # Errors
/// A device failure, and a file that cannot be read or written.
pub fn all(
    scorer: &Scorer,
    pairs: &[Pair],
    batch: usize,
    kept: &Path,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Rewards>> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|index| {
        let pair = &pairs[*index];
        (Reverse(pair.chosen.len().max(pair.rejected.len())), *index)
    });
    let mut done: Vec<Rewards> = rows::read_whole(kept)?;
    if done.len() > pairs.len() {
        return Err(
            Error::data(format!("{} has rewards of other pairs", kept.display())).hint("remove it"),
        );
    }
    progress(done.len());
    let open = order[done.len()..].to_vec();
    for indices in open.chunks(batch.max(1)) {
        let some: Vec<&Pair> = indices.iter().map(|index| &pairs[*index]).collect();
        let rewards = scorer.score(&some)?;
        rows::append(kept, done.len(), &rewards)?;
        done.extend(rewards);
        progress(done.len());
    }
    let mut placed: Vec<(usize, Rewards)> = order.into_iter().zip(done).collect();
    placed.sort_unstable_by_key(|(index, _)| *index);
    Ok(placed.into_iter().map(|(_, rewards)| rewards).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    fn pairs() -> Vec<Pair> {
        let side = |response: &[u32]| Sequence::new(vec![3, 4], response.to_vec());
        [
            [&[5, 6, 1][..], &[7, 1]],
            [&[8, 1], &[9, 10, 11, 12, 1]],
            [&[4], &[4]],
        ]
        .map(|[chosen, rejected]| Pair {
            chosen: side(chosen),
            rejected: side(rejected),
        })
        .to_vec()
    }

    fn policy(seed: u64) -> Box<LanguageModel> {
        Box::new(LanguageModel::tiny(seed))
    }

    #[test]
    fn references_free_rewards_are_functions_of_log_probabilities() {
        let log_probs = [-3.0, -4.0];
        let rewards = [ReferenceFree::Avg, ReferenceFree::Sum, ReferenceFree::Norm];
        assert_eq!(rewards.map(|it| it.of(&log_probs)), [-3.5, -7.0, -5.0]);
    }

    #[test]
    fn an_evaluation_goes_on_where_it_stopped_and_batches_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let (scorer, pairs) = (
            Scorer::Policy {
                policy: policy(1),
                reference: policy(2),
            },
            pairs(),
        );
        let whole = |name: &str, batch| {
            let mut seen = Vec::new();
            let kept = folder.path().join(name);
            let rewards = all(&scorer, &pairs, batch, &kept, |done| seen.push(done));
            (rewards.unwrap(), seen)
        };
        let (alone, seen) = whole("a", 1);
        assert_eq!(seen, [0, 1, 2, 3]);
        let (together, _) = whole("b", 3);
        for (one, other) in alone.iter().zip(&together) {
            assert!((one.chosen.unwrap() - other.chosen.unwrap()).abs() < 1e-5);
        }
        assert_eq!(alone[2].chosen, alone[2].rejected, "equal responses tie");
        assert_ne!(alone[0].chosen, alone[0].rejected);
        let path = folder.path().join("a");
        let text = std::fs::read_to_string(&path).unwrap();
        let first: String = text.split_inclusive('\n').take(2).collect();
        std::fs::write(&path, first + "{\"index\"").unwrap();
        assert_eq!(whole("a", 1), (alone, vec![2, 3]));
    }

    #[test]
    fn a_classifier_reads_both_texts_of_a_pair() {
        let model = RewardModel::on(&policy(1), 0.0, &mut stream(1, "test/head", &[]));
        let scorer = Scorer::Classifier {
            model: Box::new(model),
            normalisation: Normalisation::none(0.0),
        };
        let pairs = pairs();
        let rewards = scorer.score(&pairs.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(rewards.len(), 3);
        assert_eq!(rewards[2].chosen, rewards[2].rejected);
        assert!(rewards[0].log_probabilities.is_none());
    }
}
