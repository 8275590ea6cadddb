//! Tests that every built-in device computes the same as float64 and the default device; the output
//! contains the numbers.

mod common;

use common::Bench;
use serde_json::Value;

/// Names of all built-in devices that need no accelerator.
fn devices() -> Vec<&'static str> {
    if cfg!(feature = "tch") {
        vec!["flex", "libtorch"]
    } else {
        vec!["flex"]
    }
}

#[test]
fn every_device_agrees_with_what_it_is_compared_with() {
    for device in devices() {
        let said = Bench::new().succeed(&format!("conformance --device {device}"));
        println!("{}", said.out);
        assert!(
            said.out.contains(&format!("`{device}` agrees in all")),
            "{}",
            said.out
        );
        assert!(!said.out.contains("DIFFERS"));
    }
}

#[test]
fn json_names_every_comparison_with_its_numbers() {
    let said = Bench::new().succeed("conformance --json");
    let findings: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let against = |name: &str| {
        findings
            .iter()
            .filter(|finding| finding["against"] == name)
            .count()
    };
    // Fourteen quantities of three models, and seven of four in bf16.
    assert_eq!(
        (against("float64"), against("f32, in bf16"), findings.len()),
        (42, 28, 70)
    );
    for finding in &findings {
        assert!(
            finding["relative"].as_f64().unwrap() <= finding["tolerance"].as_f64().unwrap(),
            "{finding}"
        );
    }
    // Single precision always differs from double precision; a difference of zero would mean that
    // nothing is computed.
    let gradients = findings
        .iter()
        .filter(|finding| finding["quantity"] == "sft_gradients");
    assert!(
        gradients
            .into_iter()
            .all(|finding| finding["absolute"].as_f64().unwrap() > 0.0)
    );
}

#[test]
fn a_device_that_is_not_built_in_is_an_error() {
    let said = Bench::new().run("conformance --device abacus");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("there is no device called `abacus`"),
        "{}",
        said.err
    );
}
