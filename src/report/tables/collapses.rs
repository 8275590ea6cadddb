//! The number of collapsed runs of each method, and its mean without them.

use super::for_values;
use crate::error::Result;
use crate::report::collapse::CollapsedCell;
use crate::report::exploratory::Exploratory;
use crate::report::table::{Cell, Column, ColumnKind, Measured, Table, arrow};
use crate::report::view::View;
use crate::stats;

/// The collapses, with one row per size and method; empty if no rule defines a collapse.
pub fn collapses(view: &View, cells: &[CollapsedCell], exploratory: &Exploratory) -> Result<Table> {
    let mut rows = Vec::new();
    for cell in cells {
        let planned = view.planned(&cell.method, &cell.size);
        let decimals = view.metric(&cell.metric)?.decimals;
        let (runs, collapsed) = (cell.values.len(), cell.collapsed());
        let share = stats::clopper_pearson(collapsed, runs, view.level())?;
        let values: Vec<f64> = cell.values.values().copied().collect();
        // Without the collapsed runs, only the remaining ones are planned.
        let standing = for_values(view, &cell.standing, cell.standing.len(), decimals)?;
        rows.push(vec![
            Cell::text(view.size_label(&cell.size)),
            Cell::text(view.method_label(&cell.method)),
            Cell::count(runs),
            Cell::count(collapsed),
            Cell::Estimate(Measured::of(&share, planned, 2)),
            Cell::Estimate(for_values(view, &cell.values, planned, decimals)?),
            Cell::Estimate(standing),
            Cell::number(stats::median(&values), decimals),
            Cell::Probability(cell.p),
            Cell::Probability(cell.test().and_then(|test| exploratory.q(&test))),
        ]);
    }
    let (label, note) = match &view.layout().collapses {
        None => (String::new(), None),
        Some(rule) => {
            let metric = view.metric(&rule.metric)?;
            let note = format!(
                "A run has collapsed if its {} ends more than {} below the median of its method and size, or as much below that of {} \
                 under the same seed, from which methods start. The interval of the probability is exact (Clopper and Pearson); p is \
                 McNemar's exact test against {} over shared seeds, exploratory.",
                metric.label,
                rule.drop,
                view.method_label(&view.layout().baseline),
                view.method_label(&view.layout().baseline),
            );
            (
                format!("{}{}", metric.label, arrow(metric.better)),
                Some(note),
            )
        }
    };
    let columns = vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::new("runs", "runs", ColumnKind::Integer),
        Column::new("collapsed", "collapsed", ColumnKind::Integer),
        Column::new(
            "probability",
            "probability of a collapse",
            ColumnKind::Estimate,
        ),
        Column::new("mean", format!("{label}, mean"), ColumnKind::Estimate),
        Column::new(
            "mean_standing",
            "mean without the collapsed",
            ColumnKind::Estimate,
        ),
        Column::new("median", "median", ColumnKind::Number),
        Column::new("p", "p", ColumnKind::Number),
        Column::new("q", "q", ColumnKind::Number),
    ];
    Ok(Table {
        id: "collapses".to_owned(),
        title: "Collapses".to_owned(),
        note,
        columns,
        rows,
    })
}
