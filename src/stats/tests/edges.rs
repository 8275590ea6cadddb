//! Undefined numbers and error messages.

use super::super::*;
use super::near;

#[test]
fn one_value_has_a_mean_and_no_error() {
    let estimate = mean(&[0.5], 0.95).unwrap();
    assert_eq!(
        (estimate.point, estimate.se, estimate.interval, estimate.n),
        (0.5, None, None, 1)
    );
    let comparison = paired(&[0.5], &[0.4], 0.95).unwrap();
    assert_eq!(
        (comparison.t, comparison.p, comparison.sd, comparison.mde),
        (None, None, None, None)
    );
    assert_eq!(comparison.probability_of_improvement, 1.0);
}

#[test]
fn equal_values_have_no_spread() {
    let estimate = mean(&[0.1; 3], 0.95).unwrap();
    near(estimate.point, 0.1, 1e-15);
    assert_eq!(
        (estimate.se, estimate.interval, estimate.n),
        (Some(0.0), None, 3)
    );
    // 0.1 + 0.2 is not 0.3 to the last bit.
    let rounded = mean(&[0.1 + 0.2, 0.3, 0.3], 0.95).unwrap();
    assert_eq!((rounded.se, rounded.interval), (Some(0.0), None));
    let clusters = clustered(&[0.1 + 0.2, 0.3, 0.3, 0.1 + 0.2], &[1, 1, 2, 2], 0.95).unwrap();
    assert_eq!((clusters.se, clusters.interval), (Some(0.0), None));
    // The clusters differ within and not between.
    assert_eq!(
        clustered(&[0.1, 0.7, 0.7, 0.1], &[1, 1, 2, 2], 0.95)
            .unwrap()
            .interval,
        None
    );
    let crossed = two_way(&[vec![0.3, 0.1 + 0.2], vec![0.3, 0.3]], 0.95).unwrap();
    assert_eq!((crossed.se, crossed.interval), (Some(0.0), None));
    let scores = Scores::new(&[vec![0.5, 0.5], vec![0.5, 0.5]]).unwrap();
    let resampling = Resampling {
        resamples: 50,
        level: 0.95,
        seed: 1,
    };
    let resampled = stratified_bootstrap(&scores, interquartile_mean, &resampling)
        .unwrap()
        .estimate;
    assert_eq!(
        (resampled.point, resampled.se, resampled.interval),
        (0.5, Some(0.0), None)
    );
    // Close values are not equal.
    assert!(mean(&[0.3, 0.3 + 1e-12], 0.95).unwrap().interval.is_some());
    // The spread of a proportion follows from its value.
    assert!(wilson(3.0, 3, 0.95).unwrap().interval.is_some());
}

#[test]
fn differences_that_agree_up_to_rounding_become_equal() {
    let mut rows = vec![vec![0.7 - 0.6, 0.8 - 0.7], vec![0.6 - 0.5, 0.7 - 0.6]];
    assert!(rows[0][0] != rows[0][1]);
    without_rounding(&mut rows, &[0.7, 0.6, 0.8, 0.5]);
    assert_eq!(rows, vec![vec![0.7 - 0.6; 2]; 2]);
    let mut rows = vec![vec![0.1, 0.2], vec![0.1, 0.1]];
    without_rounding(&mut rows, &[1.0]);
    assert_eq!(rows, [[0.1, 0.2], [0.1, 0.1]]);
}

#[test]
fn rounding_is_not_spread() {
    // The differences are 0.1 up to the last bit, but not bitwise equal.
    let (a, b) = ([0.6, 0.7, 0.8], [0.5, 0.6, 0.7]);
    assert!(a[0] - b[0] != a[2] - b[2]);
    let comparison = paired(&a, &b, 0.95).unwrap();
    assert_eq!(
        (comparison.sd, comparison.t, comparison.p, comparison.mde),
        (Some(0.0), None, None, None)
    );
    assert_eq!(
        (comparison.difference.se, comparison.difference.interval),
        (Some(0.0), None)
    );
    let hypothesis = Hypothesis {
        direction: Direction::Greater,
        threshold: 0.0,
        margin: Some(1.0),
    };
    let found = assess(&a, &b, &hypothesis, &Design::of(1))
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.verdict, found.interval, found.forecast),
        (None, None, None)
    );
    assert!(!tost(&a, &b, 1.0, 0.05).unwrap().equivalent);
    assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0]).unwrap(), None);
}

#[test]
fn identical_methods_are_no_evidence() {
    let same = [0.2, 0.4, 0.3, 0.5];
    assert_eq!(wilcoxon_exact(&same, &same).unwrap(), 1.0);
    assert_eq!(
        mann_whitney_exact(&[1.0, 1.0], &[1.0, 1.0, 1.0]).unwrap(),
        1.0
    );
    assert_eq!(mcnemar_exact(0, 0), 1.0);
    assert_eq!(probability_of_improvement(&same, &same), 0.5);
    assert_eq!(paired(&same, &same, 0.95).unwrap().p, None);
}

#[test]
fn ties_keep_exact_tests_exact() {
    // Differences 1, 1, 1, −1: of 16 sign patterns 5 have a positive rank sum of at least three
    // quarters.
    near(
        wilcoxon_exact(&[1.0, 1.0, 1.0, 0.0], &[0.0, 0.0, 0.0, 1.0]).unwrap(),
        0.625,
        1e-15,
    );
    // x = {1, 1}, y = {1, 2, 2}: of 10 ways to pick two of the five, 3 are as low.
    near(
        mann_whitney_exact(&[1.0, 1.0], &[1.0, 2.0, 2.0]).unwrap(),
        0.6,
        1e-15,
    );
}

#[test]
fn wilson_claims_no_certainty_at_the_ends() {
    for (successes, n) in [(0.0, 20), (20.0, 20)] {
        let estimate = wilson(successes, n, 0.95).unwrap();
        assert_eq!(estimate.se, None);
        let interval = estimate.interval.unwrap();
        assert!(interval.contains(estimate.point) && interval.high - interval.low > 0.1);
    }
}

#[test]
fn exact_wilcoxon_cannot_reach_five_percent_below_six_pairs() {
    for n in 1..=6 {
        let a: Vec<f64> = (1..=n).map(f64::from).collect();
        let p = wilcoxon_exact(&a, &vec![0.0; a.len()]).unwrap();
        assert_eq!(p < 0.05, n >= 6, "{n} pairs: {p}");
    }
}

#[test]
fn undefined_tests_count_in_their_family() {
    let adjusted = adjust_defined(&[Some(0.01), None, Some(0.02)], holm);
    assert_eq!(adjusted, [Some(0.03), None, Some(0.04)]);
    assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
    assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
}

#[test]
fn power_is_undefined_where_nothing_can_be_seen() {
    assert_eq!(minimum_detectable_effect(0.1, 1, 0.05, 0.8), None);
    assert_eq!(minimum_detectable_effect(0.0, 5, 0.05, 0.8), None);
    assert_eq!(minimum_detectable_effect(0.1, 5, 0.05, 0.01), None);
    assert_eq!(seeds_needed(0.0, 0.1, 0.05, 0.8), None);
    assert_eq!(seeds_needed(1e-9, 1.0, 0.05, 0.8), None);
    assert_eq!(seeds_needed(100.0, 1.0, 0.05, 0.8), Some(2));
    assert_eq!(seeds_needed_for_equivalence(0.2, 0.1, 0.2, 0.05, 0.8), None);
}

#[test]
fn strengths_need_a_connected_graph() {
    // Methods 0 and 1 play each other, and so do 2 and 3, but 0 and 1 always win across.
    let wins = [
        vec![0.0, 2.0, 1.0, 0.0],
        vec![1.0, 0.0, 0.0, 3.0],
        vec![0.0, 0.0, 0.0, 1.0],
        vec![0.0, 0.0, 2.0, 0.0],
    ];
    let error = bradley_terry(&wins).unwrap_err().to_string();
    assert!(
        error.contains("disconnected") && error.contains("[2, 3]"),
        "{error}"
    );
    assert!(bradley_terry(&[vec![0.0, 1.0]]).is_err());
    assert!(bradley_terry(&[vec![0.0, -1.0], vec![1.0, 0.0]]).is_err());
    assert!(bradley_terry(&[vec![1.0, 1.0], vec![1.0, 0.0]]).is_err());
}

#[test]
fn a_length_fit_that_does_not_exist_is_an_error() {
    let judgement = |prompt: usize, log_length_ratio: f64, preference: f64| Judgement {
        prompt,
        method: 0,
        log_length_ratio,
        preference,
    };
    let resampling = Resampling {
        resamples: 10,
        level: 0.95,
        seed: 0,
    };
    let error_of =
        |judgements: &[Judgement]| length_controlled_win_rates(judgements, 1, &resampling).is_err();
    let always: Vec<Judgement> = (0..10)
        .map(|i| judgement(i, i as f64 / 10.0, 1.0))
        .collect();
    assert!(error_of(&always));
    let separated: Vec<Judgement> = (0..10)
        .map(|i| judgement(i, i as f64 - 4.5, f64::from(i > 4)))
        .collect();
    assert!(error_of(&separated));
    let same_length: Vec<Judgement> = (0..10)
        .map(|i| judgement(i, 0.0, f64::from(i > 4)))
        .collect();
    assert!(error_of(&same_length));
    assert!(error_of(&[]));
}

#[test]
fn meaningless_input_is_an_error_that_says_where() {
    let message = |result: crate::Result<Estimate>| result.unwrap_err().to_string();
    assert!(message(mean(&[], 0.95)).contains("no values"));
    assert!(message(mean(&[1.0, f64::NAN], 0.95)).contains("value 2 is NaN"));
    assert!(message(mean(&[1.0], 1.0)).contains("strictly between 0 and 1"));
    assert!(message(wilson(3.0, 2, 0.95)).contains("3 successes in 2 trials"));
    assert!(message(wilson(0.0, 0, 0.95)).contains("0 trials"));
    assert!(
        paired(&[1.0, 2.0], &[1.0], 0.95)
            .unwrap_err()
            .to_string()
            .contains("2 values cannot be paired with 1")
    );
    assert!(paired(&[], &[], 0.95).is_err() && welch(&[], &[1.0]).is_err());
    assert!(wilcoxon_exact(&vec![1.0; 201], &vec![0.0; 201]).is_err());
    assert!(tost(&[1.0], &[1.0], 0.0, 0.05).is_err() && tost(&[1.0], &[1.0], 0.1, 0.5).is_err());
    assert!(message(clustered(&[1.0], &[1, 2], 0.95)).contains("1 values with 2 cluster names"));
    assert!(
        Scores::new(&[vec![1.0, 2.0], vec![1.0]])
            .unwrap_err()
            .to_string()
            .contains("run 2 has 1 tasks")
    );
    assert!(Scores::new(&[vec![]]).is_err() && Scores::new(&[]).is_err());
    assert!(group_standard_error(&[(f64::NAN, 3)]).is_err());
}

#[test]
fn single_clusters_seeds_and_prompts_have_no_error() {
    assert_eq!(clustered(&[1.0, 0.0], &[7, 7], 0.95).unwrap().se, None);
    assert_eq!(two_way(&[vec![1.0, 2.0]], 0.95).unwrap().se, None);
    assert_eq!(two_way(&[vec![1.0], vec![2.0]], 0.95).unwrap().se, None);
    assert_eq!(
        two_way(&[vec![1.0; 3], vec![1.0; 3]], 0.95).unwrap().se,
        Some(0.0)
    );
    assert_eq!(group_standard_error(&[(0.0, 1)]).unwrap(), None);
    assert_eq!(
        (
            interquartile_mean(&[]),
            median(&[]),
            optimality_gap(&[], 1.0)
        ),
        (None, None, None)
    );
}
