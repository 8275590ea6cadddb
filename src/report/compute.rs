//! Costs of making a method, iteration by iteration, and comparisons of two methods at the same
//! cost.

use std::collections::BTreeMap;

use super::exploratory::Test;
use super::input::{BySeed, Cost, CostRole, MetricColumn};
use super::view::View;
use crate::error::Result;
use crate::stats::{Paired, paired};

/// A resource that training spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Flops,
    Tokens,
    Seconds,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::Flops, Self::Tokens, Self::Seconds];

    /// The resource's name in files.
    pub fn id(self) -> &'static str {
        match self {
            Self::Flops => "flops",
            Self::Tokens => "tokens",
            Self::Seconds => "seconds",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Flops => "FLOPs",
            Self::Tokens => "tokens",
            Self::Seconds => "seconds",
        }
    }

    fn of(self, cost: &Cost) -> Option<f64> {
        match self {
            Self::Flops => cost.flops,
            Self::Tokens => cost.tokens,
            Self::Seconds => cost.wall_seconds,
        }
    }
}

/// Costs of making, by method, size and seed. A stage that several methods share counts for each of
/// them, so the total of a method is its cost if it were run alone.
pub struct Spending<'a>(BTreeMap<(&'a str, &'a str, i64), Vec<&'a Cost>>);

/// The iterations of one seed, each with the cost so far and the metric's value.
pub type Track = Vec<Step>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub iteration: i64,
    /// The cost up to the end of the iteration.
    pub spent: f64,
    pub value: f64,
}

/// Two methods, each at the latest iteration that the total cost of the cheaper one pays for.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// The total cost of the cheaper method, averaged over seeds.
    pub budget: f64,
    pub our_iteration: i64,
    pub their_iteration: i64,
    /// The values of both methods at those iterations, under the seeds that both have.
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
}

impl<'a> Spending<'a> {
    pub fn new(view: &View<'a>) -> Self {
        let mut by_run: BTreeMap<(&str, &str, i64), Vec<&Cost>> = BTreeMap::new();
        for cost in view
            .input
            .costs
            .iter()
            .filter(|cost| cost.role == CostRole::Making)
        {
            if let Ok(seed) = i64::try_from(cost.seed) {
                by_run
                    .entry((&cost.method, &cost.size, seed))
                    .or_default()
                    .push(cost);
            }
        }
        Self(by_run)
    }

    fn run<'s>(&'s self, method: &'s str, size: &'s str, seed: i64) -> &'s [&'a Cost] {
        self.0.get(&(method, size, seed)).map_or(&[], Vec::as_slice)
    }

    /// The seeds that have any cost.
    pub fn seeds<'s>(&'s self, method: &'s str, size: &'s str) -> impl Iterator<Item = i64> + 's {
        self.0
            .keys()
            .filter(move |(of, at, _)| *of == method && *at == size)
            .map(|(_, _, seed)| *seed)
    }

    /// The iterations of a run that have a cost, from 1.
    pub fn iterations(&self, method: &str, size: &str, seed: i64) -> Vec<i64> {
        let mut found: Vec<i64> = self
            .run(method, size, seed)
            .iter()
            .map(|cost| cost.iteration)
            .collect();
        found.retain(|iteration| *iteration > 0);
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The average cost of one iteration, by seed; seeds with an unmeasured part are left out.
    pub fn per_iteration(&self, method: &str, size: &str, resource: Resource) -> BySeed {
        let mean = |seed| {
            let iterations = self.iterations(method, size, seed);
            let of_one = |iteration: &i64| {
                let costs = self
                    .run(method, size, seed)
                    .iter()
                    .filter(|cost| cost.iteration == *iteration);
                total(costs.copied(), |cost| resource.of(cost))
            };
            let all = iterations
                .iter()
                .map(of_one)
                .collect::<Option<Vec<f64>>>()?;
            (!all.is_empty()).then(|| (seed, all.iter().sum::<f64>() / all.len() as f64))
        };
        self.seeds(method, size).filter_map(mean).collect()
    }

    /// The cost of making the method up to the end of an iteration; `None` if a part was not
    /// measured.
    fn until(
        &self,
        method: &str,
        size: &str,
        seed: i64,
        iteration: i64,
        resource: Resource,
    ) -> Option<f64> {
        let costs = self
            .run(method, size, seed)
            .iter()
            .filter(|cost| cost.iteration <= iteration)
            .copied();
        total(costs, |cost| resource.of(cost))
    }

    /// The iterations of a method at which the metric and the whole cost so far are known, by seed.
    pub fn tracks(
        &self,
        view: &View,
        metric: &MetricColumn,
        method: &str,
        size: &str,
        resource: Resource,
    ) -> BTreeMap<i64, Track> {
        let mut tracks: BTreeMap<i64, Track> = BTreeMap::new();
        for iteration in view.metrics().iterations(method, size) {
            for (seed, value) in view.metrics().at(method, size, &metric.id, iteration) {
                if let Some(spent) = self.until(method, size, seed, iteration, resource) {
                    tracks.entry(seed).or_default().push(Step {
                        iteration,
                        spent,
                        value,
                    });
                }
            }
        }
        tracks
    }
}

/// Two methods with the dearer one stopped at the total cost of the cheaper one; `None` if even the
/// first iteration of one exceeds it, or if no seed has both. Costs are means over the shared
/// seeds, so that all seeds are compared at the same iterations and a seed that cost slightly more
/// isn't left out.
pub fn matched(ours: &BTreeMap<i64, Track>, theirs: &BTreeMap<i64, Track>) -> Option<Matched> {
    let shared: Vec<(&Track, &Track)> = ours
        .iter()
        .filter_map(|(seed, track)| Some((track, theirs.get(seed)?)))
        .collect();
    let our_means = mean_spent(shared.iter().map(|(track, _)| *track));
    let their_means = mean_spent(shared.iter().map(|(_, track)| *track));
    let budget = our_means.last()?.1.min(their_means.last()?.1);
    let latest = |means: &[(i64, f64)]| {
        means
            .iter()
            .rev()
            .find(|(_, spent)| *spent <= budget)
            .map(|(at, _)| *at)
    };
    let (our_iteration, their_iteration) = (latest(&our_means)?, latest(&their_means)?);
    let value = |track: &Track, iteration| {
        track
            .iter()
            .find(|step| step.iteration == iteration)
            .map(|step| step.value)
    };
    let both = |(ours, theirs): &(&Track, &Track)| {
        Some((value(ours, our_iteration)?, value(theirs, their_iteration)?))
    };
    let (ours, theirs) = shared.iter().filter_map(both).unzip();
    Some(Matched {
        budget,
        our_iteration,
        their_iteration,
        ours,
        theirs,
    })
}

/// The subject and another method at the same cost of one resource, on the primary metric.
#[derive(Clone, Debug)]
pub struct MatchedPair {
    pub resource: Resource,
    pub metric: String,
    pub size: String,
    pub method: String,
    pub versus: String,
    /// The number of planned pairs of seeds.
    pub planned: usize,
    pub found: Option<Matched>,
    /// The difference at the matched iterations, paired by seed.
    pub difference: Option<Paired>,
    /// The costs of whole runs under the seeds that both methods have.
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
}

impl MatchedPair {
    /// The test of no difference, if it has a p-value.
    pub fn test(&self) -> Option<Test> {
        let p = self.difference?.p?;
        Some(Test::new(
            &self.metric,
            &self.size,
            &self.method,
            &self.versus,
            p,
        ))
    }
}

/// The mean cost of whole runs; `None` without any.
pub fn mean_total(costs: &[f64]) -> Option<f64> {
    (!costs.is_empty()).then(|| costs.iter().sum::<f64>() / costs.len() as f64)
}

/// The subject paired with each other method at the same cost: by resource, then by size. Methods
/// without costs are left out.
pub fn matched_pairs(view: &View, spending: &Spending) -> Result<Vec<MatchedPair>> {
    let metric = view.metric(&view.layout().primary)?;
    let subject = view.layout().under_study.as_str();
    let mut pairs = Vec::new();
    for resource in Resource::ALL {
        for size in &view.sizes {
            let ours = spending.tracks(view, metric, subject, size, resource);
            for method in view.main_methods().filter(|row| row.id != subject) {
                let theirs = spending.tracks(view, metric, &method.id, size, resource);
                if ours.is_empty() || theirs.is_empty() {
                    continue;
                }
                let found = matched(&ours, &theirs);
                let difference = match &found {
                    Some(found) if !found.ours.is_empty() => {
                        Some(paired(&found.ours, &found.theirs, view.level())?)
                    }
                    _ => None,
                };
                let [metric, size, method_id, versus] =
                    [&metric.id, size, &view.layout().under_study, &method.id].map(String::clone);
                let planned = view
                    .planned(subject, &size)
                    .min(view.planned(&versus, &size));
                let whole =
                    |tracks: &BTreeMap<i64, Track>, others: &BTreeMap<i64, Track>| -> Vec<f64> {
                        let shared = tracks.iter().filter(|(seed, _)| others.contains_key(seed));
                        shared
                            .filter_map(|(_, track)| Some(track.last()?.spent))
                            .collect()
                    };
                let (our_costs, their_costs) = (whole(&ours, &theirs), whole(&theirs, &ours));
                pairs.push(MatchedPair {
                    resource,
                    metric,
                    size,
                    method: method_id,
                    versus,
                    planned,
                    found,
                    difference,
                    ours: our_costs,
                    theirs: their_costs,
                });
            }
        }
    }
    Ok(pairs)
}

/// The mean cost up to the end of each iteration, over the seeds that have the iteration.
fn mean_spent<'t>(tracks: impl Iterator<Item = &'t Track>) -> Vec<(i64, f64)> {
    let mut spent: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for step in tracks.flatten() {
        spent.entry(step.iteration).or_default().push(step.spent);
    }
    spent
        .into_iter()
        .map(|(at, spent)| (at, spent.iter().sum::<f64>() / spent.len() as f64))
        .collect()
}

/// The sum of one part of all costs; `None` if there are no costs or one was not measured. Values
/// are added in sorted order, so that the order of the input does not change the last digit.
pub fn total<'c>(
    costs: impl IntoIterator<Item = &'c Cost>,
    part: impl Fn(&Cost) -> Option<f64>,
) -> Option<f64> {
    let mut parts = costs.into_iter().map(part).collect::<Option<Vec<f64>>>()?;
    parts.sort_by(f64::total_cmp);
    (!parts.is_empty()).then(|| parts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearer_method_is_stopped_at_the_total_of_the_cheaper() {
        let tracks = |seeds: &[&[f64]]| -> BTreeMap<i64, Track> {
            let step = |(spent, iteration): (&f64, i64)| Step {
                iteration,
                spent: *spent,
                value: spent * 10.0,
            };
            (1..)
                .zip(seeds)
                .map(|(seed, spent)| (seed, spent.iter().zip(1..).map(step).collect()))
                .collect()
        };
        let dear = tracks(&[&[4.0, 8.5, 12.0], &[4.0, 9.1, 12.0]]);
        let cheap = tracks(&[&[3.0, 6.0, 8.8], &[3.0, 6.0, 9.2], &[1.0]]);
        let found = matched(&dear, &cheap).unwrap();
        assert_eq!(
            (found.budget, found.our_iteration, found.their_iteration),
            (9.0, 2, 3)
        );
        // The second seed is kept although its own cost exceeds the budget of its pair.
        assert_eq!(
            (found.ours, found.theirs),
            (vec![85.0, 91.0], vec![88.0, 92.0])
        );
        assert_eq!(matched(&tracks(&[&[10.0]]), &cheap), None);
        assert_eq!(matched(&dear, &BTreeMap::new()), None);
    }
}
