//! Failed stages, and the logs of stages.

use crate::cli::plan::LOGS;
use crate::cli::units::count;
use crate::error::{Context, Error, Result};
use crate::pipeline::{Sighting, StageKey, Store};
use comfy_table::{Table, presets};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A table of the stages whose last attempt failed and which are not finished since.
pub fn failed(store: &Store) -> Result<String> {
    let mut failures = store.failures()?;
    let listing = store.listing()?;
    failures.retain(|key, _| !listing.is_complete(key));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["key", "stage", "failure", "reason"]);
    for (key, log) in &failures {
        let label = store
            .planned(key)
            .map_or_else(|_| "?".into(), |it| it.label);
        let text = std::fs::read_to_string(log).unwrap_or_default();
        table.add_row([key.short(), label, kind(&text), reason(&text).to_owned()]);
    }
    let mut text = match failures.len() {
        0 => String::new(),
        _ => format!("{}\n", table.trim_fmt()),
    };
    let _ = writeln!(text, "{}", count(failures.len(), "failed stage"));
    if !failures.is_empty() {
        text += "`touchstone runs log KEY` prints a log; the command of the run again tries them again\n";
    }
    Ok(text)
}

/// The first line of a failure's log.
fn reason(text: &str) -> &str {
    text.lines().next().unwrap_or("?")
}

/// The kind of the failure in a log: there is a line for it behind the message.
fn kind(text: &str) -> String {
    let kind = text.lines().find_map(|line| line.strip_prefix("kind: "));
    kind.unwrap_or("?").to_owned()
}

/// The holder of a stage, and all its logs.
///
/// # Errors
/// A stage without any log that nobody computes; a log that cannot be read.
pub fn log(store: &Store, key: &StageKey) -> Result<String> {
    let label = store
        .planned(key)
        .map_or_else(|_| "?".into(), |it| it.label);
    let done = store.is_complete(key);
    let sightings = store.sightings()?;
    let holder = sightings.get(key).filter(|_| !done);
    let state = match holder {
        _ if done => "finished".to_owned(),
        Some(holder) => held(holder),
        None => "not finished, and nobody computes it".into(),
    };
    let mut text = format!("{label}\nkey       {key}\nstate     {state}\n");
    // The output of the worker that a Slurm job runs, about all of its stages.
    let output = holder.and_then(|holder| holder.place.get("job"));
    let output = output.map(|job| store.root().join(format!("workers/{job}.out")));
    if let Some(output) = output.filter(|path| path.exists()) {
        let _ = writeln!(text, "worker    {}", output.display());
    }
    let logs = logs_of(store, key)?;
    if logs.is_empty() && !done && !state.starts_with("attempt") {
        return Err(Error::store(format!("stage {} has no log in {}", key.short(), store.root().display()))
            .hint("an attempt leaves a log when it fails; `touchstone status` shows what runs, `touchstone runs show KEY` what the stage is"));
    }
    for path in logs {
        let said = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        let said = String::from_utf8_lossy(&said);
        let _ = write!(
            text,
            "\nlog       {}\n{}\n",
            path.display(),
            said.trim_end()
        );
    }
    Ok(text)
}

fn held(holder: &Sighting) -> String {
    let place = holder.place.iter();
    let place: String = place
        .map(|(name, value)| format!(", {name} {value}"))
        .collect();
    let seconds = holder.silent.as_secs();
    match holder.may_live() {
        true => format!(
            "attempt {} computes it{place}; last sign of life {seconds} s ago",
            holder.attempt
        ),
        false => format!("attempt {} held it and is over{place}", holder.attempt),
    }
}

/// The log of the last failure, and those into which other programs have put what a stage said
/// (`logs/<key>*.log` of the store).
fn logs_of(store: &Store, key: &StageKey) -> Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    let failure = store.failure_log(key);
    logs.extend(failure.exists().then_some(failure));
    let folder = store.root().join(LOGS);
    let named = crate::files::names_in(&folder)?;
    let of_key = |name: &&String| name.starts_with(&key.to_string()) && is_log(name);
    logs.extend(named.iter().filter(of_key).map(|name| folder.join(name)));
    Ok(logs)
}

fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "log")
}
