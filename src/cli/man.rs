//! `touchstone man`: prints the manual page of the program, or writes a page for each command.

use super::{Cli, print};
use crate::{Context, Result, files};
use clap::{Args, CommandFactory};
use clap_mangen::Man;
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Folder for a page of every command, such as ~/.local/share/man/man1 [default: the program's
    /// own page is printed]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

pub fn run(args: &ManArgs) -> Result<()> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        Man::new(Cli::command())
            .render(&mut page)
            .context(|| "cannot make the manual page".into())?;
        return print(&String::from_utf8_lossy(&page));
    };
    files::create_dir(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|cause| files::failed("write manual pages in", folder, cause))
}
