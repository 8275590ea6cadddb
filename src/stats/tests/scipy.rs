//! Comparisons with scipy on random tables; `tests/stats_goldens.py` makes the expected values.

use super::super::student::two_sided_quantile;
use super::super::*;
use super::{all_near, near};
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    comparisons: Vec<Comparison>,
    proportions: Vec<Proportion>,
    powers: Vec<Power>,
    seeds: Vec<Seeds>,
    families: Vec<Family>,
    mcnemar: Vec<Mcnemar>,
    quantiles: Vec<Quantile>,
}

#[derive(Deserialize)]
struct Comparison {
    a: Vec<f64>,
    b: Vec<f64>,
    level: f64,
    mean: f64,
    se: f64,
    interval: [f64; 2],
    t: f64,
    p: f64,
    difference_interval: [f64; 2],
    mde: f64,
    welch: f64,
    wilcoxon: f64,
    mann_whitney: f64,
    probability_of_improvement: f64,
    margin: f64,
    tost_lower: f64,
    tost_upper: f64,
}

#[derive(Deserialize)]
struct Proportion {
    successes: f64,
    n: usize,
    level: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct Power {
    n: usize,
    d: f64,
    alpha: f64,
    power: f64,
}

#[derive(Deserialize)]
struct Seeds {
    d: f64,
    alpha: f64,
    power: f64,
    n: usize,
}

#[derive(Deserialize)]
struct Family {
    p: Vec<f64>,
    holm: Vec<f64>,
    bh: Vec<f64>,
}

#[derive(Deserialize)]
struct Mcnemar {
    b: u64,
    c: u64,
    p: f64,
}

#[derive(Deserialize)]
struct Quantile {
    df: f64,
    level: f64,
    t: f64,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../../tests/stats_goldens.json")).unwrap()
}

fn bounds(interval: Option<Interval>) -> [f64; 2] {
    let interval = interval.unwrap();
    [interval.low, interval.high]
}

#[test]
fn comparisons_agree() {
    for golden in goldens().comparisons {
        let estimate = mean(&golden.a, golden.level).unwrap();
        near(estimate.point, golden.mean, 1e-14);
        near(estimate.se.unwrap(), golden.se, 1e-14);
        all_near(&bounds(estimate.interval), &golden.interval, 1e-11);
        let comparison = paired(&golden.a, &golden.b, golden.level).unwrap();
        near(comparison.t.unwrap(), golden.t, 1e-12);
        near(comparison.p.unwrap(), golden.p, 1e-12);
        all_near(
            &bounds(comparison.difference.interval),
            &golden.difference_interval,
            1e-11,
        );
        near(comparison.mde.unwrap() / golden.mde, 1.0, 1e-8);
        near(
            comparison.probability_of_improvement,
            golden.probability_of_improvement,
            1e-14,
        );
        near(
            welch(&golden.a, &golden.b).unwrap().unwrap(),
            golden.welch,
            1e-12,
        );
        near(
            wilcoxon_exact(&golden.a, &golden.b).unwrap(),
            golden.wilcoxon,
            1e-12,
        );
        near(
            mann_whitney_exact(&golden.a, &golden.b).unwrap(),
            golden.mann_whitney,
            1e-12,
        );
        let equivalence = tost(&golden.a, &golden.b, golden.margin, 0.05).unwrap();
        near(equivalence.p_lower.unwrap(), golden.tost_lower, 1e-12);
        near(equivalence.p_upper.unwrap(), golden.tost_upper, 1e-12);
        assert_eq!(
            equivalence.equivalent,
            golden.tost_lower.max(golden.tost_upper) < 0.05
        );
    }
}

#[test]
fn proportions_agree() {
    for golden in goldens().proportions {
        let estimate = wilson(golden.successes, golden.n, golden.level).unwrap();
        all_near(&bounds(estimate.interval), &golden.interval, 1e-10);
    }
}

#[test]
fn power_and_needed_seeds_agree() {
    for golden in goldens().powers {
        let power = paired_power(golden.d, golden.n, golden.alpha).unwrap();
        assert!(
            (power - golden.power).abs() < 1e-8,
            "{power} {} n {} d {}",
            golden.power,
            golden.n,
            golden.d
        );
    }
    for golden in goldens().seeds {
        assert_eq!(
            seeds_needed(golden.d, 1.0, golden.alpha, golden.power),
            Some(golden.n)
        );
    }
}

#[test]
fn adjustments_and_mcnemar_agree() {
    for golden in goldens().families {
        all_near(&holm(&golden.p), &golden.holm, 1e-14);
        all_near(&benjamini_hochberg(&golden.p), &golden.bh, 1e-14);
    }
    for golden in goldens().mcnemar {
        near(mcnemar_exact(golden.b, golden.c), golden.p, 1e-10);
    }
}

#[test]
fn quantiles_of_student_agree() {
    for golden in goldens().quantiles {
        let t = two_sided_quantile(golden.level, golden.df);
        near(t, golden.t, if golden.df > 1e4 { 1e-7 } else { 1e-11 });
    }
}
