//! Annotators who compare two responses by gold, with the noise of human ones.

use crate::error::{Error, Result};
use rand::Rng;

/// An annotator who prefers the first response with probability σ((gold₁ − gold₂) / τ), the model
/// of Bradley and Terry (1952).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Annotator {
    temperature: f64,
}

impl Annotator {
    /// The annotator in the limit τ → 0, who always prefers the response with more gold and tosses
    /// a coin between equals.
    pub fn noise_free() -> Self {
        Self { temperature: 0.0 }
    }

    /// # Errors
    /// If `temperature` (τ, in units of gold) is negative or not finite.
    pub fn new(temperature: f64) -> Result<Self> {
        if temperature.is_finite() && temperature >= 0.0 {
            return Ok(Self { temperature });
        }
        Err(
            Error::configuration(format!("an annotator's temperature is {temperature}"))
                .hint("it must be finite, 0 or more"),
        )
    }

    /// The annotator whose independent copies agree on a pair with probability `agreement`, on
    /// average over pairs with these `gold_differences` (see [`temperature_for_agreement`]).
    ///
    /// # Errors
    /// As [`temperature_for_agreement`].
    pub fn for_agreement(gold_differences: &[f64], agreement: f64) -> Result<Self> {
        Self::new(temperature_for_agreement(gold_differences, agreement)?)
    }

    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// The probability that the first of two responses is preferred.
    pub fn probability_first(&self, gold_first: f64, gold_second: f64) -> f64 {
        preference(gold_first - gold_second, self.temperature)
    }

    /// Draws one annotator's preference.
    pub fn prefers_first(&self, gold_first: f64, gold_second: f64, rng: &mut impl Rng) -> bool {
        rng.random::<f64>() < self.probability_first(gold_first, gold_second)
    }
}

fn preference(difference: f64, temperature: f64) -> f64 {
    if difference == 0.0 {
        return 0.5;
    }
    if temperature == 0.0 {
        return if difference > 0.0 { 1.0 } else { 0.0 };
    }
    1.0 / (1.0 + (-difference / temperature).exp())
}

/// The probability that two independent annotators agree. Each prefers the first response with
/// probability p, so both choose the first with p² and both the second with (1 − p)²: together 1 −
/// 2p(1 − p), averaged over the pairs.
fn agreement_at(gold_differences: &[f64], temperature: f64) -> f64 {
    let clash = |difference: &f64| {
        let p = preference(*difference, temperature);
        2.0 * p * (1.0 - p)
    };
    1.0 - gold_differences.iter().map(clash).sum::<f64>() / gold_differences.len() as f64
}

/// The temperature τ at which two independent annotators agree with probability `agreement`, on
/// average over the pairs whose gold differences are given. Agreement falls from 1 (or less where
/// pairs are tied: annotators agree on a tie only half of the time) at τ = 0 to ½ as τ grows, so
/// bisection on log τ finds it.
///
/// # Errors
/// If there are no differences, one is not finite, or no temperature gives this agreement.
pub fn temperature_for_agreement(gold_differences: &[f64], agreement: f64) -> Result<f64> {
    const STEPS: usize = 100;
    if gold_differences.is_empty()
        || gold_differences
            .iter()
            .any(|difference| !difference.is_finite())
    {
        return Err(Error::configuration(
            "the annotator's temperature needs a pool of finite gold differences",
        )
        .hint("draw pairs of responses and pass their gold differences"));
    }
    let (mut low, mut high) = (1e-9_f64.ln(), 1e9_f64.ln());
    let most = agreement_at(gold_differences, 0.0);
    if !(agreement > agreement_at(gold_differences, high.exp()) && agreement < most) {
        return Err(Error::configuration(format!(
            "no annotator agrees with another on {agreement} of these pairs"
        ))
        .hint(format!(
            "ask for more than 0.5 and less than {most:.3}, or drop tied pairs"
        )));
    }
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        if agreement_at(gold_differences, middle.exp()) > agreement {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((0.5 * (low + high)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn simulated_annotators_agree_as_often_as_asked() -> Result<()> {
        let mut rng = stream(0, "test/labels", &[]);
        let differences: Vec<f64> = (0..2_000)
            .map(|_| rng.random::<f64>() - rng.random::<f64>())
            .collect();
        let annotator = Annotator::for_agreement(&differences, 0.75)?;
        let rounds = 20;
        let mut agreed = 0;
        for _ in 0..rounds {
            for difference in &differences {
                let [first, second] =
                    [(); 2].map(|()| annotator.prefers_first(*difference, 0.0, &mut rng));
                agreed += usize::from(first == second);
            }
        }
        let share = agreed as f64 / (rounds * differences.len()) as f64;
        assert!((share - 0.75).abs() < 0.01, "{share}");
        Ok(())
    }

    #[test]
    fn swapping_the_responses_swaps_the_verdict() -> Result<()> {
        for annotator in [Annotator::noise_free(), Annotator::new(0.3)?] {
            for (a, b) in [(0.2, 0.9), (0.5, 0.5), (1.0, 0.0)] {
                let sum = annotator.probability_first(a, b) + annotator.probability_first(b, a);
                assert!((sum - 1.0).abs() < 1e-12);
            }
        }
        Ok(())
    }

    #[test]
    fn refuses_what_has_no_temperature() {
        assert!(temperature_for_agreement(&[], 0.75).is_err());
        assert!(temperature_for_agreement(&[f64::NAN], 0.75).is_err());
        assert!(temperature_for_agreement(&[0.0, 0.0], 0.75).is_err());
        assert!(temperature_for_agreement(&[0.3, -0.2], 0.5).is_err());
        assert!(temperature_for_agreement(&[0.3, -0.2], 1.0).is_err());
        assert!(Annotator::new(-1.0).is_err());
    }
}
