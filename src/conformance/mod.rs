//! Conformance tests of a device. Small models with fixed random weights go through all
//! computations of a study: logits, log-probabilities, scores, losses, every gradient, optimiser
//! steps, sampled tokens, a PPO update.
//!
//! Every device is compared with float64: with the results of plain PyTorch on the same weights and
//! rows, one sequence at a time (tests/parity/conformance.py). A device other than the default one
//! is also compared with the default one, on a model that is too large to keep a reference of as
//! well; and bf16 is compared with f32 on the device itself. docs/backends.md has numbers.

mod compare;
mod observe;
pub mod problem;
pub mod recorder;

pub use compare::{Difference, Tensors, difference};
pub use observe::{Observed, PolicyStep, Quantity, policy_step, tensors};

use crate::device::DeviceSpec;
use crate::methods::training::Dtype;
use crate::{Context, Result, device};
use problem::Problem;
use safetensors::SafeTensors;
use serde::Serialize;

/// Reference values, written by `tests/parity/conformance.py --write`: computed in float64 and
/// stored in float32, which changes a number by at most 6e-8 of itself.
static REFERENCE: &[u8] = include_bytes!("reference.safetensors");

/// One quantity of one problem, compared with its expected value.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub problem: &'static str,
    /// The reference of the comparison.
    pub against: &'static str,
    pub quantity: Quantity,
    #[serde(flatten)]
    pub difference: Difference,
    /// The largest relative difference that rounding explains; `None` if rounding can make any.
    pub tolerance: Option<f64>,
    /// True also of what is not judged.
    pub agrees: bool,
}

/// The largest relative difference of a quantity that rounding explains.
type Tolerance = fn(Quantity) -> Option<f64>;

fn in_f32(quantity: Quantity) -> Option<f64> {
    Some(quantity.tolerance())
}

/// Compares the device `spec` with the reference, with itself in bf16, and, if it is another
/// device, with the default device.
///
/// # Errors
/// A device that is not built in, or computations that end in numbers that are not finite.
pub fn run(spec: DeviceSpec) -> Result<Vec<Finding>> {
    let here = device::select(spec)?;
    let default = (spec != device::DEFAULT)
        .then(|| device::select(device::DEFAULT))
        .transpose()?;
    let tolerance: Tolerance = match spec.multiplies_in_tf32() {
        true => Quantity::tolerance_in_tf32,
        false => in_f32,
    };
    let mut findings = Vec::new();
    for problem in problem::all() {
        let found = observe::observe(&problem, &here)?;
        let mut compare = |against, found: &Observed, expected: &Observed, tolerance: Tolerance| {
            findings.extend(compared(problem.name, against, found, expected, tolerance));
        };
        if let Some(expected) = reference(&problem)? {
            compare("float64", &found, &expected, tolerance);
        }
        if let Some(default) = &default {
            compare(
                device::DEFAULT.backend(),
                &found,
                &observe::observe(&problem, default)?,
                tolerance,
            );
        }
        if here.supports_dtype(Dtype::Bf16.float()) {
            let halved = observe::training(&problem, &here, Dtype::Bf16)?;
            compare("f32, in bf16", &halved, &found, |_| Some(observe::BF16));
        }
    }
    Ok(findings)
}

/// A finding for every quantity of `found`.
fn compared(
    problem: &'static str,
    against: &'static str,
    found: &Observed,
    expected: &Observed,
    tolerance: Tolerance,
) -> Vec<Finding> {
    let empty = Tensors::new();
    let other_tokens = found.get(&Quantity::PpoTokens) != expected.get(&Quantity::PpoTokens);
    let finding = |(&quantity, tensors): (&Quantity, &Tensors)| {
        let difference = difference(tensors, expected.get(&quantity).unwrap_or(&empty));
        // Where other tokens are no fault, neither is what follows from them.
        let excused =
            tolerance(Quantity::PpoTokens).is_none() && other_tokens && quantity.follows_tokens();
        let tolerance = tolerance(quantity).filter(|_| !excused);
        let agrees = tolerance.is_none_or(|tolerance| difference.relative <= tolerance);
        Finding {
            problem,
            against,
            quantity,
            difference,
            tolerance,
            agrees,
        }
    };
    found.iter().map(finding).collect()
}

/// The float64 results for `problem`, if they are stored.
fn reference(problem: &Problem) -> Result<Option<Observed>> {
    let damaged = || "the reference of the conformance suite cannot be read".to_owned();
    let file = SafeTensors::deserialize(REFERENCE).context(damaged)?;
    let mut observed = Observed::new();
    for (name, tensor) in file.tensors() {
        let mut parts = name.splitn(3, '/');
        let (of, quantity, name) = (
            parts.next(),
            parts.next().and_then(Quantity::named),
            parts.next(),
        );
        if let (true, Some(quantity), Some(name)) = (of == Some(problem.name), quantity, name) {
            let values = tensor
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            observed
                .entry(quantity)
                .or_default()
                .insert(name.to_owned(), values);
        }
    }
    Ok((!observed.is_empty()).then_some(observed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every compared quantity disagrees once one number is disturbed by ten times the tolerance.
    #[test]
    fn one_disturbed_number_of_any_quantity_is_found() {
        for problem in problem::all() {
            let Some(expected) = reference(&problem).unwrap() else {
                continue;
            };
            assert_eq!(
                expected.len(),
                Quantity::ALL.len(),
                "{}: a quantity without a reference",
                problem.name
            );
            let same = compared(problem.name, "itself", &expected, &expected, in_f32);
            assert!(
                same.iter()
                    .all(|finding| finding.agrees && finding.difference.absolute == 0.0)
            );
            for quantity in Quantity::ALL {
                let mut found = expected.clone();
                let (name, values) = found.get_mut(&quantity).unwrap().iter_mut().last().unwrap();
                let (place, largest) = values
                    .iter()
                    .copied()
                    .enumerate()
                    .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
                    .unwrap();
                values[place] = largest
                    + (10.0 * quantity.tolerance() as f32).max(1e-6) * largest.abs().max(1.0);
                let (name, findings) = (
                    name.clone(),
                    compared(problem.name, "a disturbance", &found, &expected, in_f32),
                );
                let wrong: Vec<_> = findings.iter().filter(|finding| !finding.agrees).collect();
                assert_eq!(wrong.len(), 1, "{}, {quantity}: {wrong:?}", problem.name);
                assert_eq!(
                    (wrong[0].quantity, &wrong[0].difference.tensor),
                    (quantity, &name)
                );
            }
        }
    }

    #[test]
    fn what_is_missing_is_a_disagreement() {
        let parallel = problem::all().swap_remove(0);
        let whole = reference(&parallel).unwrap().unwrap();
        let mut part = whole.clone();
        part.get_mut(&Quantity::SftGradients).unwrap().pop_first();
        for (found, expected) in [(&part, &whole), (&whole, &part)] {
            let findings = compared("parallel", "a part", found, expected, in_f32);
            assert!(
                findings
                    .iter()
                    .any(|finding| finding.quantity == Quantity::SftGradients && !finding.agrees)
            );
        }
    }

    #[test]
    fn other_tokens_in_tf32_excuse_what_follows_from_them_and_nothing_else() {
        let parallel = problem::all().swap_remove(0);
        let whole = reference(&parallel).unwrap().unwrap();
        let disturbed = |quantities: &[Quantity]| {
            let mut found = whole.clone();
            for quantity in quantities {
                let tensors = found.get_mut(quantity).unwrap();
                tensors.values_mut().for_each(|values| values[0] += 1.0);
            }
            let tolerance = Quantity::tolerance_in_tf32;
            let findings = compared("parallel", "a disturbance", &found, &whole, tolerance);
            let wrong = findings.iter().filter(|finding| !finding.agrees);
            wrong.map(|finding| finding.quantity).collect::<Vec<_>>()
        };
        let (tokens, losses) = (Quantity::PpoTokens, Quantity::PpoLosses);
        assert_eq!(disturbed(&[tokens, losses]), []);
        assert_eq!(disturbed(&[Quantity::SampledTokens]), []);
        assert_eq!(disturbed(&[losses]), [losses]);
        assert_eq!(disturbed(&[tokens, Quantity::Logits]), [Quantity::Logits]);
    }
}
