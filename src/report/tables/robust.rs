//! The primary comparisons without a normal distribution.

use crate::report::claims::Judged;
use crate::report::robust::Companion;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table};
use crate::report::view::View;

/// One row per primary comparison with pairs.
pub fn robust(view: &View, judged: &[Judged], companions: &[Vec<Option<Companion>>]) -> Table {
    let mut rows = Vec::new();
    for (it, companions) in judged.iter().zip(companions) {
        for (part, companion) in it.parts.iter().zip(companions) {
            let Some(companion) = companion else { continue };
            let metric = part.contrast.metric;
            rows.push(vec![
                Cell::text(&it.claim.id),
                Cell::text(&metric.label),
                Cell::text(view.size_label(&part.contrast.size)),
                Cell::count(companion.n),
                Cell::number(companion.median, metric.decimals),
                Cell::Probability(companion.wilcoxon),
                Cell::Probability(companion.sign_flip),
                Cell::text(companion.also.words()),
                Cell::Estimate(companion.new_bases.map_or(Measured::default(), |it| {
                    Measured::of(&it, it.n, metric.decimals)
                })),
            ]);
        }
    }
    let columns = vec![
        Column::text("claim", "claim"),
        Column::text("metric", "metric"),
        Column::text("size", "size"),
        Column::new("pairs", "pairs", ColumnKind::Integer),
        Column::new("median", "median difference", ColumnKind::Number),
        Column::new("p_wilcoxon", "Wilcoxon p", ColumnKind::Number),
        Column::new("p_sign_flip", "sign-flip p", ColumnKind::Number),
        Column::text("permutation", "verdict also by permutation"),
        Column::new("new_bases", "new bases too", ColumnKind::Estimate),
    ];
    let title = "Primary comparisons without a normal distribution".to_owned();
    Table {
        id: "robust".to_owned(),
        title,
        note: None,
        columns,
        rows,
    }
}
