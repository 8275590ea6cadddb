//! The `touchstone` program: parses the command line, runs the command and shows its error.

use clap::Parser;
use std::process::ExitCode;
use touchstone::cli::{self, Cli};
use touchstone::{defect, device};

fn main() -> ExitCode {
    defect::watch(device::failure);
    let done = defect::catch(|| match Cli::try_parse() {
        Ok(cli) => cli::run(cli),
        Err(answer) => cli::answer(&answer),
    });
    ExitCode::from(done.unwrap_or_else(|error| {
        let (code, plain) = (error.kind().exit_code(), error.to_string());
        let shown = defect::catch(|| Ok(format!("{:?}\n", miette::Report::new(error))));
        cli::complain(&shown.unwrap_or_else(|_| plain + "\n"));
        code
    }))
}
