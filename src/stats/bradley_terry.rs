//! Strengths of methods from pairwise wins (Bradley and Terry 1952).

use super::bootstrap::{Resampling, by_prompt, indices, percentile_estimate};
use super::estimate::Estimate;
use super::linear::{Matrix, log_one_plus_exp, logistic, maximise};
use crate::error::{Error, Result};
use crate::rng;
use serde::{Deserialize, Serialize};

/// One comparison of two methods (by index) on a prompt; `score` is 1 if `first` won, 0 if `second`
/// did, ½ for a tie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Battle {
    pub prompt: usize,
    pub first: usize,
    pub second: usize,
    pub score: f64,
}

/// Centred log-strengths of all methods with errors from a bootstrap over prompts (`n` counts
/// prompts).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strengths {
    pub estimates: Vec<Estimate>,
    /// The number of resamples that had no finite strengths and were left out. Above 5 % of them
    /// the errors are withheld, because the left-out resamples are the extreme ones.
    pub disconnected: usize,
}

/// Log-strengths with mean 0 that maximise the likelihood of `wins[i][j]`, the number of times that
/// i beat j (a tie gives each a half): P(i beats j) = 1 / (1 + exp(θⱼ − θᵢ)).
///
/// # Errors
/// A table that is not square or has negative, not finite or diagonal entries, or no two methods; a
/// **disconnected** one, where some methods never lost to, or never beat, any of the others, so
/// that no finite strengths exist (Ford 1957).
pub fn bradley_terry(wins: &[Vec<f64>]) -> Result<Vec<f64>> {
    let n = wins.len();
    check_table(wins)?;
    if let Some(inside) = closed_group(wins) {
        return Err(Error::data(format!(
            "Bradley–Terry: the comparisons are disconnected; methods {inside:?} never beat any of the other {}",
            n - inside.len()
        ))
        .hint("add comparisons between the two groups, or rank each group on its own"));
    }
    let strengths = maximise(vec![0.0; n], |theta| likelihood(wins, theta)).ok_or_else(|| {
        Error::data("Bradley–Terry: the fit did not converge").hint("add comparisons")
    })?;
    let centre = super::estimate::average(&strengths);
    Ok(strengths.into_iter().map(|theta| theta - centre).collect())
}

/// [`bradley_terry`] on `battles` among `methods` methods, with errors from a bootstrap over
/// prompts, whose battles stay together.
///
/// # Errors
/// As [`bradley_terry`] for all battles together; a battle that names an unknown method, one method
/// twice, or a score outside 0..=1; bad settings.
pub fn bradley_terry_bootstrap(
    battles: &[Battle],
    methods: usize,
    resampling: &Resampling,
) -> Result<Strengths> {
    resampling.check()?;
    for (at, battle) in battles.iter().enumerate() {
        let known =
            battle.first < methods && battle.second < methods && battle.first != battle.second;
        if !known || !(0.0..=1.0).contains(&battle.score) {
            return Err(Error::data(format!(
                "battle {} is not between two of {methods} methods: {battle:?}",
                at + 1
            ))
            .hint("name two different methods and a score between 0 and 1"));
        }
    }
    let prompts = by_prompt(battles, |battle| battle.prompt);
    let table = |drawn: &mut dyn Iterator<Item = usize>| {
        let mut wins = vec![vec![0.0; methods]; methods];
        for battle in drawn.flat_map(|prompt| &prompts[prompt]) {
            wins[battle.first][battle.second] += battle.score;
            wins[battle.second][battle.first] += 1.0 - battle.score;
        }
        wins
    };
    let points = bradley_terry(&table(&mut (0..prompts.len())))?;
    let draws: Vec<Vec<f64>> = (0..resampling.resamples)
        .filter_map(|resample| {
            let mut stream =
                rng::stream(resampling.seed, "stats/bradley-terry", &[resample as u64]);
            bradley_terry(&table(&mut indices(prompts.len(), &mut stream))).ok()
        })
        .collect();
    let disconnected = resampling.resamples - draws.len();
    let shown = draws.len() >= 2 && disconnected * 20 <= resampling.resamples;
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
    Ok(Strengths {
        estimates: points.iter().enumerate().map(estimate).collect(),
        disconnected,
    })
}

fn check_table(wins: &[Vec<f64>]) -> Result<()> {
    let n = wins.len();
    let bad = |i: usize, j: usize| {
        let value = wins[i][j];
        !(value >= 0.0 && value.is_finite()) || (i == j && value != 0.0)
    };
    if n < 2 || wins.iter().any(|row| row.len() != n) {
        return Err(Error::data(
            "Bradley–Terry: the table of wins is not square, or has fewer than two methods",
        )
        .hint("give one row and one column per method"));
    }
    match (0..n * n).find(|cell| bad(cell / n, cell % n)) {
        None => Ok(()),
        Some(cell) => {
            let (i, j) = (cell / n, cell % n);
            Err(Error::data(format!(
                "Bradley–Terry: {} wins of method {i} over method {j}",
                wins[i][j]
            ))
            .hint("counts are finite and at least 0; a method does not play itself"))
        }
    }
}

/// A proper subset of methods that never beats anything outside it; `None` if the graph of wins is
/// strongly connected.
fn closed_group(wins: &[Vec<f64>]) -> Option<Vec<usize>> {
    let n = wins.len();
    let reach = |edge: &dyn Fn(usize, usize) -> bool| {
        let mut seen = vec![false; n];
        let mut open = vec![0];
        seen[0] = true;
        while let Some(from) = open.pop() {
            for to in (0..n).filter(|to| edge(from, *to)) {
                if !seen[to] {
                    seen[to] = true;
                    open.push(to);
                }
            }
        }
        seen
    };
    let down = reach(&|i, j| wins[i][j] > 0.0);
    let up = reach(&|i, j| wins[j][i] > 0.0);
    if down.contains(&false) {
        // The methods that method 0 reaches by wins beat no method outside their group.
        return Some((0..n).filter(|i| down[*i]).collect());
    }
    up.contains(&false)
        .then(|| (0..n).filter(|i| !up[*i]).collect())
}

/// Log-likelihood, gradient and information. The strengths' mean, which the data do not determine,
/// is held at 0 by a quadratic term that vanishes at the solution.
fn likelihood(wins: &[Vec<f64>], theta: &[f64]) -> (f64, Vec<f64>, Matrix) {
    let n = theta.len();
    let sum: f64 = theta.iter().sum();
    let mut value = -sum * sum / 2.0;
    let mut gradient = vec![-sum; n];
    let mut information = vec![vec![1.0; n]; n];
    for i in 0..n {
        for j in (0..n).filter(|j| *j != i) {
            let games = wins[i][j] + wins[j][i];
            let chance = logistic(theta[i] - theta[j]);
            let weight = games * chance * (1.0 - chance);
            value -= wins[i][j] * log_one_plus_exp(theta[j] - theta[i]);
            gradient[i] += wins[i][j] - games * chance;
            information[i][i] += weight;
            information[i][j] -= weight;
        }
    }
    (value, gradient, information)
}
