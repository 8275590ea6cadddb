//! Aggregates of the scores of several runs on several tasks (Agarwal et al. 2021).

use super::estimate::average;
use super::{check, probability_of_improvement};
use crate::error::{Error, Result};

/// Finite scores of `runs` × `tasks`, rectangular and not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    values: Vec<f64>,
    tasks: usize,
}

impl Scores {
    /// Scores from `rows[run][task]`.
    ///
    /// # Errors
    /// No runs or tasks, rows of unequal length, or values that are not finite.
    pub fn new(rows: &[Vec<f64>]) -> Result<Self> {
        let tasks = rows.first().map_or(0, Vec::len);
        if let Some(run) = rows.iter().position(|row| row.len() != tasks) {
            return Err(Error::data(format!(
                "run {} has {} tasks, the first has {tasks}",
                run + 1,
                rows[run].len()
            ))
            .hint("every run needs a score for every task"));
        }
        let values = rows.concat();
        check::values("scores", &values)?;
        Ok(Self { values, tasks })
    }

    pub fn runs(&self) -> usize {
        self.values.len() / self.tasks
    }

    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// All scores, run by run.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The score of every run on `task`.
    pub(super) fn task(&self, task: usize) -> Vec<f64> {
        self.values
            .iter()
            .skip(task)
            .step_by(self.tasks)
            .copied()
            .collect()
    }

    /// P(X > Y) averaged over tasks, where X is `self`. The numbers of runs may differ.
    ///
    /// # Errors
    /// Different numbers of tasks.
    pub fn improvement_over(&self, other: &Self) -> Result<f64> {
        if self.tasks != other.tasks {
            return Err(Error::data(format!(
                "{} tasks cannot be compared with {}",
                self.tasks, other.tasks
            ))
            .hint("give both methods the same tasks, in the same order"));
        }
        let per_task: Vec<f64> = (0..self.tasks)
            .map(|task| probability_of_improvement(&self.task(task), &other.task(task)))
            .collect();
        Ok(average(&per_task))
    }
}

/// The mean after cutting ⌊N/4⌋ values from each end, without fractional weights. `None` without
/// values.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let cut = sorted.len() / 4;
    let kept = &sorted[cut..sorted.len() - cut];
    (!kept.is_empty()).then(|| average(kept))
}

/// The middle value, or the mean of the middle two. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        (sorted[sorted.len() / 2 - 1] + upper) / 2.0
    })
}

/// The mean shortfall of scores from `target`; scores above it do not make up for those below.
/// `None` without values.
pub fn optimality_gap(values: &[f64], target: f64) -> Option<f64> {
    let reached: Vec<f64> = values.iter().map(|value| value.min(target)).collect();
    (!reached.is_empty()).then(|| target - average(&reached))
}

/// For each threshold, the share of scores strictly above it. Empty without values.
pub fn performance_profile(values: &[f64], thresholds: &[f64]) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    let above = |threshold: f64| values.iter().filter(|value| **value > threshold).count();
    thresholds
        .iter()
        .map(|threshold| above(*threshold) as f64 / values.len() as f64)
        .collect()
}

pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
