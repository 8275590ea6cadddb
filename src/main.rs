//! The `touchstone` program: parse, run, show what went wrong.

use clap::Parser;
use std::process::ExitCode;
use touchstone::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.kind().exit_code();
            cli::complain(&format!("{:?}\n", miette::Report::new(error)));
            ExitCode::from(code)
        }
    }
}
