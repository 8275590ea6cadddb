//! Every question of a page with its answer in one sentence: claims first, then ablations.

use super::claims::Judged;
use super::input::{Ablation, Role};
use super::sentence::{answer, capitalised, effect, later_effect, listed, part_label};
use super::trend::trends;
use super::view::{View, file_stem};
use crate::error::Result;

/// The most lines of an ablation that its answer describes; the others are described at its figure.
const LINES: usize = 4;

/// A question and its answer.
pub struct Row {
    pub question: String,
    pub answer: String,
    /// Differences with their intervals.
    pub number: String,
    pub verdict: String,
    /// The anchor of the section that answers the question in full, and the text of the link to it.
    pub anchor: String,
    pub link: String,
}

/// Anchor of a claim on the page.
pub fn claim_anchor(id: &str) -> String {
    format!("claim-{}", file_stem(id))
}

/// Anchor of a question on the page.
pub fn question_anchor(id: &str) -> String {
    format!("question-{}", file_stem(id))
}

/// The rows of primary claims, then of exploratory ones, then of ablations, each in the order of
/// declaration.
pub fn rows(view: &View, claims: &[Judged]) -> Result<Vec<Row>> {
    let of = |role| {
        claims
            .iter()
            .filter(move |it| it.claim.role == role)
            .map(|it| of_claim(view, it))
    };
    let mut rows: Vec<Row> = of(Role::Primary).chain(of(Role::Exploratory)).collect();
    for ablation in &view.input.ablations {
        rows.push(of_ablation(view, ablation)?);
    }
    Ok(rows)
}

fn of_claim(view: &View, judged: &Judged) -> Row {
    let numbers = judged.parts.iter().filter_map(|part| {
        let (effect, n) = effect(part)?;
        let label = if judged.parts.len() == 1 {
            String::new()
        } else {
            part_label(view, judged, part) + " "
        };
        let later =
            later_effect(part).map_or_else(String::new, |later| format!(", not upheld: {later}"));
        Some(format!("{label}{effect} (n={n}{later})"))
    });
    Row {
        question: judged.claim.text.clone(),
        answer: capitalised(&answer(view, judged, false)) + ".",
        number: numbers.collect::<Vec<_>>().join("; "),
        verdict: judged.overall(view),
        anchor: claim_anchor(&judged.claim.id),
        link: judged.claim.id.clone(),
    }
}

fn of_ablation(view: &View, ablation: &Ablation) -> Result<Row> {
    let all = trends(view, ablation)?;
    let first: Vec<_> = all
        .iter()
        .filter(|it| Some(&it.size) == all.first().map(|first| &first.size))
        .collect();
    let subject = first
        .iter()
        .find(|it| it.method == view.layout().under_study)
        .or(first.first());
    let mut said: Vec<String> = first
        .iter()
        .take(LINES)
        .map(|it| it.sentence.clone())
        .collect();
    if first.len() > LINES {
        said.push(format!("{} more", first.len() - LINES));
    }
    let metric = ablation
        .metrics
        .first()
        .map(|id| view.metric(id))
        .transpose()?;
    let metric = metric.map_or(String::new(), |metric| format!("{}, ", metric.label));
    let number = subject.and_then(|it| {
        Some(format!(
            "{metric}{}: {}",
            view.method_label(&it.method),
            it.number.as_ref()?
        ))
    });
    Ok(Row {
        question: ablation.question.clone(),
        answer: if said.is_empty() {
            "No two points of a line have a value.".to_owned()
        } else {
            said.join(". ") + "."
        },
        number: number.unwrap_or_default(),
        verdict: "exploratory".to_owned(),
        anchor: question_anchor(&ablation.id),
        link: ablation.title.clone(),
    })
}

/// A description of an ablation's lines: one text for each size, with the sentences of at most
/// `most` lines.
pub fn told(view: &View, ablation: &Ablation, most: usize) -> Result<Vec<String>> {
    let all = trends(view, ablation)?;
    let mut sentences = Vec::new();
    for size in &view.sizes {
        let here: Vec<String> = all
            .iter()
            .filter(|it| it.size == *size)
            .map(|it| it.sentence.clone())
            .collect();
        if here.is_empty() {
            continue;
        }
        let more = here.len().saturating_sub(most);
        let size = if view.sizes.len() > 1 {
            format!("**{}.** ", view.size_label(size))
        } else {
            String::new()
        };
        let mut said = here.into_iter().take(most).collect::<Vec<_>>().join(". ");
        if more > 0 {
            said += &format!(". {more} more in the table");
        }
        sentences.push(format!("{size}{said}."));
    }
    Ok(sentences)
}

/// Names of the claims whose results had been seen before they were registered, each with the date
/// of the oldest result.
pub fn seen_before(claims: &[Judged]) -> Option<String> {
    let seen = claims.iter().filter_map(|it| {
        Some({
            let day = it.claim.seen_before.as_deref()?.split('T').next()?;
            format!("{} ({day})", it.claim.id)
        })
    });
    let seen: Vec<String> = seen.collect();
    (!seen.is_empty()).then(|| listed(&seen))
}
