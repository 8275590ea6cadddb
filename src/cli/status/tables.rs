//! The status as text.

use super::StatusArgs;
use super::tally::{Held, Kind, Tally};
use crate::cli::units::{count, duration};
use crate::pipeline::{Graph, Store};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

/// Stages of a list that are shown; the JSON document has all.
const SHOWN: usize = 20;

/// The status of the stages of `graph`, `damaged` further records of which cannot be read.
pub fn text(
    args: &StatusArgs,
    store: &Store,
    graph: &Graph,
    tally: &Tally,
    damaged: usize,
) -> String {
    let what = match args.experiments.as_slice() {
        [] => "all that is recorded".to_owned(),
        names => names.join(", "),
    };
    let mut text = format!("{what}, in {}\n", store.root().display());
    text += &counts(tally);
    text += &time(tally);
    if graph.is_empty() {
        text += "nothing is recorded in this store: name an experiment, or begin one with `touchstone reproduce`\n";
        return text;
    }
    let _ = write!(text, "\n{}\n", kinds(tally));
    if !tally.held.is_empty() {
        let _ = write!(text, "\n{}\n", running(&tally.held));
    }
    if !tally.failed.is_empty() {
        let _ = write!(text, "\n{}\n", failed(tally));
    }
    if tally.others > 0 {
        let _ = write!(
            text,
            "\n{} of other studies {} being computed in this store\n",
            count(tally.others, "stage"),
            if tally.others == 1 { "is" } else { "are" }
        );
    }
    if damaged > 0 {
        let _ = write!(
            text,
            "\n{} cannot be read or lack their inputs: `touchstone runs verify` says more\n",
            count(damaged, "recorded stage")
        );
    }
    text
}

fn counts(tally: &Tally) -> String {
    let counts = tally.counts;
    let mut parts = vec![format!("{} done", counts.done)];
    for (number, what) in [
        (counts.running, "running"),
        (counts.failed, "failed"),
        (counts.blocked, "waiting for what failed"),
        (counts.left, "left"),
    ] {
        parts.extend((number > 0).then(|| format!("{number} {what}")));
    }
    format!("{}: {}\n", count(counts.stages, "stage"), parts.join(", "))
}

/// Lines about the time that was spent and that which is left.
fn time(tally: &Tally) -> String {
    let hours = tally.hours;
    let mut text = String::new();
    if tally.counts.done > 0 {
        let _ = writeln!(
            text,
            "spent   {:.2} processor-hours, {:.2} GPU-hours; the finished stages took {:.2} hours one after another",
            hours.processor, hours.gpu, hours.wall
        );
    }
    let missing = tally.counts.stages - tally.counts.done;
    match tally.time {
        _ if missing == 0 => {}
        None => {
            text += "left    unknown until stages have finished: `touchstone plan` reckons from operations\n"
        }
        Some(left) => {
            let alone = duration(left.alone);
            let _ = match tally.running() {
                0 => writeln!(
                    text,
                    "left    about {alone} with one stage at a time; nothing runs now"
                ),
                running => writeln!(
                    text,
                    "left    about {} with {running} at once, as now; {alone} one at a time, {} at least",
                    duration(left.with(running)),
                    duration(left.longest_chain)
                ),
            };
        }
    }
    text
}

/// A table with text in its first columns and numbers in the last `numbers`.
fn table<const N: usize>(
    headers: [&str; N],
    numbers: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(headers).add_rows(rows);
    for column in table.column_iter_mut().skip(N - numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn kinds(tally: &Tally) -> String {
    let some = |number: usize| match number {
        0 => "-".to_owned(),
        _ => number.to_string(),
    };
    let row = |(name, kind): (&&str, &Kind)| {
        let counts = kind.counts;
        [
            (*name).to_owned(),
            counts.stages.to_string(),
            some(counts.done),
            some(counts.running),
            some(counts.failed),
            some(counts.blocked),
            some(counts.left),
            kind.mean_seconds.map_or("-".into(), duration),
            duration(kind.seconds_left),
        ]
    };
    let headers = [
        "kind",
        "stages",
        "done",
        "running",
        "failed",
        "blocked",
        "left",
        "mean time",
        "time left",
    ];
    table(headers, 8, tally.kinds.iter().map(row)).trim_fmt()
}

fn running(held: &[Held]) -> String {
    let row = |held: &Held| {
        let place: Vec<String> = held
            .holder
            .place
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let state = match (held.alive, held.holder.ended) {
            (true, _) => "runs".to_owned(),
            (false, true) => "its process has ended".into(),
            (false, false) => "silent: taken over by whoever is next".into(),
        };
        [
            held.stage.label.clone(),
            held.stage.key.short(),
            state,
            place.join(", "),
            held.holder.attempt.to_string(),
            duration(held.holder.passed().as_secs_f64()),
            duration(held.holder.silent.as_secs_f64()),
        ]
    };
    let headers = [
        "held stage",
        "key",
        "state",
        "where",
        "attempt",
        "for",
        "last sign",
    ];
    let shown = table(headers, 3, held.iter().take(SHOWN).map(row)).trim_fmt();
    shown + &more(held.len())
}

fn failed(tally: &Tally) -> String {
    let row = |failed: &super::tally::Failed| {
        [
            failed.stage.label.clone(),
            failed.stage.key.short(),
            failed.reason(),
        ]
    };
    let shown = table(
        ["failed stage", "key", "reason"],
        0,
        tally.failed.iter().take(SHOWN).map(row),
    )
    .trim_fmt();
    format!(
        "{shown}{}\n`touchstone runs log KEY` prints a stage's log; the command of the run again tries it again",
        more(tally.failed.len())
    )
}

fn more(all: usize) -> String {
    match all.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n … and {more} more: --json has all"),
    }
}
