//! The content of a page in the markup of one format, which the format's template arranges.

use minijinja::value::Value;
use minijinja::{Environment, context};
use serde::Serialize;

use super::answers;
use super::claims::Judged;
use super::digest;
use super::figures::{Figure, Figures};
use super::format;
use super::input::TableKind;
use super::prose;
use super::table::{Cell, Table};
use super::view::{View, file_stem};
use super::{Answer, Content, Drawn};
use crate::error::{Context, Result};

/// The differences between two formats, apart from their templates.
pub trait Markup {
    /// Renders a whole table.
    fn table(&self, table: &Table) -> String;
    /// Renders a sentence, which may hold `` `code` `` and `**bold**`.
    fn prose(&self, text: &str) -> String;
    /// Renders text without any markup of its own.
    fn plain(&self, text: &str) -> String;
}

/// A table as a template receives it: the whole as text, and named parts.
#[derive(Serialize)]
struct Rendered {
    id: String,
    title: String,
    note: Option<String>,
    parts: Vec<Subsection>,
    text: String,
}

#[derive(Serialize)]
struct Subsection {
    name: String,
    text: String,
}

/// The most rows of a curve that a page shows; a longer curve is read from its files.
const MOST: usize = 60;

#[derive(Serialize)]
struct FigureView<'f> {
    id: &'f str,
    title: String,
    svg: &'f str,
}

/// The section of an ablation or a curve.
#[derive(Serialize)]
struct Section<'f> {
    title: String,
    question: String,
    source: String,
    note: String,
    /// The figure of the first metric, and the figures of the other metrics.
    figure: Vec<FigureView<'f>>,
    more_figures: Vec<FigureView<'f>>,
    tables: Vec<Rendered>,
    anchor: String,
    /// Sentences on the lines.
    told: Vec<String>,
}

#[derive(Serialize)]
struct ClaimLine {
    id: String,
    text: String,
    source: String,
    overall: String,
    anchor: String,
    /// The margin and the reason for its size; empty without one.
    margin: String,
}

/// A row of the table that answers all questions.
#[derive(Serialize)]
struct AnswerLine {
    question: String,
    answer: String,
    number: String,
    verdict: String,
    anchor: String,
    link: String,
}

/// Renders `template` with the content of a page.
pub fn render(
    view: &View,
    content: &Content,
    markup: &dyn Markup,
    template: &str,
) -> Result<String> {
    let failed = || "cannot fill in a template of the report".to_owned();
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let template = environment.template_from_str(template).context(failed)?;
    template
        .render(values(view, content, markup)?)
        .context(failed)
}

fn values(view: &View, content: &Content, markup: &dyn Markup) -> Result<Value> {
    let header = view.header();
    let comparisons = &content.comparisons;
    let plain = |text: &String| markup.plain(text);
    let sentences = |all: Vec<String>| {
        all.iter()
            .map(|text| markup.prose(text))
            .collect::<Vec<_>>()
    };
    let cut = |table: &Table, by| cut(table, by, markup);
    // Intervals for new prompts are left out of the page and read from the files.
    let results = |kind| {
        content
            .results_of(kind)
            .map(|table| cut(&without_new_prompts(table), "size"))
            .collect::<Vec<_>>()
    };
    let Figures {
        dots,
        iterations,
        compute,
        forest,
    } = &content.figures;
    let (answers, curves): (Vec<&Drawn>, Vec<&Drawn>) =
        content.curves.iter().partition(|curve| curve.answers());
    let answers = answers
        .into_iter()
        .map(|curve| curve_section(curve, markup));
    let questions = content
        .ablations
        .iter()
        .map(|answer| ablation_section(view, answer, markup))
        .collect::<Result<Vec<_>>>()?;
    let primary = file_stem(&view.layout().primary);
    let mut reward_tables = view
        .layout()
        .tables
        .iter()
        .filter(|table| table.kind == TableKind::Reward);
    let first_reward = reward_tables
        .find_map(|table| table.metrics.first())
        .map(|metric| file_stem(metric));
    // The two main figures are shown; all others are folded.
    let (main_figure, others): (Vec<&Figure>, Vec<&Figure>) =
        dots.iter().partition(|figure| figure.id == primary);
    let (reward_figure, more_figures): (Vec<&Figure>, Vec<&Figure>) = others
        .into_iter()
        .partition(|figure| first_reward.as_ref() == Some(&figure.id));
    let in_full = [
        "role",
        "permutation",
        "new_prompts",
        "margin",
        "margin_reason",
        "p",
    ];
    let in_full = in_full
        .into_iter()
        .fold(content.claims_table.clone(), |table, id| {
            without(&table, id)
        });
    let rows = answers::rows(view, &comparisons.claims)?;
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
        digest => sentences(digest::digest(view, content)?),
        registration => sentences(prose::registration(view, answers::seen_before(&comparisons.claims))),
        background => header.registration.as_ref().map(|it| markup.plain(&it.background)),
        forest => figures(markup, forest),
        answers => rows.iter().map(|row| answer_line(row, markup)).collect::<Vec<_>>(),
        observations => sentences(content.observations.clone()),
        seeds => prose::seeds(view),
        total => prose::total(view),
        cells => whole(&content.cells, markup),
        mishaps => prose::mishaps(view).iter().map(plain).collect::<Vec<_>>(),
        claims => comparisons.claims.iter().map(|claim| claim_line(view, claim, markup)).collect::<Vec<_>>(),
        claims_intro => markup.prose(&prose::claims(view)),
        claims_table => whole(&in_full, markup),
        robust => whole(&content.robust, markup),
        robust_rows => content.robust.rows.len(),
        calibration => whole(&content.calibration, markup),
        calibration_rows => content.calibration.rows.len(),
        collapses => cut(&content.collapses, "size"),
        policy => results(TableKind::Policy),
        reward => results(TableKind::Reward),
        diagnostics => results(TableKind::Diagnostics),
        main_figure => figures(markup, main_figure),
        reward_figure => figures(markup, reward_figure),
        more_figures => figures(markup, more_figures),
        iteration_figures => figures(markup, iterations),
        questions_intro => markup.prose(&prose::questions(view)),
        questions => questions,
        explained => answers.collect::<Vec<_>>(),
        curves => figures(markup, curves.iter().filter_map(|curve| curve.figure.as_ref())),
        differences_intro => markup.prose(&prose::differences(comparisons.exploratory.len())),
        differences => content.differences.iter().map(|table| name_only(table, markup)).collect::<Vec<_>>(),
        iterations => cut(&content.iterations, "size"),
        compute_intro => markup.prose(&prose::compute(view)?),
        iteration_costs => cut(&content.iteration_costs, "size"),
        spent => name_only(&content.spent, markup),
        matched_compute => name_only(&content.matched_compute, markup),
        dominance => cut(&content.dominance, "size"),
        published => whole(&content.published, markup),
        published_rows => content.published.rows.len(),
        compute_figure => figures(markup, compute),
        costs => name_only(&content.costs, markup),
        costs_rows => content.costs.rows.len(),
        tunings => content.tunings.iter().map(|table| whole(&shortened(table), markup)).collect::<Vec<_>>(),
        notes => sentences(prose::notes(view)),
        reading => sentences(prose::reading(view)),
    })
}

fn answer_line(row: &answers::Row, markup: &dyn Markup) -> AnswerLine {
    AnswerLine {
        question: markup.plain(&row.question),
        answer: markup.plain(&row.answer),
        number: markup.plain(&row.number),
        verdict: markup.plain(&row.verdict),
        anchor: row.anchor.clone(),
        link: markup.plain(&row.link),
    }
}

fn figures<'f>(
    markup: &dyn Markup,
    figures: impl IntoIterator<Item = &'f Figure>,
) -> Vec<FigureView<'f>> {
    let view = |figure: &'f Figure| FigureView {
        id: &figure.id,
        title: markup.plain(&figure.title),
        svg: &figure.svg,
    };
    figures.into_iter().map(view).collect()
}

/// The most lines of a question that are described at its figure.
const TOLD: usize = 6;

fn ablation_section<'f>(
    view: &View,
    answer: &'f Answer,
    markup: &dyn Markup,
) -> Result<Section<'f>> {
    let ablation = answer.ablation;
    let (figure, more) = answer.figures.split_at(answer.figures.len().min(1));
    let points = cut(&without(&answer.points, "x"), "size", markup);
    let told = answers::told(view, ablation, TOLD)?;
    Ok(Section {
        title: markup.prose(&ablation.title),
        question: markup.prose(&ablation.question),
        source: markup.plain(&ablation.source),
        note: markup.prose(&ablation.note),
        figure: figures(markup, figure),
        more_figures: figures(markup, more),
        tables: answer
            .crossings
            .iter()
            .map(|table| cut(table, "size", markup))
            .chain([points])
            .collect(),
        anchor: answers::question_anchor(&ablation.id),
        told: told.iter().map(|sentence| markup.prose(sentence)).collect(),
    })
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
        tables: drawn
            .table
            .iter()
            .map(|table| cut(&shortened(table), "size", markup))
            .collect(),
        anchor: answers::question_anchor(&drawn.curve.id),
        told: Vec::new(),
    }
}

/// The table without its rows if they are more than a page should hold.
fn shortened(table: &Table) -> Table {
    let rows = if table.rows.len() > MOST {
        Vec::new()
    } else {
        table.rows.clone()
    };
    Table {
        rows,
        ..table.clone()
    }
}

fn claim_line(view: &View, judged: &Judged, markup: &dyn Markup) -> ClaimLine {
    let claim = judged.claim;
    ClaimLine {
        id: markup.plain(&claim.id),
        text: markup.prose(&claim.text),
        source: markup.plain(&claim.source),
        overall: judged.overall(view),
        anchor: answers::claim_anchor(&claim.id),
        margin: claim.margin.map_or_else(String::new, |margin| {
            let why = claim
                .margin_reason
                .iter()
                .map(|why| format!(": {}", markup.plain(why)));
            format!(
                "Margin {}{}.",
                format::compact(margin),
                why.collect::<String>()
            )
        }),
    }
}

/// The table's title without its content, which is read from its files.
fn name_only(table: &Table, markup: &dyn Markup) -> Rendered {
    whole(
        &Table {
            rows: Vec::new(),
            columns: Vec::new(),
            ..table.clone()
        },
        markup,
    )
}

fn without_new_prompts(table: &Table) -> Table {
    let columns = table
        .columns
        .iter()
        .map(|column| column.id.as_str())
        .filter(|id| id.ends_with("_new_prompts"));
    columns.fold(table.clone(), |table, id| without(&table, id))
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

/// The table cut at the values of the column `by`; a table without rows has no parts.
fn cut(table: &Table, by: &str, markup: &dyn Markup) -> Rendered {
    let parts = if table.rows.is_empty() {
        Vec::new()
    } else {
        table.split_by(by)
    };
    let part = |(name, part): (String, Table)| Subsection {
        name: markup.plain(&name),
        text: markup.table(&part),
    };
    Rendered {
        parts: parts.into_iter().map(part).collect(),
        ..whole(table, markup)
    }
}

/// The table without columns that hold no information: iterations if no method iterates, intervals
/// for new prompts and new bases if none is known.
fn without_idle_columns(table: &Table) -> Table {
    let idle = |at: usize, id: &str| match id {
        "iteration" => table
            .rows
            .iter()
            .all(|row| matches!(row[at], Cell::Integer(None | Some(0)))),
        "new_prompts" | "new_bases" => table
            .rows
            .iter()
            .all(|row| matches!(row[at], Cell::Estimate(it) if it.point.is_none())),
        _ => false,
    };
    let columns = table
        .columns
        .iter()
        .enumerate()
        .filter(|(at, column)| idle(*at, &column.id));
    columns.fold(table.clone(), |left, (_, column)| {
        without(&left, &column.id)
    })
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

/// The text on one line.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
