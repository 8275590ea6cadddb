//! The numbers of evaluations with their errors, and differences between evaluations of the same
//! items.

use super::evaluation::{Aggregate, Evaluation, ItemScore, is_share_metric};
use crate::stats::{Strata, Test};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// A side of a comparison: evaluations of one method, one for each seed, and the scorer whose
/// scores count.
#[derive(Clone, Debug)]
pub struct Entrant {
    pub name: String,
    pub scorer: String,
    pub seeds: Vec<Evaluation>,
}

/// A number with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    pub test: Test,
    /// Items that count.
    pub items: usize,
    /// Items that do not, for want of a score.
    pub missing: usize,
    /// Items that do not, because the other side lacks them.
    pub unmatched: usize,
}

/// An item by its part of the aggregate and its name.
type Key<'a> = (usize, &'a str);

/// The scores of an aggregate's items.
struct Scores<'a> {
    /// Of every item: its cluster, and a score for each seed.
    items: BTreeMap<Key<'a>, (&'a str, Vec<f64>)>,
    missing: usize,
}

impl Entrant {
    /// The first seed's evaluation, which has the aggregates.
    ///
    /// # Errors
    /// No evaluation at all.
    pub fn first(&self) -> Result<&Evaluation> {
        self.seeds.first().ok_or_else(|| {
            Error::data(format!("{} has no evaluation", self.name))
                .hint("give a folder that `touchstone eval` has written")
        })
    }

    /// The aggregate called `name`, which every seed must define alike.
    ///
    /// # Errors
    /// A seed without it, or with another definition.
    pub fn aggregate(&self, name: &str) -> Result<&Aggregate> {
        let find = |of: &'_ Evaluation| {
            let found = of.summary.aggregates.iter().find(|it| it.name == name);
            found.cloned()
        };
        let first = self.first()?;
        for (at, seed) in self.seeds.iter().enumerate().skip(1) {
            if find(seed) != find(first) {
                return Err(Error::data(format!(
                    "{}: {name} of evaluation {} is another number than that of the first",
                    self.name,
                    at + 1
                ))
                .hint("evaluate all seeds by the same benchmark, convention and tasks"));
            }
        }
        let all = &first.summary.aggregates;
        all.iter().find(|it| it.name == name).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
            Error::data(format!("{} has no number {name}", self.name))
                .hint(format!("it has {}", names.join(", ")))
        })
    }

    /// The value of `aggregate` with its error; `None` if the scorer has no score for a part.
    ///
    /// # Errors
    /// Seeds with different items, or a part of which every score is missing.
    pub fn number(&self, aggregate: &Aggregate, level: f64) -> Result<Option<Number>> {
        let Some(scores) = self.scores(aggregate)? else {
            return Ok(None);
        };
        let missing = scores.missing;
        let of = match is_share(aggregate, &scores.items) {
            true => Of::Shares,
            false => Of::Means,
        };
        let number = estimate(&self.name, aggregate, scores.items, of, level)?;
        Ok(Some(Number { missing, ..number }))
    }

    fn scores(&self, aggregate: &Aggregate) -> Result<Option<Scores<'_>>> {
        let mut seeds = self.seeds.iter();
        let Some(first) = seeds.next() else {
            return Ok(None);
        };
        let Some(found) = self.of_seed(first, aggregate) else {
            return Ok(None);
        };
        let mut items: BTreeMap<Key, (&str, Vec<Option<f64>>)> = found
            .into_iter()
            .map(|(key, it)| (key, (it.cluster.as_str(), vec![it.value])))
            .collect();
        for (at, seed) in seeds.enumerate() {
            let found = self.of_seed(seed, aggregate).unwrap_or_default();
            let absent = items.keys().find(|key| !found.contains_key(*key));
            let added = found.keys().find(|key| !items.contains_key(*key));
            if let Some((part, item)) = absent.or(added) {
                return Err(Error::data(format!(
                    "{}: item {item} of {} is not in both evaluation 1 and evaluation {}",
                    self.name,
                    aggregate.parts[*part].task,
                    at + 2
                ))
                .hint("evaluate all seeds on the same items"));
            }
            for (key, it) in found {
                if let Some((_, values)) = items.get_mut(&key) {
                    values.push(it.value);
                }
            }
        }
        let all = items.len();
        let items: BTreeMap<_, _> = items
            .into_iter()
            .filter_map(|(key, (cluster, values))| {
                let values: Option<Vec<f64>> = values.into_iter().collect();
                Some((key, (cluster, values?)))
            })
            .collect();
        let missing = all - items.len();
        Ok(Some(Scores { items, missing }))
    }

    /// The items of one evaluation; `None` if a part has none by this scorer.
    fn of_seed<'a>(
        &'a self,
        seed: &'a Evaluation,
        aggregate: &Aggregate,
    ) -> Option<BTreeMap<Key<'a>, &'a ItemScore>> {
        let mut part: BTreeMap<(&str, &str), (usize, bool)> = BTreeMap::new();
        for (at, it) in aggregate.parts.iter().enumerate() {
            part.insert((&it.task, &it.metric), (at, false));
        }
        let mut found = BTreeMap::new();
        for it in seed.items.iter().filter(|it| it.scorer == self.scorer) {
            if let Some((at, seen)) = part.get_mut(&(it.task.as_str(), it.metric.as_str())) {
                *seen = true;
                found.insert((*at, it.item.as_str()), it);
            }
        }
        part.values().all(|(_, seen)| *seen).then_some(found)
    }
}

/// The difference `a` − `b` of an aggregate over the items that both have, paired by item and by
/// seed; a side with one seed is paired with every seed of the other. With `common`, items that one
/// side lacks are left out, and the weights of `a` count. `None` if a scorer has no score for a
/// part.
///
/// # Errors
/// Aggregates that are defined differently; items that only one side has, unless `common` items
/// are asked for; unequal numbers of seeds of which neither is one.
pub fn difference(
    a: &Entrant,
    b: &Entrant,
    name: &str,
    common: bool,
    level: f64,
) -> Result<Option<Number>> {
    let aggregate = a.aggregate(name)?;
    let both = format!("{} − {}", a.name, b.name);
    let other = b.aggregate(name)?;
    // Where a mean is over the scores that there are, weights differ with what is missing.
    let alike = if common {
        let parts = |of: &Aggregate| -> BTreeSet<(String, String)> {
            let parts = of.parts.iter();
            parts
                .map(|it| (it.task.clone(), it.metric.clone()))
                .collect()
        };
        parts(other) == parts(aggregate)
    } else {
        other == aggregate
    };
    if !alike {
        return Err(Error::data(format!(
            "{both}: {name} is not made of the same parts with the same weights"
        ))
        .hint("evaluate both by the same benchmark, convention and tasks; if only scores are missing, compare the common items with --common"));
    }
    let (Some(ours), Some(theirs)) = (a.scores(aggregate)?, b.scores(aggregate)?) else {
        return Ok(None);
    };
    let (ours, theirs, unmatched) = matched(&both, aggregate, ours, theirs, common)?;
    let missing = unmatched.missing;
    let mut differences = BTreeMap::new();
    for (key, (cluster, own)) in ours {
        let Some((_, other)) = theirs.get(&key) else {
            continue;
        };
        differences.insert(key, (cluster, subtract(&both, &own, other)?));
    }
    let number = estimate(&both, aggregate, differences, Of::Means, level)?;
    Ok(Some(Number {
        missing,
        unmatched: unmatched.items,
        ..number
    }))
}

/// Items that a comparison leaves out.
struct LeftOut {
    missing: usize,
    items: usize,
}

type Items<'a> = BTreeMap<Key<'a>, (&'a str, Vec<f64>)>;

/// Both sides with the items that they share, and the number of others.
fn matched<'a>(
    both: &str,
    aggregate: &Aggregate,
    ours: Scores<'a>,
    theirs: Scores<'a>,
    common: bool,
) -> Result<(Items<'a>, Items<'a>, LeftOut)> {
    let lacks = |one: &Scores, other: &Scores| {
        let mut keys = one.items.keys().filter(|it| !other.items.contains_key(*it));
        let first = keys.next().map(|(part, item)| (*part, (*item).to_owned()));
        (usize::from(first.is_some()) + keys.count(), first)
    };
    let (only_ours, first_ours) = lacks(&ours, &theirs);
    let (only_theirs, first_theirs) = lacks(&theirs, &ours);
    // An item without a score counts as missing, and any other that one side lacks as unmatched.
    let missing = (ours.missing + theirs.missing).min(only_ours + only_theirs);
    if let Some((part, item)) = first_ours.or(first_theirs).filter(|_| !common) {
        return Err(Error::data(format!(
            "{both}: {only_ours} items have a score only on the left side and {only_theirs} only on the right, \
             the first is {item} of {}",
            aggregate.parts[part].task
        ))
        .hint("evaluate both on the same items, or compare the common ones with --common"));
    }
    let left_out = LeftOut {
        missing,
        items: only_ours + only_theirs - missing,
    };
    Ok((ours.items, theirs.items, left_out))
}

fn subtract(both: &str, own: &[f64], other: &[f64]) -> Result<Vec<f64>> {
    let seeds = own.len().max(other.len());
    let is_one = |side: &[f64]| side.len() == 1;
    if own.len() != other.len() && !is_one(own) && !is_one(other) {
        return Err(Error::data(format!(
            "{both}: {} seeds cannot be paired with {}",
            own.len(),
            other.len()
        ))
        .hint("give the same seeds of both, in the same order, or one of one side"));
    }
    let at = |side: &[f64], seed: usize| side[if is_one(side) { 0 } else { seed }];
    Ok((0..seeds)
        .map(|seed| at(own, seed) - at(other, seed))
        .collect())
}

/// The kind of a number, which decides on its interval.
#[derive(Clone, Copy)]
enum Of {
    Means,
    /// Means of scores between 0 and 1, which such a mean cannot leave.
    Shares,
}

/// Whether a number is a share of right answers, of wins or of probability.
fn is_share(aggregate: &Aggregate, items: &Items) -> bool {
    let mut scores = items.values().flat_map(|(_, values)| values);
    aggregate
        .parts
        .iter()
        .all(|part| is_share_metric(&part.metric))
        && scores.all(|score| (0.0..=1.0).contains(score))
}

fn estimate(who: &str, aggregate: &Aggregate, items: Items, of: Of, level: f64) -> Result<Number> {
    let parts = &aggregate.parts;
    if let Some(part) = (0..parts.len()).find(|part| !items.keys().any(|(at, _)| at == part)) {
        return Err(Error::data(format!(
            "{who}: no item of {} has a score under {}",
            parts[part].task, parts[part].metric
        ))
        .hint("find out why its scores are missing, or leave the number out"));
    }
    let weights = parts.iter().map(|part| part.weight).collect();
    let stratum = items.keys().map(|(part, _)| *part).collect();
    let names: BTreeSet<&str> = items.values().map(|(cluster, _)| *cluster).collect();
    // A number of a single cluster is about that cluster, and its items are the units.
    let cluster = items
        .iter()
        .map(|((part, item), (cluster, _))| match names.len() {
            1 => (*part, *item),
            _ => (0, *cluster),
        });
    let cluster: Vec<(usize, &str)> = cluster.collect();
    let strata = Strata::new(weights, stratum, cluster)?;
    let seeds = items.values().next().map_or(0, |(_, values)| values.len());
    let rows: Vec<Vec<f64>> = (0..seeds)
        .map(|seed| items.values().map(|(_, values)| values[seed]).collect())
        .collect();
    Ok(Number {
        test: match of {
            Of::Means => strata.mean_over_seeds(&rows, level)?,
            Of::Shares => strata.share_over_seeds(&rows, level)?,
        },
        items: items.len(),
        missing: 0,
        unmatched: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::evaluation::{MODEL, Part, Summary};
    use super::*;

    /// An evaluation with two tasks, the second of three times the weight, from `task, item,
    /// cluster, value`.
    fn evaluation(scores: &[(&str, &str, &str, Option<f64>)]) -> Evaluation {
        let part = |task: &str, weight| Part {
            task: task.to_owned(),
            metric: "accuracy".to_owned(),
            weight,
        };
        let aggregate = Aggregate {
            name: "both".to_owned(),
            parts: vec![part("easy", 1.0), part("hard", 3.0)],
        };
        let items = scores.iter().map(|(task, item, cluster, value)| ItemScore {
            scorer: MODEL.to_owned(),
            task: (*task).to_owned(),
            metric: "accuracy".to_owned(),
            item: (*item).to_owned(),
            cluster: (*cluster).to_owned(),
            value: *value,
            missing: value.is_none().then(|| "no reply".to_owned()),
        });
        Evaluation {
            summary: Summary {
                benchmark: "b".to_owned(),
                convention: "c".to_owned(),
                model: "m".to_owned(),
                identity: serde_json::Value::Null,
                aggregates: vec![aggregate],
            },
            items: items.collect(),
        }
    }

    fn entrant(name: &str, seeds: Vec<Evaluation>) -> Entrant {
        Entrant {
            name: name.to_owned(),
            scorer: MODEL.to_owned(),
            seeds,
        }
    }

    fn one(values: [Option<f64>; 4]) -> Evaluation {
        let [a, b, c, d] = values;
        evaluation(&[
            ("easy", "1", "x", a),
            ("easy", "2", "y", b),
            ("hard", "1", "z", c),
            ("hard", "2", "w", d),
        ])
    }

    #[test]
    fn a_number_weighs_its_parts_and_counts_what_is_missing() {
        let a = entrant("a", vec![one([Some(1.0), Some(0.0), Some(1.0), None])]);
        let found = a.number(a.aggregate("both").unwrap(), 0.95).unwrap();
        let found = found.unwrap();
        assert_eq!((found.items, found.missing), (3, 1));
        assert_eq!(found.test.estimate.point, (0.5 + 3.0) / 4.0);
        assert_eq!(found.test.estimate.se, None, "one item has no spread");
    }

    #[test]
    fn a_difference_pairs_items_and_refuses_those_of_one_side() {
        let a = entrant("a", vec![one([Some(1.0), Some(0.0), Some(1.0), Some(0.5)])]);
        let b = entrant("b", vec![one([Some(0.0), Some(0.0), Some(1.0), Some(0.0)])]);
        let found = difference(&a, &b, "both", false, 0.95).unwrap().unwrap();
        assert_eq!(found.test.estimate.point, (0.5 + 3.0 * 0.25) / 4.0);
        // √(¼²·½²·… ): strata of two items, differences (1, 0) and (0, ½).
        let error = ((0.25_f64 * 0.5).powi(2) + (0.75_f64 * 0.25).powi(2)).sqrt();
        assert!((found.test.estimate.se.unwrap() - error).abs() < 1e-12);
        let c = entrant("c", vec![one([Some(0.0), None, Some(1.0), Some(0.0)])]);
        let refused = difference(&a, &c, "both", false, 0.95).unwrap_err();
        assert!(refused.to_string().contains("2 of easy"), "{refused}");
        let found = difference(&a, &c, "both", true, 0.95).unwrap().unwrap();
        assert_eq!((found.items, found.missing, found.unmatched), (3, 1, 0));
    }

    #[test]
    fn seeds_are_paired_in_order_and_one_with_all() {
        let seed = |x: f64| one([Some(x), Some(0.0), Some(1.0), Some(0.5)]);
        let a = entrant("a", vec![seed(1.0), seed(0.5), seed(0.75)]);
        let base = entrant("base", vec![seed(0.5)]);
        let found = difference(&a, &base, "both", false, 0.95).unwrap().unwrap();
        assert!((found.test.estimate.point - 0.25 * 0.125).abs() < 1e-12);
        assert_eq!(found.test.estimate.n, 3);
        let two = entrant("two", vec![seed(1.0), seed(0.5)]);
        let refused = difference(&a, &two, "both", false, 0.95).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a − two: 3 seeds cannot be paired with 2"
        );
    }

    #[test]
    fn items_of_a_single_cluster_are_the_units_of_their_own_number() {
        let alone = |cluster: [&'static str; 4]| {
            let mut of = one([Some(1.0), Some(0.0), Some(1.0), Some(0.5)]);
            of.items
                .iter_mut()
                .zip(cluster)
                .for_each(|(item, cluster)| item.cluster = cluster.to_owned());
            let a = entrant("a", vec![of]);
            a.number(a.aggregate("both").unwrap(), 0.95)
                .unwrap()
                .unwrap()
                .test
                .estimate
        };
        assert_eq!(alone(["s"; 4]).se, alone(["x", "y", "z", "w"]).se);
        assert_eq!(alone(["s"; 4]).n, 4);
    }

    #[test]
    fn a_scorer_without_scores_has_no_number() {
        let rival = Entrant {
            scorer: "length".to_owned(),
            ..entrant("a", vec![one([Some(1.0); 4])])
        };
        let aggregate = rival.aggregate("both").unwrap().clone();
        assert_eq!(rival.number(&aggregate, 0.95).unwrap(), None);
    }
}
