//! `touchstone stats`: the estimates and paired comparisons of a report for any table, from any
//! program.

mod csv;
mod parquet;
mod table;

use super::aligned::{number, p_value, range, round_percent, table};
use crate::error::{Context, Result};
use crate::stats;
use clap::Args;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;
use table::{Group, Groups, unknown};

/// Means with intervals per group of a table, and comparisons with a baseline, paired by unit
#[derive(Debug, Clone, Args)]
pub struct StatsArgs {
    /// A csv file with a header, or a parquet file
    pub file: PathBuf,
    /// Column with the number to analyse
    #[arg(long, value_name = "COL")]
    pub value: String,
    /// Column that names what is compared, such as the method
    #[arg(long, value_name = "COL")]
    pub group: String,
    /// Column that names the unit of replication, such as the seed; groups are paired by it
    #[arg(long, value_name = "COL")]
    pub unit: String,
    /// Group to compare every other group with
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Confidence level of the intervals; 1 − level is the α of the power statement
    #[arg(long, default_value_t = 0.95)]
    pub level: f64,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Reads the table, analyses it and prints the result.
///
/// # Errors
/// A file or column that cannot be read, values that are missing or not finite numbers, a unit that
/// occurs twice in a group, an unknown baseline, a level outside (0, 1).
pub fn run(args: &StatsArgs) -> Result<()> {
    super::eval::check_level(args.level)?;
    let groups = table::read(args)?;
    let (analysis, notes) = analyse(&groups, args.baseline.as_deref(), args.level)?;
    if args.json {
        let text = serde_json::to_string_pretty(&analysis)
            .context(|| "writing the analysis as JSON".into())?;
        notes
            .iter()
            .for_each(|note| super::complain(&format!("note: {note}\n")));
        return print(&format!("{text}\n"));
    }
    print(&tables(&analysis, args, &notes))
}

/// Writes to standard output; a reader that closes the pipe early does not cause an error.
fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context(|| "writing to stdout".into())
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Serialize)]
struct Analysis {
    estimates: Vec<GroupEstimate>,
    comparisons: Vec<GroupComparison>,
}

#[derive(Debug, Serialize)]
struct GroupEstimate {
    group: String,
    n: usize,
    mean: f64,
    se: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
}

/// A group compared with the baseline. Everything but the names and the count is `None` where
/// undefined, and without units in common.
#[derive(Debug, Serialize)]
struct GroupComparison {
    group: String,
    baseline: String,
    n: usize,
    difference: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    p: Option<f64>,
    p_holm: Option<f64>,
    probability_of_improvement: Option<f64>,
    mde: Option<f64>,
}

/// The values of one group, by the number of their unit.
struct ByUnit(Vec<Option<f64>>);

impl ByUnit {
    fn new(group: &Group, units: usize) -> Self {
        let mut values = vec![None; units];
        group
            .units
            .iter()
            .zip(&group.values)
            .for_each(|(unit, value)| values[*unit as usize] = Some(*value));
        Self(values)
    }

    /// The values of the units that `group` has too, in its order: first those of `group`, then
    /// those of this index.
    fn pair(&self, group: &Group) -> (Vec<f64>, Vec<f64>) {
        let pairs = group.units.iter().zip(&group.values);
        pairs
            .filter_map(|(unit, value)| Some((*value, self.0[*unit as usize]?)))
            .unzip()
    }
}

fn analyse(groups: &Groups, baseline: Option<&str>, level: f64) -> Result<(Analysis, Vec<String>)> {
    let estimates = groups
        .list
        .iter()
        .map(|group| {
            let estimate =
                stats::mean(&group.values, level).context(|| format!("group {:?}", group.name))?;
            Ok(GroupEstimate {
                group: group.name.clone(),
                n: estimate.n,
                mean: estimate.point,
                se: estimate.se,
                ci_low: estimate.interval.map(|interval| interval.low),
                ci_high: estimate.interval.map(|interval| interval.high),
            })
        })
        .collect::<Result<_>>()?;
    let Some(name) = baseline else {
        return Ok((
            Analysis {
                estimates,
                comparisons: Vec::new(),
            },
            Vec::new(),
        ));
    };
    let names: Vec<&str> = groups
        .list
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    let baseline = groups
        .list
        .iter()
        .find(|group| group.name == name)
        .ok_or_else(|| {
            unknown(
                &format!("there is no group {name:?} to compare with"),
                name,
                "groups",
                &names,
            )
        })?;
    let (comparisons, notes) = compare(groups, baseline, level)?;
    Ok((
        Analysis {
            estimates,
            comparisons,
        },
        notes,
    ))
}

/// Compares every other group with `baseline`, as one Holm family; adds notes about what was left
/// out.
fn compare(
    groups: &Groups,
    baseline: &Group,
    level: f64,
) -> Result<(Vec<GroupComparison>, Vec<String>)> {
    let mut comparisons = Vec::new();
    let mut notes = Vec::new();
    let by_unit = ByUnit::new(baseline, groups.units);
    for group in groups
        .list
        .iter()
        .filter(|group| group.name != baseline.name)
    {
        let (ours, theirs) = by_unit.pair(group);
        let (only_ours, only_theirs) = (
            group.units.len() - ours.len(),
            baseline.units.len() - ours.len(),
        );
        if only_ours + only_theirs > 0 {
            notes.push(format!(
                "{} − {}: {} units in both, dropped {only_ours} found only in {} and {only_theirs} found only in {}",
                group.name,
                baseline.name,
                ours.len(),
                group.name,
                baseline.name
            ));
        }
        let paired = if ours.is_empty() {
            None
        } else {
            Some(stats::paired(&ours, &theirs, level)?)
        };
        let interval = paired.and_then(|paired| paired.difference.interval);
        comparisons.push(GroupComparison {
            group: group.name.clone(),
            baseline: baseline.name.clone(),
            n: ours.len(),
            difference: paired.map(|paired| paired.difference.point),
            ci_low: interval.map(|interval| interval.low),
            ci_high: interval.map(|interval| interval.high),
            p: paired.and_then(|paired| paired.p),
            p_holm: None,
            probability_of_improvement: paired.map(|paired| paired.probability_of_improvement),
            mde: paired.and_then(|paired| paired.mde),
        });
    }
    let raw: Vec<Option<f64>> = comparisons.iter().map(|comparison| comparison.p).collect();
    for (comparison, adjusted) in comparisons
        .iter_mut()
        .zip(stats::adjust_defined(&raw, stats::holm))
    {
        comparison.p_holm = adjusted;
    }
    Ok((comparisons, notes))
}

fn tables(analysis: &Analysis, args: &StatsArgs, notes: &[String]) -> String {
    let interval = format!("{} % interval", round_percent(args.level));
    let mut text = format!("{} by {}, over {}\n", args.value, args.group, args.unit);
    let rows = analysis.estimates.iter().map(|row| {
        vec![
            row.group.clone(),
            row.n.to_string(),
            number(Some(row.mean)),
            number(row.se),
            range(row.ci_low, row.ci_high),
        ]
    });
    text += &table(&[&args.group, "n", "mean", "se", &interval], rows);
    if let Some(first) = analysis.comparisons.first() {
        text += &format!(
            "\nDifference from {}, paired by {}\n",
            first.baseline, args.unit
        );
        let rows = analysis.comparisons.iter().map(|row| {
            vec![
                row.group.clone(),
                row.n.to_string(),
                number(row.difference),
                range(row.ci_low, row.ci_high),
                p_value(row.p),
                p_value(row.p_holm),
                number(row.probability_of_improvement),
                number(row.mde),
            ]
        });
        let headers = [
            &args.group,
            "pairs",
            "difference",
            &interval,
            "p",
            "p (Holm)",
            "P(better)",
            "MDE",
        ];
        text += &table(&headers, rows);
        text += "P(better): chance that a value of the group exceeds one of the baseline. ";
        text += "MDE: smallest true difference found with 80 % power.\n";
    }
    notes
        .iter()
        .for_each(|note| text += &format!("note: {note}\n"));
    text
}
