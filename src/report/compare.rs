//! A comparison of two sets of results of one study, number by number: did anything move by more
//! than seeds explain after a change of revision, device or machine?

use std::collections::BTreeSet;

use super::console::draw;
use super::format;
use super::input::{BySeed, Metrics};
use super::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::error::Result;
use crate::stats::{self, Estimate, Sample, adjust_defined, benjamini_hochberg};

/// The outcome for one method's metric at a size; variants are in the order in which they are
/// shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sameness {
    /// The sides differ significantly after correction, or by the same amount under every seed.
    Moved,
    OnlyFirst,
    OnlySecond,
    /// The sides differ, and there are too few seeds to say whether by more than chance.
    Undecided,
    /// The sides differ by no more than seeds do.
    Explained,
    /// Every value under a shared seed is the same to the last bit.
    Identical,
}

impl Sameness {
    const ALL: [Self; 6] = [
        Self::Moved,
        Self::OnlyFirst,
        Self::OnlySecond,
        Self::Undecided,
        Self::Explained,
        Self::Identical,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::OnlyFirst => "only in A",
            Self::OnlySecond => "only in B",
            Self::Undecided => "too few seeds to say",
            Self::Explained => "within what seeds explain",
            Self::Identical => "identical",
        }
    }
}

/// One method's metric at a size, on both sides at the method's last iteration.
#[derive(Clone, Debug)]
pub struct Compared {
    pub method: String,
    pub size: String,
    pub metric: String,
    pub first: Option<Estimate>,
    pub second: Option<Estimate>,
    /// The second side minus the first.
    pub difference: Option<Estimate>,
    /// The number of paired seeds; below two, the comparison is Welch's of independent samples.
    pub shared: usize,
    pub p: Option<f64>,
    /// The p-value under Benjamini and Hochberg's correction over all comparisons.
    pub p_adjusted: Option<f64>,
    pub sameness: Sameness,
}

/// Compares every metric that either side has, paired by seed where at least two seeds are shared.
///
/// # Errors
/// A `level` outside (0, 1).
pub fn compare(first: &Metrics, second: &Metrics, level: f64) -> Result<Vec<Compared>> {
    let names = |metrics: &Metrics| -> BTreeSet<(String, String, String)> {
        let name = |row: &super::Metric| (row.method.clone(), row.size.clone(), row.metric.clone());
        metrics.rows().iter().map(name).collect()
    };
    let mut all = Vec::new();
    for (method, size, metric) in &names(first) | &names(second) {
        let [a, b] = [first, second].map(|side| side.last(&method, &size, &metric));
        if !(a.is_empty() && b.is_empty()) {
            all.push(one((method, size, metric), &a, &b, level)?);
        }
    }
    let raw: Vec<Option<f64>> = all.iter().map(|it| it.p).collect();
    for (it, adjusted) in all.iter_mut().zip(adjust_defined(&raw, benjamini_hochberg)) {
        it.p_adjusted = adjusted;
        if let (Sameness::Undecided, Some(p)) = (it.sameness, adjusted) {
            it.sameness = if p < 1.0 - level {
                Sameness::Moved
            } else {
                Sameness::Explained
            };
        }
    }
    Ok(all)
}

fn one(
    (method, size, metric): (String, String, String),
    first: &BySeed,
    second: &BySeed,
    level: f64,
) -> Result<Compared> {
    let values = |side: &BySeed| side.values().copied().collect::<Vec<f64>>();
    let estimate = |side: &BySeed| match side.is_empty() {
        true => Ok(None),
        false => stats::mean(&values(side), level).map(Some),
    };
    let (a, b): (Vec<f64>, Vec<f64>) = first
        .iter()
        .filter_map(|(seed, a)| Some((*a, *second.get(seed)?)))
        .unzip();
    let mut compared = Compared {
        method,
        size,
        metric,
        first: estimate(first)?,
        second: estimate(second)?,
        difference: None,
        shared: a.len(),
        p: None,
        p_adjusted: None,
        sameness: Sameness::Undecided,
    };
    if first.is_empty() || second.is_empty() {
        compared.sameness = if second.is_empty() {
            Sameness::OnlyFirst
        } else {
            Sameness::OnlySecond
        };
        return Ok(compared);
    }
    if a.len() >= 2 {
        let paired = stats::paired(&b, &a, level)?;
        (compared.difference, compared.p) = (Some(paired.difference), paired.p);
        // The same shift under every seed isn't chance, though it has no spread to test against;
        // unless it is rounding.
        if paired.p.is_none() {
            let largest = a
                .iter()
                .chain(&b)
                .fold(0.0_f64, |largest, value| largest.max(value.abs()));
            let rounding = paired.difference.point.abs() <= 1e-12 * largest;
            compared.sameness = if rounding {
                Sameness::Explained
            } else {
                Sameness::Moved
            };
        }
    } else {
        let welch = stats::welch_difference(
            &Sample::of(&values(second))?,
            &Sample::of(&values(first))?,
            level,
        )?;
        (compared.difference, compared.p) = (Some(welch.difference), welch.p);
    }
    if !a.is_empty() && a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()) {
        compared.sameness = Sameness::Identical;
    }
    Ok(compared)
}

/// A table for a terminal, with moved metrics first, and a line of counts.
pub fn render(compared: &[Compared], level: f64) -> String {
    let mut order: Vec<&Compared> = compared.iter().collect();
    order.sort_by_key(|it| it.sameness);
    let cell = |estimate: Option<Estimate>, scale: f64| {
        let decimals = format::decimals_for(scale).min(6);
        Cell::Estimate(estimate.map_or(Measured::nothing(0), |it| Measured::of(&it, 0, decimals)))
    };
    let row = |it: &&Compared| {
        let scale = it
            .first
            .or(it.second)
            .map_or(0.0, |estimate| estimate.point);
        let mean = |estimate: Option<Estimate>| {
            Cell::number(
                estimate.map(|estimate| estimate.point),
                format::decimals_for(scale).min(6),
            )
        };
        let test = match (it.difference, it.shared) {
            (None, _) => String::new(),
            (_, shared) if shared >= 2 => format!("paired, {}", format::count(shared, "seed")),
            _ => "Welch".to_owned(),
        };
        vec![
            Cell::text(it.sameness.words()),
            Cell::text(&it.method),
            Cell::text(&it.size),
            Cell::text(&it.metric),
            mean(it.first),
            mean(it.second),
            cell(it.difference, scale),
            Cell::Probability(it.p),
            Cell::Probability(it.p_adjusted),
            Cell::text(test),
        ]
    };
    let columns = vec![
        Column::text("verdict", "verdict"),
        Column::text("method", "method"),
        Column::text("size", "size"),
        Column::text("metric", "metric"),
        Column::new("first", "A", ColumnKind::Number),
        Column::new("second", "B", ColumnKind::Number),
        Column::new(
            "difference",
            format!("B − A ({} % interval)", format::percent(level)),
            ColumnKind::Estimate,
        ),
        Column::new("p", "p", ColumnKind::Number),
        Column::new("p_adjusted", "BH p", ColumnKind::Number),
        Column::text("test", "test"),
    ];
    let ids: Vec<String> = columns.iter().map(|column| column.id.clone()).collect();
    let rows = order.iter().map(row).collect();
    let table = Table {
        id: "compare".to_owned(),
        title: String::new(),
        note: None,
        columns,
        rows,
    };
    let drawn = draw(&table, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let count = |wanted: Sameness| {
        let n = compared.iter().filter(|it| it.sameness == wanted).count();
        (n > 0).then(|| format!("{n} {}", wanted.words()))
    };
    let counts: Vec<String> = Sameness::ALL.into_iter().rev().filter_map(count).collect();
    format!(
        "{drawn}\n{} compared: {}\n",
        format::count(compared.len(), "metric"),
        counts.join(", ")
    )
}
