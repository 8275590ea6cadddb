//! The seeds of an experiment's runs: a count, a list or a named preset.

use super::decode::suggestion;
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The largest number of seeds that a count may ask for.
const MOST_SEEDS: usize = 10_000;

/// The table `[seeds]`: the default list and named lists beside it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeedSettings {
    pub default: Vec<u64>,
    #[serde(default)]
    pub presets: BTreeMap<String, Vec<u64>>,
}

/// A choice of seeds, in a profile or on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a count, a list of seeds or the name of a preset"
)]
pub enum SeedChoice {
    /// The first seeds of the default list, as many as given; continued beyond its end.
    Count(usize),
    List(Vec<u64>),
    Preset(String),
}

impl FromStr for SeedChoice {
    type Err = String;

    /// Parses a choice: `5` is a count, `1,2,7` a list (`7,` is a list of one), a word the name of
    /// a preset.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let text = text.trim();
        if text.contains(',') {
            let items = text.trim_end_matches(',').split(',').map(str::trim);
            let seeds = items.map(|item| {
                item.parse()
                    .map_err(|_| format!("`{item}` is not a seed (a whole number)"))
            });
            return Ok(Self::List(seeds.collect::<std::result::Result<_, _>>()?));
        }
        if text.starts_with(|first: char| first.is_alphabetic()) {
            return Ok(Self::Preset(text.to_owned()));
        }
        let count = text
            .parse()
            .map_err(|_| format!("`{text}` is neither a count, a list `1,2,7` nor a preset"))?;
        Ok(Self::Count(count))
    }
}

impl SeedSettings {
    /// The seeds of a choice, without repetition and in the order chosen.
    pub fn choose(&self, choice: &SeedChoice) -> Result<Vec<u64>> {
        let seeds = match choice {
            SeedChoice::Count(count) if *count > MOST_SEEDS => {
                return Err(Error::configuration(format!("{count} seeds are more than {MOST_SEEDS}"))
                    .hint("a study of that size is more than a machine can plan; name single seeds as a list: 1,2,7"));
            }
            SeedChoice::Count(count) => self.first(*count),
            SeedChoice::List(seeds) => seeds.clone(),
            SeedChoice::Preset(name) => self.presets.get(name).cloned().ok_or_else(|| {
                Error::configuration(format!("no preset of seeds is called `{name}`"))
                    .hint(suggestion(name, self.presets.keys().map(String::as_str)))
            })?,
        };
        check(&seeds).map_err(Error::configuration)?;
        Ok(seeds)
    }

    /// The first `count` seeds of the default list; beyond its end follow the numbers after its
    /// largest.
    fn first(&self, count: usize) -> Vec<u64> {
        let largest = self.default.iter().copied().max().unwrap_or(0);
        self.default
            .iter()
            .copied()
            .chain(largest + 1..)
            .take(count)
            .collect()
    }
}

/// Checks that a list of seeds is not empty, that each occurs once, and that each is small enough
/// to be continued and written as TOML.
pub(super) fn check(seeds: &[u64]) -> std::result::Result<(), String> {
    if seeds.is_empty() {
        return Err("at least one seed is needed".into());
    }
    if let Some(large) = seeds.iter().find(|seed| **seed > u64::from(u32::MAX)) {
        return Err(format!("the seed {large} is above {}", u32::MAX));
    }
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(twice) => Err(format!("the seed {twice} is listed twice")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SeedSettings {
        let presets = BTreeMap::from([("paper".to_owned(), vec![44413, 55513, 66613, 77713])]);
        SeedSettings {
            default: vec![3, 1, 2],
            presets,
        }
    }

    fn choose(text: &str) -> std::result::Result<Vec<u64>, String> {
        let choice: SeedChoice = text.parse()?;
        settings()
            .choose(&choice)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn counts_lists_and_presets() {
        assert_eq!(choose("2"), Ok(vec![3, 1]));
        assert_eq!(choose("5"), Ok(vec![3, 1, 2, 4, 5]));
        assert_eq!(choose("1, 2,7"), Ok(vec![1, 2, 7]));
        assert_eq!(choose("7,"), Ok(vec![7]));
        assert_eq!(choose("paper"), Ok(vec![44413, 55513, 66613, 77713]));
    }

    #[test]
    fn what_is_no_choice_is_refused() {
        assert_eq!(choose("0"), Err("at least one seed is needed".into()));
        assert_eq!(choose("1,1"), Err("the seed 1 is listed twice".into()));
        assert_eq!(
            choose("papre"),
            Err("no preset of seeds is called `papre`".into())
        );
        for bad in ["", "-1", "1,x", "1.5", "99999999999,"] {
            assert!(choose(bad).is_err(), "{bad}");
        }
    }
}
