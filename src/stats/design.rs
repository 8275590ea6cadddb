//! The design of an experiment's primary comparisons: the looks at them, and the error probability.

use super::sequential::{Looks, Spending};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The numbers of seeds at the planned looks unless an experiment declares others.
pub const LOOKS: [usize; 4] = [5, 10, 20, 40];

/// The way in which a claim is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The claim gets a verdict, from intervals that hold for all primary comparisons together.
    Primary,
    /// The claim gets a suggestion, from a p-value that is adjusted together with those of all
    /// other exploratory tests.
    Exploratory,
}

/// A group-sequential design over several comparisons, with one family-wise error for all of them
/// at all looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// The largest probability that any of the comparisons gets a wrong answer at any look.
    pub alpha: f64,
    /// The numbers of pairs of seeds at the planned looks, ascending.
    pub looks: Vec<usize>,
    pub spending: Spending,
    /// The number of declared primary comparisons, tested or not: claims × metrics × sizes.
    pub comparisons: usize,
}

impl Design {
    /// The design with the default looks, spending and error for `comparisons` declared
    /// comparisons.
    pub fn of(comparisons: usize) -> Self {
        Self {
            alpha: 0.05,
            looks: LOOKS.to_vec(),
            spending: Spending::Pocock,
            comparisons,
        }
    }

    /// The error probability of one comparison over all its looks, α/m (Bonferroni).
    pub fn alpha_each(&self) -> f64 {
        self.alpha / self.comparisons.max(1) as f64
    }

    /// The number of seeds at the last planned look; later ones are not looked at.
    pub fn most(&self) -> usize {
        self.looks.last().copied().unwrap_or(0)
    }

    /// The boundaries of one comparison that has reached `n` pairs.
    ///
    /// # Errors
    /// As [`Looks::until`].
    pub fn until(&self, n: usize) -> Result<Arc<Looks>> {
        Looks::until(&self.looks, n, self.alpha_each(), self.spending)
    }

    /// The boundaries of one comparison at all planned looks.
    ///
    /// # Errors
    /// As [`Looks::new`].
    pub fn planned(&self) -> Result<Arc<Looks>> {
        Looks::new(&self.looks, self.alpha_each(), self.spending)
    }

    /// # Errors
    /// An error probability outside (0, 1), or looks that cannot be planned: none, fewer than 2
    /// seeds at the first, fewer than 3 added at a later one.
    pub fn check(&self) -> Result<()> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(Error::configuration(format!(
                "the family-wise error of the design is {}",
                self.alpha
            ))
            .hint("give a number between 0 and 1, usually 0.05"));
        }
        self.planned().map(|_| ())
    }
}
