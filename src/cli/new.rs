//! `touchstone new`: writes an experiment file to start from.

use super::print;
use crate::error::{Error, Result};
use crate::experiment::{SHIPPED, is_identifier};
use crate::files;
use clap::Args;
use std::path::{Path, PathBuf};

/// The file with `{{name}}` in the place of the experiment's name.
const TEMPLATE: &str = include_str!("new/template.toml");

#[derive(Clone, Debug, Args)]
pub struct NewArgs {
    /// Name of the experiment: lower-case letters, digits and hyphens
    pub name: String,
    /// Folder that the file is written to
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    pub dir: PathBuf,
}

pub fn run(args: &NewArgs) -> Result<()> {
    let name = &args.name;
    if !is_identifier(name) {
        return Err(Error::configuration(format!("`{name}` cannot be the name of an experiment"))
            .hint("take lower-case letters, digits and hyphens: the name becomes part of file names and of the report's address"));
    }
    if SHIPPED.iter().any(|(shipped, _)| shipped == name) {
        return Err(
            Error::configuration(format!("an experiment `{name}` comes with touchstone"))
                .hint("take another name; the file itself may extend the shipped one"),
        );
    }
    files::create_dir(&args.dir)?;
    let path = args.dir.join(format!("{name}.toml"));
    if !files::create_new(&path, TEMPLATE.replace("{{name}}", name).as_bytes())? {
        return Err(
            Error::configuration(format!("{} exists already", path.display()))
                .hint("take another name, or move that file away: it is not overwritten"),
        );
    }
    let typed = if args.dir == Path::new("experiments") {
        name.clone()
    } else {
        path.display().to_string()
    };
    print(&format!(
        "{} is written. Change what it says, then\n  touchstone plan {typed}\n  touchstone reproduce {typed} --profile smoke\n",
        path.display()
    ))
}
