//! `touchstone eval import`: evaluations from the files that other programs write for each item.

use super::folder::EvaluationFolder;
use super::show;
use crate::benchmarks::import::{self, Format, Imported, Options};
use crate::{Error, Result};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Format of the files: lm-eval, rewardbench, fastchat or alpacaeval
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: &'static str,
    /// Files of one format, of any number of models
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Name of the model, where all files are of one
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Task of all rows of lm-eval, where names of files do not say it
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Folder to write: the evaluation, or a folder for each of several models
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Parses the name of a format; a usage error lists them.
fn format(name: &str) -> std::result::Result<&'static str, String> {
    let known = || import::FORMATS.map(Format::name).join(", ");
    import::format(name)
        .map(Format::name)
        .ok_or_else(|| format!("the formats are {}", known()))
}

/// Reads the files, writes an evaluation for each model and prints it.
///
/// # Errors
/// Files that are not of the format or contradict each other, and a folder that cannot be written.
pub fn run(args: &ImportArgs) -> Result<()> {
    let format = import::format(args.format)
        .ok_or_else(|| Error::internal(format!("no format {}", args.format)))?;
    for path in &args.files {
        crate::cli::output::check_regular(path)?;
    }
    let options = Options {
        model: args.model.clone(),
        task: args.task.clone(),
    };
    let imported = format.read(&args.files, &options)?;
    let places = places(&imported, &args.out)?;
    let folders = places
        .iter()
        .map(|place| EvaluationFolder::new(place, format.benchmark(), &[]))
        .collect::<Result<Vec<_>>>()?;
    for ((imported, folder), place) in imported.iter().zip(folders).zip(&places) {
        let Imported {
            evaluation,
            notices,
        } = imported;
        folder.publish(|draft| evaluation.write(draft).map(|_| ()))?;
        let mut text = format!("{}: {}\n", place.display(), evaluation.summary.model);
        for notice in notices {
            text.push_str(&format!("note: {notice}\n"));
        }
        crate::cli::print(&text)?;
        show::print(evaluation)?;
    }
    Ok(())
}

/// The folder of each evaluation: the given one, or one below it for each of several models.
fn places(imported: &[Imported], out: &Path) -> Result<Vec<PathBuf>> {
    if let [_] = imported {
        return Ok(vec![out.to_owned()]);
    }
    let mut taken = BTreeSet::new();
    let place = |it: &Imported| {
        let summary = &it.evaluation.summary;
        let safe = |text: &str| -> String {
            let plain = |c: char| c.is_alphanumeric() || "-._".contains(c);
            text.chars()
                .map(|c| if plain(c) { c } else { '_' })
                .collect()
        };
        let mut name = safe(&summary.model.replace('/', "__"));
        if taken.contains(&name) {
            name = format!("{name}.{}", safe(&summary.convention));
        }
        match name.starts_with('.') || !taken.insert(name.clone()) {
            true => Err(
                Error::data(format!("two evaluations would be called {name}"))
                    .hint("import them one after another, each with an --out of its own"),
            ),
            false => Ok(out.join(name)),
        }
    };
    imported.iter().map(place).collect()
}
