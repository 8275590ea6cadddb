//! What a page shows, in the markup of one format, for its template to put in order.

use minijinja::value::Value;
use minijinja::{Environment, context};
use serde::Serialize;

use super::claims::Judged;
use super::figures::{Figure, Figures};
use super::format;
use super::input::TableKind;
use super::prose;
use super::table::{Cell, Table};
use super::view::{View, file_stem};
use super::{Answer, Content, Drawn};
use crate::error::{Context, Result};

/// All in which two formats differ, save their templates.
pub trait Markup {
    /// A whole table.
    fn table(&self, table: &Table) -> String;
    /// A sentence, which may hold `` `code` `` and `**bold**`.
    fn prose(&self, text: &str) -> String;
    /// Text that means nothing but itself.
    fn plain(&self, text: &str) -> String;
}

/// A table as a template sees it: text, whole and cut into named parts.
#[derive(Serialize)]
struct Rendered {
    id: String,
    title: String,
    note: Option<String>,
    parts: Vec<Part>,
    text: String,
}

#[derive(Serialize)]
struct Part {
    name: String,
    text: String,
    /// More rows than a reader takes in beside a figure of the same numbers.
    long: bool,
}

/// Rows that are shown beside a figure without being asked for.
const SHORT: usize = 12;
/// Rows of a curve that a page shows at all; the files have the rest.
const MOST: usize = 60;

#[derive(Serialize)]
struct FigureView<'f> {
    id: &'f str,
    title: String,
    svg: &'f str,
}

/// An ablation or a curve.
#[derive(Serialize)]
struct Section<'f> {
    title: String,
    question: String,
    source: String,
    note: String,
    /// The figure that answers, and those of other metrics.
    figure: Vec<FigureView<'f>>,
    more_figures: Vec<FigureView<'f>>,
    tables: Vec<Rendered>,
}

#[derive(Serialize)]
struct ClaimLine {
    id: String,
    text: String,
    source: String,
    overall: String,
}

/// Fills `template` in.
pub fn render(view: &View, content: &Content, markup: &dyn Markup, template: &str) -> Result<String> {
    let failed = || "cannot fill in a template of the report".to_owned();
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let template = environment.template_from_str(template).context(failed)?;
    template.render(values(view, content, markup)?).context(failed)
}

fn values(view: &View, content: &Content, markup: &dyn Markup) -> Result<Value> {
    let header = view.header();
    let plain = |text: &String| markup.plain(text);
    let sentences = |all: Vec<String>| all.iter().map(|text| markup.prose(text)).collect::<Vec<_>>();
    let cut = |table: &Table, by| cut(table, by, markup);
    let results = |kind| content.results_of(kind).map(|table| cut(table, "size")).collect::<Vec<_>>();
    let Figures { dots, iterations, compute } = &content.figures;
    let (answers, curves): (Vec<&Drawn>, Vec<&Drawn>) = content.curves.iter().partition(|curve| curve.answers());
    let answers = answers.into_iter().map(|curve| curve_section(curve, markup));
    let questions = content.ablations.iter().map(|answer| ablation_section(answer, markup)).chain(answers);
    let primary = file_stem(&view.layout().primary);
    let mut reward_tables = view.layout().tables.iter().filter(|table| table.kind == TableKind::Reward);
    let first_reward = reward_tables.find_map(|table| table.metrics.first()).map(|metric| file_stem(metric));
    // The two that the page opens with; all others are folded.
    let (main_figure, others): (Vec<&Figure>, Vec<&Figure>) = dots.iter().partition(|figure| figure.id == primary);
    let (reward_figure, more_figures): (Vec<&Figure>, Vec<&Figure>) =
        others.into_iter().partition(|figure| first_reward.as_ref() == Some(&figure.id));
    let (iteration_figure, more_iteration_figures) = iterations.split_at(iterations.len().min(1));
    Ok(context! {
        header => context! {
            title => markup.prose(&header.title),
            question => markup.prose(&header.question),
            description => markup.prose(&header.description),
            experiment => plain(&header.experiment),
            profile => plain(&header.profile),
            scale => plain(&header.scale),
            device => plain(&header.device),
            revision => header.revision.as_ref().map_or(format::NOT_AVAILABLE.to_owned(), plain),
        },
        seeds => prose::seeds(view),
        total => prose::total(view),
        cells => whole(&content.cells, markup),
        mishaps => prose::mishaps(view).iter().map(plain).collect::<Vec<_>>(),
        claims => content.comparisons.claims.iter().map(|claim| claim_line(view, claim, markup)).collect::<Vec<_>>(),
        claims_intro => markup.prose(&prose::claims(view)),
        claims_table => whole(&content.claims_table, markup),
        robust => whole(&content.robust, markup),
        robust_rows => content.robust.rows.len(),
        collapses => cut(&content.collapses, "size"),
        policy => results(TableKind::Policy),
        reward => results(TableKind::Reward),
        diagnostics => results(TableKind::Diagnostics),
        main_figure => figures(markup, main_figure),
        reward_figure => figures(markup, reward_figure),
        more_figures => figures(markup, more_figures),
        iteration_figure => figures(markup, iteration_figure),
        more_iteration_figures => figures(markup, more_iteration_figures),
        questions_intro => markup.prose(&prose::questions(view)),
        questions => questions.collect::<Vec<_>>(),
        curves => figures(markup, curves.iter().filter_map(|curve| curve.figure.as_ref())),
        differences_intro => markup.prose(&prose::differences(content.comparisons.exploratory.len())),
        differences => content.differences.iter().map(|table| cut(table, "metric")).collect::<Vec<_>>(),
        iterations => cut(&content.iterations, "size"),
        compute_intro => markup.prose(&prose::compute(view)?),
        iteration_costs => cut(&content.iteration_costs, "size"),
        spent => cut(&content.spent, "size"),
        matched_compute => cut(&content.matched_compute, "resource"),
        compute_figure => figures(markup, compute),
        costs => cut(&content.costs, ""),
        tunings => content.tunings.iter().map(|table| whole(&shortened(table), markup)).collect::<Vec<_>>(),
        notes => sentences(prose::notes(view)),
        reading => sentences(prose::reading(view)),
    })
}

fn figures<'f>(markup: &dyn Markup, figures: impl IntoIterator<Item = &'f Figure>) -> Vec<FigureView<'f>> {
    let view = |figure: &'f Figure| FigureView { id: &figure.id, title: markup.plain(&figure.title), svg: &figure.svg };
    figures.into_iter().map(view).collect()
}

fn ablation_section<'f>(answer: &'f Answer, markup: &dyn Markup) -> Section<'f> {
    let ablation = answer.ablation;
    let (figure, more) = answer.figures.split_at(answer.figures.len().min(1));
    let points = cut(&without(&answer.points, "x"), "size", markup);
    Section {
        title: markup.prose(&ablation.title),
        question: markup.prose(&ablation.question),
        source: markup.plain(&ablation.source),
        note: markup.prose(&ablation.note),
        figure: figures(markup, figure),
        more_figures: figures(markup, more),
        tables: answer.crossings.iter().map(|table| cut(table, "size", markup)).chain([points]).collect(),
    }
}

fn curve_section<'f>(drawn: &'f Drawn, markup: &dyn Markup) -> Section<'f> {
    Section {
        title: markup.prose(&drawn.curve.title),
        question: String::new(),
        source: String::new(),
        note: markup.prose(&drawn.curve.note),
        figure: figures(markup, &drawn.figure),
        more_figures: Vec::new(),
        // A long curve is read from its files.
        tables: drawn.table.iter().map(|table| cut(&shortened(table), "size", markup)).collect(),
    }
}

/// Without rows where they are more than a page should hold.
fn shortened(table: &Table) -> Table {
    let rows = if table.rows.len() > MOST { Vec::new() } else { table.rows.clone() };
    Table { rows, ..table.clone() }
}

fn claim_line(view: &View, judged: &Judged, markup: &dyn Markup) -> ClaimLine {
    let claim = judged.claim;
    ClaimLine {
        id: markup.plain(&claim.id),
        text: markup.prose(&claim.text),
        source: markup.plain(&claim.source),
        overall: judged.overall(view),
    }
}

fn whole(table: &Table, markup: &dyn Markup) -> Rendered {
    Rendered {
        id: table.id.clone(),
        title: markup.prose(&table.title),
        note: table.note.as_deref().map(|note| markup.prose(note)),
        parts: Vec::new(),
        text: markup.table(&without_idle_columns(table)),
    }
}

/// Cut at the values of the column `by`; without rows, without parts.
fn cut(table: &Table, by: &str, markup: &dyn Markup) -> Rendered {
    let parts = if table.rows.is_empty() { Vec::new() } else { without_idle_columns(table).split_by(by) };
    let part = |(name, part): (String, Table)| Part {
        name: markup.plain(&name),
        long: part.rows.len() > SHORT,
        text: markup.table(&part),
    };
    Rendered { parts: parts.into_iter().map(part).collect(), ..whole(table, markup) }
}

/// Without what says nothing: iterations where no method iterates, intervals for new prompts where no items are known.
fn without_idle_columns(table: &Table) -> Table {
    let idle = |at: usize, id: &str| match id {
        "iteration" => table.rows.iter().all(|row| matches!(row[at], Cell::Integer(None | Some(0)))),
        "new_prompts" => table.rows.iter().all(|row| matches!(row[at], Cell::Estimate(it) if it.point.is_none())),
        _ => false,
    };
    let columns = table.columns.iter().enumerate().filter(|(at, column)| idle(*at, &column.id));
    columns.fold(table.clone(), |left, (_, column)| without(&left, &column.id))
}

/// The table without one of its columns.
fn without(table: &Table, id: &str) -> Table {
    let mut table = table.clone();
    if let Some(at) = table.columns.iter().position(|column| column.id == id) {
        table.columns.remove(at);
        for row in &mut table.rows {
            row.remove(at);
        }
    }
    table
}

/// Text on one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
