//! Student's t distribution, central and noncentral.

use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

/// The degrees of freedom beyond which t and the normal agree to about 1e-7, which is the accuracy
/// of the incomplete beta function behind t.
const NEARLY_NORMAL: f64 = 1e7;

fn student(freedom: f64) -> Option<StudentsT> {
    StudentsT::new(
        0.0,
        1.0,
        if freedom > NEARLY_NORMAL {
            f64::INFINITY
        } else {
            freedom
        },
    )
    .ok()
}

/// The quantile of |T| below which its share `level` lies. Not a number if `freedom` isn't
/// positive.
pub(super) fn two_sided_quantile(level: f64, freedom: f64) -> f64 {
    upper_quantile((1.0 - level) / 2.0, freedom)
}

/// The t that T exceeds with probability `tail`. Not a number if `freedom` isn't positive.
pub(super) fn upper_quantile(tail: f64, freedom: f64) -> f64 {
    if freedom > NEARLY_NORMAL {
        return -Normal::standard().inverse_cdf(tail);
    }
    let Some(student) = student(freedom) else {
        return f64::NAN;
    };
    // The library's inverse loses digits at many degrees of freedom; its tail does not, so Newton's
    // method restores them.
    (0..3).fold(-student.inverse_cdf(tail), |t, _| {
        let better = t + (student.sf(t) - tail) / student.pdf(t);
        if better.is_finite() { better } else { t }
    })
}

/// The probability P(|T| ≥ |t|).
pub(super) fn two_sided_p(t: f64, freedom: f64) -> f64 {
    (2.0 * upper_tail(t.abs(), freedom)).min(1.0)
}

/// The probability P(T ≥ t).
pub(super) fn upper_tail(t: f64, freedom: f64) -> f64 {
    student(freedom).map_or(f64::NAN, |student| student.sf(t))
}

/// The probability P(T ≥ t) for noncentral T = (Z + `shift`) / S, with S² = χ²/`freedom`
/// independent of the standard normal Z.
///
/// Computed by conditioning on S: ∫ Φ(shift − t·s) f(s) ds with f(s) = 2 (ν/2)^{ν/2} s^{ν−1} exp(−ν
/// s²/2) / Γ(ν/2), by Simpson's rule over ten standard deviations of S, fine enough to follow Φ
/// where t is large.
pub(super) fn noncentral_upper_tail(t: f64, freedom: f64, shift: f64) -> f64 {
    const DEVIATIONS: f64 = 10.0;
    let spread = DEVIATIONS / (2.0 * freedom).sqrt();
    let (low, high) = ((1.0 - spread).max(0.0), 1.0 + spread);
    let pieces = 2 * (256.0_f64.max(8.0 * t.abs() * (high - low))).ceil() as usize;
    let step = (high - low) / pieces as f64;
    let half = freedom / 2.0;
    let log_scale = 2.0_f64.ln() + half * half.ln() - ln_gamma(half);
    let density = |s: f64| {
        let log_power = if freedom == 1.0 {
            0.0
        } else {
            (freedom - 1.0) * s.ln()
        };
        (log_scale + log_power - half * s * s).exp()
    };
    let normal = Normal::standard();
    let integral: f64 = (0..=pieces)
        .map(|i| {
            let s = low + step * i as f64;
            let weight = if i == 0 || i == pieces {
                1.0
            } else if i % 2 == 1 {
                4.0
            } else {
                2.0
            };
            weight * normal.cdf(shift - t * s) * density(s)
        })
        .sum();
    (integral * step / 3.0).clamp(0.0, 1.0)
}
