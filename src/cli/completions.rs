//! `touchstone completions`: prints the completions of a shell.

use super::{Cli, print};
use crate::Result;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that reads them
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<()> {
    let (program, name) = (Cli::command(), env!("CARGO_PKG_NAME"));
    let shown = program.get_subcommands().filter(|sub| !sub.is_hide_set());
    let mut completed = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .subcommands(shown.cloned());
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut completed, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
