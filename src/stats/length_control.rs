//! Win rates with the judge's preference for length removed (after Dubois et al. 2024).

use super::bootstrap::{Resampling, by_prompt, indices, percentile_estimate};
use super::estimate::Estimate;
use super::linear::{Matrix, log_one_plus_exp, logistic, maximise};
use crate::error::{Error, Result};
use crate::rng;
use serde::{Deserialize, Serialize};

/// One judgement of a method's response against the reference on a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub prompt: usize,
    /// The index of the method.
    pub method: usize,
    /// The logarithm of the response's length divided by the reference's length.
    pub log_length_ratio: f64,
    /// The judge's preference for the response, 0 to 1; a tie is ½.
    pub preference: f64,
}

/// The win rate at equal length for each of `methods` methods: a logistic fit of preference on log
/// length ratio with an intercept per method and a common slope (the judge's), evaluated at a
/// length gap of 0, with percentile errors from refits on resampled prompts (`n` counts prompts).
/// If more than 5 % of the refits do not exist, the errors are withheld.
///
/// # Errors
/// Judgements out of range, a method without any, bad settings, or a fit that does not exist: a
/// method that always wins or always loses, or lengths that do not vary.
pub fn length_controlled_win_rates(
    judgements: &[Judgement],
    methods: usize,
    resampling: &Resampling,
) -> Result<Vec<Estimate>> {
    resampling.check()?;
    check(judgements, methods)?;
    let all: Vec<&Judgement> = judgements.iter().collect();
    let points = fit(&all, methods).ok_or_else(|| {
        Error::data("length-controlled win rates: the logistic fit does not exist")
            .hint("a method always wins or always loses, or lengths do not vary: report the plain win rate instead")
    })?;
    let prompts = by_prompt(judgements, |judgement| judgement.prompt);
    let draws: Vec<Vec<f64>> = (0..resampling.resamples)
        .filter_map(|resample| {
            let mut stream =
                rng::stream(resampling.seed, "stats/length-control", &[resample as u64]);
            let drawn: Vec<&Judgement> = indices(prompts.len(), &mut stream)
                .flat_map(|prompt| prompts[prompt].iter().copied())
                .collect();
            fit(&drawn, methods)
        })
        .collect();
    let shown =
        draws.len() >= 2 && (resampling.resamples - draws.len()) * 20 <= resampling.resamples;
    let estimate = |(method, point): (usize, &f64)| {
        if !shown {
            return Estimate {
                point: *point,
                se: None,
                interval: None,
                n: prompts.len(),
            };
        }
        let column: Vec<f64> = draws.iter().map(|draw| draw[method]).collect();
        percentile_estimate(*point, prompts.len(), &column, resampling.level)
    };
    Ok(points.iter().enumerate().map(estimate).collect())
}

fn check(judgements: &[Judgement], methods: usize) -> Result<()> {
    for (at, judgement) in judgements.iter().enumerate() {
        let valid = judgement.method < methods
            && judgement.log_length_ratio.is_finite()
            && (0.0..=1.0).contains(&judgement.preference);
        if !valid {
            return Err(Error::data(format!(
                "judgement {} of {methods} methods is out of range: {judgement:?}",
                at + 1
            ))
            .hint(
                "methods count from 0, preferences lie between 0 and 1, and lengths are positive",
            ));
        }
    }
    match (0..methods).find(|method| {
        judgements
            .iter()
            .all(|judgement| judgement.method != *method)
    }) {
        None => Ok(()),
        Some(method) => Err(Error::data(format!(
            "length-controlled win rates: method {method} has no judgements"
        ))
        .hint("leave it out, or judge it")),
    }
}

/// Win rates at equal length; `None` if the likelihood has no maximum.
fn fit(judgements: &[&Judgement], methods: usize) -> Option<Vec<f64>> {
    let parameters = maximise(vec![0.0; methods + 1], |at| {
        likelihood(judgements, methods, at)
    })?;
    Some(
        parameters[..methods]
            .iter()
            .map(|intercept| logistic(*intercept))
            .collect(),
    )
}

/// The log-likelihood, gradient and information in (intercepts, slope).
fn likelihood(judgements: &[&Judgement], methods: usize, at: &[f64]) -> (f64, Vec<f64>, Matrix) {
    let mut value = 0.0;
    let mut gradient = vec![0.0; methods + 1];
    let mut information = vec![vec![0.0; methods + 1]; methods + 1];
    for judgement in judgements {
        let (method, length) = (judgement.method, judgement.log_length_ratio);
        let logit = at[method] + at[methods] * length;
        let chance = logistic(logit);
        let weight = chance * (1.0 - chance);
        value += judgement.preference * logit - log_one_plus_exp(logit);
        gradient[method] += judgement.preference - chance;
        gradient[methods] += (judgement.preference - chance) * length;
        information[method][method] += weight;
        information[methods][method] += weight * length;
        information[method][methods] += weight * length;
        information[methods][methods] += weight * length * length;
    }
    (value, gradient, information)
}
