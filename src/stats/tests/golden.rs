//! Small examples with values computed by scipy 1.17.1, to the digits given.

use super::super::*;
use super::{all_near, near};

/// Half a unit of the sixth digit.
const SIX: f64 = 5e-7;

fn scores(rows: [[f64; 3]; 5]) -> Scores {
    Scores::new(&rows.map(Vec::from)).unwrap()
}

fn first() -> Scores {
    scores([
        [0.10, 0.55, 0.90],
        [0.20, 0.50, 0.85],
        [0.35, 0.65, 0.95],
        [0.15, 0.60, 0.70],
        [0.25, 0.45, 0.80],
    ])
}

fn second() -> Scores {
    scores([
        [0.05, 0.50, 0.88],
        [0.20, 0.52, 0.80],
        [0.30, 0.55, 0.92],
        [0.12, 0.58, 0.72],
        [0.18, 0.40, 0.79],
    ])
}

const A: [f64; 4] = [0.612, 0.598, 0.631, 0.607];
const B: [f64; 4] = [0.585, 0.590, 0.611, 0.579];

#[test]
fn aggregates_over_runs_and_tasks() {
    let scores = first();
    near(mean(scores.values(), 0.95).unwrap().point, 0.533333, SIX);
    near(median(scores.values()).unwrap(), 0.55, SIX);
    near(interquartile_mean(scores.values()).unwrap(), 0.538889, SIX);
    near(optimality_gap(scores.values(), 1.0).unwrap(), 0.466667, SIX);
    all_near(
        &performance_profile(scores.values(), &[0.2, 0.5, 0.8]),
        &[0.8, 0.533333, 0.2],
        SIX,
    );
}

#[test]
fn a_score_above_the_target_does_not_close_the_optimality_gap() {
    near(optimality_gap(&[0.5, 3.0], 1.0).unwrap(), 0.25, 1e-15);
}

#[test]
fn probability_of_improvement_over_tasks_and_with_ties() {
    near(first().improvement_over(&second()).unwrap(), 0.613333, SIX);
    near(second().improvement_over(&first()).unwrap(), 0.386667, SIX);
    near(
        probability_of_improvement(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 2.0, 2.0]),
        0.59375,
        1e-15,
    );
}

#[test]
fn intervals_and_tests_of_four_seeds() {
    let interval = mean(&A, 0.95).unwrap().interval.unwrap();
    all_near(&[interval.low, interval.high], &[0.589837, 0.634163], SIX);
    let comparison = paired(&A, &B, 0.95).unwrap();
    near(comparison.t.unwrap(), 4.503515, SIX);
    near(comparison.p.unwrap(), 0.0204474, 5e-8);
    near(welch(&A, &B).unwrap().unwrap(), 0.0795953, 5e-8);
    near(wilcoxon_exact(&A, &B).unwrap(), 0.125, 1e-15);
    near(mann_whitney_exact(&A, &B).unwrap(), 0.114286, SIX);
}

#[test]
fn wilson_intervals() {
    for (successes, n, low, high) in [
        (55.0, 100, 0.452446, 0.643855),
        (0.0, 20, 0.0, 0.161125),
        (3.0, 4, 0.300642, 0.954413),
    ] {
        let interval = wilson(successes, n, 0.95).unwrap().interval.unwrap();
        all_near(&[interval.low, interval.high], &[low, high], SIX);
    }
}

#[test]
fn mcnemar_group_and_cluster() {
    near(mcnemar_exact(12, 5), 0.143463, SIX);
    near(
        group_standard_error(&[(0.02, 100), (0.03, 200), (0.05, 50)])
            .unwrap()
            .unwrap(),
        0.0194416,
        5e-8,
    );
    let values = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    let clusters = ["a", "a", "a", "b", "b", "b", "b", "c", "c", "c"];
    near(mean(&values, 0.95).unwrap().se.unwrap(), 0.163299, SIX);
    let estimate = clustered(&values, &clusters, 0.95).unwrap();
    near(estimate.se.unwrap(), 0.36, SIX);
    near(estimate.se.unwrap() / 1.5_f64.sqrt(), 0.293939, SIX);
    assert_eq!(estimate.n, 3);
    // With two degrees of freedom, t = 4.302653.
    near(estimate.interval.unwrap().high, 0.6 + 4.302653 * 0.36, 1e-6);
}

#[test]
fn multiplicity_adjustments() {
    let p = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205];
    all_near(
        &holm(&p),
        &[0.008, 0.056, 0.234, 0.234, 0.234, 0.234, 0.234, 0.234],
        SIX,
    );
    let expected = [0.008, 0.032, 0.0672, 0.0672, 0.0672, 0.08, 0.084571, 0.205];
    all_near(&benjamini_hochberg(&p), &expected, SIX);
}

#[test]
fn bradley_terry_strengths() {
    let wins = [
        vec![0.0, 7.0, 9.0],
        vec![3.0, 0.0, 6.0],
        vec![1.0, 4.0, 0.0],
    ];
    all_near(
        &bradley_terry(&wins).unwrap(),
        &[0.943606, -0.160161, -0.783445],
        SIX,
    );
}

#[test]
fn seeds_that_a_standardised_effect_needs() {
    assert_eq!(seeds_needed(1.0, 1.0, 0.05, 0.8), Some(10));
    assert_eq!(seeds_needed(-2.0, 1.0, 0.05, 0.8), Some(5));
}

#[test]
fn two_way_error_by_hand() {
    // Seed means 2 and 4; prompt means 2, 3 and 4; residuals 0, −½, ½ and 0, ½, −½.
    let rows = [vec![1.0, 1.5, 3.5], vec![3.0, 4.5, 4.5]];
    let estimate = two_way(&rows, 0.95).unwrap();
    near(estimate.point, 3.0, 1e-15);
    // Mean squares: seeds 3·2 = 6, prompts 2·1 = 2, interaction 4·¼/2 = ½; so the variance is (6 +
    // 2 − ½)/6.
    near(estimate.se.unwrap(), 1.25_f64.sqrt(), 1e-12);
}

#[test]
fn length_controlled_win_rate_of_a_saturated_fit() {
    // Two lengths, one intercept and one slope: the fit is exact and the intercept the mean of the
    // two logits.
    let judgement = |prompt: usize, log_length_ratio: f64, preference: f64| Judgement {
        prompt,
        method: 0,
        log_length_ratio,
        preference,
    };
    let long = (0..40).map(|i| judgement(i, 0.5, f64::from(i < 32)));
    let short = (0..40).map(|i| judgement(40 + i, -0.5, f64::from(i < 16)));
    let judgements: Vec<Judgement> = long.chain(short).collect();
    let resampling = Resampling {
        resamples: 200,
        level: 0.95,
        seed: 1,
    };
    let estimate = length_controlled_win_rates(&judgements, 1, &resampling).unwrap()[0];
    let logit = |p: f64| (p / (1.0 - p)).ln();
    near(
        estimate.point,
        1.0 / (1.0 + (-(logit(0.8) + logit(0.4)) / 2.0).exp()),
        1e-9,
    );
    assert!(estimate.interval.unwrap().contains(estimate.point));
    assert_eq!(estimate.n, 80);
}
