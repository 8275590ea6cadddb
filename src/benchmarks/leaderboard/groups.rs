//! MMLU's groups: the accuracy of several subjects together, and its standard error.

use super::metrics::{mean, standard_error};

/// A subject's number in a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub mean: f64,
    pub standard_error: f64,
    /// Number of items.
    pub size: usize,
}

impl Part {
    /// The number of a subject; `None` if it has fewer than two items.
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            mean: mean(values)?,
            standard_error: standard_error(values)?,
            size: values.len(),
        })
    }
}

/// The mean of all items: subjects are weighted by their sizes.
pub fn weighted_mean(parts: &[Part]) -> Option<f64> {
    let total: usize = parts.iter().map(|part| part.size).sum();
    let sum: f64 = parts.iter().map(|part| part.mean * part.size as f64).sum();
    (total > 0).then(|| sum / total as f64)
}

/// The mean of subjects' means.
pub fn unweighted_mean(parts: &[Part]) -> Option<f64> {
    let means: Vec<f64> = parts.iter().map(|part| part.mean).collect();
    mean(&means)
}

/// The standard error of the weighted mean since 620d6a1 (2024-02): the variance within subjects,
/// pooled, as if the items were one sample.
pub fn pooled_standard_error(parts: &[Part]) -> Option<f64> {
    let total: usize = parts.iter().map(|part| part.size).sum();
    let freedom = total
        .checked_sub(parts.len())
        .filter(|freedom| *freedom > 0)?;
    let squares = parts.iter().map(|part| {
        let size = part.size as f64;
        (size - 1.0) * part.standard_error.powi(2) * size
    });
    Some((squares.sum::<f64>() / freedom as f64 / total as f64).sqrt())
}

/// The standard error that 46c7966 prints for a group (`evaluator.py` l. 500-522), for comparison
/// alone: its recursion takes squared standard errors for variances and the new mean for the old one,
/// and is about three times too large.
pub fn standard_error_at_46c7966(parts: &[Part]) -> Option<f64> {
    let (first, others) = parts.split_first()?;
    let (mut total, mut mean) = (first.size as f64, first.mean);
    let mut variance = first.standard_error.powi(2);
    for part in others {
        let size = part.size as f64;
        mean = (mean * total + part.mean * size) / (total + size);
        variance = ((total - 1.0) * variance + (size - 1.0) * part.standard_error.powi(2))
            / (total + size - 1.0)
            + total * size / ((total + size) * (total + size - 1.0)) * (mean - part.mean).powi(2);
        total += size;
    }
    Some(variance.sqrt())
}

/// The standard error of the unweighted mean of subjects that are fixed: √Σse²/m.
pub fn standard_error_of_unweighted_mean(parts: &[Part]) -> Option<f64> {
    let squares: f64 = parts.iter().map(|part| part.standard_error.powi(2)).sum();
    (!parts.is_empty()).then(|| squares.sqrt() / parts.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_means_of_items() {
        let [a, b] = [[1.0, 0.0, 1.0, 1.0].as_slice(), &[0.0, 1.0]].map(|it| Part::of(it).unwrap());
        let all = [a, b];
        assert!((weighted_mean(&all).unwrap() - 4.0 / 6.0).abs() < 1e-15);
        assert!((unweighted_mean(&all).unwrap() - 0.625).abs() < 1e-15);
        // Squares within: 0.75 and 0.5, of 4 degrees of freedom, over 6 items.
        let expected = (1.25_f64 / 4.0 / 6.0).sqrt();
        assert!((pooled_standard_error(&all).unwrap() - expected).abs() < 1e-15);
        assert_eq!(Part::of(&[1.0]), None);
        assert_eq!(pooled_standard_error(&[]), None);
    }
}
