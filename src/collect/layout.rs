//! Methods, columns, tables, ablations and claims of a report, as the experiment declares them.

use super::name;
use crate::experiment::{self, Axis, Heuristic, Metric, Study, Versus};
use crate::report::{
    Ablation, AblationLine, AblationPoint, AxisScale, Better, Claim, CollapseRule, Layout,
    MethodRow, MetricColumn, Published, RelativeTo, SizeLabel, TableKind, TableSpec,
};

/// The drop in gold that counts as collapse, below the median of a run's cell or below the policy
/// that the run started from: a fifth of the difference between imitation and its demonstrator in
/// the embedded world.
const COLLAPSE: f64 = 0.05;

pub(super) fn layout(study: &Study) -> Layout {
    let report = &study.report;
    let methods = study.methods.iter().map(|method| MethodRow {
        id: method.id.clone(),
        label: method.label.clone(),
        heuristic: false,
        point: method.point,
    });
    let heuristics = Heuristic::ALL.into_iter().map(|heuristic| MethodRow {
        id: heuristic.name().into(),
        label: heuristic.label().into(),
        heuristic: true,
        point: false,
    });
    Layout {
        baseline: report.baseline.clone(),
        under_study: report.under_study.clone(),
        methods: methods.chain(heuristics).collect(),
        sizes: study
            .sizes
            .iter()
            .map(|(id, model)| SizeLabel {
                id: id.clone(),
                label: model.label.clone(),
            })
            .collect(),
        metrics: report
            .columns
            .iter()
            .map(|column| MetricColumn {
                id: name(&column.metric),
                label: column.label.clone(),
                better: match column.better {
                    experiment::Better::Higher => Better::Higher,
                    experiment::Better::Lower => Better::Lower,
                    experiment::Better::Neither => Better::Neither,
                },
                decimals: column.decimals,
                range: column.range,
                ties: column.metric.ties().as_ref().map(name),
            })
            .collect(),
        primary: name(&report.primary),
        tables: report
            .tables
            .iter()
            .map(|table| TableSpec {
                id: table.id.clone(),
                title: table.title.clone(),
                note: None,
                metrics: table.columns.iter().map(name).collect(),
                kind: match table.kind {
                    experiment::TableKind::Policy => TableKind::Policy,
                    experiment::TableKind::Reward => TableKind::Reward,
                    experiment::TableKind::Diagnostics => TableKind::Diagnostics,
                },
            })
            .collect(),
        published: report
            .published
            .iter()
            .map(|it| Published {
                method: it.method.clone(),
                metric: name(&it.metric),
                value: it.value,
                decimals: it.decimals,
                of: it.of.clone(),
                source: it.source.clone(),
            })
            .collect(),
        published_cost: report.published_cost.clone(),
        collapses: Some(CollapseRule {
            metric: name(&Metric::Gold),
            drop: COLLAPSE,
            own_start: study
                .methods
                .iter()
                .filter(|method| method.recipe.trains_nothing())
                .map(|method| method.id.clone())
                .collect(),
        })
        .filter(|rule| {
            report
                .columns
                .iter()
                .any(|column| name(&column.metric) == rule.metric)
        }),
        level: 0.95,
    }
}

/// The declared claims: each once if it covers all sizes of the study, otherwise once per size.
pub(super) fn claims(study: &Study) -> Vec<Claim> {
    study
        .claims
        .iter()
        .flat_map(|claim| by_size(claim, study))
        .collect()
}

fn by_size(claim: &experiment::Claim, study: &Study) -> Vec<Claim> {
    let all = study
        .sizes
        .iter()
        .all(|(size, _)| claim.sizes.contains(size));
    let sizes = if all {
        vec![None]
    } else {
        claim.sizes.iter().cloned().map(Some).collect()
    };
    let versus = match &claim.versus {
        Versus::Method(id) => id.clone(),
        Versus::Heuristic(heuristic) => heuristic.name().to_string(),
    };
    let one = |size: Option<String>| Claim {
        id: claim.id.clone(),
        text: claim.text.clone(),
        source: claim.source.clone(),
        metrics: claim.metrics.iter().map(name).collect(),
        method: claim.method.clone(),
        versus: versus.clone(),
        size,
        direction: claim.direction,
        threshold: claim.threshold,
        role: claim.role,
        margin: (claim.margin > 0.0).then_some(claim.margin),
        margin_reason: claim.margin_reason.clone(),
        seen_before: None,
        relative_to: claim.relative_to.as_ref().map(|other| RelativeTo {
            method: other.method.clone(),
            versus: other.versus.clone(),
        }),
    };
    sizes.into_iter().map(one).collect()
}

pub(super) fn ablations(study: &Study) -> Vec<Ablation> {
    let label = |id: &str| {
        study
            .methods
            .iter()
            .find(|method| method.id == id)
            .map_or(id, |method| &method.label)
            .to_owned()
    };
    let line = |line: &experiment::Line| AblationLine {
        method: line.method.clone(),
        label: label(&line.method),
        points: line.points.iter().map(point).collect(),
    };
    let one = |ablation: &experiment::Ablation| Ablation {
        id: ablation.id.clone(),
        title: ablation.title.clone(),
        question: ablation.question.clone(),
        source: ablation.source.clone(),
        note: ablation.note.clone(),
        axis: ablation.axis.clone(),
        scale: match ablation.scale {
            Axis::Linear => AxisScale::Linear,
            Axis::Log => AxisScale::Log,
            Axis::Words => AxisScale::Words,
        },
        metrics: ablation.metrics.iter().map(name).collect(),
        lines: ablation.lines.iter().map(line).collect(),
        against: ablation.against.clone(),
    };
    study.ablations.iter().map(one).collect()
}

fn point(point: &experiment::Point) -> AblationPoint {
    AblationPoint {
        method: point.method.clone(),
        label: point.label.clone(),
        x: point.x,
    }
}
