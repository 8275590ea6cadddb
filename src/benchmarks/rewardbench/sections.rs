//! The arithmetic of sections and averages: accuracies of subsets to the numbers of the
//! leaderboard.

use super::subsets::{PRIOR, PRIOR_SETS, SECTIONS, Section, weight};
use super::{ACCURACY, Convention, subsets};
use crate::benchmarks::{Aggregate, Part};
use std::collections::BTreeMap;

/// The weighted sum of a section's accuracies, Σ accuracy·weight and Σ weight over the subsets
/// that are present, added in the order of the references.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SectionScore {
    pub name: &'static str,
    pub sum: f64,
    pub weight: f64,
}

impl SectionScore {
    /// The score as a share; `None` if no subset of the section is present, for which both
    /// references write 0.
    pub fn share(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }

    /// The score in percent, rounded to two decimals as RLHFlow's script prints it; `None` as in
    /// [`share`](Self::share).
    pub fn percent(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| round2(100.0 * self.sum / self.weight))
    }
}

/// Python's `round(value, 2)`: the nearest decimal to the exact binary value, a tie to even.
pub fn round2(value: f64) -> f64 {
    format!("{value:.2}").parse().unwrap_or(value)
}

/// The scores of the four sections from the accuracies of subsets.
pub fn section_scores(
    accuracies: &BTreeMap<String, f64>,
    convention: Convention,
) -> [SectionScore; 4] {
    SECTIONS.map(|Section { name, subsets }| {
        let (mut sum, mut total) = (0.0, 0.0);
        for subset in subsets {
            if let Some(accuracy) = accuracies.get(subset.name) {
                let weight = weight(subset.name, convention);
                sum += accuracy * weight;
                total += weight;
            }
        }
        SectionScore {
            name,
            sum,
            weight: total,
        }
    })
}

/// The name of the mean of the four sections, as in arXiv 2503.13538.
pub const AVERAGE: &str = "average";
/// The name of the leaderboard's average, in which the prior sets have half the weight of a
/// section.
pub const LEADERBOARD: &str = "average with prior sets";

/// The reported numbers of an evaluation whose rows have the subsets `present`: each subset, each
/// section with a subset, the prior sets, and the averages if all four sections are there.
pub fn aggregates(present: &[&str], convention: Convention) -> Vec<Aggregate> {
    let has = |name: &str| present.contains(&name);
    let mut all = Vec::new();
    let mut sections = Vec::new();
    for Section { name, subsets } in SECTIONS {
        let there: Vec<&str> = subsets
            .iter()
            .map(|it| it.name)
            .filter(|it| has(it))
            .collect();
        all.extend(there.iter().map(|it| Aggregate::of_task(*it, it, ACCURACY)));
        if !there.is_empty() {
            let weighted = there.iter().map(|it| (*it, weight(it, convention)));
            sections.push(weighted_mean(name, weighted));
        }
    }
    let others = present.iter().filter(|it| subsets::is_prior(it));
    all.extend(others.map(|it| Aggregate::of_task(*it, it, ACCURACY)));
    let whole = sections.len() == SECTIONS.len();
    let average = whole.then(|| mean_of(AVERAGE, &sections, 1.0));
    let prior: Vec<&str> = PRIOR_SETS.into_iter().filter(|it| has(it)).collect();
    let prior =
        (!prior.is_empty()).then(|| weighted_mean(PRIOR, prior.iter().map(|it| (*it, 1.0))));
    let leaderboard = match (&average, &prior) {
        (Some(average), Some(prior)) => {
            let halved = mean_of(LEADERBOARD, std::slice::from_ref(prior), 0.5);
            let parts = average.parts.iter().cloned().chain(halved.parts);
            Some(Aggregate {
                name: LEADERBOARD.to_owned(),
                parts: parts.collect(),
            })
        }
        _ => None,
    };
    all.extend(sections);
    all.extend([average, prior, leaderboard].into_iter().flatten());
    all
}

fn weighted_mean<'a>(name: &str, weighted: impl Iterator<Item = (&'a str, f64)>) -> Aggregate {
    let part = |(task, weight): (&str, f64)| Part {
        task: task.to_owned(),
        metric: ACCURACY.to_owned(),
        weight,
    };
    Aggregate {
        name: name.to_owned(),
        parts: weighted.map(part).collect(),
    }
}

/// The parts of several aggregates, whose weights are scaled to `each` in each of them.
fn mean_of(name: &str, aggregates: &[Aggregate], each: f64) -> Aggregate {
    let scaled = |aggregate: &Aggregate| {
        let total: f64 = aggregate.parts.iter().map(|part| part.weight).sum();
        let parts = aggregate.parts.iter().cloned();
        parts
            .map(|part| Part {
                weight: each * part.weight / total,
                ..part
            })
            .collect::<Vec<_>>()
    };
    Aggregate {
        name: name.to_owned(),
        parts: aggregates.iter().flat_map(scaled).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Python 3.11.
    #[test]
    fn rounding_is_pythons() {
        for (value, rounded) in [
            (0.125, 0.12),
            (0.375, 0.38),
            (2.675, 2.67),
            (1.005, 1.0),
            (81.445, 81.44),
            (63.685, 63.69),
            (100.0, 100.0),
            (50.005, 50.01),
            (66.665, 66.67),
            (33.335, 33.34),
        ] {
            assert_eq!(round2(value), rounded, "{value}");
        }
    }

    #[test]
    fn averages_need_all_sections() {
        let names = |present: &[&str]| -> Vec<String> {
            let all = aggregates(present, Convention::Allenai);
            all.into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(&["hep-go"]), ["hep-go", "Reasoning"]);
        let four = ["mt-bench-med", "mt-bench-hard", "donotanswer", "hep-go"];
        assert_eq!(
            names(&four)[4..],
            ["Chat", "Chat Hard", "Safety", "Reasoning", AVERAGE]
        );
        let prior = [&four[..], &["shp", "mtbench_human"]].concat();
        assert_eq!(names(&prior)[4..6], ["shp", "mtbench_human"]);
        assert_eq!(names(&prior)[10..], [AVERAGE, PRIOR, LEADERBOARD]);
    }

    /// Weights 2, 2, 2, 2, 1 of analysis/get_benchmark_results.py.
    #[test]
    fn the_leaderboard_gives_prior_sets_half_the_weight_of_a_section() {
        let present = [
            "mt-bench-easy",
            "mt-bench-med",
            "mt-bench-hard",
            "donotanswer",
            "hep-go",
            "shp",
            "summarize",
        ];
        let all = aggregates(&present, Convention::Allenai);
        let last = all.last().unwrap();
        assert_eq!(last.name, LEADERBOARD);
        let weights: Vec<f64> = last.parts.iter().map(|part| part.weight).collect();
        assert_eq!(
            weights,
            [28.0 / 68.0, 40.0 / 68.0, 1.0, 1.0, 1.0, 0.25, 0.25]
        );
    }
}
