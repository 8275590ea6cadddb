//! Newton's method for the two small concave fits of this module.

/// A symmetric matrix as rows.
pub(super) type Matrix = Vec<Vec<f64>>;

/// Maximises a concave function from `start` by Newton's method with step halving. `curve` gives
/// the function's value at a point, its gradient and its negated Hessian. `None` if the negated
/// Hessian isn't positive definite or the steps do not converge, as when the maximum is at
/// infinity.
pub(super) fn maximise(
    start: Vec<f64>,
    curve: impl Fn(&[f64]) -> (f64, Vec<f64>, Matrix),
) -> Option<Vec<f64>> {
    const STEPS: usize = 60;
    const TOLERANCE: f64 = 1e-10;
    let mut at = start;
    let (mut value, mut gradient, mut information) = curve(&at);
    for _ in 0..STEPS {
        let step = solve(information, gradient)?;
        if step.iter().all(|step| step.abs() < TOLERANCE) {
            return Some(at);
        }
        let mut share = 1.0;
        loop {
            let next: Vec<f64> = at
                .iter()
                .zip(&step)
                .map(|(at, step)| at + share * step)
                .collect();
            let (next_value, next_gradient, next_information) = curve(&next);
            // Near the maximum a full step changes the value by less than its rounding.
            if next_value >= value - 1e-12 * value.abs() {
                (at, value, gradient, information) =
                    (next, next_value, next_gradient, next_information);
                break;
            }
            share /= 2.0;
            if share < 1e-8 {
                return None;
            }
        }
    }
    None
}

/// Solves `matrix` · x = `right` by Cholesky's factorisation; `None` if the matrix is not clearly
/// positive definite.
fn solve(mut matrix: Matrix, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let inner: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - inner;
            if i == j {
                if rest.is_nan() || rest <= 1e-12 * matrix[i][i].abs() {
                    return None;
                }
                matrix[i][i] = rest.sqrt();
            } else {
                matrix[i][j] = rest / matrix[j][j];
            }
        }
    }
    for i in 0..n {
        let inner: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - inner) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let inner: f64 = (i + 1..n).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - inner) / matrix[i][i];
    }
    Some(right)
}

/// 1 / (1 + exp(−x)).
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// log(1 + exp(x)) without overflow.
pub(super) fn log_one_plus_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
