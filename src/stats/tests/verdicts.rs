//! Verdicts on given numbers.

use super::super::*;
use super::near;

const SEEDS: [f64; 10] = [0.50, 0.52, 0.48, 0.51, 0.49, 0.53, 0.47, 0.50, 0.52, 0.48];

/// The finding about a method that is `shifts` above another, with the shifts repeated to `n`
/// seeds.
fn found(
    shifts: &[f64],
    n: usize,
    direction: Direction,
    margin: Option<f64>,
    design: &Design,
) -> Finding {
    let b: Vec<f64> = SEEDS.iter().cycle().take(n).copied().collect();
    let a: Vec<f64> = b
        .iter()
        .zip(shifts.iter().cycle())
        .map(|(value, shift)| value + shift)
        .collect();
    assess(
        &a,
        &b,
        &Hypothesis {
            direction,
            threshold: 0.0,
            margin,
        },
        design,
    )
    .unwrap()
    .unwrap()
}

fn interval(low: f64, high: f64) -> Interval {
    Interval {
        low,
        high,
        level: 0.95,
        method: IntervalMethod::Repeated,
    }
}

#[test]
fn every_answer_is_read_off_one_interval() {
    use Direction::{Equivalent, Greater, Less, NotWorse};
    use Verdict::{Contradicted, Inconclusive, NotByMargin, Supported};
    let within = Verdict::Equivalent;
    for (low, high, [greater, less, equivalent, not_worse]) in [
        (-0.01, 0.01, [within, within, Supported, Supported]),
        (0.005, 0.015, [within, within, Supported, Supported]),
        (
            0.01,
            0.05,
            [Supported, Contradicted, Inconclusive, Supported],
        ),
        (
            0.03,
            0.05,
            [Supported, Contradicted, Contradicted, Supported],
        ),
        (
            -0.05,
            -0.01,
            [Contradicted, Supported, Inconclusive, Inconclusive],
        ),
        (
            -0.05,
            -0.03,
            [Contradicted, Supported, Contradicted, Contradicted],
        ),
        (
            -0.05,
            0.01,
            [NotByMargin, Inconclusive, Inconclusive, Inconclusive],
        ),
        (
            -0.01,
            0.05,
            [Inconclusive, NotByMargin, Inconclusive, Supported],
        ),
        (-0.05, 0.05, [Inconclusive; 4]),
    ] {
        for (direction, expected) in [Greater, Less, Equivalent, NotWorse]
            .into_iter()
            .zip([greater, less, equivalent, not_worse])
        {
            let hypothesis = Hypothesis {
                direction,
                threshold: 0.0,
                margin: Some(0.02),
            };
            assert_eq!(
                hypothesis.answer(&interval(low, high)),
                expected,
                "{direction:?} of [{low}, {high}]"
            );
            // All differences count from the threshold.
            let beyond = Hypothesis {
                threshold: 0.5,
                ..hypothesis
            };
            assert_eq!(beyond.answer(&interval(low + 0.5, high + 0.5)), expected);
            // An answer is never wrong about a difference inside its interval.
            for part in 0..=10 {
                let truth = low + (high - low) * f64::from(part) / 10.0;
                let inside = part > 0 && part < 10;
                assert!(
                    !inside || !hypothesis.is_wrong(expected, truth),
                    "{direction:?} {expected:?} {truth}"
                );
            }
        }
    }
    let without_margin = Hypothesis {
        direction: Greater,
        threshold: 0.0,
        margin: None,
    };
    assert_eq!(without_margin.answer(&interval(-0.05, 0.01)), Inconclusive);
    assert_eq!(without_margin.answer(&interval(1e-9, 2e-9)), Supported);
}

#[test]
fn a_wrong_answer_is_one_that_the_truth_belies() {
    let claim = |direction| Hypothesis {
        direction,
        threshold: 0.0,
        margin: Some(0.02),
    };
    assert!(claim(Direction::Greater).is_wrong(Verdict::Supported, 0.0));
    assert!(claim(Direction::Greater).is_wrong(Verdict::Contradicted, 0.001));
    assert!(claim(Direction::Greater).is_wrong(Verdict::Equivalent, 0.02));
    assert!(claim(Direction::Greater).is_wrong(Verdict::NotByMargin, 0.02));
    assert!(!claim(Direction::Greater).is_wrong(Verdict::NotByMargin, -0.02));
    assert!(claim(Direction::Less).is_wrong(Verdict::NotByMargin, -0.02));
    assert!(claim(Direction::Equivalent).is_wrong(Verdict::Contradicted, 0.01));
    assert!(claim(Direction::NotWorse).is_wrong(Verdict::Supported, -0.02));
    assert!(claim(Direction::NotWorse).is_wrong(Verdict::Contradicted, 0.0));
    assert!(!claim(Direction::Less).is_wrong(Verdict::Inconclusive, 0.0));
}

#[test]
fn the_first_look_that_decides_is_reported() {
    let design = Design::of(1);
    let clear = found(
        &[0.10, 0.11, 0.09, 0.10, 0.12],
        10,
        Direction::Greater,
        Some(0.02),
        &design,
    );
    assert_eq!(
        (clear.verdict, clear.look, clear.n, clear.forecast),
        (Some(Verdict::Supported), 1, 5, None)
    );
    near(clear.estimate, 0.104, 1e-12);
    // d̄ ± 4.63·s/√n with s = .0114: the first of the four looks, not Student's 2.78.
    let half = 4.63 * 0.011_401_754 / 5.0_f64.sqrt();
    near(clear.interval.unwrap().low, 0.104 - half, 2e-4);
    // A spread that five seeds cannot decide on, and ten can.
    let later = found(
        &[0.06, 0.01, 0.05, 0.02, 0.04],
        10,
        Direction::Greater,
        None,
        &design,
    );
    assert_eq!(
        (later.verdict, later.look, later.n),
        (Some(Verdict::Supported), 2, 10)
    );
    // The same differences at an error shared by twelve comparisons.
    let shared = found(
        &[0.06, 0.01, 0.05, 0.02, 0.04],
        5,
        Direction::Greater,
        None,
        &Design::of(12),
    );
    assert_eq!(
        (shared.verdict, shared.look, shared.n),
        (Some(Verdict::Inconclusive), 1, 5)
    );
    near(shared.interval.unwrap().level, 1.0 - 0.05 / 12.0, 1e-12);
}

#[test]
fn seeds_between_and_beyond_the_looks_are_looked_at_as_planned() {
    let design = Design {
        comparisons: 4,
        ..Design::of(1)
    };
    let unclear = [0.3, -0.3, 0.2, -0.2, 0.1, -0.1, 0.05];
    let at = |n| found(&unclear, n, Direction::Greater, None, &design);
    for (n, look, seen) in [
        (3, 1, 3),
        (5, 1, 5),
        (6, 2, 6),
        (7, 2, 7),
        (10, 2, 10),
        (13, 3, 13),
        (40, 4, 40),
        (70, 4, 40),
    ] {
        let found = at(n);
        assert_eq!(
            (found.look, found.n, found.verdict),
            (look, seen, Some(Verdict::Inconclusive)),
            "{n} pairs"
        );
    }
    // An unplanned look spends up to what the spending function allows there.
    let looks = Looks::until(&design.looks, 13, 0.05, Spending::Pocock).unwrap();
    assert_eq!(looks.seeds, [5, 10, 13]);
    assert_eq!(
        looks.boundaries[..2],
        Looks::new(&design.looks, 0.05, Spending::Pocock)
            .unwrap()
            .boundaries[..2]
    );
    // A look very near to another has next to nothing to spend, but never less than nothing.
    let near_one = Looks::until(&design.looks, 6, 0.05, Spending::Pocock).unwrap();
    assert!(near_one.boundaries[1] > near_one.boundaries[0]);
}

#[test]
fn a_forecast_names_the_planned_look_that_would_decide() {
    let design = Design::of(1);
    let unclear = found(
        &[0.10, -0.05, 0.03, 0.08, -0.02],
        5,
        Direction::Greater,
        None,
        &design,
    );
    let Forecast { plug_in, cautious } = unclear.forecast.unwrap();
    // For d = .43 a fixed sample needs 45 pairs and one with looks more, so none of the planned
    // looks would do.
    assert_eq!((plug_in, cautious), (None, None));
    let wide = found(
        &[0.10, -0.05, 0.05, 0.08, -0.02],
        5,
        Direction::Equivalent,
        Some(0.15),
        &design,
    );
    let Forecast { plug_in, cautious } = wide.forecast.unwrap();
    assert!(
        plug_in.is_some_and(|n| [10, 20, 40].contains(&n)),
        "{plug_in:?}"
    );
    assert!(
        cautious.is_none_or(|n| n >= plug_in.unwrap()),
        "{cautious:?} before {plug_in:?}"
    );
}

/// Compares the forecast's power with that of whole experiments that stop at the look.
#[test]
fn what_a_forecast_promises_comes_true() {
    let design = Design::of(3);
    let hypothesis = Hypothesis {
        direction: Direction::Greater,
        threshold: 0.0,
        margin: Some(0.3),
    };
    let mut stream = crate::rng::stream(7, "test/forecast", &[]);
    let normal = statrs::distribution::Normal::standard();
    let mut draw = || {
        statrs::distribution::ContinuousCDF::inverse_cdf(
            &normal,
            rand::Rng::random_range(&mut stream, 1e-12..1.0),
        )
    };
    // Ten pairs whose mean is .8 and whose spread is 1, exactly.
    let pattern = [-1.5, -1.0, -0.5, -0.25, 0.0, 0.0, 0.25, 0.5, 1.0, 1.5];
    let scale = (9.0 / pattern.iter().map(|it: &f64| it * it).sum::<f64>()).sqrt();
    let a: Vec<f64> = pattern.iter().map(|it| 0.8 + scale * it).collect();
    let found = assess(&a, &[0.0; 10], &hypothesis, &design)
        .unwrap()
        .unwrap();
    let n = found.forecast.unwrap().plug_in.expect("a look decides");
    let experiments = 2000;
    let decided = (0..experiments).filter(|_| {
        let a: Vec<f64> = (0..n).map(|_| 0.8 + draw()).collect();
        let found = assess(&a, &vec![0.0; n], &hypothesis, &design)
            .unwrap()
            .unwrap();
        found.verdict != Some(Verdict::Inconclusive)
    });
    let share = decided.count() as f64 / f64::from(experiments);
    assert!(share > POWER - 0.03, "{share} at {n}");
}

#[test]
fn a_claim_that_cannot_be_meant_is_refused() {
    let pair = [0.1, 0.2, 0.3, 0.4, 0.6];
    let refused = |direction, margin, design: &Design| {
        assess(
            &pair,
            &[0.0; 5],
            &Hypothesis {
                direction,
                threshold: 0.0,
                margin,
            },
            design,
        )
        .is_err()
    };
    assert!(
        refused(Direction::Equivalent, None, &Design::of(1))
            && refused(Direction::NotWorse, None, &Design::of(1))
    );
    assert!(refused(Direction::Greater, Some(0.0), &Design::of(1)));
    assert!(refused(
        Direction::Greater,
        None,
        &Design {
            alpha: 0.0,
            ..Design::of(1)
        }
    ));
    assert!(refused(
        Direction::Greater,
        None,
        &Design {
            looks: vec![5, 6],
            ..Design::of(1)
        }
    ));
    let claim = Hypothesis {
        direction: Direction::Greater,
        threshold: 0.0,
        margin: None,
    };
    assert_eq!(assess(&[], &[], &claim, &Design::of(1)).unwrap(), None);
    assert!(assess(&[1.0], &[], &claim, &Design::of(1)).is_err());
    let one = assess(&[1.0], &[0.5], &claim, &Design::of(1))
        .unwrap()
        .unwrap();
    assert_eq!((one.verdict, one.n, one.interval), (None, 1, None));
}

#[test]
fn a_design_reads_as_it_is_written() {
    let text =
        r#"{"alpha":0.05,"looks":[5,10,20,40],"spending":"obrien_fleming","comparisons":12}"#;
    let design: Design = serde_json::from_str(text).unwrap();
    assert_eq!(
        design,
        Design {
            spending: Spending::OBrienFleming,
            ..Design::of(12)
        }
    );
    assert_eq!(serde_json::to_string(&design).unwrap(), text);
}

#[test]
fn the_last_look_by_itself_may_leave_open_what_an_earlier_one_decided() {
    let design = Design {
        looks: vec![5, 10],
        ..Design::of(1)
    };
    let hypothesis = Hypothesis {
        direction: Direction::Greater,
        threshold: 0.0,
        margin: Some(0.05),
    };
    // Two of the later runs collapse.
    let a = [
        0.801, 0.800, 0.799, 0.802, 0.798, 0.800, 0.4, 0.801, 0.5, 0.800,
    ];
    let b = [0.8; 10];
    let first = assess(&a, &b, &hypothesis, &design).unwrap().unwrap();
    let last = at_last_look(&a, &b, &hypothesis, &design).unwrap().unwrap();
    assert_eq!(
        (first.look, first.n, first.verdict),
        (1, 5, Some(Verdict::Equivalent))
    );
    assert_eq!(
        (last.look, last.n, last.verdict),
        (2, 10, Some(Verdict::Inconclusive))
    );
    assert!(last.estimate < -0.06 && last.interval.unwrap().low < -0.1);
    // If only one look has been reached, there is no other answer.
    assert_eq!(
        at_last_look(&a[..5], &b[..5], &hypothesis, &design).unwrap(),
        Some(first)
    );
}
