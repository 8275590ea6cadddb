//! Tests of this module against published and computed values, against laws that hold for any
//! input, and against the nominal rates of its intervals and corrections over many repetitions.

mod edges;
mod family;
mod golden;
mod properties;
mod resampling;
mod scipy;
mod simulation;
mod verdicts;

/// Asserts that two numbers agree to `tolerance`, absolutely or relative to the second.
#[track_caller]
fn near(actual: f64, expected: f64, tolerance: f64) {
    let scale = expected.abs().max(1.0);
    assert!(
        (actual - expected).abs() <= tolerance * scale,
        "{actual} is not {expected} to {tolerance}"
    );
}

#[track_caller]
fn all_near(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    actual
        .iter()
        .zip(expected)
        .for_each(|(actual, expected)| near(*actual, *expected, tolerance));
}
