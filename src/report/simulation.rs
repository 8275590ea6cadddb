//! What verdicts and the intervals beside them promise, counted over simulated experiments whose truth is known: each is
//! a whole input that goes the way of a real one, through the claims. Fixed seeds, so the counts are always the same.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

use super::claims::judge;
use super::input::*;
use super::view::View;
use crate::rng;
use crate::stats::{Estimate, Verdict};

const METHODS: [&str; 5] = ["base", "a", "b", "c", "d"];
const SEEDS: usize = 5;
const ITEMS: usize = 40;
const ALPHA: f64 = 0.05;

/// How values come about, in units of a run's own standard deviation.
struct Truth {
    /// Of each method but the first minus the first.
    effect: f64,
    /// Standard deviation of what all methods share under one seed.
    shared: f64,
    margin: Option<f64>,
    direction: Direction,
    /// Methods beside the first.
    claims: usize,
    /// With values per test item, whose effects differ by this much from item to item.
    items: Option<f64>,
}

const NULL: Truth =
    Truth { effect: 0.0, shared: 2.0, margin: None, direction: Direction::Greater, claims: 4, items: None };

/// Coverage is the same at every effect; a clear one is judged faster, since no number of seeds has to be found for it.
const CLEAR: Truth = Truth { effect: 30.0, ..NULL };

fn normal(stream: &mut ChaCha8Rng) -> f64 {
    Normal::standard().inverse_cdf(stream.random_range(1e-12..1.0))
}

/// One experiment: every method but the first is claimed to differ from the first, all in one family.
fn experiment(truth: &Truth, stream: &mut ChaCha8Rng) -> ReportInput {
    let shared: Vec<f64> = (0..SEEDS).map(|_| truth.shared * normal(stream)).collect();
    let (mut rows, mut items) = (Vec::new(), Vec::new());
    for (place, method) in METHODS[..=truth.claims].iter().enumerate() {
        let centre = if place == 0 { 0.0 } else { truth.effect };
        // How the method fares on each item, whatever the seed.
        let by_item: Vec<f64> = (0..ITEMS).map(|_| truth.items.map_or(0.0, |sd| sd * normal(stream))).collect();
        for (seed, shared) in shared.iter().enumerate() {
            let run = centre + shared + normal(stream);
            let mut value = run;
            if truth.items.is_some() {
                let values: Vec<f64> = by_item.iter().map(|item| run + item + normal(stream)).collect();
                value = values.iter().sum::<f64>() / ITEMS as f64;
                let (method, size, metric) = (method.to_string(), "s".to_owned(), "gold".to_owned());
                items.push(Items { method, size, seed: seed as u64, metric, values });
            }
            rows.push(Metric {
                method: method.to_string(),
                size: "s".to_owned(),
                seed: seed as i64,
                iteration: 0,
                metric: "gold".to_owned(),
                value: Some(value),
            });
        }
    }
    let claim = |method: &&str| Claim {
        id: method.to_string(),
        text: String::new(),
        source: String::new(),
        metric: "gold".to_owned(),
        method: method.to_string(),
        versus: METHODS[0].to_owned(),
        size: None,
        direction: truth.direction,
        threshold: 0.0,
        family: "one".to_owned(),
        margin: truth.margin,
        relative_to: None,
    };
    let row = |id: &&str| MethodRow { id: id.to_string(), label: id.to_string(), heuristic: false, point: false };
    ReportInput {
        header: Header {
            experiment: "simulated".to_owned(),
            title: String::new(),
            question: String::new(),
            description: String::new(),
            profile: String::new(),
            scale: String::new(),
            revision: None,
            device: String::new(),
            seeds_planned: (0..SEEDS as u64).collect(),
            cells: Vec::new(),
            notes: Vec::new(),
        },
        metrics: Metrics::from_rows(rows).unwrap(),
        costs: Vec::new(),
        claims: METHODS[1..=truth.claims].iter().map(claim).collect(),
        layout: Layout {
            baseline: METHODS[0].to_owned(),
            subject: METHODS[1].to_owned(),
            methods: METHODS.iter().map(row).collect(),
            sizes: Vec::new(),
            metrics: vec![MetricColumn {
                id: "gold".to_owned(),
                label: "gold".to_owned(),
                better: Better::Higher,
                decimals: 3,
                range: None,
                ties: None,
            }],
            primary: "gold".to_owned(),
            tables: Vec::new(),
            level: 1.0 - ALPHA,
        },
        curves: Vec::new(),
        items,
        ablations: Vec::new(),
        tunings: Vec::new(),
    }
}

/// What one claim was told.
struct Told {
    verdict: Verdict,
    difference: Estimate,
    new_prompts: Option<Estimate>,
}

/// What the claims of each of `repetitions` experiments were told.
fn simulate(purpose: &str, truth: &Truth, repetitions: u64) -> Vec<Vec<Told>> {
    let one = |repetition: u64| {
        let input = experiment(truth, &mut rng::stream(1, purpose, &[repetition]));
        let judged = judge(&View::new(&input).unwrap()).unwrap();
        let told = |part: &super::claims::Part| Told {
            verdict: part.verdict.unwrap(),
            difference: part.contrast.paired.unwrap().difference,
            new_prompts: part.contrast.new_prompts,
        };
        judged.iter().flat_map(|claim| claim.parts.iter().map(told)).collect()
    };
    (0..repetitions).into_par_iter().map(one).collect()
}

fn share(experiments: &[Vec<Told>], counted: impl Fn(&[Told]) -> bool) -> f64 {
    experiments.iter().filter(|told| counted(told)).count() as f64 / experiments.len() as f64
}

/// Three standard errors of a share of `repetitions` whose true value is `p`: what chance alone may add to it.
fn allowance(p: f64, repetitions: u64) -> f64 {
    3.0 * (p * (1.0 - p) / repetitions as f64).sqrt()
}

fn decided(told: &Told) -> bool {
    matches!(told.verdict, Verdict::Supported | Verdict::Contradicted)
}

fn covers(estimate: &Estimate, truth: f64) -> bool {
    estimate.interval.is_some_and(|interval| interval.contains(truth))
}

#[test]
fn a_family_of_claims_that_are_all_untrue_is_decided_on_by_chance_one_time_in_twenty_at_most() {
    const REPETITIONS: u64 = 1000;
    let experiments = simulate("claims/null", &NULL, REPETITIONS);
    let any = share(&experiments, |told| told.iter().any(decided));
    assert!(any <= ALPHA + allowance(ALPHA, REPETITIONS), "{any}");
    // The count can fail: uncorrected, one of the claims would be decided on more than twice as often.
    let uncorrected = share(&experiments, |told| told.iter().any(|it| !covers(&it.difference, 0.0)));
    assert!(uncorrected > 0.10, "{uncorrected}");
}

#[test]
fn intervals_beside_the_claims_cover_the_true_difference() {
    let truth = Truth { claims: 1, ..CLEAR };
    let covered = share(&simulate("claims/coverage", &truth, 10_000), |told| covers(&told[0].difference, truth.effect));
    assert!((0.94..=0.96).contains(&covered), "{covered}");
}

#[test]
fn intervals_for_new_prompts_too_cover_what_those_of_a_fixed_test_set_do_not() {
    let truth = Truth { claims: 1, items: Some(4.0), ..CLEAR };
    let experiments = simulate("claims/prompts", &truth, 6000);
    let both = share(&experiments, |told| covers(&told[0].new_prompts.unwrap(), truth.effect));
    assert!((0.94..=0.96).contains(&both), "{both}");
    // A fixed test set has its own truth; taken for that of new prompts, its interval is too narrow.
    let fixed = share(&experiments, |told| covers(&told[0].difference, truth.effect));
    assert!(fixed < 0.93, "{fixed}");
}

#[test]
fn a_difference_as_large_as_the_margin_is_called_equivalent_one_time_in_twenty_at_most() {
    const REPETITIONS: u64 = 1200;
    // So wide a margin that its far end matters little, and the rate comes near to its bound.
    let margin = Some(5.0);
    let equivalent = |effect, repetitions| {
        let truth = Truth { effect, margin, direction: Direction::Equivalent, claims: 1, ..NULL };
        share(&simulate("claims/margin", &truth, repetitions), |told| told[0].verdict == Verdict::Supported)
    };
    let wrongly = equivalent(5.0, REPETITIONS);
    assert!(wrongly <= ALPHA + allowance(ALPHA, REPETITIONS), "{wrongly}");
    assert!(wrongly > 0.03, "{wrongly}");
    let rightly = equivalent(0.0, 300);
    assert!(rightly > 0.9, "{rightly}");
}

/// Each claim may get two answers, and the family is corrected for claims, not for answers.
#[test]
fn a_family_of_claims_with_margins_gets_a_wrong_answer_one_time_in_twenty_at_most() {
    const REPETITIONS: u64 = 1000;
    let wrong = |truth: &Truth, purpose: &str, is_wrong: fn(&Told) -> bool| {
        share(&simulate(purpose, truth, REPETITIONS), |told| told.iter().any(is_wrong))
    };
    let most = ALPHA + allowance(ALPHA, REPETITIONS);
    // No difference: "equivalent" is right, a direction is wrong.
    let no_difference = Truth { margin: Some(2.0), ..NULL };
    assert!(wrong(&no_difference, "claims/margins/null", decided) <= most);
    // Differences as large as the margin: a direction is right, "equivalent" is wrong.
    let at_the_margin = Truth { effect: 2.0, margin: Some(2.0), ..NULL };
    let equivalent = |told: &Told| told.verdict == Verdict::Equivalent;
    assert!(wrong(&at_the_margin, "claims/margins/far", equivalent) <= most);
    let claimed = Truth { direction: Direction::Equivalent, ..at_the_margin };
    assert!(wrong(&claimed, "claims/margins/claimed", |told| told.verdict == Verdict::Supported) <= most);
}
