//! The error rates of verdicts and the coverage of the intervals beside them, counted over
//! simulated experiments whose truth is known: each is a whole input that passes through the claims
//! like a real one. Seeds are fixed, so the counts are always the same.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, Normal};

use super::claims::judge;
use super::input::*;
use super::view::View;
use crate::rng;
use crate::stats::{Estimate, Finding, Hypothesis};

const METHODS: [&str; 5] = ["base", "a", "b", "c", "d"];
const ITEMS: usize = 40;
const ALPHA: f64 = 0.05;

/// The true distribution of values, in units of a run's own standard deviation.
struct Truth {
    /// The true difference of each method but the first from the first.
    effect: f64,
    /// The standard deviation of the part that all methods share under one seed.
    shared: f64,
    margin: Option<f64>,
    direction: Direction,
    /// The number of methods beside the first.
    claims: usize,
    seeds: usize,
    /// The standard deviation of item effects, if there are values per test item.
    items: Option<f64>,
}

const NULL: Truth = Truth {
    effect: 0.0,
    shared: 2.0,
    margin: None,
    direction: Direction::Greater,
    claims: 4,
    seeds: 5,
    items: None,
};

/// Coverage is the same at every effect; a clear effect is judged faster because no needed number
/// of seeds has to be computed for it.
const CLEAR: Truth = Truth {
    effect: 30.0,
    ..NULL
};

fn normal(stream: &mut ChaCha8Rng) -> f64 {
    Normal::standard().inverse_cdf(stream.random_range(1e-12..1.0))
}

/// One experiment, in which every method but the first is claimed to differ from the first.
fn experiment(truth: &Truth, stream: &mut ChaCha8Rng) -> ReportInput {
    let shared: Vec<f64> = (0..truth.seeds)
        .map(|_| truth.shared * normal(stream))
        .collect();
    let (mut rows, mut items) = (Vec::new(), Vec::new());
    for (place, method) in METHODS[..=truth.claims].iter().enumerate() {
        let centre = if place == 0 { 0.0 } else { truth.effect };
        // The method's effect on each item, whatever the seed.
        let by_item: Vec<f64> = (0..ITEMS)
            .map(|_| truth.items.map_or(0.0, |sd| sd * normal(stream)))
            .collect();
        for (seed, shared) in shared.iter().enumerate() {
            let run = centre + shared + normal(stream);
            let mut value = run;
            if truth.items.is_some() {
                let values: Vec<f64> = by_item
                    .iter()
                    .map(|item| run + item + normal(stream))
                    .collect();
                value = values.iter().sum::<f64>() / ITEMS as f64;
                let (method, size, metric) =
                    (method.to_string(), "s".to_owned(), "gold".to_owned());
                items.push(ItemValues {
                    method,
                    size,
                    seed: seed as u64,
                    metric,
                    values,
                });
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
        metrics: vec!["gold".to_owned()],
        method: method.to_string(),
        versus: METHODS[0].to_owned(),
        size: None,
        direction: truth.direction,
        threshold: 0.0,
        role: Role::Primary,
        margin: truth.margin,
        margin_reason: None,
        seen_before: None,
        relative_to: None,
    };
    let row = |id: &&str| MethodRow {
        id: id.to_string(),
        label: id.to_string(),
        heuristic: false,
        point: false,
    };
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
            seeds_planned: (0..truth.seeds as u64).collect(),
            cells: Vec::new(),
            notes: Vec::new(),
            registration: None,
        },
        metrics: Metrics::from_rows(rows).unwrap(),
        costs: Vec::new(),
        claims: METHODS[1..=truth.claims].iter().map(claim).collect(),
        design: Design::of(truth.claims),
        layout: Layout {
            published: Vec::new(),
            published_cost: None,
            baseline: METHODS[0].to_owned(),
            under_study: METHODS[1].to_owned(),
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
            collapses: None,
            level: 1.0 - ALPHA,
        },
        curves: Vec::new(),
        items,
        ablations: Vec::new(),
        tunings: Vec::new(),
    }
}

/// The results that a report gives for one claim.
struct Told {
    finding: Finding,
    difference: Estimate,
    new_prompts: Option<Estimate>,
}

/// The results for the claims of each of `repetitions` experiments.
fn simulate(purpose: &str, truth: &Truth, repetitions: u64) -> Vec<Vec<Told>> {
    let one = |repetition: u64| {
        let input = experiment(truth, &mut rng::stream(1, purpose, &[repetition]));
        let judged = judge(&View::new(&input).unwrap()).unwrap();
        let told = |part: &super::claims::JudgedComparison| Told {
            finding: *part.finding().unwrap(),
            difference: part.contrast.paired.unwrap().difference,
            new_prompts: part.contrast.new_prompts,
        };
        judged
            .iter()
            .flat_map(|claim| claim.parts.iter().map(told))
            .collect()
    };
    (0..repetitions).into_par_iter().map(one).collect()
}

fn share(experiments: &[Vec<Told>], counted: impl Fn(&[Told]) -> bool) -> f64 {
    experiments.iter().filter(|told| counted(told)).count() as f64 / experiments.len() as f64
}

fn covers(estimate: &Estimate, truth: f64) -> bool {
    estimate
        .interval
        .is_some_and(|interval| interval.contains(truth))
}

#[test]
fn intervals_beside_the_claims_cover_the_true_difference() {
    let truth = Truth { claims: 1, ..CLEAR };
    let experiments = simulate("claims/coverage", &truth, 10_000);
    let covered = share(&experiments, |told| {
        covers(&told[0].difference, truth.effect)
    });
    assert!((0.94..=0.96).contains(&covered), "{covered}");
    // At the first of four looks a repeated interval has spent only the error allowed by then,
    // α·ln(1 + (e − 1)/8) = .0097.
    let repeated = |told: &[Told]| {
        told[0]
            .finding
            .interval
            .is_some_and(|interval| interval.contains(truth.effect))
    };
    let covered = share(&experiments, repeated);
    assert!((covered - 0.9903).abs() < 0.004, "{covered}");
}

#[test]
fn intervals_for_new_prompts_too_cover_what_those_of_a_fixed_test_set_do_not() {
    let truth = Truth {
        claims: 1,
        items: Some(4.0),
        ..CLEAR
    };
    let experiments = simulate("claims/prompts", &truth, 6000);
    let both = share(&experiments, |told| {
        covers(&told[0].new_prompts.unwrap(), truth.effect)
    });
    assert!((0.94..=0.96).contains(&both), "{both}");
    // A fixed test set has its own truth; used for new prompts, its interval is too narrow.
    let fixed = share(&experiments, |told| {
        covers(&told[0].difference, truth.effect)
    });
    assert!(fixed < 0.93, "{fixed}");
}

/// A report's claims are answered by the rule whose error is counted in `stats`. The truth here
/// makes as many wrong answers possible as can be, with enough seeds to reach them.
#[test]
fn claims_of_a_report_get_a_wrong_answer_one_time_in_twenty_at_most() {
    const REPETITIONS: u64 = 500;
    for (effect, direction) in [
        (0.0, Direction::Greater),
        (2.0, Direction::Equivalent),
        (-2.0, Direction::NotWorse),
    ] {
        let margin = Some(2.0);
        let truth = Truth {
            effect,
            direction,
            margin,
            seeds: 20,
            ..NULL
        };
        let hypothesis = Hypothesis {
            direction,
            threshold: 0.0,
            margin,
        };
        let wrong = |told: &Told| {
            told.finding
                .verdict
                .is_some_and(|verdict| hypothesis.is_wrong(verdict, effect))
        };
        let experiments = simulate("claims/wrong", &truth, REPETITIONS);
        let any = share(&experiments, |told| told.iter().any(wrong));
        let most = ALPHA + 3.0 * (ALPHA * (1.0 - ALPHA) / REPETITIONS as f64).sqrt();
        assert!(any <= most, "{direction:?}: {any}");
    }
}
