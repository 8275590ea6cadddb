//! Weighted means over strata (the subsets of a benchmark) whose items come in clusters.

use super::cluster::two_way_with_freedom;
use super::estimate::{Estimate, Interval, IntervalMethod, average, largest, score_bounds};
use super::verdict::POWER;
use super::{check, power, student};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The strata and clusters of items: an item `i` belongs to the stratum `stratum[i]`, which has a
/// weight, and to the cluster `cluster[i]`, which may reach over several strata.
#[derive(Clone, Debug, PartialEq)]
pub struct Strata<K> {
    weights: Vec<f64>,
    stratum: Vec<usize>,
    cluster: Vec<K>,
}

/// An estimate with its two-sided t test against 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    pub estimate: Estimate,
    /// Degrees of freedom of the standard error; `None` where the error is undefined or 0.
    pub freedom: Option<f64>,
    /// The p-value, not corrected for multiplicity.
    pub p: Option<f64>,
    /// The smallest true value that the test finds with 80 % power at α = 1 − level.
    pub detectable: Option<f64>,
}

impl<K: Ord> Strata<K> {
    /// Strata with these weights, and the stratum and cluster of every item.
    ///
    /// # Errors
    /// A weight that is not a positive number, an item of an unknown stratum, or a stratum without
    /// items.
    pub fn new(weights: Vec<f64>, stratum: Vec<usize>, cluster: Vec<K>) -> Result<Self> {
        if let Some(weight) = weights.iter().find(|it| !(**it > 0.0 && it.is_finite())) {
            return Err(Error::data(format!("the weight of a stratum is {weight}"))
                .hint("give positive weights, and leave out what has none"));
        }
        if stratum.len() != cluster.len() {
            let (items, clusters) = (stratum.len(), cluster.len());
            return Err(
                Error::data(format!("{items} items with the clusters of {clusters}"))
                    .hint("name the cluster of every item"),
            );
        }
        let strata = Self {
            weights,
            stratum,
            cluster,
        };
        let counts = strata.counts()?;
        match counts.iter().position(|items| *items == 0) {
            None => Ok(strata),
            Some(at) => Err(Error::data(format!("stratum {} has no items", at + 1))
                .hint("leave out strata without items")),
        }
    }

    fn counts(&self) -> Result<Vec<usize>> {
        let mut counts = vec![0; self.weights.len()];
        for stratum in &self.stratum {
            let count = counts.get_mut(*stratum).ok_or_else(|| {
                Error::data(format!("an item of the unknown stratum {}", stratum + 1))
                    .hint("give a weight for every stratum")
            })?;
            *count += 1;
        }
        Ok(counts)
    }

    /// # Errors
    /// An item of an unknown stratum.
    fn design(&self) -> Result<Design> {
        let total: f64 = self.weights.iter().sum();
        let mut group = self.connected();
        let mut clusters: Vec<BTreeSet<&K>> = group.iter().map(|_| BTreeSet::new()).collect();
        for (stratum, cluster) in self.stratum.iter().zip(&self.cluster) {
            clusters[group[*stratum]].insert(cluster);
        }
        let is_one = |group: &usize| clusters[*group].len() == 1;
        let collapsed: Vec<bool> = group.iter().map(is_one).collect();
        if let Some(first) = collapsed.iter().position(|it| *it) {
            let first = group[first];
            let alone = group.iter_mut().zip(&collapsed).filter(|(_, it)| **it);
            alone.for_each(|(group, _)| *group = first);
        }
        Ok(Design {
            counts: self.counts()?,
            shares: self.weights.iter().map(|weight| weight / total).collect(),
            group,
            collapsed,
        })
    }

    /// Σ wₛ·mean(s) / Σ wₛ of `values` over the strata s, one value for each item.
    ///
    /// The error is that of a linear estimator: with aᵢ an item's weight and mₛ its stratum's mean,
    /// uᵢ = aᵢ(xᵢ − mₛ) is summed within clusters, and the variance is Σ_G G/(G−1) Σ_c (Σ_{i∈c}
    /// uᵢ)² over the groups G of strata that share clusters (each stratum alone where none does),
    /// with G clusters in a group and Satterthwaite's degrees of freedom (Cochran 1977, chapter 5;
    /// Liang and Zeger 1986). Strata that are one cluster each are a sample of strata: they are one
    /// group, and mₛ is the mean of all of them (collapsed strata, Cochran 1977, section 5A.12). If
    /// there is a single one, the error is undefined. The estimate's `n` is the number of clusters.
    ///
    /// # Errors
    /// Another number of values than items, values that are not finite, or a `level` outside (0, 1).
    pub fn mean(&self, values: &[f64], level: f64) -> Result<Test> {
        check::open_unit("the confidence level", level)?;
        self.check(values)?;
        let design = self.design()?;
        let point = design.point(self, values);
        let centres = design.centres(self, values);
        let negligible = 4.0 * f64::EPSILON * largest(values);
        // Of every cluster: its group, the sum of its residuals, and a bound of their rounding.
        let mut sums: BTreeMap<&K, (usize, f64, f64)> = BTreeMap::new();
        for (at, cluster) in self.cluster.iter().enumerate() {
            let (stratum, share) = (self.stratum[at], design.share(self, at));
            let (_, sum, rounding) =
                sums.entry(cluster)
                    .or_insert((design.group[stratum], 0.0, 0.0));
            *sum += share * (values[at] - centres[stratum]);
            *rounding += negligible * share;
        }
        // Of every group: its clusters, and the sum of their squares.
        let mut variances: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
        for (group, sum, rounding) in sums.values() {
            let (clusters, squares) = variances.entry(*group).or_default();
            *clusters += 1;
            *squares += if sum.abs() > *rounding {
                sum * sum
            } else {
                0.0
            };
        }
        let (mut variance, mut spread) = (0.0, 0.0);
        let defined = variances.values().all(|(clusters, _)| *clusters > 1);
        for (clusters, squares) in variances.values().filter(|_| defined) {
            let count = *clusters as f64;
            let part = squares * count / (count - 1.0);
            variance += part;
            spread += part * part / (count - 1.0);
        }
        let se = defined.then(|| variance.sqrt());
        let freedom = (spread > 0.0).then(|| variance * variance / spread);
        let method = if variances.len() == 1 {
            IntervalMethod::Clustered
        } else {
            IntervalMethod::Stratified
        };
        let interval = se
            .zip(freedom)
            .and_then(|(se, freedom)| Interval::student(point, se, freedom, level, method));
        let estimate = Estimate {
            point,
            se,
            interval,
            n: sums.len(),
        };
        Ok(Test::of(estimate, freedom, level))
    }

    /// The mean for new seeds **and** new clusters of items: `rows[seed][item]`. With one seed it
    /// is [`mean`](Self::mean); with several, the sums of each cluster's residuals are treated as
    /// [`two_way`](super::two_way) treats prompts. The estimate's `n` is the number of seeds.
    ///
    /// # Errors
    /// Those of [`mean`](Self::mean) and [`two_way`](super::two_way).
    pub fn mean_over_seeds(&self, rows: &[Vec<f64>], level: f64) -> Result<Test> {
        if let [values] = rows {
            return self.mean(values, level);
        }
        rows.iter().try_for_each(|row| self.check(row))?;
        let pooled: Vec<f64> = (0..self.stratum.len())
            .map(|item| average(&rows.iter().map(|row| row[item]).collect::<Vec<_>>()))
            .collect();
        let design = self.design()?;
        let point = design.point(self, &pooled);
        let centres = design.centres(self, &pooled);
        let cells = rows.iter().map(|row| {
            let mut sums: BTreeMap<&K, f64> = BTreeMap::new();
            for (at, cluster) in self.cluster.iter().enumerate() {
                let residual = row[at] - centres[self.stratum[at]];
                *sums.entry(cluster).or_default() += design.share(self, at) * residual;
            }
            let clusters = sums.len() as f64;
            sums.into_values()
                .map(|sum| point + clusters * sum)
                .collect()
        });
        let (estimate, freedom) = two_way_with_freedom(&cells.collect::<Vec<_>>(), level)?;
        Ok(Test::of(estimate, freedom, level))
    }

    /// The mean over seeds of scores between 0 and 1, such as accuracies, with an interval that stays
    /// between 0 and 1.
    ///
    /// It is Wilson's score interval with t²/n* in the place of z²/n: t is Student's quantile at the
    /// degrees of freedom of [`mean_over_seeds`](Self::mean_over_seeds), and n* = p(1 − p)/se² is the
    /// number of independent items that would have its standard error (the effective sample size;
    /// Korn and Graubard 1998; Dean and Pagano 2015; Franco et al. 2019). Where all scores are 0, or
    /// all are 1, nothing is known of the spread of clusters: each is one trial by its weight a_c in
    /// the mean, n* = 1/Σ a_c² (Kish 1965), and the quantile is the normal one. The test is that of
    /// `mean_over_seeds`.
    ///
    /// # Errors
    /// Scores below 0 or above 1, and those of [`mean_over_seeds`](Self::mean_over_seeds).
    pub fn share_over_seeds(&self, rows: &[Vec<f64>], level: f64) -> Result<Test> {
        let mut test = self.mean_over_seeds(rows, level)?;
        if let Some(score) = rows.iter().flatten().find(|it| !(0.0..=1.0).contains(*it)) {
            return Err(
                Error::data(format!("a share of items with the score {score}"))
                    .hint("give scores between 0 and 1, or take the mean"),
            );
        }
        let estimate = &mut test.estimate;
        // Sums of weights may round beyond the ends.
        let share = estimate.point.clamp(0.0, 1.0);
        let all = |end: f64| rows.iter().flatten().all(|score| *score == end);
        let ratio = match test.freedom.zip(estimate.se) {
            Some((freedom, se)) if share * (1.0 - share) > 0.0 => {
                let t = student::two_sided_quantile(level, freedom);
                Some((t * se).powi(2) / (share * (1.0 - share)))
            }
            _ if all(0.0) || all(1.0) => {
                let z = student::two_sided_quantile(level, f64::INFINITY);
                Some(z * z * self.concentration()?)
            }
            _ => None,
        };
        estimate.interval = ratio.map(|ratio| {
            let (low, high) = score_bounds(share, ratio);
            Interval {
                low,
                high,
                level,
                method: IntervalMethod::WilsonClustered,
            }
        });
        Ok(test)
    }

    /// Σ a_c² over the clusters c, with a_c the weight of a cluster's items in the mean.
    fn concentration(&self) -> Result<f64> {
        let design = self.design()?;
        let mut weights: BTreeMap<&K, f64> = BTreeMap::new();
        for (at, cluster) in self.cluster.iter().enumerate() {
            *weights.entry(cluster).or_default() += design.share(self, at);
        }
        Ok(weights.values().map(|weight| weight * weight).sum())
    }

    fn check(&self, values: &[f64]) -> Result<()> {
        check::values("stratified mean", values)?;
        if values.len() == self.stratum.len() {
            return Ok(());
        }
        Err(Error::data(format!(
            "{} values for {} items",
            values.len(),
            self.stratum.len()
        ))
        .hint("give one value for each item"))
    }

    /// For every stratum, the first of the strata that it is connected with by shared clusters.
    fn connected(&self) -> Vec<usize> {
        let mut group: Vec<usize> = (0..self.weights.len()).collect();
        let mut first: BTreeMap<&K, usize> = BTreeMap::new();
        for (stratum, cluster) in self.stratum.iter().zip(&self.cluster) {
            let seen = *first.entry(cluster).or_insert(*stratum);
            let (a, b) = (group[seen], group[*stratum]);
            if a != b {
                let (low, high) = (a.min(b), a.max(b));
                group
                    .iter_mut()
                    .filter(|it| **it == high)
                    .for_each(|it| *it = low);
            }
        }
        group
    }
}

/// Quantities of the strata that do not depend on the values.
struct Design {
    /// The items of each stratum.
    counts: Vec<usize>,
    /// The weight of each stratum in the mean; they add up to 1.
    shares: Vec<f64>,
    /// The group of each stratum.
    group: Vec<usize>,
    /// Whether each stratum is one cluster, so that all such strata are one group.
    collapsed: Vec<bool>,
}

impl Design {
    /// The weight of an item in the mean.
    fn share<K>(&self, strata: &Strata<K>, item: usize) -> f64 {
        let stratum = strata.stratum[item];
        self.shares[stratum] / self.counts[stratum] as f64
    }

    /// The mean of each stratum.
    fn means<K>(&self, strata: &Strata<K>, values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.counts.len()];
        for (value, stratum) in values.iter().zip(&strata.stratum) {
            sums[*stratum] += value;
        }
        let counts = self.counts.iter().map(|items| *items as f64);
        sums.iter()
            .zip(counts)
            .map(|(sum, items)| sum / items)
            .collect()
    }

    /// The weighted mean over all strata.
    fn point<K>(&self, strata: &Strata<K>, values: &[f64]) -> f64 {
        let means = self.means(strata, values);
        means
            .iter()
            .zip(&self.shares)
            .map(|(mean, share)| mean * share)
            .sum()
    }

    /// For each stratum the mean about which its values vary.
    fn centres<K>(&self, strata: &Strata<K>, values: &[f64]) -> Vec<f64> {
        let means = self.means(strata, values);
        let alone = || (0..means.len()).filter(|at| self.collapsed[*at]);
        let sum: f64 = alone().map(|at| self.shares[at] * means[at]).sum();
        let pooled = sum / alone().map(|at| self.shares[at]).sum::<f64>();
        let centre = |(mean, collapsed): (&f64, &bool)| if *collapsed { pooled } else { *mean };
        means.iter().zip(&self.collapsed).map(centre).collect()
    }
}

impl Test {
    fn of(estimate: Estimate, freedom: Option<f64>, level: f64) -> Self {
        let error = estimate.se.filter(|se| *se > 0.0).zip(freedom);
        Self {
            estimate,
            freedom: error.map(|(_, freedom)| freedom),
            p: error.map(|(se, freedom)| student::two_sided_p(estimate.point / se, freedom)),
            detectable: error.and_then(|(se, freedom)| {
                power::detectable_effect(se, freedom, 1.0 - level, POWER)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{clustered, mean, paired, wilson};
    use super::*;
    use crate::rng::stream;
    use rand::Rng;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn one_stratum_of_single_items_is_the_mean_and_its_paired_test() {
        let values = [0.0, 1.0, 1.0, 0.5, 1.0];
        let strata = Strata::new(vec![3.0], vec![0; 5], (0..5).collect()).unwrap();
        let (ours, theirs) = (
            strata.mean(&values, 0.95).unwrap(),
            mean(&values, 0.95).unwrap(),
        );
        near(ours.estimate.se.unwrap(), theirs.se.unwrap());
        near(
            ours.estimate.interval.unwrap().low,
            theirs.interval.unwrap().low,
        );
        let test = paired(&values, &[0.0; 5], 0.95).unwrap();
        near(ours.p.unwrap(), test.p.unwrap());
        near(ours.detectable.unwrap(), test.mde.unwrap());
    }

    #[test]
    fn one_stratum_of_clusters_is_the_clustered_mean() {
        let values = [0.0, 1.0, 1.0, 0.5, 1.0, 0.0];
        let clusters = [1, 1, 2, 2, 3, 4];
        let strata = Strata::new(vec![1.0], vec![0; 6], clusters.to_vec()).unwrap();
        let ours = strata.mean(&values, 0.9).unwrap().estimate;
        let theirs = clustered(&values, &clusters, 0.9).unwrap();
        near(ours.se.unwrap(), theirs.se.unwrap());
        assert_eq!(ours.n, 4);
        assert_eq!(
            ours.interval.unwrap().method,
            theirs.interval.unwrap().method
        );
    }

    #[test]
    fn independent_strata_add_their_variances_by_weight() {
        let (a, b) = ([1.0, 0.0, 1.0, 1.0], [0.25, 0.75, 0.0]);
        let strata =
            Strata::new(vec![1.0, 3.0], vec![0, 0, 0, 0, 1, 1, 1], (0..7).collect()).unwrap();
        let values: Vec<f64> = a.iter().chain(&b).copied().collect();
        let found = strata.mean(&values, 0.95).unwrap();
        let (a, b) = (mean(&a, 0.95).unwrap(), mean(&b, 0.95).unwrap());
        near(found.estimate.point, 0.25 * a.point + 0.75 * b.point);
        let [va, vb] = [(0.25, a), (0.75, b)].map(|(share, it)| (share * it.se.unwrap()).powi(2));
        near(found.estimate.se.unwrap(), (va + vb).sqrt());
        near(
            found.freedom.unwrap(),
            (va + vb).powi(2) / (va * va / 3.0 + vb * vb / 2.0),
        );
    }

    #[test]
    fn clusters_over_two_strata_count_their_covariance() {
        // Two turns of the same questions, with equal weights: the mean of the turns' means.
        let turns = [[1.0, 4.0, 2.0, 9.0], [2.0, 5.0, 1.0, 8.0]];
        let strata = Strata::new(
            vec![1.0, 1.0],
            vec![0, 0, 0, 0, 1, 1, 1, 1],
            vec![1, 2, 3, 4, 1, 2, 3, 4],
        )
        .unwrap();
        let values = turns.concat();
        let found = strata.mean(&values, 0.95).unwrap().estimate;
        let questions: Vec<f64> = (0..4)
            .map(|at| (turns[0][at] + turns[1][at]) / 2.0)
            .collect();
        let expected = mean(&questions, 0.95).unwrap();
        near(found.point, expected.point);
        near(found.se.unwrap(), expected.se.unwrap());
    }

    #[test]
    fn strata_that_are_one_cluster_each_are_a_sample_of_strata() {
        let values = [0.0, 1.0, 1.0, 0.5, 1.0, 0.0, 1.0];
        let subject = [0, 0, 0, 1, 1, 2, 2];
        // Weights by size: the mean of all items with subjects as clusters.
        let by_size = Strata::new(vec![3.0, 2.0, 2.0], subject.to_vec(), subject.to_vec());
        let ours = by_size.unwrap().mean(&values, 0.95).unwrap().estimate;
        let theirs = clustered(&values, &subject, 0.95).unwrap();
        near(ours.point, theirs.point);
        near(ours.se.unwrap(), theirs.se.unwrap());
        // Equal weights: the mean of the subjects' means.
        let equal = Strata::new(vec![1.0; 3], subject.to_vec(), subject.to_vec());
        let ours = equal.unwrap().mean(&values, 0.95).unwrap().estimate;
        let theirs = mean(&[2.0 / 3.0, 0.75, 0.5], 0.95).unwrap();
        near(ours.se.unwrap(), theirs.se.unwrap());
        near(ours.interval.unwrap().high, theirs.interval.unwrap().high);
    }

    #[test]
    fn a_single_stratum_of_one_cluster_has_no_error() {
        let strata = Strata::new(vec![1.0, 1.0], vec![0, 1, 1], vec![0, 1, 2]).unwrap();
        let found = strata.mean(&[1.0, 0.0, 1.0], 0.95).unwrap();
        assert_eq!(
            (found.estimate.se, found.p, found.detectable),
            (None, None, None)
        );
    }

    #[test]
    fn what_cannot_be_weighed_is_refused() {
        assert!(Strata::new(vec![0.0], vec![0], vec![0]).is_err());
        assert!(Strata::new(vec![1.0], vec![1], vec![0]).is_err());
        assert!(Strata::new(vec![1.0, 1.0], vec![1], vec![0]).is_err());
        let strata = Strata::new(vec![1.0], vec![0, 0], vec![0, 1]).unwrap();
        assert!(strata.mean(&[1.0], 0.95).is_err());
        assert!(strata.mean(&[1.0, f64::NAN], 0.95).is_err());
    }

    /// Wilson's interval of single items, but for Student's quantile and the divisor n − 1.
    #[test]
    fn a_share_of_single_items_has_wilsons_interval() {
        let values: Vec<f64> = (0..2000).map(|at| f64::from(at % 10 == 0)).collect();
        let strata = Strata::new(vec![1.0], vec![0; 2000], (0..2000).collect()).unwrap();
        let ours = strata.share_over_seeds(&[values], 0.95).unwrap().estimate;
        let theirs = wilson(200.0, 2000, 0.95).unwrap();
        let bounds = |it: Estimate| [it.interval.unwrap().low, it.interval.unwrap().high];
        for (ours, theirs) in bounds(ours).iter().zip(bounds(theirs)) {
            assert!((ours - theirs).abs() < 2e-5, "{ours} is not {theirs}");
        }
        assert_eq!(
            ours.interval.unwrap().method,
            IntervalMethod::WilsonClustered
        );
        let strata = Strata::new(vec![1.0], vec![0, 0], vec![0, 1]).unwrap();
        assert!(strata.share_over_seeds(&[vec![0.0, 1.5]], 0.95).is_err());
    }

    #[test]
    fn a_share_of_all_or_none_counts_clusters_by_their_weight() {
        // Ten clusters of three items each: ten trials.
        let cluster: Vec<usize> = (0..30).map(|at| at / 3).collect();
        let strata = Strata::new(vec![1.0], vec![0; 30], cluster).unwrap();
        for (end, successes) in [(1.0, 10.0), (0.0, 0.0)] {
            let found = strata.share_over_seeds(&[vec![end; 30]], 0.95).unwrap();
            let found = found.estimate.interval.unwrap();
            let expected = wilson(successes, 10, 0.95).unwrap().interval.unwrap();
            assert!((found.low - expected.low).abs() < 1e-6, "{found:?}");
            assert!((found.high - expected.high).abs() < 1e-6, "{found:?}");
        }
        // Scores that are equal and not at an end are no draws of ones.
        let halves = strata.share_over_seeds(&[vec![0.5; 30]], 0.95).unwrap();
        assert_eq!(halves.estimate.interval, None);
    }

    /// Draws of clusters of 4 items that are right with probability `truth` and correlate by 0.3: the
    /// shares of 95 % intervals that cover it, those of the share and those of the mean, and of
    /// the latter that leave [0, 1].
    fn coverage(clusters: usize, truth: f64) -> [f64; 3] {
        const REPEATS: u64 = 2000;
        let mut counts = [0_u64; 3];
        for repeat in 0..REPEATS {
            let mut rng = stream(repeat, "test/share", &[clusters as u64]);
            let mut values = Vec::new();
            for _ in 0..clusters {
                // All items of a cluster are alike with this probability.
                let shared = rng.random::<f64>() < 0.3;
                let all = f64::from(rng.random::<f64>() < truth);
                values.extend((0..4).map(|_| match shared {
                    true => all,
                    false => f64::from(rng.random::<f64>() < truth),
                }));
            }
            let cluster: Vec<usize> = (0..clusters * 4).map(|at| at / 4).collect();
            let strata = Strata::new(vec![1.0], vec![0; clusters * 4], cluster).unwrap();
            let rows = [values];
            let of_share = strata.share_over_seeds(&rows, 0.95).unwrap();
            let of_mean = strata.mean_over_seeds(&rows, 0.95).unwrap();
            let bounded = of_share.estimate.interval.unwrap();
            assert!(bounded.low >= 0.0 && bounded.high <= 1.0);
            counts[0] += u64::from(bounded.contains(truth));
            // Without spread the mean has no interval, which covers nothing.
            let of_mean = of_mean.estimate.interval;
            counts[1] += u64::from(of_mean.is_some_and(|it| it.contains(truth)));
            counts[2] += u64::from(of_mean.is_some_and(|it| it.low < 0.0 || it.high > 1.0));
        }
        counts.map(|count| count as f64 / REPEATS as f64)
    }

    #[test]
    fn intervals_of_shares_cover_where_those_of_means_leave_the_unit_interval() {
        let mut told = Vec::new();
        for (clusters, truth) in [(8, 0.9), (8, 0.97), (20, 0.95), (60, 0.9), (60, 0.5)] {
            told.push((clusters, truth, coverage(clusters, truth)));
        }
        for (clusters, truth, [share, mean, outside]) in &told {
            assert!(*share >= 0.93, "{told:?}");
            if *clusters < 60 {
                assert!(
                    share > mean && *outside > 0.1,
                    "{clusters}, {truth}: {told:?}"
                );
            }
        }
    }

    /// Draws the items of two strata, 60 and 20, in clusters of two that share an effect, under
    /// `seeds` seeds that have an effect of their own; the true mean is 0.
    fn draw(repeat: u64, seeds: usize) -> (Strata<usize>, Vec<Vec<f64>>) {
        let mut rng = stream(repeat, "test/strata", &[]);
        let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let stratum: Vec<usize> = (0..80).map(|at| usize::from(at >= 60)).collect();
        let cluster: Vec<usize> = (0..80).map(|at| at / 2).collect();
        let shared: Vec<f64> = (0..40).map(|_| normal()).collect();
        let rows = (0..seeds)
            .map(|_| {
                let seed = 0.3 * normal();
                (0..80)
                    .map(|at| shared[at / 2] + normal() + if seeds > 1 { seed } else { 0.0 })
                    .collect()
            })
            .collect();
        (Strata::new(vec![1.0, 2.0], stratum, cluster).unwrap(), rows)
    }

    #[test]
    fn intervals_cover_the_truth_at_their_level() {
        for seeds in [1, 5] {
            let covered = (0..600)
                .filter(|repeat| {
                    let (strata, rows) = draw(*repeat, seeds);
                    let found = strata.mean_over_seeds(&rows, 0.9).unwrap();
                    found.estimate.interval.unwrap().contains(0.0)
                })
                .count();
            // 540 are expected, with a standard deviation of 7.3.
            assert!((515..=570).contains(&covered), "{seeds} seeds: {covered}");
        }
    }
}
