//! The fixtures' files, the program's words on them, and values of an evaluation.

use crate::common::{Bench, Said, fixture};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use touchstone::benchmarks::Evaluation;
use touchstone::data::rows;

pub fn file(name: &str) -> PathBuf {
    fixture("mt_bench").join(name)
}

pub fn text(name: &str) -> String {
    file(name).to_str().unwrap().to_owned()
}

pub fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(file("expected.json")).unwrap()).unwrap()
}

/// Runs the program; white space and rulers in its errors are one space each, wherever lines are
/// broken.
pub fn touchstone(bench: &Bench, words: &[&str]) -> Said {
    let mut said = bench.run(&words.join(" "));
    said.err = said.told();
    said
}

/// Σ w·mean / Σ w over the parts of an aggregate of one scorer.
pub fn value(evaluation: &Evaluation, name: &str, scorer: &str) -> f64 {
    let aggregate = evaluation
        .summary
        .aggregates
        .iter()
        .find(|it| it.name == name);
    let (mut sum, mut weights) = (0.0, 0.0);
    for part in &aggregate.unwrap_or_else(|| panic!("no {name}")).parts {
        let scores: Vec<f64> = evaluation
            .scores(scorer, &part.task, &part.metric)
            .filter_map(|score| score.value)
            .collect();
        sum += part.weight * scores.iter().sum::<f64>() / scores.len() as f64;
        weights += part.weight;
    }
    sum / weights
}

pub fn check_values(evaluation: &Evaluation, expected: &Value) {
    for (name, expected) in expected.as_object().unwrap() {
        let found = value(evaluation, name, "model");
        assert!(
            (found - expected.as_f64().unwrap()).abs() < 1e-12,
            "{name}: {found}"
        );
    }
}

/// The rows without their times.
pub fn timeless(path: &Path) -> Vec<Value> {
    let mut read: Vec<Value> = rows::read(path).unwrap();
    for row in &mut read {
        row["tstamp"] = json!(0);
    }
    read
}

pub fn score_words<'a>(judgments: &'a str, questions: &'a str) -> Vec<&'a str> {
    vec![
        "eval",
        "mt-bench",
        "score",
        "--judgments",
        judgments,
        "--questions",
        questions,
        "--out",
        "out",
    ]
}
