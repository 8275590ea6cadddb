//! The probabilities that a group-sequential design decides, and that it decides wrongly, in
//! studies whose true difference is known.

use super::design::Design;
use super::verdict::{Hypothesis, Verdict, look_through};
use crate::error::{Error, Result};
use crate::rng;
use rand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

/// The number of studies drawn for one probability, whose standard error is then 0.016 or less.
pub const DRAWS: u64 = 1000;

/// Shares of drawn studies by outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Chances {
    /// For each planned look, the share of studies that it or an earlier one has decided.
    pub decided: Vec<f64>,
    /// The share of studies with a wrong answer at any look.
    pub wrong: f64,
}

/// The chances of `design` if differences are normal with the mean `truth` and the standard
/// deviation `sd` (by simulation, the same for the same arguments).
///
/// # Errors
/// As [`assess`](super::assess), or an `sd` that is not positive.
pub fn chances_if_normal(
    hypothesis: &Hypothesis,
    truth: f64,
    sd: f64,
    design: &Design,
) -> Result<Chances> {
    let normal = Normal::new(truth, sd).ok().filter(|_| sd > 0.0);
    let normal =
        normal.ok_or_else(|| Error::configuration(format!("a standard deviation of {sd}")))?;
    chances(hypothesis, truth, design, |draw| {
        let mut stream = rng::stream(draw, "stats/planning", &[]);
        (0..design.most())
            .map(|_| normal.inverse_cdf(stream.random_range(f64::EPSILON..1.0)))
            .collect()
    })
}

/// The chances of `design` if both sides of a comparison are drawn, independently and with
/// replacement, from `runs` that were made, and the first is `truth` better. They show the effect
/// of collapses and other departures from a normal distribution on verdicts.
///
/// # Errors
/// As [`assess`](super::assess), or no runs.
pub fn chances_of_runs(
    hypothesis: &Hypothesis,
    truth: f64,
    runs: &[f64],
    design: &Design,
) -> Result<Chances> {
    if runs.is_empty() {
        return Err(Error::data("there are no runs to draw from"));
    }
    chances(hypothesis, truth, design, |draw| {
        let mut stream = rng::stream(draw, "stats/calibration", &[]);
        let mut run = || runs[stream.random_range(0..runs.len())];
        (0..design.most()).map(|_| run() - run() + truth).collect()
    })
}

/// The chances over studies whose differences `draw` makes.
fn chances(
    hypothesis: &Hypothesis,
    truth: f64,
    design: &Design,
    draw: impl Fn(u64) -> Vec<f64>,
) -> Result<Chances> {
    let (mut decided, mut wrong) = (vec![0_u64; design.looks.len()], 0_u64);
    for number in 0..DRAWS {
        let differences = draw(number);
        let zeros = vec![0.0; differences.len()];
        let Some(finding) = look_through(&differences, &zeros, hypothesis, design)? else {
            continue;
        };
        let Some(verdict) = finding
            .verdict
            .filter(|verdict| *verdict != Verdict::Inconclusive)
        else {
            continue;
        };
        decided
            .iter_mut()
            .skip(finding.look - 1)
            .for_each(|count| *count += 1);
        wrong += u64::from(hypothesis.is_wrong(verdict, truth));
    }
    let share = |count: u64| count as f64 / DRAWS as f64;
    Ok(Chances {
        decided: decided.into_iter().map(share).collect(),
        wrong: share(wrong),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Direction;

    fn hypothesis(direction: Direction) -> Hypothesis {
        Hypothesis {
            direction,
            threshold: 0.0,
            margin: Some(0.05),
        }
    }

    fn decided(direction: Direction, truth: f64, sd: f64) -> Vec<f64> {
        chances_if_normal(&hypothesis(direction), truth, sd, &Design::of(12))
            .unwrap()
            .decided
    }

    #[test]
    fn chances_grow_from_look_to_look_and_with_less_spread() {
        let (wide, narrow) = (
            decided(Direction::Greater, 0.1, 0.1),
            decided(Direction::Greater, 0.1, 0.02),
        );
        assert!(
            wide.is_sorted() && narrow.is_sorted(),
            "{wide:?} {narrow:?}"
        );
        assert!(
            wide.iter()
                .zip(&narrow)
                .all(|(wide, narrow)| wide <= narrow),
            "{wide:?} {narrow:?}"
        );
        assert!(narrow[1] > 0.99 && wide[0] < 0.2, "{wide:?} {narrow:?}");
    }

    #[test]
    fn a_difference_at_the_margin_is_hardly_called_too_small_to_matter() {
        let all = decided(Direction::Equivalent, 0.05, 0.03);
        assert!(all[3] < 0.03, "{all:?}");
    }

    #[test]
    fn runs_without_outliers_are_judged_right_and_a_rare_collapse_is_what_misleads() {
        let even: Vec<f64> = (0..20).map(|run| 0.8 + 0.001 * f64::from(run)).collect();
        let (nothing, effect) = (0.0, 0.1);
        let of = |runs: &[f64], truth| {
            chances_of_runs(
                &hypothesis(Direction::Greater),
                truth,
                runs,
                &Design::of(12),
            )
            .unwrap()
        };
        assert!(of(&even, nothing).wrong < 0.01 && of(&even, nothing).decided[2] > 0.99);
        assert!(of(&even, effect).wrong == 0.0 && of(&even, effect).decided[1] > 0.99);
        let mut collapsing = even.clone();
        collapsing[..3].fill(0.1);
        assert!(of(&collapsing, effect).decided[1] < of(&even, effect).decided[1]);
        assert!(
            chances_of_runs(
                &hypothesis(Direction::Greater),
                nothing,
                &[],
                &Design::of(12)
            )
            .is_err()
        );
    }
}
