//! The judge's own variance: the same answers judged several times.

use serde::{Deserialize, Serialize};

/// The scores of one item over repetitions; `None` where a repetition gave none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    pub question_id: u64,
    pub turn: u8,
    pub scores: Vec<Option<f64>>,
}

/// The variation of a judge over repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    pub repetitions: usize,
    /// Items with at least two scores.
    pub items: usize,
    /// Items with fewer than two scores, which are left out.
    pub left_out: usize,
    /// The mean over items of the standard deviation (n − 1) between repetitions.
    pub mean_deviation: Option<f64>,
    /// The largest of these deviations.
    pub largest_deviation: Option<f64>,
    /// The share of items whose scores are not all the same.
    pub share_that_varies: Option<f64>,
    /// The standard deviation (n − 1) of the repetitions' means over the items that all of them
    /// have scored.
    pub deviation_of_means: Option<f64>,
}

impl Repeated {
    /// The standard deviation (n − 1) of the scores; `None` for fewer than two.
    pub fn deviation(&self) -> Option<f64> {
        let scores: Vec<f64> = self.scores.iter().copied().flatten().collect();
        deviation(&scores)
    }
}

/// The variation over items.
pub fn variation(items: &[Repeated]) -> Variation {
    let deviations: Vec<f64> = items.iter().filter_map(Repeated::deviation).collect();
    let repetitions = items.first().map_or(0, |item| item.scores.len());
    let share =
        |count: usize| (!deviations.is_empty()).then(|| count as f64 / deviations.len() as f64);
    let whole: Vec<Vec<f64>> = items
        .iter()
        .filter_map(|item| item.scores.iter().copied().collect())
        .collect();
    let means: Vec<f64> = (0..repetitions)
        .filter_map(|index| mean(&whole.iter().map(|scores| scores[index]).collect::<Vec<_>>()))
        .collect();
    Variation {
        repetitions,
        items: deviations.len(),
        left_out: items.len() - deviations.len(),
        mean_deviation: mean(&deviations),
        largest_deviation: deviations.iter().copied().reduce(f64::max),
        share_that_varies: share(
            deviations
                .iter()
                .filter(|deviation| **deviation > 0.0)
                .count(),
        ),
        deviation_of_means: deviation(&means),
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_are_those_between_repetitions() {
        let item = |scores: &[Option<f64>]| Repeated {
            question_id: 1,
            turn: 1,
            scores: scores.to_vec(),
        };
        let items = [
            item(&[Some(4.0), Some(6.0), Some(8.0)]),
            item(&[Some(5.0), Some(5.0), Some(5.0)]),
            item(&[Some(1.0), None, Some(3.0)]),
            item(&[None, Some(9.0), None]),
        ];
        let found = variation(&items);
        assert_eq!((found.repetitions, found.items, found.left_out), (3, 3, 1));
        // statistics.stdev: 2, 0 and √2; means of the first two items: 4.5, 5.5, 6.5.
        let close = |value: Option<f64>, expected: f64| (value.unwrap() - expected).abs() < 1e-12;
        assert!(close(found.mean_deviation, (2.0 + 2_f64.sqrt()) / 3.0));
        assert!(close(found.largest_deviation, 2.0));
        assert!(close(found.share_that_varies, 2.0 / 3.0));
        assert!(close(found.deviation_of_means, 1.0));
        assert_eq!(variation(&[]).mean_deviation, None);
    }
}
