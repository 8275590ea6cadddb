//! The chance that a group-sequential design decides, before anything is run.

use super::design::Design;
use super::verdict::{Hypothesis, Verdict, look_through};
use crate::error::Result;
use crate::rng;
use rand::Rng;
use statrs::distribution::{ContinuousCDF, Normal};

/// Studies that are drawn for one chance; it is then known to ±0.016 or better (one standard error).
const DRAWS: u64 = 1000;

/// For each planned look of `design`, the chance that it or an earlier one has decided about `hypothesis`, where differences are
/// normal with the mean `truth` and the standard deviation `sd` (by simulation, the same for the same arguments).
///
/// # Errors
/// As [`assess`](super::assess), or an `sd` that is not positive.
pub fn decided_by(hypothesis: &Hypothesis, truth: f64, sd: f64, design: &Design) -> Result<Vec<f64>> {
    let normal = Normal::new(truth, sd).ok().filter(|_| sd > 0.0);
    let normal = normal.ok_or_else(|| crate::Error::configuration(format!("a standard deviation of {sd}")))?;
    let mut decided = vec![0_u64; design.looks.len()];
    for draw in 0..DRAWS {
        let mut stream = rng::stream(draw, "stats/planning", &[]);
        let differences: Vec<f64> =
            (0..design.most()).map(|_| normal.inverse_cdf(stream.random_range(f64::EPSILON..1.0))).collect();
        let zeros = vec![0.0; differences.len()];
        let Some(finding) = look_through(&differences, &zeros, hypothesis, design)? else { continue };
        if finding.verdict.is_some_and(|verdict| verdict != Verdict::Inconclusive) {
            decided.iter_mut().skip(finding.look - 1).for_each(|count| *count += 1);
        }
    }
    Ok(decided.into_iter().map(|count| count as f64 / DRAWS as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Direction;

    fn chances(direction: Direction, truth: f64, sd: f64) -> Vec<f64> {
        let hypothesis = Hypothesis { direction, threshold: 0.0, margin: Some(0.05) };
        decided_by(&hypothesis, truth, sd, &Design::of(12)).unwrap()
    }

    #[test]
    fn chances_grow_from_look_to_look_and_with_less_spread() {
        let (wide, narrow) = (chances(Direction::Greater, 0.1, 0.1), chances(Direction::Greater, 0.1, 0.02));
        assert!(wide.is_sorted() && narrow.is_sorted(), "{wide:?} {narrow:?}");
        assert!(wide.iter().zip(&narrow).all(|(wide, narrow)| wide <= narrow), "{wide:?} {narrow:?}");
        assert!(narrow[1] > 0.99 && wide[0] < 0.2, "{wide:?} {narrow:?}");
    }

    #[test]
    fn a_difference_at_the_margin_is_hardly_called_too_small_to_matter() {
        let all = chances(Direction::Equivalent, 0.05, 0.03);
        assert!(all[3] < 0.03, "{all:?}");
    }
}
