//! The declared claims beside the answers of the runs.

use super::differences::{difference, for_new_prompts};
use crate::error::Result;
use crate::report::claims::{Judged, JudgedComparison};
use crate::report::format;
use crate::report::input::Role;
use crate::report::robust::Companion;
use crate::report::sentence::signs;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::report::view::View;
use crate::stats::{Finding, Interval};

/// The claims, with one row per claim, metric and size.
pub fn claims(
    view: &View,
    judged: &[Judged],
    companions: &[Vec<Option<Companion>>],
) -> Result<Table> {
    let mut rows = Vec::new();
    for (it, companions) in judged.iter().zip(companions) {
        let claim = it.claim;
        for (part, companion) in it.parts.iter().zip(companions) {
            let metric = part.contrast.metric;
            let exploration = part.exploration();
            rows.push(vec![
                Cell::text(&claim.id),
                Cell::text(match claim.role {
                    Role::Primary => "primary",
                    Role::Exploratory => "exploratory",
                }),
                Cell::text(format!("{}: {}", metric.label, signs(view, claim))),
                Cell::text(view.size_label(&part.contrast.size)),
                Cell::text(it.words(view, part)),
                Cell::Estimate(simultaneous(part)),
                Cell::text(
                    part.finding()
                        .map_or_else(String::new, |finding| look(view, finding)),
                ),
                Cell::text(
                    companion
                        .as_ref()
                        .map_or_else(String::new, |it| it.also.words()),
                ),
                Cell::Estimate(difference(&part.contrast)),
                Cell::Estimate(for_new_prompts(&part.contrast)),
                Cell::number(claim.margin, metric.decimals),
                Cell::text(claim.margin_reason.as_deref().unwrap_or_default()),
                Cell::Probability(
                    exploration
                        .and_then(|it| it.test.as_ref())
                        .map(|test| test.p()),
                ),
                Cell::Probability(exploration.and_then(|it| it.q)),
            ]);
        }
    }
    let each = format::percent(1.0 - view.design().alpha_each());
    let interval = format!("difference ({} % interval)", format::percent(view.level()));
    let columns = vec![
        Column::text("claim", "claim"),
        Column::text("role", "role"),
        Column::text("contrast", "contrast"),
        Column::text("size", "size"),
        Column::text("verdict", "verdict"),
        Column::new(
            "simultaneous",
            format!("at the look that decides ({each} % over all looks)"),
            ColumnKind::Estimate,
        ),
        Column::text("look", "look"),
        Column::text("permutation", "also by permutation"),
        Column::new("difference", interval, ColumnKind::Estimate),
        Column::new("new_prompts", "new prompts too", ColumnKind::Estimate),
        Column::new("margin", "margin", ColumnKind::Number),
        Column::text("margin_reason", "why this margin"),
        Column::new("p", "p", ColumnKind::Number),
        Column::new("q", "q", ColumnKind::Number),
    ];
    Ok(Table {
        id: "claims".to_owned(),
        title: "Claims".to_owned(),
        note: None,
        columns,
        rows,
    })
}

/// The difference at the look that decided, or at the last, with its simultaneous interval.
fn simultaneous(part: &JudgedComparison) -> Measured {
    let Some(finding) = part.finding() else {
        return Measured::default();
    };
    let ends = |interval: Interval| (interval.low, interval.high);
    Measured {
        point: Some(finding.estimate),
        interval: finding.interval.map(ends),
        n: finding.n,
        planned: finding.n,
        decimals: part.contrast.metric.decimals,
        ..Measured::default()
    }
}

/// The number of the look that decided, or of the last one, among the planned looks.
fn look(view: &View, finding: &Finding) -> String {
    format!(
        "{} of {}, {}",
        finding.look,
        view.design().looks.len(),
        format::count(finding.n, "pair")
    )
}
