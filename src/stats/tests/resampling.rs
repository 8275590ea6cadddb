//! Bootstraps: reproducible, and as wide as theory says.

use super::super::*;
use super::near;

const PLAIN: Resampling = Resampling {
    resamples: 4000,
    level: 0.95,
    seed: 44413,
};

fn ramp(runs: usize, tasks: usize) -> Scores {
    let rows: Vec<Vec<f64>> = (0..runs)
        .map(|run| {
            (0..tasks)
                .map(|task| ((run * 7 + task * 3) % 11) as f64 / 10.0)
                .collect()
        })
        .collect();
    Scores::new(&rows).unwrap()
}

fn average(values: &[f64]) -> Option<f64> {
    mean(values, 0.95).ok().map(|estimate| estimate.point)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let scores = ramp(12, 3);
    let run = |seed| {
        stratified_bootstrap(&scores, interquartile_mean, &Resampling { seed, ..PLAIN }).unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).estimate.se, run(2).estimate.se);
    assert_eq!(
        run(1).estimate.point,
        interquartile_mean(scores.values()).unwrap()
    );
}

#[test]
fn the_bootstrap_error_of_a_mean_is_the_plug_in_error() {
    let scores = ramp(11, 1);
    let bootstrapped = stratified_bootstrap(&scores, average, &PLAIN)
        .unwrap()
        .estimate;
    let plug_in = mean(scores.values(), 0.95).unwrap().se.unwrap() * (10.0_f64 / 11.0).sqrt();
    near(bootstrapped.se.unwrap() / plug_in, 1.0, 0.04);
    let interval = bootstrapped.interval.unwrap();
    near(
        (interval.high - interval.low) / (2.0 * 1.96 * plug_in),
        1.0,
        0.08,
    );
}

#[test]
fn tasks_are_resampled_on_their_own() {
    // Each task is constant: resampling within tasks cannot change the mean, but pooling would.
    let scores = Scores::new(&vec![vec![0.0, 1.0]; 10]).unwrap();
    let estimate = stratified_bootstrap(&scores, average, &PLAIN)
        .unwrap()
        .estimate;
    assert_eq!((estimate.point, estimate.se), (0.5, Some(0.0)));
}

#[test]
fn few_runs_are_flagged_and_one_run_has_no_error() {
    assert!(
        stratified_bootstrap(&ramp(9, 2), average, &PLAIN)
            .unwrap()
            .few_runs
    );
    assert!(
        !stratified_bootstrap(&ramp(10, 2), average, &PLAIN)
            .unwrap()
            .few_runs
    );
    let one = stratified_bootstrap(&ramp(1, 4), average, &PLAIN)
        .unwrap()
        .estimate;
    assert_eq!((one.se, one.interval), (None, None));
}

#[test]
fn improvement_over_itself_is_even() {
    let scores = ramp(10, 3);
    let bootstrapped = improvement_over_tasks(&scores, &scores, &PLAIN)
        .unwrap()
        .estimate;
    near(bootstrapped.point, 0.5, 1e-12);
    assert!(bootstrapped.interval.unwrap().contains(0.5));
    // The draws are independent: if both sides were the same resample, nothing would vary.
    assert!(bootstrapped.se.unwrap() > 0.05);
    assert!(improvement_over_tasks(&scores, &ramp(10, 2), &PLAIN).is_err());
}

#[test]
fn bad_settings_and_statistics_are_errors() {
    let scores = ramp(10, 2);
    assert!(
        stratified_bootstrap(
            &scores,
            average,
            &Resampling {
                resamples: 1,
                ..PLAIN
            }
        )
        .is_err()
    );
    assert!(
        stratified_bootstrap(
            &scores,
            average,
            &Resampling {
                level: 0.0,
                ..PLAIN
            }
        )
        .is_err()
    );
    assert!(stratified_bootstrap(&scores, |_| None, &PLAIN).is_err());
    assert!(stratified_bootstrap(&scores, |_| Some(f64::NAN), &PLAIN).is_err());
}

#[test]
fn quantiles_interpolate() {
    let values = [4.0, 1.0, 3.0, 2.0];
    assert_eq!(quantile(&values, 0.25), Some(1.75));
    assert_eq!(
        (quantile(&values, 0.0), quantile(&values, 1.0)),
        (Some(1.0), Some(4.0))
    );
    assert_eq!((quantile(&[], 0.5), quantile(&values, 1.5)), (None, None));
}

fn battles(prompts: usize, score: impl Fn(usize) -> f64) -> Vec<Battle> {
    (0..prompts)
        .map(|prompt| Battle {
            prompt,
            first: 0,
            second: 1,
            score: score(prompt),
        })
        .collect()
}

#[test]
fn strengths_of_two_methods_are_a_logit_with_its_error() {
    // 60 wins, 40 losses: the log-strengths are ± half the logit, whose standard error is
    // √(1/(100·0.6·0.4)).
    let strengths =
        bradley_terry_bootstrap(&battles(100, |prompt| f64::from(prompt < 60)), 2, &PLAIN).unwrap();
    near(strengths.estimates[0].point, 1.5_f64.ln() / 2.0, 1e-9);
    near(strengths.estimates[1].point, -(1.5_f64.ln()) / 2.0, 1e-9);
    near(
        strengths.estimates[0].se.unwrap() / (0.5 * (1.0_f64 / 24.0).sqrt()),
        1.0,
        0.06,
    );
    assert_eq!(strengths.disconnected, 0);
}

#[test]
fn battles_of_a_prompt_stay_together() {
    // Ten copies of every battle on the same prompt are no stronger evidence than one.
    let once = battles(30, |prompt| f64::from(prompt % 3 > 0));
    let often: Vec<Battle> = once.iter().flat_map(|battle| [*battle; 10]).collect();
    let se = |battles: &[Battle]| {
        bradley_terry_bootstrap(battles, 2, &PLAIN)
            .unwrap()
            .estimates[0]
            .se
            .unwrap()
    };
    near(se(&often), se(&once), 1e-6);
}

#[test]
fn disconnected_resamples_withhold_errors() {
    let strengths =
        bradley_terry_bootstrap(&battles(6, |prompt| f64::from(prompt > 0)), 2, &PLAIN).unwrap();
    assert!(strengths.disconnected > PLAIN.resamples / 20);
    assert!(
        strengths
            .estimates
            .iter()
            .all(|estimate| estimate.se.is_none() && estimate.interval.is_none())
    );
    assert!(bradley_terry_bootstrap(&battles(6, |_| 1.0), 2, &PLAIN).is_err());
    let itself = Battle {
        prompt: 0,
        first: 1,
        second: 1,
        score: 0.5,
    };
    assert!(bradley_terry_bootstrap(&[itself], 2, &PLAIN).is_err());
}
