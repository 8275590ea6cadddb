//! `touchstone schema`: prints the JSON schema of experiment files or of claim files.

use super::print;
use crate::experiment::{claims_schema, experiment_schema};
use crate::{Context, Result};
use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
pub struct SchemaArgs {
    /// The files that the schema is for
    #[arg(value_enum, default_value_t = Files::Experiments)]
    pub files: Files,
}

/// A kind of files that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Files {
    /// Experiment files
    Experiments,
    /// Files of registered claims
    Claims,
}

pub fn run(args: &SchemaArgs) -> Result<()> {
    let schema = match args.files {
        Files::Experiments => experiment_schema(),
        Files::Claims => claims_schema(),
    };
    let text =
        serde_json::to_string_pretty(&schema).context(|| "cannot encode the schema".into())?;
    print(&(text + "\n"))
}
