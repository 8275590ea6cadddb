//! Error rates of the design for runs like those of this study: how often studies with a known
//! difference would be decided, and how often wrongly.

use crate::error::Result;
use crate::report::claims::Judged;
use crate::report::input::{Direction, Role};
use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;
use crate::stats::{self, Hypothesis};

/// The fewest runs from which studies are drawn.
const FEW: usize = 5;
/// Known differences, in margins.
const TRUTHS: [f64; 2] = [0.0, 2.0];

/// The calibration, with two rows for each method, metric, size and margin of primary claims:
/// without a difference and with one of two margins.
pub fn calibration(view: &View, judged: &[Judged]) -> Result<Table> {
    let design = view.design();
    let (mut rows, mut seen) = (Vec::new(), Vec::new());
    for it in judged.iter().filter(|it| it.claim.role == Role::Primary) {
        let Some(margin) = it.claim.margin else {
            continue;
        };
        for part in &it.parts {
            let (metric, size) = (part.contrast.metric, part.contrast.size.as_str());
            let name = (
                it.claim.method.as_str(),
                metric.id.as_str(),
                size.to_owned(),
                margin.to_bits(),
            );
            let values = view.metrics().last(&it.claim.method, size, &metric.id);
            let judged_on = view.judged_on(values.keys().copied().collect());
            let runs: Vec<f64> = judged_on
                .iter()
                .filter_map(|seed| values.get(seed))
                .copied()
                .collect();
            if runs.len() < FEW || seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let hypothesis = Hypothesis {
                direction: Direction::Greater,
                threshold: 0.0,
                margin: Some(margin),
            };
            for truth in TRUTHS.map(|margins| margins * margin) {
                let chances = stats::chances_of_runs(&hypothesis, truth, &runs, design)?;
                let named = [
                    Cell::text(view.method_label(&it.claim.method)),
                    Cell::text(&metric.label),
                    Cell::text(view.size_label(size)),
                    Cell::count(runs.len()),
                    Cell::number(Some(truth), metric.decimals),
                ];
                let shares = chances.decided.into_iter().chain([chances.wrong]);
                rows.push(
                    named
                        .into_iter()
                        .chain(shares.map(|share| Cell::number(Some(share), 3)))
                        .collect(),
                );
            }
        }
    }
    let looks = design.looks.iter().map(|look| {
        Column::new(
            format!("decided_{look}"),
            format!("decided by {look} seeds"),
            ColumnKind::Number,
        )
    });
    let columns = [
        Column::text("method", "method"),
        Column::text("metric", "metric"),
        Column::text("size", "size"),
        Column::new("runs", "runs", ColumnKind::Integer),
        Column::new("truth", "true difference", ColumnKind::Number),
    ];
    let columns = columns
        .into_iter()
        .chain(looks)
        .chain([Column::new("wrong", "wrong", ColumnKind::Number)])
        .collect();
    let note = format!(
        "Each row is {} studies in which a method is compared with itself: both sides are drawn, with replacement, from its runs above, \
         and one side is made better by the true difference. They are judged as primary comparisons of \"greater\" are. Without a difference \
         a decision is right if it says that there is none that matters. A share of wrong answers above {:.4}, which is this comparison's \
         part of α, means that the runs are too far from normal for the intervals.",
        stats::DRAWS,
        design.alpha_each()
    );
    let title = "Calibration: known differences between runs like these".to_owned();
    Ok(Table {
        id: "calibration".to_owned(),
        title,
        note: Some(note),
        columns,
        rows,
    })
}
