//! Tests that training agrees with plain PyTorch: losses, gradients and weights over twenty
//! optimiser steps of every method, from the same checkpoint on the same rows. `reference.py` is
//! the PyTorch side and docs/parity.md the full comparison; these tests compare our trajectories
//! with its results, stored in `reference.json`.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod conformance;

use cases::{Case, EOS, STEPS, Trained, Trajectory, cases};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use touchstone::model::weights::{StoredAs, Weights};

/// Norm of a tensor's values, and their projection on cos(0), cos(1), ….
type Fingerprint = [f64; 2];

/// The contents of `reference.json`, which `compare.py --write` writes.
#[derive(Deserialize)]
struct Reference {
    tolerance: f64,
    /// The least scale of gradient differences, as a share of the norm of all tensors. Differences
    /// are relative to the largest norm of the tensor or to this, if it is more: some gradients are
    /// zero in exact arithmetic.
    floor: f64,
    /// The least scale of differences of norms, as a share of the largest norm of all steps;
    /// otherwise they are relative to the norm itself.
    norm_floor: f64,
    cases: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    losses: Vec<f64>,
    norms: Vec<f64>,
    /// Responses of every update of PPO, RLOO and GRPO.
    rollouts: Vec<Vec<Vec<u32>>>,
    trained: Vec<String>,
    /// Fingerprints of the gradients of the tensors in `trained`, by optimiser step from 1.
    gradients: BTreeMap<usize, Vec<Fingerprint>>,
    saved: Vec<String>,
    /// Fingerprints of the weights after the last step, of the tensors in `saved`.
    end: Vec<Fingerprint>,
}

fn reference() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| serde_json::from_str(include_str!("reference.json")).unwrap())
}

fn fingerprint(values: &[f32]) -> Fingerprint {
    let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    let projection = values
        .iter()
        .enumerate()
        .map(|(place, &value)| f64::from(value) * (place as f64).cos())
        .sum();
    [squares.sqrt(), projection]
}

#[track_caller]
fn assert_close(found: f64, expected: f64, scale: f64, what: &str) {
    let difference = (found - expected).abs() / scale;
    assert!(
        difference <= reference().tolerance,
        "{what}: {found} instead of {expected}, off by {difference:.1e}"
    );
}

/// Compares the fingerprint of every tensor; differences are relative to `scale(place)`.
fn assert_tensors(
    found: &Weights,
    names: &[String],
    expected: &[Fingerprint],
    scale: impl Fn(usize) -> f64,
    what: &str,
) {
    assert!(
        found.list().map(|tensor| tensor.name).eq(names),
        "{what}: other tensors"
    );
    for (place, (name, [norm, projection])) in names.iter().zip(expected).enumerate() {
        let [found_norm, found_projection] = fingerprint(&found.values(name).unwrap());
        assert_close(
            found_norm,
            *norm,
            scale(place),
            &format!("{what}, norm of {name}"),
        );
        assert_close(
            found_projection,
            *projection,
            scale(place),
            &format!("{what}, projection of {name}"),
        );
    }
}

fn assert_trajectory(found: &Trajectory, expected: &Expected, case: &str) {
    assert_eq!(
        (found.losses.len(), found.norms.len(), found.gradients.len()),
        (STEPS, STEPS, STEPS),
        "{case}"
    );
    let largest_norm = expected.norms.iter().copied().fold(0.0, f64::max);
    for step in 0..STEPS {
        let what = |quantity: &str| format!("{case}, {quantity} of step {}", step + 1);
        let (loss, norm) = (expected.losses[step], expected.norms[step]);
        assert_close(
            found.losses[step].into(),
            loss,
            loss.abs().max(1.0),
            &what("loss"),
        );
        assert_close(
            found.norms[step].into(),
            norm,
            norm.max(reference().norm_floor * largest_norm),
            &what("norm"),
        );
    }
    assert_eq!(
        expected.gradients.keys().collect::<Vec<_>>(),
        [&1, &10, &20],
        "{case}"
    );
    let largest = |place: usize| {
        expected
            .gradients
            .values()
            .map(|step| step[place][0])
            .fold(0.0, f64::max)
    };
    for (&step, gradients) in &expected.gradients {
        let scale = |place| largest(place).max(reference().floor * expected.norms[step - 1]);
        let what = format!("{case}, gradients of step {step}");
        assert_tensors(
            &found.gradients[step - 1],
            &expected.trained,
            gradients,
            scale,
            &what,
        );
    }
    let scale = |place: usize| expected.end[place][0];
    assert_tensors(
        &found.end,
        &expected.saved,
        &expected.end,
        scale,
        &format!("{case}, weights at the end"),
    );
}

fn responses(trained: &Trained) -> Vec<Vec<Vec<u32>>> {
    let updates = trained.problem["updates"].as_array().into_iter().flatten();
    let responses = |update: &serde_json::Value| {
        let rollouts = update["rollouts"].as_array().unwrap();
        rollouts
            .iter()
            .map(|rollout| serde_json::from_value(rollout["response"].clone()).unwrap())
            .collect()
    };
    updates.map(responses).collect()
}

fn assert_agreement(method: &str) {
    for case in cases().iter().filter(|case| case.name.starts_with(method)) {
        for checkpoint in &case.checkpoints {
            let (name, trained) = (case.name_on(checkpoint), case.train(checkpoint));
            let expected = &reference().cases[&name];
            // With other responses, all later values would differ.
            assert_eq!(
                responses(&trained),
                expected.rollouts,
                "{name}: other responses were sampled"
            );
            assert_trajectory(&trained.trajectory, expected, &name);
        }
    }
}

#[test]
fn sft_is_trained_as_by_plain_pytorch() {
    assert_agreement("sft");
}

#[test]
fn spin_is_trained_as_by_plain_pytorch() {
    assert_agreement("spin");
}

#[test]
fn dpo_is_trained_as_by_plain_pytorch() {
    assert_agreement("dpo");
}

#[test]
fn ipo_is_trained_as_by_plain_pytorch() {
    assert_agreement("ipo");
}

#[test]
fn iq_learn_is_trained_as_by_plain_pytorch() {
    assert_agreement("iq-learn");
}

#[test]
fn rewards_are_trained_as_by_plain_pytorch() {
    assert_agreement("reward");
}

#[test]
fn ppo_is_trained_as_by_plain_pytorch() {
    assert_agreement("ppo");
}

#[test]
fn rloo_is_trained_as_by_plain_pytorch() {
    assert_agreement("rloo");
}

#[test]
fn grpo_is_trained_as_by_plain_pytorch() {
    assert_agreement("grpo");
}

#[test]
fn the_reference_has_every_case_and_both_kinds_of_rollouts() {
    let cases = cases();
    let on_each = |case: &Case| {
        case.checkpoints
            .iter()
            .map(|checkpoint| case.name_on(checkpoint))
            .collect::<Vec<_>>()
    };
    let mut names: Vec<String> = cases.iter().flat_map(on_each).collect();
    names.sort();
    assert_eq!(names, reference().cases.keys().cloned().collect::<Vec<_>>());
    let sampled = |name: &str| {
        let methods = ["/ppo", "/rloo", "/grpo"];
        methods.iter().any(|method| name.contains(method))
    };
    for (name, expected) in reference().cases.iter().filter(|(name, _)| sampled(name)) {
        let (mut ended, mut cut) = (0, 0);
        for response in expected.rollouts.iter().flatten() {
            *(if response.last() == Some(&EOS) {
                &mut ended
            } else {
                &mut cut
            }) += 1;
        }
        assert!(
            ended > 0 && cut > 0,
            "{name}: {ended} responses end, {cut} do not"
        );
    }
}

/// Writes every case into the folder TOUCHSTONE_PARITY for `compare.py`.
#[test]
#[ignore = "a program that `just parity` starts"]
fn write_trajectories() {
    let folder = std::env::var("TOUCHSTONE_PARITY").expect("TOUCHSTONE_PARITY names a folder");
    for case in cases() {
        for checkpoint in &case.checkpoints {
            write(
                &Path::new(&folder).join(case.name_on(checkpoint)),
                &case.train(checkpoint),
            );
        }
    }
}

fn write(folder: &Path, trained: &Trained) {
    fs::create_dir_all(folder).unwrap();
    let Trajectory {
        losses,
        norms,
        gradients,
        end,
    } = &trained.trajectory;
    let trajectory = serde_json::json!({"losses": losses, "norms": norms});
    fs::write(folder.join("problem.json"), trained.problem.to_string()).unwrap();
    fs::write(folder.join("trajectory.json"), trajectory.to_string()).unwrap();
    let weights = |name: &str, weights: &Weights| {
        weights
            .write(&folder.join(format!("{name}.safetensors")), StoredAs::F32)
            .unwrap();
    };
    weights("start", &trained.start);
    weights("end", end);
    if let Some((name, second)) = &trained.second {
        weights(name, second);
    }
    for (step, gradients) in gradients.iter().enumerate() {
        weights(&format!("gradients-{}", step + 1), gradients);
    }
}
