//! Paired differences: the gain of a method over another, its uncertainty, and the smallest effect
//! that could have been detected.

use crate::error::Result;
use crate::report::contrast::Contrast;
use crate::report::exploratory::Exploratory;
use crate::report::format;
use crate::report::input::{MetricColumn, TableKind};
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table, arrow};
use crate::report::view::View;

/// The pairs that a table compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Each other method minus the layout's baseline.
    AgainstBaseline,
    /// The layout's subject minus each other method.
    SubjectAgainstEach,
}

/// All paired differences of `question`, on each policy and reward metric that has a better
/// direction, the primary one first.
pub fn contrasts<'a>(view: &View<'a>, question: Question) -> Result<Vec<Contrast<'a>>> {
    let mut metrics = view.metrics_of(&[TableKind::Policy, TableKind::Reward], true)?;
    let primary = view.layout().primary.as_str();
    metrics.sort_by_key(|metric| metric.id != primary);
    let mut contrasts = Vec::new();
    for metric in metrics {
        for size in &view.sizes {
            for (method, versus) in pairs(view, question, metric, size) {
                contrasts.push(Contrast::new(view, metric, size, method, versus)?);
            }
        }
    }
    Ok(contrasts)
}

/// The differences of `question`, all exploratory.
pub fn differences(
    view: &View,
    question: Question,
    contrasts: &[Contrast],
    exploratory: &Exploratory,
) -> Table {
    let (id, title) = match question {
        Question::AgainstBaseline => (
            "differences-to-baseline",
            format!(
                "Differences to {}",
                view.method_label(&view.layout().baseline)
            ),
        ),
        Question::SubjectAgainstEach => (
            "differences-of-subject",
            format!(
                "{} minus each other method",
                view.method_label(&view.layout().under_study)
            ),
        ),
    };
    let rows = contrasts
        .iter()
        .map(|contrast| row(view, contrast, exploratory.q_of(contrast)))
        .collect();
    Table {
        id: id.to_owned(),
        title,
        note: None,
        columns: columns(view),
        rows,
    }
}

fn pairs<'v>(
    view: &'v View,
    question: Question,
    metric: &MetricColumn,
    size: &str,
) -> Vec<(&'v str, &'v str)> {
    let fixed = match question {
        Question::AgainstBaseline => view.layout().baseline.as_str(),
        Question::SubjectAgainstEach => view.layout().under_study.as_str(),
    };
    let ids = [metric.id.as_str()];
    if !view.belongs(fixed, size, &ids) {
        return Vec::new();
    }
    view.main_methods()
        .filter(|row| row.id != fixed && view.belongs(&row.id, size, &ids))
        // A heuristic competes with the learned reward and isn't a result of training.
        .filter(|row| !row.heuristic || question == Question::SubjectAgainstEach)
        .map(|row| match question {
            Question::AgainstBaseline => (row.id.as_str(), fixed),
            Question::SubjectAgainstEach => (fixed, row.id.as_str()),
        })
        .collect()
}

fn columns(view: &View) -> Vec<Column> {
    vec![
        Column::text("metric", "metric"),
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::text("versus", "versus"),
        Column::new(
            "difference",
            format!("difference ({} % interval)", format::percent(view.level())),
            ColumnKind::Estimate,
        ),
        Column::new("p", "p", ColumnKind::Number),
        Column::new("q", "q", ColumnKind::Number),
        Column::new("improvement", "P(better)", ColumnKind::Number),
        Column::new("minimum_detectable_effect", "MDE", ColumnKind::Number),
    ]
}

fn row(view: &View, contrast: &Contrast, q: Option<f64>) -> Vec<Cell> {
    vec![
        Cell::text(format!(
            "{}{}",
            contrast.metric.label,
            arrow(contrast.metric.better)
        )),
        Cell::text(view.size_label(&contrast.size)),
        Cell::text(view.method_label(&contrast.method)),
        Cell::text(view.method_label(&contrast.versus)),
        Cell::Estimate(difference(contrast)),
        Cell::Probability(contrast.p()),
        Cell::Probability(q),
        Cell::number(contrast.improvement, 2),
        Cell::number(
            contrast.paired.and_then(|paired| paired.mde),
            contrast.metric.decimals,
        ),
    ]
}

/// The difference with an interval that holds for new prompts too, as a cell.
pub(super) fn for_new_prompts(contrast: &Contrast) -> Measured {
    let planned = contrast.planned;
    contrast
        .new_prompts
        .map_or(Measured::nothing(planned), |it| {
            Measured::of(&it, planned, contrast.metric.decimals)
        })
}

/// The difference of a contrast as a cell.
pub(super) fn difference(contrast: &Contrast) -> Measured {
    match contrast.paired {
        Some(paired) => Measured::of(
            &paired.difference,
            contrast.planned,
            contrast.metric.decimals,
        ),
        None => Measured::nothing(contrast.planned),
    }
}
