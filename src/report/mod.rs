//! Reports that a reviewer can check, made from measured values: verdicts first, every number with
//! its uncertainty, every planned run counted.
//!
//! [`ReportInput`] is the whole input of a report. It is checked and sorted, assembled into neutral
//! tables and figures, and exported: `report.md`, `report.html`, each table as csv and parquet,
//! each figure as svg, `metrics.csv` and `.parquet`, `summary.json`. Statistics are computed in
//! [`crate::stats`] and only shown here. The same input gives the same bytes, whatever the order of
//! its rows, so there is no date in a report.

pub mod across;
mod answers;
mod claims;
mod collapse;
pub mod compare;
mod compute;
mod console;
mod contrast;
mod crossing;
mod curve;
mod decision;
mod digest;
mod dominance;
mod exploratory;
mod figures;
mod files;
mod format;
mod html;
mod input;
mod markdown;
mod metrics;
mod observations;
mod page;
mod prose;
mod robust;
mod save;
mod sentence;
pub mod snapshot;
mod summary;
mod table;
mod tables;
mod trend;
mod view;

#[cfg(test)]
mod simulation;

pub use console::console;
pub use decision::{Decision, decisions};
pub use input::{
    Ablation, AblationLine, AblationPoint, AxisScale, Better, BySeed, CellStatus, Claim,
    CollapseRule, Cost, CostRole, Curve, CurveLine, Design, Direction, Header, ItemValues, Layout,
    MethodRow, Metric, MetricColumn, Metrics, Published, Registration, RelativeTo, ReportInput,
    Role, SizeLabel, Status, TableKind, TableSpec, Tuning,
};
pub use save::{check_place, write};

use crate::error::Result;
use compute::Spending;
use exploratory::Comparisons;
use figures::{Figure, Figures};
use table::Table;
use tables::Question;
use view::View;

/// The content of a report, before any format.
struct Content<'a> {
    cells: Table,
    comparisons: Comparisons<'a>,
    claims_table: Table,
    robust: Table,
    calibration: Table,
    collapses: Table,
    /// The tables of the layout, each with its kind.
    results: Vec<(TableKind, Table)>,
    differences: [Table; 2],
    iterations: Table,
    iteration_costs: Table,
    spent: Table,
    matched_compute: Table,
    dominance: Table,
    published: Table,
    costs: Table,
    /// The tunings of the methods, then of the points of ablations, if something was tuned.
    tunings: Vec<Table>,
    figures: Figures,
    observations: Vec<String>,
    ablations: Vec<Answer<'a>>,
    curves: Vec<Drawn<'a>>,
}

/// An ablation with its figures and tables.
struct Answer<'a> {
    ablation: &'a Ablation,
    /// The figures of the ablation, one per metric that has values, in the order of metrics.
    figures: Vec<Figure>,
    points: Table,
    crossings: Option<Table>,
}

/// A curve with its figure and table.
struct Drawn<'a> {
    curve: &'a Curve,
    figure: Option<Figure>,
    table: Option<Table>,
}

impl<'a> Content<'a> {
    fn assemble(view: &View<'a>) -> Result<Self> {
        let spending = Spending::new(view);
        let comparisons = Comparisons::new(view, &spending)?;
        let Comparisons {
            claims,
            companions,
            differences: [to_baseline, of_subject],
            matched,
            collapses,
            exploratory,
        } = &comparisons;
        let results = view
            .layout()
            .tables
            .iter()
            .map(|spec| Ok((spec.kind, tables::results(view, spec)?)));
        Ok(Self {
            cells: tables::cells(view),
            claims_table: tables::claims(view, claims, companions)?,
            robust: tables::robust(view, claims, companions),
            calibration: tables::calibration(view, claims)?,
            collapses: tables::collapses(view, collapses, exploratory)?,
            results: results.collect::<Result<_>>()?,
            differences: [
                tables::differences(view, Question::AgainstBaseline, to_baseline, exploratory),
                tables::differences(view, Question::SubjectAgainstEach, of_subject, exploratory),
            ],
            iterations: tables::iterations(view)?,
            iteration_costs: tables::iteration_costs(view, &spending)?,
            spent: tables::spent(view, &spending)?,
            matched_compute: tables::matched_compute(view, matched, exploratory)?,
            dominance: tables::dominances(view, matched)?,
            published: tables::published(view)?,
            costs: tables::costs(view),
            tunings: tables::tunings(view),
            figures: Figures::draw(view, &spending, claims)?,
            observations: observations::observations(view, claims)?,
            ablations: view
                .input
                .ablations
                .iter()
                .map(|it| Answer::new(view, it))
                .collect::<Result<_>>()?,
            curves: view
                .input
                .curves
                .iter()
                .map(|it| Drawn::new(view, it))
                .collect::<Result<_>>()?,
            comparisons,
        })
    }

    fn results_of(&self, kind: TableKind) -> impl Iterator<Item = &Table> {
        self.results
            .iter()
            .filter(move |(of, _)| *of == kind)
            .map(|(_, table)| table)
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        let results = self.results.iter().map(|(_, table)| table);
        [
            &self.cells,
            &self.claims_table,
            &self.robust,
            &self.calibration,
            &self.collapses,
        ]
        .into_iter()
        .chain(results)
        .chain(&self.differences)
        .chain([
            &self.iterations,
            &self.iteration_costs,
            &self.spent,
            &self.matched_compute,
        ])
        .chain([&self.dominance, &self.costs])
        .chain(Some(&self.published).filter(|table| !table.rows.is_empty()))
        .chain(&self.tunings)
        .chain(
            self.ablations
                .iter()
                .flat_map(|it| [&it.points].into_iter().chain(&it.crossings)),
        )
        .chain(self.curves.iter().filter_map(|it| it.table.as_ref()))
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        let ablations = self.ablations.iter().flat_map(|it| &it.figures);
        self.figures
            .all()
            .chain(ablations)
            .chain(self.curves.iter().filter_map(|it| it.figure.as_ref()))
    }
}

impl<'a> Answer<'a> {
    fn new(view: &View, ablation: &'a Ablation) -> Result<Self> {
        Ok(Self {
            ablation,
            figures: figures::ablation(view, ablation)?,
            points: tables::points(view, ablation)?,
            crossings: tables::crossings(view, ablation)?,
        })
    }
}

impl<'a> Drawn<'a> {
    fn new(view: &View, curve: &'a Curve) -> Result<Self> {
        Ok(Self {
            curve,
            figure: figures::curve(view, curve)?,
            table: tables::curve(view, curve)?,
        })
    }

    /// Whether the curve is averaged or explained and therefore shown among the questions; others
    /// are only for reference.
    fn answers(&self) -> bool {
        self.curve.bands || !self.curve.note.is_empty()
    }
}
