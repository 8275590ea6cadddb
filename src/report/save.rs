//! Writing of a report's folder, as a whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use super::files;
use super::input::ReportInput;
use super::view::View;
use super::{Content, html, markdown, summary};
use crate::error::{Context, Error, Result};
use crate::folder::UnpublishedFolder;

/// The entries of a report's folder; no other file in it is ever replaced.
const ENTRIES: [&str; 7] = [
    "report.md",
    "report.html",
    "summary.json",
    "metrics.csv",
    "metrics.parquet",
    "tables",
    "figures",
];

/// Writes the report of `input` to the folder `dir`, in place of an earlier one, and returns the
/// path of its `report.md`. The folder is built beside its final path and renamed, so that a reader
/// never sees half of one.
///
/// # Errors
/// When the input contradicts itself, a file cannot be written, or `dir` holds anything that is not
/// a report's.
pub fn write(input: &ReportInput, dir: &Path) -> Result<PathBuf> {
    let view = View::new(input)?;
    let content = Content::assemble(&view)?;
    check_place(dir)?;
    let draft = UnpublishedFolder::new(dir)?;
    fill(&view, &content, &draft.path())?;
    draft.publish()?;
    Ok(dir.join("report.md"))
}

fn fill(view: &View, content: &Content, folder: &Path) -> Result<()> {
    let save = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))
    };
    for name in ["tables", "figures"] {
        fs::create_dir(folder.join(name))
            .context(|| format!("cannot create the report's folder {name}"))?;
    }
    for table in content.tables() {
        files::save(table.frame()?, &folder.join("tables"), &table.id)?;
    }
    for figure in content.figures() {
        save(&format!("figures/{}.svg", figure.id), &figure.svg)?;
    }
    files::save(view.metrics().frame()?, folder, "metrics")?;
    save(
        "summary.json",
        &summary::render(view, &content.comparisons.claims)?,
    )?;
    save("report.html", &html::render(view, content)?)?;
    save("report.md", &markdown::render(view, content)?)
}

/// Checks that a report may replace the folder `dir`.
///
/// # Errors
/// A folder that holds something else, which would be lost.
pub fn check_place(dir: &Path) -> Result<()> {
    let unreadable = || format!("cannot read the report's folder {}", dir.display());
    if !dir.try_exists().context(unreadable)? {
        return Ok(());
    }
    for entry in fs::read_dir(dir).context(unreadable)? {
        let name = entry.context(unreadable)?.file_name();
        if !ENTRIES.iter().any(|known| name == *known) {
            return Err(Error::files(format!(
                "{} holds `{}`, which is not part of a report",
                dir.display(),
                name.to_string_lossy()
            ))
            .hint("a report replaces its whole folder; give it one of its own"));
        }
    }
    Ok(())
}
