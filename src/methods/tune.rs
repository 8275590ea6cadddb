//! Search of epochs, learning rate and λ by the likelihood of held-out demonstrations: a rule that
//! needs neither gold nor labels, so that it may be used to tune a baseline.
//!
//! A line consists of all numbers of epochs, ascending, at one learning rate (and one λ). It ends
//! after its last number, when the held-out likelihood has fallen, or when a candidate has failed.
//! Of all trials the candidate with the highest likelihood is chosen; of equal ones that with the
//! fewest optimiser steps, and of these the first. The rule is a function of the measurements, so
//! an interrupted search continues where it stopped.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The lists that are searched, and the share of demonstrations that is held out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TuningSettings {
    /// Passes over the demonstrations (or pairs), ascending.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub epochs: Vec<usize>,
    /// Peak learning rates, ascending; the method's own if the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 0.0)))]
    pub learning_rates: Vec<f64>,
    /// Weights λ of IQ-Learn, ascending; the method's own if the list is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 0.0)))]
    pub lambdas: Vec<f32>,
    /// Share of the demonstrations that are held out.
    #[serde(default = "held_out")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub held_out: f64,
}

fn held_out() -> f64 {
    0.25
}

/// Values with which a method may be trained. `None` keeps the method's own value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    pub epochs: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f32>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{} epochs", self.epochs)?;
        if let Some(rate) = self.learning_rate {
            write!(out, ", rate {rate:e}")?;
        }
        self.lambda
            .map_or(Ok(()), |lambda| write!(out, ", λ {lambda}"))
    }
}

/// A candidate that was trained, and its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub settings: Candidate,
    /// Number of optimiser steps.
    pub steps: usize,
    /// Mean log-likelihood of the held-out demonstrations, in nats per response. `None` if training
    /// failed.
    pub held_out_log_likelihood: Option<f64>,
    /// Loss of the last optimiser step.
    pub training_loss: Option<f32>,
    /// The reason for a missing likelihood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The best of all trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    pub settings: Candidate,
    pub steps: usize,
    pub held_out_log_likelihood: f64,
    /// True if a better value may lie outside a list.
    pub at_edge: bool,
    /// The lists in which the choice is the first or last value; lists of one value do not count.
    pub edges: Vec<String>,
}

impl TuningSettings {
    /// (λ, learning rate) of every line.
    fn lines(&self) -> Vec<(Option<f32>, Option<f64>)> {
        fn or_own<T: Copy>(values: &[T]) -> Vec<Option<T>> {
            if values.is_empty() {
                vec![None]
            } else {
                values.iter().copied().map(Some).collect()
            }
        }
        let rates = or_own(&self.learning_rates);
        or_own(&self.lambdas)
            .into_iter()
            .flat_map(|lambda| rates.iter().map(move |rate| (lambda, *rate)))
            .collect()
    }

    /// Every candidate, in the order in which they would be tried.
    pub fn candidates(&self) -> Vec<Candidate> {
        let line = |(lambda, learning_rate)| {
            self.epochs
                .iter()
                .map(move |&epochs| Candidate {
                    epochs,
                    learning_rate,
                    lambda,
                })
                .collect::<Vec<_>>()
        };
        self.lines().into_iter().flat_map(line).collect()
    }

    /// The candidate to try after `trials`; `None` when the search is over.
    pub fn next(&self, trials: &[Trial]) -> Option<Candidate> {
        self.lines()
            .into_iter()
            .find_map(|(lambda, learning_rate)| {
                let of_line = |trial: &&Trial| {
                    (trial.settings.lambda, trial.settings.learning_rate) == (lambda, learning_rate)
                };
                let tried: Vec<Option<f64>> = trials
                    .iter()
                    .filter(of_line)
                    .map(|trial| trial.held_out_log_likelihood)
                    .collect();
                let ended = match *tried.as_slice() {
                    [.., None] => true,
                    [.., Some(before), Some(last)] => last < before,
                    _ => false,
                };
                let epochs = self.epochs.get(tried.len()).filter(|_| !ended)?;
                Some(Candidate {
                    epochs: *epochs,
                    learning_rate,
                    lambda,
                })
            })
    }

    /// The best of `trials`.
    ///
    /// # Errors
    /// All of them failed.
    pub fn choose(&self, trials: &[Trial]) -> Result<Choice> {
        let measured = trials
            .iter()
            .filter_map(|trial| Some((trial, trial.held_out_log_likelihood?)));
        let better = |best: (&Trial, f64), other: (&Trial, f64)| {
            other.1 > best.1 || other.1 == best.1 && other.0.steps < best.0.steps
        };
        let best = measured.reduce(|best, other| {
            if better(best, other) {
                (other.0, other.1)
            } else {
                best
            }
        });
        let Some((best, held_out_log_likelihood)) = best else {
            let first = trials
                .iter()
                .find_map(|trial| trial.failure.as_deref())
                .unwrap_or("nothing was tried");
            let error = format!(
                "every one of {} candidates failed, the first because: {first}",
                trials.len()
            );
            return Err(
                Error::divergence(error).hint("lower the learning rates of this method's `tuning`")
            );
        };
        let Candidate {
            epochs,
            learning_rate,
            lambda,
        } = best.settings;
        let lists = [
            ("epochs", at_end(&self.epochs, Some(epochs))),
            (
                "learning_rates",
                at_end(&self.learning_rates, learning_rate),
            ),
            ("lambdas", at_end(&self.lambdas, lambda)),
        ];
        let edges: Vec<String> = lists
            .iter()
            .filter(|(_, at_end)| *at_end)
            .map(|(name, _)| (*name).into())
            .collect();
        let (settings, steps) = (best.settings, best.steps);
        Ok(Choice {
            settings,
            steps,
            held_out_log_likelihood,
            at_edge: !edges.is_empty(),
            edges,
        })
    }
}

/// True if `chosen` is the first or last of several values.
fn at_end<T: PartialEq + Copy>(values: &[T], chosen: Option<T>) -> bool {
    values.len() > 1
        && chosen.is_some()
        && (values.first().copied() == chosen || values.last().copied() == chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(epochs: &[usize], learning_rates: &[f64], lambdas: &[f32]) -> TuningSettings {
        let (epochs, learning_rates) = (epochs.to_vec(), learning_rates.to_vec());
        TuningSettings {
            epochs,
            learning_rates,
            lambdas: lambdas.to_vec(),
            held_out: 0.25,
        }
    }

    /// All trials of a search in which `likelihood` gives a candidate's result, with three steps
    /// per epoch.
    fn search(grid: &TuningSettings, likelihood: impl Fn(&Candidate) -> Option<f64>) -> Vec<Trial> {
        let mut trials = Vec::new();
        while let Some(settings) = grid.next(&trials) {
            let held_out_log_likelihood = likelihood(&settings);
            let failure = held_out_log_likelihood
                .is_none()
                .then(|| format!("{settings} diverged"));
            let steps = 3 * settings.epochs;
            trials.push(Trial {
                settings,
                steps,
                held_out_log_likelihood,
                training_loss: None,
                failure,
            });
        }
        trials
    }

    fn tried(trials: &[Trial]) -> Vec<usize> {
        trials.iter().map(|trial| trial.settings.epochs).collect()
    }

    #[test]
    fn a_line_ends_behind_its_peak() {
        let grid = grid(&[2, 5, 10, 20, 40], &[], &[]);
        let trials = search(&grid, |at| Some(-(at.epochs as f64 - 9.0).abs()));
        assert_eq!(tried(&trials), [2, 5, 10, 20]);
        let choice = grid.choose(&trials).unwrap();
        assert_eq!(
            (choice.settings.epochs, choice.steps, choice.at_edge),
            (10, 30, false)
        );
        assert_eq!(choice.settings.learning_rate, None, "the method's own");
    }

    #[test]
    fn a_plateau_is_walked_to_its_end_and_the_cheapest_of_it_is_chosen() {
        let grid = grid(&[2, 5, 10, 20], &[], &[]);
        let trials = search(&grid, |at| Some(if at.epochs < 5 { -2.0 } else { -1.0 }));
        assert_eq!(tried(&trials), [2, 5, 10, 20]);
        assert_eq!(grid.choose(&trials).unwrap().settings.epochs, 5);
    }

    #[test]
    fn every_learning_rate_and_lambda_has_a_line_and_ties_between_lines_go_to_the_first() {
        let grid = grid(&[1, 2, 3], &[1e-4, 1e-3, 1e-2], &[0.1, 1.0]);
        let trials = search(&grid, |at| Some(-(at.epochs as f64 - 2.0).powi(2)));
        assert_eq!(tried(&trials), [1, 2, 3].repeat(6));
        let choice = grid.choose(&trials).unwrap();
        assert_eq!(
            choice.settings,
            Candidate {
                epochs: 2,
                learning_rate: Some(1e-4),
                lambda: Some(0.1)
            }
        );
        assert_eq!(choice.edges, ["learning_rates", "lambdas"]);
        let middle = search(&grid, |at| {
            Some(-(at.learning_rate? - 1e-3).abs() - at.epochs as f64)
        });
        assert_eq!(tried(&middle), [1, 2].repeat(6), "falls at once");
        let choice = grid.choose(&middle).unwrap();
        assert_eq!(
            (choice.settings.learning_rate, choice.settings.epochs),
            (Some(1e-3), 1)
        );
        assert_eq!(choice.edges, ["epochs", "lambdas"]);
    }

    #[test]
    fn the_ends_of_lists_are_told_and_a_list_of_one_has_none() {
        let rising = |at: &Candidate| Some(at.epochs as f64);
        let (long, single) = (grid(&[2, 5], &[1e-3], &[]), grid(&[2], &[], &[]));
        let choice = long.choose(&search(&long, rising)).unwrap();
        assert_eq!(
            (choice.settings.epochs, choice.at_edge, choice.edges),
            (5, true, vec!["epochs".to_string()])
        );
        assert!(!single.choose(&search(&single, rising)).unwrap().at_edge);
    }

    #[test]
    fn a_failure_ends_its_line_alone_and_only_failures_are_an_error() {
        let grid = grid(&[2, 5, 10], &[1e-3, 1.0], &[]);
        let trials = search(&grid, |at| {
            (at.learning_rate? < 1.0).then_some(-1.0 / at.epochs as f64)
        });
        assert_eq!(tried(&trials), [2, 5, 10, 2]);
        assert_eq!(
            grid.choose(&trials).unwrap().settings.learning_rate,
            Some(1e-3)
        );
        let failed = search(&grid, |_| None);
        assert_eq!(tried(&failed), [2, 2]);
        let error = grid.choose(&failed).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Divergence);
        assert!(
            error.to_string().contains("2 candidates failed")
                && error.to_string().contains("rate 1e-3 diverged")
        );
    }

    #[test]
    fn a_search_that_stopped_anywhere_goes_on_as_if_it_had_not() {
        let grid = grid(&[1, 2, 4], &[1e-4, 1e-3], &[0.1, 1.0]);
        let whole = search(&grid, |at| {
            Some((at.learning_rate? * at.epochs as f64).sin())
        });
        for stopped in 0..whole.len() {
            assert_eq!(grid.next(&whole[..stopped]), Some(whole[stopped].settings));
        }
        assert_eq!(grid.next(&whole), None);
        assert!(whole.len() <= grid.candidates().len());
    }
}
