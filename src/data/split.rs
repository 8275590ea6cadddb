//! Splits by content: texts that a model cannot distinguish are on one side of a split, whatever
//! their ids.

use crate::rng::permutation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use unicode_normalization::UnicodeNormalization;

/// The form of `text` that is compared: in Unicode's normal form C, with one space for any white
/// space and none at the ends.
fn normal(text: &str) -> String {
    let composed: String = text.nfc().collect();
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The BLAKE3 hash of the compared form of a text.
fn digest(text: &str) -> String {
    blake3::hash(normal(text).as_bytes()).to_hex().to_string()
}

/// A set of prompts, as the hashes by which they are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prompts(BTreeSet<String>);

impl Prompts {
    /// Adds a prompt in all its forms: as it was written, and as a model is given it.
    pub fn insert(&mut self, forms: &[&str]) {
        self.0.extend(forms.iter().map(|form| digest(form)));
    }

    /// Whether one of the forms is a form of a prompt in this set.
    pub fn contain(&self, forms: &[&str]) -> bool {
        forms.iter().any(|form| self.0.contains(&digest(form)))
    }

    /// The prompts of both.
    pub fn union(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

/// Counts of rows that repeat others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicates {
    pub rows: usize,
    /// The number of different prompts among the rows.
    pub prompts: usize,
    /// The number of rows whose prompt and response an earlier row has.
    pub repeated: usize,
    /// The number of rows that were left out because their prompt is held out.
    pub held_out: usize,
}

impl Duplicates {
    /// Counts rows by the groups of their prompts and by their responses.
    pub fn count<'a>(groups: &[usize], responses: impl IntoIterator<Item = &'a str>) -> Self {
        let prompts = groups.iter().collect::<HashSet<_>>().len();
        let mut seen = HashSet::new();
        let whole = groups
            .iter()
            .zip(responses)
            .map(|(group, response)| (group, digest(response)));
        let repeated = whole.filter(|row| !seen.insert(row.clone())).count();
        Self {
            rows: groups.len(),
            prompts,
            repeated,
            held_out: 0,
        }
    }
}

/// The group of every row: rows of one group share a form of their prompt, or are linked by rows
/// that do.
pub fn groups(rows: &[[&str; 2]]) -> Vec<usize> {
    let mut parents: Vec<usize> = (0..rows.len()).collect();
    fn root(parents: &mut [usize], mut row: usize) -> usize {
        while parents[row] != row {
            parents[row] = parents[parents[row]];
            row = parents[row];
        }
        row
    }
    let mut first: HashMap<String, usize> = HashMap::new();
    for (row, forms) in rows.iter().enumerate() {
        for form in forms {
            let other = *first.entry(digest(form)).or_insert(row);
            let (a, b) = (root(&mut parents, other), root(&mut parents, row));
            parents[a.max(b)] = a.min(b);
        }
    }
    (0..rows.len()).map(|row| root(&mut parents, row)).collect()
}

/// The rows that are held out of `groups`, and the others: whole groups, added in a random order
/// that is the same for every seed if they still fit into `share` of the rows. Without duplicates
/// these are the first rows of that order. If no group is small enough, the smallest is held out;
/// `None` if there is only one group, or if the share rounds to 0 rows.
pub fn hold_out(groups: &[usize], share: f64) -> Option<(Vec<usize>, Vec<usize>)> {
    let order = permutation(groups.len(), 0, "corpus/split", 0);
    hold_out_first(
        groups,
        &order,
        (groups.len() as f64 * share).round() as usize,
    )
}

/// The rows that are held out, and the others, as in [`hold_out`], but in an order of their own for
/// every seed and purpose, and with at least one row on either side. `None` if there is only one
/// group.
pub fn hold_out_some(
    groups: &[usize],
    share: f64,
    seed: u64,
    purpose: &str,
) -> Option<(Vec<usize>, Vec<usize>)> {
    let most = groups.len().checked_sub(1).filter(|most| *most > 0)?;
    let wanted = ((groups.len() as f64 * share).round() as usize).clamp(1, most);
    hold_out_first(groups, &permutation(groups.len(), seed, purpose, 0), wanted)
}

/// The first groups of `order` that together have at most `wanted` rows, and the others.
fn hold_out_first(
    groups: &[usize],
    order: &[usize],
    wanted: usize,
) -> Option<(Vec<usize>, Vec<usize>)> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    groups
        .iter()
        .for_each(|group| *sizes.entry(*group).or_default() += 1);
    if sizes.len() < 2 {
        return None;
    }
    let (mut chosen, mut count, mut seen) = (BTreeSet::new(), 0, BTreeSet::new());
    for group in order.iter().map(|row| groups[*row]) {
        if seen.insert(group) && count + sizes[&group] <= wanted {
            chosen.insert(group);
            count += sizes[&group];
        }
    }
    if chosen.is_empty() && wanted > 0 {
        chosen.extend(
            sizes
                .iter()
                .min_by_key(|(_, size)| **size)
                .map(|(group, _)| *group),
        );
    }
    let (held, trained): (Vec<usize>, Vec<usize>) = order
        .iter()
        .partition(|row| chosen.contains(&groups[**row]));
    (!held.is_empty() && !trained.is_empty()).then_some((held, trained))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_look_alike_are_one() {
        let mut prompts = Prompts::default();
        prompts.insert(&["caf\u{e9}  au\nlait ", "caf\u{e9}"]);
        assert!(
            prompts.contain(&["cafe\u{301} au lait"]) && prompts.contain(&["x", "caf\u{e9}\u{a0}"])
        );
        assert!(!prompts.contain(&["caf\u{e9} au", "cafe"]));
    }

    #[test]
    fn duplicates_are_counted_by_prompt_and_by_row() {
        let responses = ["x", "y", "x", "x ", "x"];
        assert_eq!(
            Duplicates::count(&[0, 0, 2, 0, 2], responses),
            Duplicates {
                rows: 5,
                prompts: 2,
                repeated: 2,
                held_out: 0
            }
        );
    }

    #[test]
    fn rows_are_linked_by_any_form() {
        assert_eq!(
            groups(&[["a", "1"], ["b", "2"], ["c", "1"], ["b", "3"], ["d", "3"]]),
            [0, 1, 0, 1, 1]
        );
    }

    #[test]
    fn without_duplicates_the_split_is_the_beginning_of_the_order() {
        let order = permutation(12, 0, "corpus/split", 0);
        let (held, trained) = hold_out(&(0..12).collect::<Vec<_>>(), 0.2).unwrap();
        assert_eq!((&held[..], &trained[..]), (&order[..2], &order[2..]));
    }

    #[test]
    fn one_prompt_cannot_be_split_and_two_can() {
        assert_eq!(hold_out(&[0, 0, 0], 0.2), None);
        assert_eq!(hold_out(&[0], 0.2), None);
        let (held, trained) = hold_out(&[0, 1, 1, 0, 1, 0, 0], 0.2).unwrap();
        assert_eq!((held.len(), trained.len()), (3, 4));
    }

    #[test]
    fn some_are_held_out_of_any_two_prompts() {
        let split =
            |groups: &[usize], share, seed| hold_out_some(groups, share, seed, "test/split");
        assert_eq!(
            (
                split(&[], 0.5, 1),
                split(&[0], 0.5, 1),
                split(&[0, 0], 0.5, 1)
            ),
            (None, None, None)
        );
        for share in [0.01, 0.5, 0.99] {
            let (held, trained) = split(&[0, 1], share, 1).unwrap();
            assert_eq!((held.len(), trained.len()), (1, 1), "{share}");
        }
        let groups: Vec<usize> = (0..40).map(|row| row / 2).collect();
        let (held, trained) = split(&groups, 0.25, 1).unwrap();
        assert_eq!((held.len(), trained.len()), (10, 30));
        assert!(
            held.iter().all(|row| held.contains(&(row ^ 1))),
            "equal prompts are on one side"
        );
        assert_ne!(held, split(&groups, 0.25, 2).unwrap().0);
    }

    proptest! {
        #[test]
        fn no_group_is_on_both_sides_and_the_share_is_kept(sizes in prop::collection::vec(1usize..6, 2..60)) {
            let groups: Vec<usize> = sizes.iter().enumerate().flat_map(|(group, size)| vec![group; *size]).collect();
            let wanted = (groups.len() as f64 * 0.2).round() as usize;
            if let Some((held, trained)) = hold_out(&groups, 0.2) {
                let side = |rows: &[usize]| rows.iter().map(|row| groups[*row]).collect::<BTreeSet<_>>();
                prop_assert!(side(&held).is_disjoint(&side(&trained)));
                prop_assert_eq!(held.len() + trained.len(), groups.len());
                prop_assert!(held.len() <= wanted.max(5), "{} of {}", held.len(), groups.len());
                let smallest = sizes.iter().min().unwrap();
                prop_assert!(held.len() + 5 > wanted || smallest > &wanted, "{} of {}", held.len(), groups.len());
            } else {
                prop_assert_eq!(wanted, 0);
            }
        }
    }
}
