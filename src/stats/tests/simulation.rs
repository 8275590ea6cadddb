//! Coverage of intervals and error rates of corrections, counted over many repetitions of a known
//! truth with fixed seeds.

use super::super::student::two_sided_p;
use super::super::*;
use crate::rng;
use rand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

fn normals(n: usize, stream: &mut impl Rng) -> Vec<f64> {
    let normal = Normal::standard();
    (0..n)
        .map(|_| normal.inverse_cdf(stream.random_range(1e-12..1.0)))
        .collect()
}

fn share(
    repetitions: u64,
    purpose: &str,
    mut holds: impl FnMut(&mut rand_chacha::ChaCha8Rng) -> bool,
) -> f64 {
    let held = (0..repetitions)
        .filter(|i| holds(&mut rng::stream(1, purpose, &[*i])))
        .count();
    held as f64 / repetitions as f64
}

#[test]
fn student_intervals_of_five_seeds_cover() {
    let covered = share(20_000, "coverage", |stream| {
        mean(&normals(5, stream), 0.95)
            .unwrap()
            .interval
            .unwrap()
            .contains(0.0)
    });
    assert!((0.935..=0.965).contains(&covered), "{covered}");
}

#[test]
fn the_percentile_bootstrap_of_five_values_does_not_cover() {
    // This is why the bootstrap isn't the default, and why few runs are flagged.
    let resampling = Resampling {
        resamples: 300,
        level: 0.95,
        seed: 3,
    };
    let covered = share(1500, "bootstrap", |stream| {
        let rows: Vec<Vec<f64>> = normals(5, stream)
            .into_iter()
            .map(|value| vec![value])
            .collect();
        let average = |values: &[f64]| Some(values.iter().sum::<f64>() / values.len() as f64);
        let bootstrapped =
            stratified_bootstrap(&Scores::new(&rows).unwrap(), average, &resampling).unwrap();
        bootstrapped.few_runs && bootstrapped.estimate.interval.unwrap().contains(0.0)
    });
    assert!((0.78..=0.88).contains(&covered), "{covered}");
}

#[test]
fn holm_keeps_the_family_wise_error() {
    // Five methods that all equal the baseline they share, on five seeds.
    const REPETITIONS: u64 = 4000;
    let rejections = |adjust: fn(&[f64]) -> Vec<f64>| {
        share(REPETITIONS, "family", |stream| {
            let baseline = normals(5, stream);
            let p: Vec<f64> = (0..5)
                .map(|_| {
                    let differences: Vec<f64> = normals(5, stream)
                        .iter()
                        .zip(&baseline)
                        .map(|(value, base)| value - base)
                        .collect();
                    let estimate = mean(&differences, 0.95).unwrap();
                    two_sided_p(estimate.point / estimate.se.unwrap(), 4.0)
                })
                .collect();
            adjust(&p).iter().any(|p| *p < 0.05)
        })
    };
    let error = 3.0 * (0.05 * 0.95 / REPETITIONS as f64).sqrt();
    assert!(rejections(holm) <= 0.05 + error, "{}", rejections(holm));
    // A check that the count can fail: without correction the same draws exceed 5 % by far.
    assert!(rejections(<[f64]>::to_vec) > 0.10);
}

#[test]
fn two_way_intervals_cover_where_pooling_does_not() {
    let (mut pooled, repetitions) = (0, 3000);
    let covered = share(repetitions, "two-way", |stream| {
        let (seeds, prompts) = (normals(6, stream), normals(20, stream));
        let rows: Vec<Vec<f64>> = seeds
            .iter()
            .map(|seed| {
                prompts
                    .iter()
                    .zip(normals(20, stream))
                    .map(|(p, noise)| 0.5 * seed + p + noise)
                    .collect()
            })
            .collect();
        pooled += usize::from(
            mean(&rows.concat(), 0.95)
                .unwrap()
                .interval
                .unwrap()
                .contains(0.0),
        );
        two_way(&rows, 0.95)
            .unwrap()
            .interval
            .unwrap()
            .contains(0.0)
    });
    assert!((0.935..=0.98).contains(&covered), "{covered}");
    assert!((pooled as f64) < 0.75 * repetitions as f64, "{pooled}");
}

#[test]
fn clustered_intervals_cover_where_naive_ones_do_not() {
    let (mut naive, repetitions) = (0, 3000);
    let clusters: Vec<usize> = (0..60).map(|item| item / 5).collect();
    let covered = share(repetitions, "clusters", |stream| {
        let centres = normals(12, stream);
        let values: Vec<f64> = normals(60, stream)
            .iter()
            .zip(&clusters)
            .map(|(noise, cluster)| centres[*cluster] + noise)
            .collect();
        naive += usize::from(mean(&values, 0.95).unwrap().interval.unwrap().contains(0.0));
        clustered(&values, &clusters, 0.95)
            .unwrap()
            .interval
            .unwrap()
            .contains(0.0)
    });
    assert!((0.935..=0.965).contains(&covered), "{covered}");
    assert!((naive as f64) < 0.85 * repetitions as f64, "{naive}");
}

#[test]
fn stated_power_is_reached() {
    let effect = minimum_detectable_effect(1.0, 5, 0.05, 0.8).unwrap();
    let found = share(10_000, "power", |stream| {
        let values: Vec<f64> = normals(5, stream)
            .into_iter()
            .map(|value| value + effect)
            .collect();
        let estimate = mean(&values, 0.95).unwrap();
        two_sided_p(estimate.point / estimate.se.unwrap(), 4.0) < 0.05
    });
    assert!((0.785..=0.815).contains(&found), "{found}");
}
