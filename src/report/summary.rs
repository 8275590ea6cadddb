//! `summary.json`: counts, verdicts and the primary metric, for programs.

use serde::Serialize;

use super::claims::{Judged, JudgedComparison};
use super::contrast::over_seeds;
use super::input::{Design, Direction, RelativeTo, Role};
use super::view::View;
use crate::error::{Context, Result};
use crate::stats::{Estimate, Finding, Paired};

/// The version of this layout, raised when a field changes its meaning.
pub(super) const FORMAT: u32 = 2;

#[derive(Serialize)]
struct Summary<'a> {
    format: u32,
    experiment: &'a str,
    profile: &'a str,
    scale: &'a str,
    revision: Option<&'a str>,
    device: &'a str,
    seeds_planned: &'a [u64],
    cells: Cells,
    level: f64,
    design: &'a Design,
    claims: Vec<ClaimSummary<'a>>,
    primary: Vec<Primary<'a>>,
}

#[derive(Serialize)]
struct Cells {
    planned: usize,
    finished: usize,
    failed: usize,
    collapsed: usize,
    missing: usize,
}

#[derive(Serialize)]
struct ClaimSummary<'a> {
    id: &'a str,
    source: &'a str,
    role: Role,
    method: &'a str,
    versus: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_to: Option<&'a RelativeTo>,
    direction: Direction,
    threshold: f64,
    margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_reason: Option<&'a str>,
    overall: String,
    comparisons: Vec<ComparisonSummary<'a>>,
}

/// The comparison of a claim on one metric at one size.
#[derive(Serialize)]
struct ComparisonSummary<'a> {
    metric: &'a str,
    size: &'a str,
    comparison: Option<Paired>,
    /// The same difference with an interval that holds for new prompts too, if the values of all
    /// test items are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_prompts: Option<Estimate>,
    /// The finding of the looks at a primary comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<&'a Finding>,
    /// The test of an exploratory comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    exploratory: Option<ExploratorySummary>,
    /// The answer in words.
    answer: String,
}

#[derive(Serialize)]
struct ExploratorySummary {
    p: Option<f64>,
    q: Option<f64>,
}

#[derive(Serialize)]
struct Primary<'a> {
    metric: &'a str,
    size: &'a str,
    method: &'a str,
    iteration: Option<i64>,
    estimate: Option<Estimate>,
}

/// The summary as indented JSON.
pub fn render(view: &View, judged: &[Judged]) -> Result<String> {
    let header = view.header();
    let counts = view.total();
    let summary = Summary {
        format: FORMAT,
        experiment: &header.experiment,
        profile: &header.profile,
        scale: &header.scale,
        revision: header.revision.as_deref(),
        device: &header.device,
        seeds_planned: &header.seeds_planned,
        cells: Cells {
            planned: counts.planned,
            finished: counts.finished,
            failed: counts.failed,
            collapsed: counts.collapsed,
            missing: counts.missing,
        },
        level: view.level(),
        design: view.design(),
        claims: judged.iter().map(|it| claim(view, it)).collect(),
        primary: primary(view)?,
    };
    let text = serde_json::to_string_pretty(&summary)
        .context(|| "cannot write summary.json".to_owned())?;
    Ok(text + "\n")
}

fn claim<'a>(view: &View, judged: &'a Judged) -> ClaimSummary<'a> {
    let claim = judged.claim;
    let comparison = |part: &'a JudgedComparison| ComparisonSummary {
        metric: &part.contrast.metric.id,
        size: &part.contrast.size,
        comparison: part.contrast.paired,
        new_prompts: part.contrast.new_prompts,
        finding: part.finding(),
        exploratory: part.exploration().map(|it| ExploratorySummary {
            p: it.test.as_ref().map(|test| test.p()),
            q: it.q,
        }),
        answer: judged.words(view, part),
    };
    ClaimSummary {
        id: &claim.id,
        source: &claim.source,
        role: claim.role,
        method: &claim.method,
        versus: &claim.versus,
        relative_to: claim.relative_to.as_ref(),
        direction: claim.direction,
        threshold: claim.threshold,
        margin: claim.margin,
        margin_reason: claim.margin_reason.as_deref(),
        overall: judged.overall(view),
        comparisons: judged.parts.iter().map(comparison).collect(),
    }
}

fn primary<'a>(view: &'a View) -> Result<Vec<Primary<'a>>> {
    let metric = view.layout().primary.as_str();
    let column = view.metric(metric)?;
    let mut found = Vec::new();
    for size in &view.sizes {
        for method in view
            .main_methods()
            .filter(|row| view.belongs(&row.id, size, &[metric]))
        {
            let estimate =
                over_seeds(view, column, &view.metrics().last(&method.id, size, metric))?;
            let iteration = view.metrics().last_iteration(&method.id, size);
            found.push(Primary {
                metric,
                size,
                method: &method.id,
                iteration,
                estimate,
            });
        }
    }
    Ok(found)
}
