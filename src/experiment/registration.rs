//! The claims of a study as they were frozen before its runs: a separate file whose hash the
//! experiment records, so that a later change to a claim is detected.

use super::decode::decode;
use super::tree::{Entry, Node, Span, Value};
use crate::error::Result;
use crate::stats::{Design, Spending};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key under which the claim file's own tree is stored in the experiment's table
/// `registration`. A user cannot write this key in TOML.
const CONTENT: &str = "\0content";

/// Name of the gap for studies without one of their own.
const DEFAULT: &str = "default";

/// The facts about a claim file: its path, its hash, whether it is frozen, and the seeds that it
/// allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Path of the claim file from the experiment's folder.
    pub file: String,
    /// Hash of its text, with line ends as on Unix.
    pub blake3: String,
    /// True if the experiment records this hash; a claim file without a recorded hash is a draft.
    pub frozen: bool,
    /// Time at which the file was written, RFC 3339 in UTC; older results may have been known to
    /// its authors.
    pub registered: String,
    /// The seeds on which the claims are judged.
    pub seeds: SeedRange,
    /// Results that the authors had seen when they wrote the file.
    pub background: String,
}

/// Seeds from the first to the last; looks use them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeedRange {
    pub first: u64,
    pub last: u64,
}

impl SeedRange {
    /// The first `count` seeds, or all of them if there are fewer.
    pub fn first_of(self, count: usize) -> Vec<u64> {
        (self.first..=self.last).take(count).collect()
    }

    pub fn contains(self, seed: u64) -> bool {
        (self.first..=self.last).contains(&seed)
    }
}

/// The table `[registration]` of an experiment.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    file: String,
    /// Hash of the file's text. A draft has none, or `none` over an experiment that has one.
    blake3: Option<String>,
}

/// A claim file without its claims.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimFile {
    registered: String,
    background: String,
    seeds: SeedRange,
    alpha: f64,
    looks: Vec<usize>,
    spending: Spending,
    /// Gaps by the name of the study, with [`DEFAULT`] for all others.
    #[serde(default)]
    gap: BTreeMap<String, Gap>,
}

/// A difference known before the runs, as a base for margins given as shares.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Gap {
    value: f64,
    /// The runs on which it was measured, for people.
    #[serde(rename = "source")]
    _source: String,
}

/// Everything in a claim file except its claims, which are added to the experiment.
pub(super) struct Registered {
    pub registration: Registration,
    /// The design, without the number of comparisons.
    pub design: Design,
    /// The difference to which margins given as shares refer.
    pub gap: Option<f64>,
    /// The number of registered claims, which stand before the experiment's own.
    pub claims: usize,
}

/// Puts the claim file's tree beside its name in the table `registration` of `experiment`, which
/// `open` finds by name.
pub(super) fn attach(
    experiment: &mut Node,
    open: impl Fn(&str, &Span) -> Result<Node>,
) -> Result<()> {
    let Some(table) = experiment
        .table_mut()
        .and_then(|table| table.get_mut("registration"))
    else {
        return Ok(());
    };
    let Some(Value::String(file)) = table.node.at("file").map(|node| node.value.clone()) else {
        return Ok(());
    };
    let place = table
        .node
        .at("file")
        .map_or(table.node.place.clone(), |node| node.place.clone());
    let content = open(&file, &place)?;
    if let Some(entries) = table.node.table_mut() {
        entries.insert(
            CONTENT.into(),
            Entry {
                key: place,
                node: content,
            },
        );
    }
    Ok(())
}

/// Removes the registration from `experiment` and puts the registered claims before the
/// experiment's own. An experiment that extends a registered one drops its registration with
/// `registration = "none"`, or names a draft of its own with `blake3 = "none"`.
pub(super) fn take(experiment: &mut Node) -> Result<Option<Registered>> {
    let Some(entry) = experiment
        .table_mut()
        .and_then(|table| table.remove("registration"))
    else {
        return Ok(None);
    };
    if matches!(&entry.node.value, Value::String(word) if word == "none") {
        return Ok(None);
    }
    let mut recorded_node = entry.node;
    let content = recorded_node
        .table_mut()
        .and_then(|table| table.remove(CONTENT));
    let mut recorded: Recorded = decode(&recorded_node, &[])?;
    recorded.blake3 = recorded.blake3.filter(|hash| hash != "none");
    let Some(Entry {
        node: mut content, ..
    }) = content
    else {
        return Err(recorded_node
            .place
            .error("the claim file cannot be found from a text without a folder"));
    };
    let at = |key: &str| {
        recorded_node
            .at(key)
            .map_or(&recorded_node.place, |node| &node.place)
    };
    let blake3 = hash(&content.place.text.content);
    if let Some(frozen) = recorded.blake3.as_ref().filter(|frozen| **frozen != blake3) {
        let name = &content.place.text.name;
        return Err(at("blake3")
            .error(format!("{name} is not the claim file that was frozen: its hash is {blake3}, not {frozen}"))
            .hint(
                "claims may not change after their first run; take the changes back, or, if no run of them has been made, record \
                 the new hash here",
            ));
    }
    let claims = content.table_mut().and_then(|table| table.remove("claim"));
    let file: ClaimFile = decode(&content, &["claim"])?;
    let design = check(&file, &content)?;
    let mut count = 0;
    if let Some(entry) = claims {
        count = if let Value::Array(claims) = &entry.node.value {
            claims.len()
        } else {
            0
        };
        prepend(experiment, entry);
    }
    let registration = Registration {
        file: recorded.file,
        blake3,
        frozen: recorded.blake3.is_some(),
        registered: file.registered,
        seeds: file.seeds,
        background: file
            .background
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    };
    let own = match experiment.at("name").map(|node| &node.value) {
        Some(Value::String(name)) => file.gap.get(name),
        _ => None,
    };
    let gap = own.or_else(|| file.gap.get(DEFAULT)).map(|gap| gap.value);
    Ok(Some(Registered {
        registration,
        design,
        gap,
        claims: count,
    }))
}

fn check(file: &ClaimFile, node: &Node) -> Result<Design> {
    let at = |key: &str| node.at(key).map_or(&node.place, |node| &node.place);
    if file.registered.parse::<DateTime<Utc>>().is_err() {
        return Err(at("registered")
            .error(format!("`{}` is not a time", file.registered))
            .hint("write the time in UTC as 2026-11-29T14:00:00Z"));
    }
    if !(file.alpha > 0.0 && file.alpha < 0.5) {
        return Err(at("alpha").error(format!(
            "alpha must lie between 0 and 0.5, but is {}",
            file.alpha
        )));
    }
    let ascending = file.looks.first().is_some_and(|first| *first >= 2)
        && file.looks.is_sorted_by(|a, b| a < b);
    if !ascending {
        return Err(at("looks").error("looks must be ascending numbers of seeds, from 2 on"));
    }
    let SeedRange { first, last } = file.seeds;
    let (most, seeds) = (
        file.looks[file.looks.len() - 1] as u64,
        last.saturating_sub(first).saturating_add(1),
    );
    if last < first || seeds < most {
        return Err(at("seeds").error(format!(
            "seeds {first} to {last} are fewer than the {most} of the last look"
        )));
    }
    if let Some((study, gap)) = file
        .gap
        .iter()
        .find(|(_, gap)| !(gap.value > 0.0 && gap.value.is_finite()))
    {
        return Err(at("gap").error(format!(
            "the gap of {study} must be above 0, but is {}",
            gap.value
        )));
    }
    Ok(Design {
        alpha: file.alpha,
        looks: file.looks.clone(),
        spending: file.spending,
        comparisons: 0,
    })
}

/// Puts `claims` before the array `claim` of `experiment`.
fn prepend(experiment: &mut Node, claims: Entry) {
    let Some(table) = experiment.table_mut() else {
        return;
    };
    let own = table.remove("claim");
    let mut all = claims.clone();
    if let (Value::Array(all), Some(own)) = (&mut all.node.value, own)
        && let Value::Array(own) = own.node.value
    {
        all.extend(own);
    }
    table.insert("claim".into(), all);
}

/// The hash by which a claim file is frozen.
pub(super) fn hash(text: &str) -> String {
    blake3::hash(text.replace("\r\n", "\n").as_bytes())
        .to_hex()
        .to_string()
}
