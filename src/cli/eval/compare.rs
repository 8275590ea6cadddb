//! `touchstone eval compare`: differences between evaluations of the same items.

use super::show::LEVEL;
use crate::benchmarks::{Entrant, Evaluation, MODEL, Number, difference};
use crate::cli::aligned::{self, number, p_value, round_percent, table};
use crate::stats;
use crate::{Context, Error, Result};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Evaluations, each as [NAME=]DIR, or as NAME=DIR,DIR,… with a folder for each seed of a method
    #[arg(value_name = "EVALUATION", required = true)]
    entrants: Vec<String>,
    /// Name of the evaluation that every other is compared with, or of a trivial rival such as
    /// length; the first evaluation where absent
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Numbers to compare, by comma; all that every evaluation has where absent
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    numbers: Vec<String>,
    /// Leave out items that one side lacks, and say how many
    #[arg(long)]
    common: bool,
    /// Confidence level of the intervals; 1 − level is the α of the smallest difference found
    #[arg(long, default_value_t = LEVEL)]
    level: f64,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Comparison {
    estimates: Vec<Row>,
    differences: Vec<Difference>,
}

/// A number of one evaluation. Everything but names and counts is `None` where undefined.
#[derive(Debug, Serialize)]
struct Row {
    number: String,
    evaluation: String,
    items: usize,
    missing: usize,
    value: f64,
    se: Option<f64>,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
}

/// The difference of a number between an evaluation and the baseline.
#[derive(Debug, Serialize)]
struct Difference {
    number: String,
    evaluation: String,
    baseline: String,
    items: usize,
    missing: usize,
    unmatched: usize,
    difference: f64,
    ci_low: Option<f64>,
    ci_high: Option<f64>,
    p: Option<f64>,
    p_holm: Option<f64>,
    detectable: Option<f64>,
}

/// Compares the evaluations and prints the result.
///
/// # Errors
/// A folder without an evaluation, an unknown name, evaluations of other items or benchmarks, a
/// level outside (0, 1).
pub fn run(args: &CompareArgs) -> Result<()> {
    super::check_level(args.level)?;
    let entrants: Vec<Entrant> = args
        .entrants
        .iter()
        .map(|text| entrant(text))
        .collect::<Result<_>>()?;
    let names: BTreeSet<&str> = entrants.iter().map(|it| it.name.as_str()).collect();
    if names.len() < entrants.len() {
        return Err(Error::configuration("two evaluations have the same name")
            .hint("name them: first=DIR second=DIR"));
    }
    let rivals = rivals(&entrants[0])?;
    let baseline = baseline(args.baseline.as_deref(), &entrants, &rivals)?;
    let numbers = numbers(&args.numbers, &entrants)?;
    let mut sides: Vec<&Entrant> = entrants.iter().collect();
    sides.extend(&rivals);
    let comparison = Comparison {
        estimates: estimates(&sides, &numbers, args.level)?,
        differences: differences(&entrants, baseline, &numbers, args)?,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&comparison)
            .context(|| "writing the comparison as JSON".into())?;
        return crate::cli::print(&format!("{text}\n"));
    }
    crate::cli::print(&text(&comparison, &baseline.name, args.level))
}

/// An evaluation, or several of one method, as they are typed.
fn entrant(text: &str) -> Result<Entrant> {
    let (name, folders) = match text.split_once('=') {
        Some((name, folders)) if !name.is_empty() => (Some(name), folders),
        _ => (None, text),
    };
    let seeds: Vec<Evaluation> = match name {
        Some(_) => folders
            .split(',')
            .map(|folder| Evaluation::read(Path::new(folder)))
            .collect::<Result<_>>()?,
        None => vec![Evaluation::read(Path::new(folders))?],
    };
    Ok(Entrant {
        name: name.unwrap_or(folders).to_owned(),
        scorer: MODEL.to_owned(),
        seeds,
    })
}

/// The trivial rivals of an evaluation.
fn rivals(of: &Entrant) -> Result<Vec<Entrant>> {
    let scorers = of.first()?.scorers();
    Ok(scorers
        .into_iter()
        .filter(|scorer| *scorer != MODEL)
        .map(|scorer| Entrant {
            name: scorer.to_owned(),
            scorer: scorer.to_owned(),
            seeds: of.seeds.iter().take(1).cloned().collect(),
        })
        .collect())
}

fn baseline<'a>(
    name: Option<&str>,
    entrants: &'a [Entrant],
    rivals: &'a [Entrant],
) -> Result<&'a Entrant> {
    let Some(name) = name else {
        return Ok(&entrants[0]);
    };
    let mut all = entrants.iter().chain(rivals);
    all.find(|it| it.name == name).ok_or_else(|| {
        let names: Vec<&str> = entrants
            .iter()
            .chain(rivals)
            .map(|it| it.name.as_str())
            .collect();
        Error::configuration(format!("there is no evaluation {name} to compare with"))
            .hint(format!("there are {}", names.join(", ")))
    })
}

/// The names of the numbers to compare: those that are asked for, or those that all have.
fn numbers(asked: &[String], entrants: &[Entrant]) -> Result<Vec<String>> {
    if !asked.is_empty() {
        for entrant in entrants {
            asked
                .iter()
                .try_for_each(|name| entrant.aggregate(name).map(drop))?;
        }
        return Ok(asked.to_vec());
    }
    let all = &entrants[0].first()?.summary.aggregates;
    let shared: Vec<String> = all
        .iter()
        .map(|it| it.name.clone())
        .filter(|name| entrants.iter().all(|it| it.aggregate(name).is_ok()))
        .collect();
    if shared.is_empty() {
        return Err(Error::data("the evaluations have no number in common")
            .hint("compare evaluations by the same benchmark"));
    }
    Ok(shared)
}

fn estimates(sides: &[&Entrant], numbers: &[String], level: f64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for name in numbers {
        for side in sides {
            let Some(number) = side.number(side.aggregate(name)?, level)? else {
                continue;
            };
            let estimate = number.test.estimate;
            rows.push(Row {
                number: name.clone(),
                evaluation: side.name.clone(),
                items: number.items,
                missing: number.missing,
                value: estimate.point,
                se: estimate.se,
                ci_low: estimate.interval.map(|it| it.low),
                ci_high: estimate.interval.map(|it| it.high),
            });
        }
    }
    Ok(rows)
}

/// The differences of every evaluation from the baseline, as one Holm family.
fn differences(
    entrants: &[Entrant],
    baseline: &Entrant,
    numbers: &[String],
    args: &CompareArgs,
) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for name in numbers {
        for entrant in entrants.iter().filter(|it| it.name != baseline.name) {
            let number = difference(entrant, baseline, name, args.common, args.level)?;
            found.extend(number.map(|number| told(name, entrant, baseline, number)));
        }
    }
    let raw: Vec<Option<f64>> = found.iter().map(|it| it.p).collect();
    for (it, adjusted) in found
        .iter_mut()
        .zip(stats::adjust_defined(&raw, stats::holm))
    {
        it.p_holm = adjusted;
    }
    Ok(found)
}

fn told(name: &str, entrant: &Entrant, baseline: &Entrant, number: Number) -> Difference {
    let interval = number.test.estimate.interval;
    Difference {
        number: name.to_owned(),
        evaluation: entrant.name.clone(),
        baseline: baseline.name.clone(),
        items: number.items,
        missing: number.missing,
        unmatched: number.unmatched,
        difference: number.test.estimate.point,
        ci_low: interval.map(|it| it.low),
        ci_high: interval.map(|it| it.high),
        p: number.test.p,
        p_holm: None,
        detectable: number.test.detectable,
    }
}

fn text(comparison: &Comparison, baseline: &str, level: f64) -> String {
    let interval = format!("{} % interval", round_percent(level));
    let span = aligned::range;
    let rows = comparison.estimates.iter().map(|row| {
        vec![
            row.number.clone(),
            row.evaluation.clone(),
            row.items.to_string(),
            number(Some(row.value)),
            number(row.se),
            span(row.ci_low, row.ci_high),
        ]
    });
    let headers = ["number", "evaluation", "items", "value", "se", &interval];
    let mut text = table(&headers, rows);
    if comparison.differences.is_empty() {
        return text;
    }
    text += &format!("\nDifference from {baseline}, paired by item\n");
    let rows = comparison.differences.iter().map(|row| {
        vec![
            row.number.clone(),
            row.evaluation.clone(),
            row.items.to_string(),
            number(Some(row.difference)),
            span(row.ci_low, row.ci_high),
            p_value(row.p),
            p_value(row.p_holm),
            number(row.detectable),
        ]
    });
    let headers = [
        "number",
        "evaluation",
        "items",
        "difference",
        &interval,
        "p",
        "p (Holm)",
        "resolves",
    ];
    text += &table(&headers, rows);
    text += "resolves: smallest true difference that these items find with 80 % power.\n";
    for row in &comparison.differences {
        if row.missing + row.unmatched > 0 {
            text += &format!(
                "note: {} of {} − {}: {} items left out for want of a score, {} for want of a counterpart\n",
                row.number, row.evaluation, row.baseline, row.missing, row.unmatched
            );
        }
    }
    text
}
