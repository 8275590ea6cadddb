//! The primary comparisons without the assumption of a normal distribution: medians, signed ranks,
//! and random sign flips.

use super::claims::{Judged, JudgedComparison};
use super::input::{Claim, Direction, Role};
use super::table::Cell;
use super::view::View;
use crate::error::Result;
use crate::stats::{self, Estimate, SignFlips, Verdict};

/// The robust statistics of a primary comparison over all its pairs, up to the last planned look.
pub struct Companion {
    pub n: usize,
    pub median: Option<f64>,
    /// The p-value of the exact signed-rank test of no difference from the threshold.
    pub wilcoxon: Option<f64>,
    /// The p-value of the sign-flip test of the same hypothesis.
    pub sign_flip: Option<f64>,
    /// The mean difference with an interval that holds for other bases too: the bases are clusters
    /// of seeds, with one degree of freedom fewer than bases. `None` unless the pairs start from
    /// two bases or more.
    pub new_bases: Option<Estimate>,
    pub also: Also,
}

/// Whether a group-sequential sign-flip test over all primary comparisons also gives the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Also {
    /// There is no verdict to confirm.
    Nothing,
    Yes,
    No,
    /// With `n` seeds the test cannot separate anything, whatever their values.
    Cannot {
        n: usize,
        smallest: f64,
    },
}

impl Also {
    pub fn words(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Yes => "yes".to_owned(),
            Self::No => "no".to_owned(),
            Self::Cannot { n, smallest } => {
                format!(
                    "cannot at n = {n} (smallest p {})",
                    Cell::Probability(Some(smallest)).show()
                )
            }
        }
    }
}

/// The rows of the sign-flip test that belong to one comparison: of no difference from the
/// threshold and, if there is a margin, of no difference from its lower and upper end.
struct Rows {
    at: usize,
    margin: bool,
}

/// The seeds that a primary comparison is judged on.
fn judged_on(view: &View, part: &JudgedComparison) -> Vec<i64> {
    view.judged_on(part.contrast.seeds(view))
}

/// The companions of each claim's comparisons; `None` for those that are not primary or have no
/// pairs.
pub fn companions(view: &View, judged: &[Judged]) -> Result<Vec<Vec<Option<Companion>>>> {
    let primary = || judged.iter().filter(|it| it.claim.role == Role::Primary);
    let mut seeds: Vec<i64> = primary()
        .flat_map(|it| &it.parts)
        .flat_map(|part| judged_on(view, part))
        .collect();
    view.in_order(&mut seeds);
    seeds.dedup();
    let mut rows: Vec<Vec<f64>> = Vec::new();
    let mut places: Vec<Vec<Option<Rows>>> = Vec::new();
    for it in judged {
        let mut of_claim = Vec::new();
        for part in &it.parts {
            if it.claim.role != Role::Primary || part.finding().is_none() {
                of_claim.push(None);
                continue;
            }
            of_claim.push(Some(Rows {
                at: rows.len(),
                margin: it.claim.margin.is_some(),
            }));
            let differences = judged_on(view, part)
                .into_iter()
                .zip(differences(view, it.claim, part));
            let differences: Vec<(i64, f64)> = differences.collect();
            let of_seed = |seed: &i64| {
                differences
                    .iter()
                    .find(|(of, _)| of == seed)
                    .map(|(_, it)| *it)
            };
            let shifts = it
                .claim
                .margin
                .map_or(vec![0.0], |margin| vec![0.0, margin, -margin]);
            for shift in shifts {
                rows.push(
                    seeds
                        .iter()
                        .map(|seed| of_seed(seed).map_or(0.0, |it| it + shift))
                        .collect(),
                );
            }
        }
        places.push(of_claim);
    }
    let design = view.design();
    let flips = stats::flips_over_looks(&rows, &design.looks, design.alpha, design.spending)?;
    let one = |it: &Judged, part: &JudgedComparison, rows: &Rows| -> Result<Companion> {
        let mut differences = differences(view, it.claim, part);
        differences.truncate(design.most());
        let spread = differences.iter().any(|value| *value != 0.0);
        let none = vec![0.0; differences.len()];
        Ok(Companion {
            n: differences.len(),
            median: stats::median(&differences).map(|median| median + it.claim.threshold),
            wilcoxon: if spread {
                Some(stats::wilcoxon_exact(&differences, &none)?)
            } else {
                None
            },
            sign_flip: if spread {
                Some(stats::sign_flip(&differences)?)
            } else {
                None
            },
            new_bases: for_new_bases(view, it.claim, part, &differences)?,
            also: also(it.claim, part, rows, &flips),
        })
    };
    let of_claim = |(it, places): (&Judged, &Vec<Option<Rows>>)| {
        it.parts
            .iter()
            .zip(places)
            .map(|(part, rows)| rows.as_ref().map(|rows| one(it, part, rows)).transpose())
            .collect()
    };
    judged.iter().zip(&places).map(of_claim).collect()
}

/// The differences minus the claim's threshold, in the order of the study's seeds.
fn differences(view: &View, claim: &Claim, part: &JudgedComparison) -> Vec<f64> {
    let [a, b] = part.contrast.sides_under(view, &judged_on(view, part));
    a.iter()
        .zip(&b)
        .map(|(a, b)| a - b - claim.threshold)
        .collect()
}

fn for_new_bases(
    view: &View,
    claim: &Claim,
    part: &JudgedComparison,
    differences: &[f64],
) -> Result<Option<Estimate>> {
    let base = |seed: i64| view.base(&part.contrast.method, &part.contrast.size, seed);
    let bases: Option<Vec<u64>> = judged_on(view, part)
        .into_iter()
        .take(differences.len())
        .map(base)
        .collect();
    let Some(bases) = bases.filter(|bases| bases.iter().any(|base| *base != bases[0])) else {
        return Ok(None);
    };
    let whole: Vec<f64> = differences
        .iter()
        .map(|difference| difference + claim.threshold)
        .collect();
    stats::clustered(&whole, &bases, view.level()).map(Some)
}

fn also(claim: &Claim, part: &JudgedComparison, rows: &Rows, flips: &SignFlips) -> Also {
    let sign = |row: usize| {
        flips
            .separated
            .get(rows.at + row)
            .copied()
            .flatten()
            .map_or(0.0, |(_, sign)| sign)
    };
    let difference = sign(0);
    let (from_lower, from_upper) = if rows.margin {
        (sign(1), sign(2))
    } else {
        (0.0, 0.0)
    };
    let within = from_lower > 0.0 && from_upper < 0.0;
    let agrees = match (
        part.finding().and_then(|finding| finding.verdict),
        claim.direction,
    ) {
        (None | Some(Verdict::Inconclusive), _) => return Also::Nothing,
        (Some(Verdict::Equivalent), _) | (Some(Verdict::Supported), Direction::Equivalent) => {
            within
        }
        (Some(Verdict::Supported), Direction::Greater)
        | (Some(Verdict::Contradicted), Direction::Less) => difference > 0.0,
        (Some(Verdict::Supported), Direction::Less)
        | (Some(Verdict::Contradicted), Direction::Greater) => difference < 0.0,
        (Some(Verdict::Contradicted), Direction::Equivalent) => {
            from_lower < 0.0 || from_upper > 0.0
        }
        (Some(Verdict::NotByMargin), Direction::Less) => from_lower > 0.0,
        (Some(Verdict::NotByMargin), _) => from_upper < 0.0,
        (Some(Verdict::Supported), Direction::NotWorse) => from_lower > 0.0,
        (Some(Verdict::Contradicted), Direction::NotWorse) => from_lower < 0.0,
    };
    match agrees {
        true => Also::Yes,
        false if flips.spent < flips.smallest => Also::Cannot {
            n: flips.n,
            smallest: flips.smallest,
        },
        false => Also::No,
    }
}
