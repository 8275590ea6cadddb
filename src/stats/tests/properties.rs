//! Laws that hold for any input.

use super::super::*;
use proptest::prelude::*;

fn close(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-9 * scale.max(1.0)
}

fn values(least: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-100.0..100.0_f64, least..12)
}

fn pairs(least: usize) -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    prop::collection::vec((-100.0..100.0_f64, -100.0..100.0_f64), least..12)
        .prop_map(|pairs| pairs.into_iter().unzip())
}

/// Values with few distinct numbers, so that ties are common.
fn coarse() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec((0..5).prop_map(f64::from), 1..10)
}

proptest! {
    #[test]
    fn the_mean_moves_with_its_values(values in values(2), shift in -50.0..50.0_f64, scale in 0.1..10.0_f64) {
        let moved: Vec<f64> = values.iter().map(|value| shift + scale * value).collect();
        let (before, after) = (mean(&values, 0.9).unwrap(), mean(&moved, 0.9).unwrap());
        let (low, high) = (before.interval.unwrap(), after.interval.unwrap());
        prop_assert!(close(after.point, shift + scale * before.point, 1e3));
        prop_assert!(close(after.se.unwrap(), scale * before.se.unwrap(), 1e3));
        prop_assert!(close(high.low, shift + scale * low.low, 1e4));
        prop_assert!(close(high.high, shift + scale * low.high, 1e4));
    }

    #[test]
    fn order_of_pairs_does_not_matter((a, b) in pairs(2), turn in 0..12_usize) {
        let (mut turned_a, mut turned_b) = (a.clone(), b.clone());
        let turn = turn % a.len();
        turned_a.rotate_left(turn);
        turned_b.rotate_left(turn);
        let (one, other) = (paired(&a, &b, 0.95).unwrap(), paired(&turned_a, &turned_b, 0.95).unwrap());
        prop_assert!(close(one.difference.point, other.difference.point, 1.0));
        prop_assert!(close(one.p.unwrap(), other.p.unwrap(), 1.0));
        prop_assert_eq!(one.probability_of_improvement, other.probability_of_improvement);
        prop_assert_eq!(wilcoxon_exact(&a, &b).unwrap(), wilcoxon_exact(&turned_a, &turned_b).unwrap());
        prop_assert!(close(welch(&a, &b).unwrap().unwrap(), welch(&turned_a, &turned_b).unwrap().unwrap(), 1.0));
    }

    #[test]
    fn sides_are_mirrored((a, b) in pairs(2)) {
        let (one, other) = (paired(&a, &b, 0.95).unwrap(), paired(&b, &a, 0.95).unwrap());
        prop_assert!(close(one.difference.point, -other.difference.point, 1.0));
        prop_assert!(close(one.p.unwrap(), other.p.unwrap(), 1.0));
        prop_assert!(close(mann_whitney_exact(&a, &b).unwrap(), mann_whitney_exact(&b, &a).unwrap(), 1.0));
        prop_assert!(close(wilcoxon_exact(&a, &b).unwrap(), wilcoxon_exact(&b, &a).unwrap(), 1.0));
    }

    #[test]
    fn a_difference_is_separated_exactly_when_its_interval_excludes_zero((a, b) in pairs(2)) {
        let comparison = paired(&a, &b, 0.95).unwrap();
        let p = comparison.p.unwrap();
        prop_assume!((p - 0.05).abs() > 1e-9);
        prop_assert_eq!(p < 0.05, !comparison.difference.interval.unwrap().contains(0.0));
    }

    #[test]
    fn equivalence_is_an_interval_inside_the_margin((a, b) in pairs(2), margin in 1.0..300.0_f64) {
        let test = tost(&a, &b, margin, 0.05).unwrap();
        prop_assume!((test.p.unwrap() - 0.05).abs() > 1e-9);
        let interval = test.difference.interval.unwrap();
        prop_assert_eq!(test.equivalent, -margin < interval.low && interval.high < margin);
    }

    #[test]
    fn one_side_or_the_other_is_better(x in coarse(), y in coarse()) {
        let (there, back) = (probability_of_improvement(&x, &y), probability_of_improvement(&y, &x));
        prop_assert!((0.0..=1.0).contains(&there));
        prop_assert!(close(there + back, 1.0, 1.0));
    }

    #[test]
    fn p_values_are_probabilities(x in coarse(), y in coarse()) {
        let p = mann_whitney_exact(&x, &y).unwrap();
        prop_assert!(p > 0.0 && p <= 1.0);
        let n = x.len().min(y.len());
        let p = wilcoxon_exact(&x[..n], &y[..n]).unwrap();
        prop_assert!(p > 0.0 && p <= 1.0);
    }

    #[test]
    fn adjusted_p_values_keep_the_order(p in prop::collection::vec(0.0..=1.0_f64, 1..15)) {
        let (strict, lenient) = (holm(&p), benjamini_hochberg(&p));
        for i in 0..p.len() {
            prop_assert!(p[i] <= lenient[i] + 1e-15 && lenient[i] <= strict[i] + 1e-15 && strict[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || (strict[i] <= strict[j] && lenient[i] <= lenient[j]));
            }
        }
    }

    #[test]
    fn intervals_contain_their_point(values in values(2), n in 1..200_usize, share in 0.0..=1.0_f64) {
        let level = 0.5;
        for estimate in [mean(&values, level).unwrap(), wilson((share * n as f64).floor(), n, level).unwrap()] {
            let interval = estimate.interval.unwrap();
            prop_assert!(interval.contains(estimate.point), "{:?}", estimate);
        }
    }

    #[test]
    fn each_item_its_own_cluster_is_no_clustering(values in values(2)) {
        let clusters: Vec<usize> = (0..values.len()).collect();
        let (plain, robust) = (mean(&values, 0.95).unwrap(), clustered(&values, &clusters, 0.95).unwrap());
        prop_assert!(close(plain.se.unwrap(), robust.se.unwrap(), 100.0));
    }

    #[test]
    fn two_way_errors_are_never_below_one_way_errors(cells in prop::collection::vec(-1.0..1.0_f64, 12)) {
        let rows: Vec<Vec<f64>> = cells.chunks(4).map(Vec::from).collect();
        let seeds: Vec<f64> = rows.iter().map(|row| row.iter().sum::<f64>() / 4.0).collect();
        let both = two_way(&rows, 0.95).unwrap().se.unwrap();
        prop_assert!(both >= mean(&seeds, 0.95).unwrap().se.unwrap() * (1.0 - 1e-12));
    }

    #[test]
    fn the_detectable_effect_is_detected(sd in 0.01..10.0_f64, n in 2..40_usize) {
        let effect = minimum_detectable_effect(sd, n, 0.05, 0.8).unwrap();
        prop_assert!(close(paired_power(effect / sd, n, 0.05).unwrap(), 0.8, 1.0));
        prop_assert!(seeds_needed(effect * 1.000001, sd, 0.05, 0.8).unwrap() <= n);
    }

    #[test]
    fn strengths_solve_the_likelihood_equations(cells in prop::collection::vec(1..20_u32, 12)) {
        let mut cells = cells.into_iter().map(f64::from);
        let wins: Vec<Vec<f64>> =
            (0..4).map(|i| (0..4).map(|j| if i == j { 0.0 } else { cells.next().unwrap() }).collect()).collect();
        let theta = bradley_terry(&wins).unwrap();
        prop_assert!(close(theta.iter().sum(), 0.0, 1.0));
        for i in 0..4 {
            let won: f64 = wins[i].iter().sum();
            let chance = |j: usize| 1.0 / (1.0 + (theta[j] - theta[i]).exp());
            let expected: f64 =
                (0..4).filter(|j| *j != i).map(|j| (wins[i][j] + wins[j][i]) * chance(j)).sum();
            prop_assert!(close(won, expected, 100.0));
        }
    }
}

#[test]
fn welch_s_interval_ends_where_its_p_says() {
    // p of these two is .0795953 (the golden of `welch`), so at the level 1 − p the interval ends
    // at 0.
    let [x, y] = [[0.612, 0.598, 0.631, 0.607], [0.585, 0.590, 0.611, 0.579]]
        .map(|set| Sample::of(&set).unwrap());
    let p = welch_difference(&x, &y, 0.95).unwrap().p.unwrap();
    assert!((p - 0.079_595_3).abs() < 1e-7, "{p}");
    let welch = welch_difference(&x, &y, 1.0 - p).unwrap();
    assert!(
        welch.difference.interval.unwrap().low.abs() < 1e-9,
        "{welch:?}"
    );
    let still = Sample {
        mean: 2.0,
        sd: Some(0.0),
        n: 3,
    };
    let none = welch_difference(&still, &Sample { mean: 1.0, ..still }, 0.95).unwrap();
    assert_eq!(
        (none.p, none.difference.se, none.difference.interval),
        (None, Some(0.0), None)
    );
    assert_eq!(
        welch_difference(
            &Sample {
                sd: None,
                n: 1,
                ..still
            },
            &still,
            0.95
        )
        .unwrap()
        .difference
        .interval,
        None
    );
}
