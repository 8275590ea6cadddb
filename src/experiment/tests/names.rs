//! Tests that documents and sections name every setting.

use super::super::*;
use super::{TLDR, resolve};

#[test]
fn sections_are_the_fields_of_the_hyper_parameters() {
    let study = resolve(TLDR, Selection::default());
    let serde_json::Value::Object(fields) = serde_json::to_value(&study.shared).unwrap() else {
        panic!("a struct")
    };
    let mut sections = Hyper::SECTIONS.to_vec();
    sections.sort();
    let mut fields: Vec<_> = fields.keys().map(String::as_str).collect();
    fields.sort();
    assert_eq!(fields, sections);
}

/// The keys of all tables in `value`, whatever their depth.
fn keys(value: &serde_json::Value) -> Vec<&str> {
    let tables = value.as_object().into_iter().flatten();
    tables
        .flat_map(|(key, inner)| std::iter::once(key.as_str()).chain(keys(inner)))
        .collect()
}

#[test]
fn the_page_on_experiment_files_names_every_setting() {
    let page = include_str!("../../../docs/experiments.md");
    let study = resolve(TLDR, Selection::default());
    let mut settings = vec![
        serde_json::to_value(&study.shared).unwrap(),
        serde_json::to_value(&study.report).unwrap(),
    ];
    settings.extend(
        study
            .sizes
            .iter()
            .map(|(_, model)| serde_json::to_value(model).unwrap()),
    );
    let claim = serde_json::to_value(&study.claims[0]).unwrap();
    let of_claims = claim
        .as_object()
        .into_iter()
        .flat_map(|claim| claim.keys().map(String::as_str));
    for key in settings.iter().flat_map(keys).chain(of_claims) {
        let named = [format!("`{key}`"), format!("[{key}]"), format!(".{key}]")];
        assert!(
            named.iter().any(|name| page.contains(name)),
            "{key} is not on the page"
        );
    }
}

#[test]
fn names_of_heuristics_are_their_serialised_form() {
    for heuristic in Heuristic::ALL {
        assert_eq!(serde_json::to_value(heuristic).unwrap(), heuristic.name());
    }
}
