//! The state of primary claims, for runs that go on until all are decided.

use super::claims::judge;
use super::input::{ReportInput, Role};
use super::view::{View, methods_of};
use crate::error::Result;
use crate::stats::Verdict;

/// A primary claim, and whether more seeds could still change its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub claim: String,
    /// Every method that the claim compares, heuristics included, and the baseline that heuristics
    /// are measured with.
    pub methods: Vec<String>,
    /// Whether every one of its comparisons has a verdict.
    pub decided: bool,
    /// The answer in words.
    pub words: String,
}

/// Decisions on all primary claims of `input`, in the order of declaration.
///
/// # Errors
/// As [`super::write`], except those of files.
pub fn decisions(input: &ReportInput) -> Result<Vec<Decision>> {
    let view = View::new(input)?;
    let judged = judge(&view)?;
    let primary = judged
        .iter()
        .filter(|judged| judged.claim.role == Role::Primary);
    Ok(primary
        .map(|judged| {
            let answered = |verdict| verdict != Verdict::Inconclusive;
            let mut verdicts = judged
                .parts
                .iter()
                .map(|part| part.finding().and_then(|finding| finding.verdict));
            let methods = methods_of(judged.claim)
                .map(str::to_owned)
                .chain([input.layout.baseline.clone()]);
            Decision {
                claim: judged.claim.id.clone(),
                methods: methods.collect(),
                decided: !judged.parts.is_empty()
                    && verdicts.all(|verdict| verdict.is_some_and(answered)),
                words: judged.overall(&view),
            }
        })
        .collect())
}
