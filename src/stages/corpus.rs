//! Stage `corpus`: the rows of a local file as demonstrations, with prompts that fit the limit. A
//! fixed part is held out from all training; rows with the same prompt are on the same side.

use super::common::tokenizer_folder;
use super::held_out::write_duplicates;
use super::{NoInputs, Stage};
use crate::data::contents::changed;
use crate::data::dataset::Dataset;
use crate::data::rows;
use crate::data::split::{self, Duplicates};
use crate::experiment::GenerationSettings;
use crate::pipeline::StageContext;
use crate::tasks::{Task, TaskSettings};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A local file with the tokenizer that encodes its rows. The same bytes are read as when the stage
/// was planned, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalFile {
    pub file: PathBuf,
    pub blake3: String,
    pub tokenizer: PathBuf,
    pub tokenizer_blake3: String,
    pub generation: GenerationSettings,
    #[serde(default, skip_serializing_if = "TaskSettings::is_default")]
    pub task: TaskSettings,
    /// Share of the rows that is held out.
    pub held_out: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalDemonstrations {
    #[serde(flatten)]
    pub source: LocalFile,
}

impl LocalFile {
    /// The rows, and the task that encodes them.
    ///
    /// # Errors
    /// A file or a tokenizer other than the planned ones.
    pub fn open(&self, context: &StageContext) -> Result<(Dataset, Box<dyn Task>)> {
        let folder = tokenizer_folder(context, &self.tokenizer, &self.tokenizer_blake3)?;
        self.task.tokenizer().write_into(&folder)?;
        let encoder = super::base::encoder(&folder, &self.generation)?;
        let set = Dataset::file(&self.file)?;
        for source in set.files_read()? {
            if source.blake3 != self.blake3 {
                let file = self.file.display().to_string();
                return Err(changed(&file, &self.blake3, &source.blake3));
            }
            context.add_source(&source)?;
        }
        Ok((set, self.task.open(&folder, encoder)?))
    }
}

impl Stage for LocalDemonstrations {
    const KIND: &'static str = "corpus";
    const VERSION: u32 = 2;
    type Inputs = NoInputs;
    type Sizes<'a> = ();

    fn run(self, _: NoInputs, context: &StageContext) -> Result<()> {
        let (set, task) = self.source.open(context)?;
        let examples = task.demonstrations(&set, &|_| true)?;
        let forms: Vec<[&str; 2]> = examples
            .iter()
            .map(|example| [&example.whole, example.row.prompt.as_str()])
            .collect();
        let groups = split::groups(&forms);
        let Some((held_out, trained)) = split::hold_out(&groups, self.source.held_out) else {
            return Err(too_few(&self.source.file, &forms));
        };
        for (name, part) in [
            ("held_out.jsonl", held_out),
            ("demonstrations.jsonl", trained),
        ] {
            rows::write(
                &context.out().join(name),
                part.iter().map(|row| &examples[*row].row),
            )?;
        }
        let rows = examples.iter().map(|example| &example.row);
        write_duplicates(context, &groups, rows, 0)
    }
}

fn too_few(file: &Path, forms: &[[&str; 2]]) -> Error {
    let prompts = Duplicates::count(&split::groups(forms), []).prompts;
    let plural =
        |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    Error::data(format!(
        "{} has {} of {}, too few to hold some out",
        file.display(),
        plural(forms.len(), "row"),
        plural(prompts, "different prompt")
    ))
    .hint("a fifth of the rows is held out, and rows of one prompt stay together: give more rows")
}

/// Checks that some rows of `file`, whose prompts are `whole`, can be held out, as far as this is
/// known without tokenizing them.
///
/// # Errors
/// Too few rows, or too few distinct ones.
pub fn check_splits(file: &Path, whole: &[String], share: f64) -> Result<()> {
    let forms: Vec<[&str; 2]> = whole.iter().map(|whole| [&whole[..]; 2]).collect();
    split::hold_out(&split::groups(&forms), share)
        .map(|_| ())
        .ok_or_else(|| too_few(file, &forms))
}
