//! Differences between two sets of tensors.

use serde::Serialize;
use std::collections::BTreeMap;

/// Values by the name of their tensor.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// A tensor counts as small below this share of the largest number of its set: some gradients, such
/// as that of a bias that moves both scores of a pair alike, are zero in exact arithmetic, and
/// their computed values are rounding alone.
const FLOOR: f64 = 1e-3;

/// The largest difference between two sets of tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Largest difference of one number.
    pub absolute: f64,
    /// Largest difference of one number, divided by the largest number of its tensor, or by 1e-3 of
    /// the largest number of all tensors if that is more. Infinite where a tensor or a number is
    /// missing or not finite.
    pub relative: f64,
    /// The tensor with the largest relative difference; empty if nothing differs.
    pub tensor: String,
}

/// The largest differences between `found` and `expected`.
pub fn difference(found: &Tensors, expected: &Tensors) -> Difference {
    let floor = FLOOR
        * expected
            .values()
            .map(|values| largest(values))
            .fold(0.0, f64::max);
    let mut worst = Difference::default();
    for name in found
        .keys()
        .chain(expected.keys().filter(|name| !found.contains_key(*name)))
    {
        let (absolute, scale) = match (found.get(name), expected.get(name)) {
            (Some(found), Some(expected)) => (apart(found, expected), largest(expected).max(floor)),
            _ => (f64::INFINITY, 1.0),
        };
        let relative = if absolute == 0.0 {
            0.0
        } else {
            absolute / scale
        };
        worst.absolute = worst.absolute.max(absolute);
        if relative > worst.relative {
            (worst.relative, worst.tensor) = (relative, name.clone());
        }
    }
    worst
}

fn largest(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |largest, &value| f64::from(value).abs().max(largest))
}

/// The largest difference between two numbers at the same place.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let differences = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    differences.fold(0.0, |worst, difference| {
        if difference.is_finite() {
            difference.max(worst)
        } else {
            f64::INFINITY
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(values: &[(&str, &[f32])]) -> Tensors {
        values
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.to_vec()))
            .collect()
    }

    #[test]
    fn a_difference_is_relative_to_its_tensor_s_largest_number() {
        let expected = tensors(&[("a", &[1.0, -4.0]), ("b", &[100.0])]);
        let found = tensors(&[("a", &[1.5, -4.0]), ("b", &[100.0])]);
        assert_eq!(
            difference(&found, &expected),
            Difference {
                absolute: 0.5,
                relative: 0.125,
                tensor: "a".into()
            }
        );
        assert_eq!(difference(&expected, &expected), Difference::default());
    }

    #[test]
    fn a_tensor_that_should_be_zero_is_measured_by_its_neighbours() {
        let expected = tensors(&[("a", &[1000.0]), ("zero", &[0.0])]);
        let found = tensors(&[("a", &[1000.0]), ("zero", &[0.25])]);
        assert_eq!(difference(&found, &expected).relative, 0.25);
    }

    #[test]
    fn what_cannot_be_compared_is_infinitely_far() {
        let expected = tensors(&[("a", &[1.0, 2.0])]);
        for found in [
            tensors(&[("a", &[1.0])]),
            tensors(&[("a", &[1.0, f32::NAN])]),
            tensors(&[("b", &[1.0, 2.0])]),
            Tensors::new(),
        ] {
            assert_eq!(
                difference(&found, &expected).relative,
                f64::INFINITY,
                "{found:?}"
            );
        }
    }
}
