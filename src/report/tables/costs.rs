//! Costs in time, memory and tokens per stage kind, size and method.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::compute::total;
use crate::report::input::Cost;
use crate::report::table::{Cell, Column, ColumnKind, Table};
use crate::report::view::View;

/// The costs, with one row per stage kind, size and method, summed over seeds and over repetitions
/// of the stage within a run. A sum with an unmeasured part is not defined. The points of ablations
/// are in the total alone.
pub fn costs(view: &View) -> Table {
    let mut groups: BTreeMap<(usize, &str, usize, &str), Vec<&Cost>> = BTreeMap::new();
    for cost in view
        .input
        .costs
        .iter()
        .filter(|cost| !view.is_point(&cost.method))
    {
        let size = place(view.sizes.iter().map(String::as_str), &cost.size);
        let method = place(view.methods.iter().map(|row| row.id.as_str()), &cost.method);
        // The key holds names beside indices, since everything missing from the layout shares the
        // last index.
        groups
            .entry((size, &cost.size, method, &cost.method))
            .or_default()
            .push(cost);
    }
    let mut rows = Vec::new();
    for ((_, size, _, method), costs) in groups {
        let kinds: BTreeSet<&str> = costs.iter().map(|cost| cost.stage_kind.as_str()).collect();
        for kind in kinds {
            let of_kind: Vec<&Cost> = costs
                .iter()
                .copied()
                .filter(|cost| cost.stage_kind == kind)
                .collect();
            rows.push(row(
                view.size_label(size),
                view.method_label(method),
                kind,
                &of_kind,
            ));
        }
    }
    if !view.input.costs.is_empty() {
        let points = view
            .input
            .costs
            .iter()
            .any(|cost| view.is_point(&cost.method));
        let methods = if points {
            "all, with every point of the questions"
        } else {
            "all"
        };
        rows.push(row(
            "all",
            methods,
            "all",
            &view.input.costs.iter().collect::<Vec<_>>(),
        ));
    }
    Table {
        id: "costs".to_owned(),
        title: "Costs".to_owned(),
        note: None,
        columns: columns(),
        rows,
    }
}

fn place<'a>(mut names: impl Iterator<Item = &'a str>, name: &str) -> usize {
    names.position(|known| known == name).unwrap_or(usize::MAX)
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("size", "size"),
        Column::text("method", "method"),
        Column::text("stage", "stage"),
        Column::new("seeds", "seeds", ColumnKind::Integer),
        Column::new("stages", "stages", ColumnKind::Integer),
        Column::new("wall_seconds_per_seed", "wall s / seed", ColumnKind::Number),
        Column::new("wall_seconds", "wall s", ColumnKind::Number),
        Column::new("cpu_seconds", "CPU s", ColumnKind::Number),
        Column::new("peak_memory_mib", "peak MiB", ColumnKind::Number),
        Column::new("tokens", "tokens", ColumnKind::Number),
        Column::new("tokens_per_second", "tokens / s", ColumnKind::Number),
        Column::new("flops", "FLOPs", ColumnKind::Number),
    ]
}

fn row(size: &str, method: &str, stage: &str, costs: &[&Cost]) -> Vec<Cell> {
    let seeds = costs
        .iter()
        .map(|cost| cost.seed)
        .collect::<BTreeSet<_>>()
        .len();
    let wall = total(costs.iter().copied(), |cost| cost.wall_seconds);
    let tokens = total(costs.iter().copied(), |cost| cost.tokens);
    let rate = tokens
        .zip(wall)
        .filter(|(_, wall)| *wall > 0.0)
        .map(|(tokens, wall)| tokens / wall);
    vec![
        Cell::text(size),
        Cell::text(method),
        Cell::text(stage),
        Cell::count(seeds),
        Cell::count(costs.len()),
        Cell::number(wall.map(|wall| wall / seeds as f64), 1),
        Cell::number(wall, 1),
        Cell::number(total(costs.iter().copied(), |cost| cost.cpu_seconds), 1),
        Cell::number(peak(costs), 0),
        Cell::number(tokens, 0),
        Cell::number(rate, 0),
        Cell::Scientific(total(costs.iter().copied(), |cost| cost.flops)),
    ]
}

/// The largest measured peak.
fn peak(costs: &[&Cost]) -> Option<f64> {
    costs
        .iter()
        .filter_map(|cost| cost.peak_memory_mib)
        .max_by(f64::total_cmp)
}
