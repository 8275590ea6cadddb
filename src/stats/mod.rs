//! Estimates, comparisons, multiplicity, power and verdicts.
//!
//! The functions are pure and know nothing of experiments: the same input gives the same bytes, and
//! every function that resamples has an explicit seed. Undefined quantities are `None` (printed
//! `n/a`, `null` in JSON), never 0 and never NaN; meaningless inputs (empty, not finite, of unequal
//! length) are errors. The unit of replication is the caller's choice, and for a trained method it
//! is the seed. `docs/statistics.md` defines each number.

mod aggregate;
mod bootstrap;
mod bradley_terry;
mod check;
mod cluster;
mod collapse;
mod design;
mod equivalence;
mod estimate;
mod exact;
mod length_control;
mod linear;
mod multiplicity;
mod paired;
mod permutation;
mod planning;
mod power;
mod sequential;
mod stratified;
mod student;
mod verdict;

pub use aggregate::{Scores, interquartile_mean, median, optimality_gap, performance_profile};
pub use bootstrap::{
    Bootstrapped, FEW_RUNS, Resampling, improvement_over_tasks, quantile, stratified_bootstrap,
};
pub use bradley_terry::{Battle, Strengths, bradley_terry, bradley_terry_bootstrap};
pub use cluster::{clustered, group_standard_error, two_way};
pub use collapse::{clopper_pearson, collapsed};
pub use design::{Design, LOOKS, Role};
pub use equivalence::{Tost, tost};
pub use estimate::{Estimate, Interval, IntervalMethod, mean, wilson, without_rounding};
pub use exact::{mann_whitney_exact, mcnemar_exact, wilcoxon_exact};
pub use length_control::{Judgement, length_controlled_win_rates};
pub use multiplicity::{adjust_defined, benjamini_hochberg, holm};
pub use paired::{
    Paired, Sample, Welch, paired, probability_of_improvement, welch, welch_difference,
};
pub use permutation::{SignFlips, flips_over_looks, sign_flip};
pub use planning::{Chances, DRAWS, chances_if_normal, chances_of_runs};
pub use power::{
    detectable_effect, minimum_detectable_effect, paired_power, seeds_needed,
    seeds_needed_for_equivalence,
};
pub use sequential::{Looks, Spending, confidence_sequence};
pub use stratified::{Strata, Test};
pub use verdict::{Direction, Finding, Forecast, Hypothesis, POWER, Verdict, assess, at_last_look};

#[cfg(test)]
mod tests;
