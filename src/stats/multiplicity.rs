//! p-values of several tests, adjusted for their number.

/// Holm's step-down adjustment, which bounds the probability of any false rejection whatever the
/// dependence (Holm 1979). Results are in the order given; a p-value that is not a number counts as
/// 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest
            .max(defined(p[index]) * (p.len() - rank) as f64)
            .min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

/// Benjamini and Hochberg's step-up adjustment, which bounds the expected share of false rejections
/// for independent or positively dependent tests (Benjamini and Hochberg 1995). Results are in the
/// order given; a p-value that is not a number counts as 1.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut smallest = 1.0_f64;
    for (rank, index) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(defined(p[index]) * p.len() as f64 / (rank + 1) as f64);
        adjusted[index] = smallest;
    }
    adjusted
}

/// Adjusts a family in which some tests are undefined. These stay undefined but count towards the
/// size of the family, since they were planned.
pub fn adjust_defined(p: &[Option<f64>], adjust: impl Fn(&[f64]) -> Vec<f64>) -> Vec<Option<f64>> {
    let filled: Vec<f64> = p.iter().map(|p| p.unwrap_or(1.0)).collect();
    adjust(&filled)
        .into_iter()
        .zip(p)
        .map(|(adjusted, raw)| raw.map(|_| adjusted))
        .collect()
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| defined(p[*a]).total_cmp(&defined(p[*b])));
    order
}

fn defined(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p }
}
