//! Rows that are chosen for training from data sets, without prompts that are held out.

use super::common::{read_json, write_json};
use crate::data::rows::Demonstration;
use crate::data::split::{Duplicates, Prompts};
use crate::pipeline::{StageContext, StageKey};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Prompts of an artifact whose rows are held out: no training stage may have one of them.
pub const PROMPTS: &str = "prompts.json";
/// Counts of rows that say the same.
pub const DUPLICATES: &str = "duplicates.json";

/// Counts the rows that say the same beside those that were passed over.
pub fn write_duplicates(
    context: &StageContext,
    groups: &[usize],
    rows: &[Demonstration],
    held_out: usize,
) -> Result<()> {
    let counts = Duplicates::count(groups, rows.iter().map(|row| row.response.as_str()));
    write_json(&context.out().join(DUPLICATES), &Duplicates { held_out, ..counts })
}

/// The prompts of all `inputs`, whose rows are held out.
pub fn held_out(context: &StageContext, inputs: &[StageKey]) -> Result<Prompts> {
    inputs
        .iter()
        .try_fold(Prompts::default(), |all, input| Ok(all.union(read_json(&context.artifact(input)?.join(PROMPTS))?)))
}

/// `count` rows at the positions that come first in `order`, without those that `take` passes over, in the order of their
/// positions, and how many were passed over. `take` is asked for rows at some positions and gives those that may be taken.
///
/// # Errors
/// Too few rows, as `lacking` says, which is given the number of those that there are.
pub fn choose<T>(
    order: Vec<usize>,
    count: usize,
    mut take: impl FnMut(&BTreeSet<usize>) -> Result<BTreeMap<usize, T>>,
    lacking: impl FnOnce(usize) -> Error,
) -> Result<(Vec<T>, usize)> {
    let (mut order, mut chosen, mut passed_over) = (order.into_iter(), BTreeMap::new(), 0);
    while chosen.len() < count {
        let wanted: BTreeSet<usize> = order.by_ref().take(count - chosen.len()).collect();
        if wanted.is_empty() {
            return Err(lacking(chosen.len()));
        }
        let taken = take(&wanted)?;
        passed_over += wanted.len() - taken.len();
        chosen.extend(taken);
    }
    Ok((chosen.into_values().collect(), passed_over))
}
