//! Tests of the whole path from a file to a study, and of the errors for faulty files.

mod layers;
mod mistakes;
mod names;
mod recipes;

use super::*;
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A valid experiment that the tests modify.
const TLDR: &str = include_str!("../../../experiments/tldr.toml");

const CLAIMS: &str = include_str!("../../../experiments/claims/tldr.toml");

/// The shipped experiment with its registered claims as if they were its own.
fn tldr_with_claims() -> String {
    let first = CLAIMS
        .find("[[claim]]")
        .expect("the claim file has a claim");
    let claims = CLAIMS[first..].replace("margin_share = 0.2", "margin = 0.023");
    let (before, registration) = TLDR
        .split_once("[registration]\n")
        .expect("the study is registered");
    let (_, after) = registration.split_once("\n\n").expect("something follows");
    format!("{before}{after}\n{claims}")
}

fn shipped(name: &str) -> Experiment {
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    Experiment::load_from(name, nowhere.path())
        .unwrap_or_else(|error| panic!("{name}: {}", rendered(&error)))
}

fn resolve(text: &str, selection: Selection) -> Study {
    let experiment =
        Experiment::parse("t.toml", text).unwrap_or_else(|error| panic!("{}", rendered(&error)));
    experiment
        .resolve(&selection)
        .unwrap_or_else(|error| panic!("{}", rendered(&error)))
}

fn method<'a>(study: &'a Study, id: &str) -> &'a MethodPlan {
    study
        .methods
        .iter()
        .find(|method| method.id == id)
        .unwrap_or_else(|| panic!("{id} is a method"))
}

/// An error as the command line shows it, without colours.
fn rendered(error: &crate::Error) -> String {
    let mut text = String::new();
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler
        .render_report(&mut text, error)
        .expect("writing to a string");
    text
}
