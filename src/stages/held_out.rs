//! Selection of training rows from data sets, without prompts that are held out.

use super::common::{read_json, write_json};
use crate::Result;
use crate::data::rows::Demonstration;
use crate::data::split::{Duplicates, Prompts};
use crate::pipeline::{StageContext, StageKey};
use std::collections::{BTreeMap, BTreeSet};

/// The file with the prompts of an artifact whose rows are held out: no training stage may use any
/// of them.
pub const PROMPTS: &str = "prompts.json";
/// The file with the counts of duplicate rows.
pub const DUPLICATES: &str = "duplicates.json";

/// Writes the counts of duplicate rows, and the number of rows passed over because their prompts
/// are held out.
pub fn write_duplicates<'r>(
    context: &StageContext,
    groups: &[usize],
    rows: impl IntoIterator<Item = &'r Demonstration>,
    held_out: usize,
) -> Result<()> {
    let counts = Duplicates::count(groups, rows.into_iter().map(|row| row.response.as_str()));
    write_json(
        &context.out().join(DUPLICATES),
        &Duplicates { held_out, ..counts },
    )
}

/// The union of the prompts of all `inputs`, whose rows are held out.
pub fn held_out(context: &StageContext, inputs: &[StageKey]) -> Result<Prompts> {
    inputs.iter().try_fold(Prompts::default(), |all, input| {
        Ok(all.union(read_json(&context.artifact(input)?.join(PROMPTS))?))
    })
}

/// Selects the first `count` rows in `order` that `take` accepts, and returns them in the order of
/// their positions with the number of rows passed over. `take` is given a set of positions and
/// returns the acceptable rows among them.
///
/// # Errors
/// The error of `lacking` if there are too few rows; `lacking` is given the number of rows found,
/// and may accept it.
pub fn choose<T>(
    order: Vec<usize>,
    count: usize,
    mut take: impl FnMut(&BTreeSet<usize>) -> Result<BTreeMap<usize, T>>,
    lacking: impl FnOnce(usize) -> Result<()>,
) -> Result<(Vec<T>, usize)> {
    let (mut order, mut chosen, mut passed_over) = (order.into_iter(), BTreeMap::new(), 0);
    while chosen.len() < count {
        let wanted: BTreeSet<usize> = order.by_ref().take(count - chosen.len()).collect();
        if wanted.is_empty() {
            lacking(chosen.len())?;
            break;
        }
        let taken = take(&wanted)?;
        passed_over += wanted.len() - taken.len();
        chosen.extend(taken);
    }
    Ok((chosen.into_values().collect(), passed_over))
}
