//! The family-wise error of verdicts: how often any comparison of an experiment gets any wrong
//! answer, over simulated experiments whose truth is known, with runs that are normal and with runs
//! that collapse.
//!
//! The light versions run with every test; `just verdict-errors` runs the heavy ones and prints the
//! tables of `docs/statistics.md`.

use super::super::verdict::look_through;
use super::super::*;
use crate::rng;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

const PLAN: [usize; 4] = LOOKS;
const ALPHA: f64 = 0.05;

fn normal(stream: &mut ChaCha8Rng) -> f64 {
    Normal::standard().inverse_cdf(stream.random_range(1e-12..1.0))
}

/// Runs in units of their own standard deviation, some of which end far below the others.
#[derive(Clone, Copy, Debug)]
struct Runs {
    /// Probability that a run of the compared methods collapses.
    collapse: f64,
    /// The depth of a collapse, in standard deviations.
    depth: f64,
    /// Whether runs of the common method collapse too.
    both: bool,
}

const STEADY: Runs = Runs {
    collapse: 0.0,
    depth: 0.0,
    both: false,
};

impl Runs {
    fn draw(self, collapses: bool, stream: &mut ChaCha8Rng) -> f64 {
        let collapsed = collapses && stream.random_bool(self.collapse);
        normal(stream) - if collapsed { self.depth } else { 0.0 }
    }

    /// The mean of a compared method minus that of the common one, if nothing else differs.
    fn shift(self) -> f64 {
        if self.both {
            0.0
        } else {
            -self.collapse * self.depth
        }
    }

    /// Standard deviation of a difference.
    fn sd(self) -> f64 {
        let of_one = |collapses: bool| match collapses {
            true => 1.0 + self.collapse * (1.0 - self.collapse) * self.depth * self.depth,
            false => 1.0,
        };
        (of_one(true) + of_one(self.both)).sqrt()
    }
}

/// An experiment of `m` comparisons with one common method, at a truth that makes as many wrong
/// answers possible as can be: in turn no difference, one as large as the margin, and one as large
/// on the other side, each for every direction of a claim.
struct Experiment {
    m: usize,
    seeds: usize,
    /// The margin, in standard deviations of a difference.
    margin: f64,
    runs: Runs,
}

impl Experiment {
    fn truth(&self, comparison: usize) -> f64 {
        [0.0, 1.0, -1.0][comparison % 3] * self.margin * self.runs.sd()
    }

    fn hypothesis(&self, comparison: usize) -> Hypothesis {
        // The direction that makes the most answers wrong at each truth.
        let direction = match (comparison % 3, comparison / 3 % 2) {
            (0, 0) => Direction::Greater,
            (0, _) => Direction::Less,
            (1, 0) => Direction::Equivalent,
            (1, _) => Direction::Greater,
            (_, 0) => Direction::NotWorse,
            (_, _) => Direction::Less,
        };
        Hypothesis {
            direction,
            threshold: 0.0,
            margin: Some(self.margin * self.runs.sd()),
        }
    }

    /// Whether any comparison gets a wrong answer.
    fn is_wrong(&self, design: &Design, stream: &mut ChaCha8Rng) -> bool {
        let common: Vec<f64> = (0..self.seeds)
            .map(|_| self.runs.draw(self.runs.both, stream))
            .collect();
        (0..self.m).any(|comparison| {
            let truth = self.truth(comparison);
            let method: Vec<f64> = common
                .iter()
                .map(|_| truth - self.runs.shift() + self.runs.draw(true, stream))
                .collect();
            let hypothesis = self.hypothesis(comparison);
            let found = look_through(&method, &common, &hypothesis, design)
                .unwrap()
                .unwrap();
            found
                .verdict
                .is_some_and(|verdict| hypothesis.is_wrong(verdict, truth))
        })
    }

    /// The share of experiments with a wrong answer.
    fn error(&self, repetitions: u64) -> f64 {
        let design = Design {
            looks: PLAN.to_vec(),
            ..Design::of(self.m)
        };
        let name = [
            self.m as u64,
            self.seeds as u64,
            (self.margin * 100.0) as u64,
            (self.runs.collapse * 100.0) as u64,
        ];
        let wrong = |i: &u64| {
            self.is_wrong(
                &design,
                &mut rng::stream(
                    u64::from(self.runs.both),
                    "test/family",
                    &[&name[..], &[*i]].concat(),
                ),
            )
        };
        (0..repetitions).into_par_iter().filter(wrong).count() as f64 / repetitions as f64
    }
}

fn allowance(p: f64, repetitions: u64) -> f64 {
    3.0 * (p * (1.0 - p) / repetitions as f64).sqrt()
}

#[test]
fn no_experiment_of_normal_runs_is_wrong_more_often_than_it_may() {
    for (m, repetitions) in [(1, 4000), (5, 1500), (12, 600), (40, 200)] {
        for margin in [0.5, 1.0, 2.0] {
            let error = Experiment {
                m,
                seeds: 40,
                margin,
                runs: STEADY,
            }
            .error(repetitions);
            assert!(
                error <= ALPHA + allowance(ALPHA, repetitions),
                "m = {m}, margin {margin}: {error}"
            );
        }
    }
}

#[test]
fn a_family_that_does_not_share_its_error_is_wrong_more_often() {
    // A check that the count can exceed α: twelve comparisons that each spend all of α.
    let family = Experiment {
        m: 12,
        seeds: 40,
        margin: 1.0,
        runs: STEADY,
    };
    let each = Design::of(1);
    let wrong = (0..300_u64)
        .filter(|i| family.is_wrong(&each, &mut rng::stream(5, "test/family/each", &[*i])));
    assert!(wrong.count() as f64 / 300.0 > 0.2);
}

#[test]
fn repeated_intervals_of_normal_runs_cover_at_all_looks_together() {
    let looks = Looks::new(&PLAN, ALPHA, Spending::Pocock).unwrap();
    let repetitions = 20_000_u64;
    let covers = |i: &u64| {
        let mut stream = rng::stream(1, "test/repeated", &[*i]);
        let values: Vec<f64> = (0..40).map(|_| normal(&mut stream)).collect();
        PLAN.iter().all(|n| {
            looks
                .interval(&values[..*n])
                .unwrap()
                .is_some_and(|it| it.contains(0.0))
        })
    };
    let share = (0..repetitions).into_par_iter().filter(covers).count() as f64 / repetitions as f64;
    assert!((0.94..=0.96).contains(&share), "{share}");
    for n in PLAN {
        let covers = |i: &u64| {
            let mut stream = rng::stream(2, "test/fixed", &[n as u64, *i]);
            let values: Vec<f64> = (0..n).map(|_| normal(&mut stream)).collect();
            mean(&values, 0.95).unwrap().interval.unwrap().contains(0.0)
        };
        let share =
            (0..repetitions).into_par_iter().filter(covers).count() as f64 / repetitions as f64;
        assert!((0.94..=0.96).contains(&share), "n = {n}: {share}");
    }
}

/// Runs that end ten standard deviations below the others with this probability, as −.1 at a spread
/// of .01.
fn collapsing(collapse: f64, both: bool) -> Runs {
    Runs {
        collapse,
        depth: 10.0,
        both,
    }
}

/// Records observed rather than desired behaviour: if one side alone collapses, differences are
/// skewed, an interval of few seeds without a collapse lies above the truth, and the error rate
/// exceeds α. If both sides collapse alike, it doesn't.
#[test]
fn collapses_of_one_side_break_the_promise_by_as_much_as_is_documented() {
    let observed = |m, runs, margin, repetitions| {
        Experiment {
            m,
            seeds: 40,
            margin,
            runs,
        }
        .error(repetitions)
    };
    for (m, runs, margin, repetitions, documented) in [
        (1, collapsing(0.05, false), 0.5, 3000, 0.092),
        (1, collapsing(0.2, false), 0.5, 3000, 0.176),
        (12, collapsing(0.05, false), 1.0, 300, 0.124),
        (12, collapsing(0.2, false), 1.0, 300, 0.357),
    ] {
        let error = observed(m, runs, margin, repetitions);
        assert!(
            (error - documented).abs() <= allowance(documented, repetitions),
            "m = {m}, {runs:?}: {error}"
        );
    }
    let both = observed(5, collapsing(0.2, true), 1.0, 1000);
    assert!(both <= ALPHA + allowance(ALPHA, 1000), "{both}");
}

/// Prints the table of `docs/statistics.md`: `just verdict-errors`.
#[test]
#[ignore = "a minute or more; `just verdict-errors` prints the table"]
fn the_error_of_runs_that_collapse() {
    println!("| runs | m | margin ½ SD | 1 SD | 2 SD |\n|---|--:|--:|--:|--:|");
    let kinds = [
        ("normal", STEADY),
        ("5 % of the compared collapse", collapsing(0.05, false)),
        ("20 % of the compared collapse", collapsing(0.2, false)),
        ("5 % of all collapse", collapsing(0.05, true)),
        ("20 % of all collapse", collapsing(0.2, true)),
    ];
    for (name, runs) in kinds {
        for (m, repetitions) in [(1, 20_000), (5, 5000), (12, 2000), (40, 800)] {
            let error = |margin| {
                100.0
                    * Experiment {
                        m,
                        seeds: 40,
                        margin,
                        runs,
                    }
                    .error(repetitions)
            };
            println!(
                "| {name} | {m} | {:.1} % | {:.1} % | {:.1} % |",
                error(0.5),
                error(1.0),
                error(2.0)
            );
        }
    }
}
