//! The declared claims beside what the runs say about them.

use super::differences::{difference, for_new_prompts};
use crate::error::Result;
use crate::report::claims::Judged;
use crate::report::format;
use crate::report::input::Direction;
use crate::report::table::{Cell, Column, Kind, Table};
use crate::report::view::View;

/// One row per claim and size.
pub fn claims(view: &View, judged: &[Judged]) -> Result<Table> {
    let mut rows = Vec::new();
    for it in judged {
        let claim = it.claim;
        let metric = view.metric(&claim.metric)?;
        let sign = match claim.direction {
            Direction::Greater => ">",
            Direction::Less => "<",
            Direction::Equivalent => "≈",
        };
        let mut contrast = format!(
            "{}: {} {sign} {}",
            metric.label,
            view.method_label(&claim.method),
            view.method_label(&claim.versus)
        );
        if let Some(other) = &claim.relative_to {
            let difference = |a, b| format!("({} − {})", view.method_label(a), view.method_label(b));
            let [ours, theirs] = [(&claim.method, &claim.versus), (&other.method, &other.versus)];
            contrast =
                format!("{}: {} {sign} {}", metric.label, difference(ours.0, ours.1), difference(theirs.0, theirs.1));
        }
        if claim.threshold != 0.0 {
            contrast.push_str(&format!(" {:+}", claim.threshold));
        }
        for part in &it.parts {
            rows.push(vec![
                Cell::text(&claim.id),
                Cell::text(contrast.as_str()),
                Cell::text(view.size_label(&part.contrast.size)),
                Cell::text(part.words()),
                Cell::Estimate(difference(&part.contrast)),
                Cell::Estimate(for_new_prompts(&part.contrast)),
                Cell::number(claim.margin, metric.decimals),
                Cell::Probability(part.p()),
                Cell::Probability(part.p_adjusted),
                Cell::text(&claim.family),
            ]);
        }
    }
    let interval = format!("difference ({} % interval)", format::percent(view.level()));
    let columns = vec![
        Column::text("claim", "claim"),
        Column::text("contrast", "contrast"),
        Column::text("size", "size"),
        Column::text("verdict", "verdict"),
        Column::new("difference", interval, Kind::Estimate),
        Column::new("new_prompts", "new prompts too", Kind::Estimate),
        Column::new("margin", "margin", Kind::Number),
        Column::new("p", "p", Kind::Number),
        Column::new("p_holm", "Holm p", Kind::Number),
        Column::text("family", "family"),
    ];
    Ok(Table { id: "claims".to_owned(), title: "Claims".to_owned(), note: None, columns, rows })
}
