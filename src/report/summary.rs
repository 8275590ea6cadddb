//! `summary.json`: counts, verdicts and the primary metric, for programs.

use serde::Serialize;

use super::claims::Judged;
use super::contrast::over_seeds;
use super::input::{Direction, RelativeTo};
use super::view::View;
use crate::error::{Context, Result};
use crate::stats::{Estimate, Paired, Verdict};

/// Version of this layout; raised when a field changes its meaning.
const FORMAT: u32 = 1;

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
    metric: &'a str,
    method: &'a str,
    versus: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_to: Option<&'a RelativeTo>,
    direction: Direction,
    family: &'a str,
    margin: Option<f64>,
    overall: &'static str,
    sizes: Vec<SizeSummary<'a>>,
}

#[derive(Serialize)]
struct SizeSummary<'a> {
    size: &'a str,
    comparison: Option<Paired>,
    /// The same difference for new prompts too, where the values of all test items are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_prompts: Option<Estimate>,
    p_holm: Option<f64>,
    verdict: Option<Verdict>,
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
        claims: judged.iter().map(claim).collect(),
        primary: primary(view)?,
    };
    let text = serde_json::to_string_pretty(&summary).context(|| "cannot write summary.json".to_owned())?;
    Ok(text + "\n")
}

fn claim<'a>(judged: &'a Judged) -> ClaimSummary<'a> {
    let claim = judged.claim;
    let size = |part: &'a super::claims::Part| SizeSummary {
        size: &part.contrast.size,
        comparison: part.contrast.paired,
        new_prompts: part.contrast.new_prompts,
        p_holm: part.p_adjusted,
        verdict: part.verdict,
    };
    ClaimSummary {
        id: &claim.id,
        source: &claim.source,
        metric: &claim.metric,
        method: &claim.method,
        versus: &claim.versus,
        relative_to: claim.relative_to.as_ref(),
        direction: claim.direction,
        family: &claim.family,
        margin: claim.margin,
        overall: judged.overall(),
        sizes: judged.parts.iter().map(size).collect(),
    }
}

fn primary<'a>(view: &'a View) -> Result<Vec<Primary<'a>>> {
    let metric = view.layout().primary.as_str();
    let column = view.metric(metric)?;
    let mut found = Vec::new();
    for size in &view.sizes {
        for method in view.main_methods().filter(|row| view.belongs(&row.id, size, &[metric])) {
            let estimate = over_seeds(view, column, &view.metrics().last(&method.id, size, metric))?;
            let iteration = view.metrics().last_iteration(&method.id, size);
            found.push(Primary { metric, size, method: &method.id, iteration, estimate });
        }
    }
    Ok(found)
}
