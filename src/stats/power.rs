//! What a paired comparison of so many seeds can see, and how many seeds it takes to see an effect.

use super::student::{noncentral_upper_tail, upper_quantile};

/// Beyond this many seeds the answer is "no number of seeds that anyone will run".
const MOST_SEEDS: usize = 1_000_000;

/// The power of the two-sided paired t test over `n` pairs at a standardised effect `d` (mean difference over the
/// standard deviation of the differences), from the noncentral t distribution (Cohen 1988). `None` below two pairs and
/// for an `alpha` outside (0, 1).
pub fn paired_power(d: f64, n: usize, alpha: f64) -> Option<f64> {
    if n < 2 || !d.is_finite() || !in_open_unit(alpha) {
        return None;
    }
    Some(power_at_shift(d.abs() * (n as f64).sqrt(), n, alpha))
}

fn power_at_shift(shift: f64, n: usize, alpha: f64) -> f64 {
    let freedom = n as f64 - 1.0;
    let critical = upper_quantile(alpha / 2.0, freedom);
    let wrong_side = noncentral_upper_tail(critical, freedom, -shift);
    (noncentral_upper_tail(critical, freedom, shift) + wrong_side).min(1.0)
}

/// The smallest true mean difference that the two-sided paired t test over `n` pairs finds with probability `power`,
/// when differences have the standard deviation `sd`: solved on the noncentral t distribution, so it is right for few
/// pairs, where the normal approximation is optimistic. `None` if undefined: fewer than two pairs, no spread, or a
/// `power` not above `alpha` (which any effect reaches).
pub fn minimum_detectable_effect(sd: f64, n: usize, alpha: f64, power: f64) -> Option<f64> {
    let spread = sd.is_finite() && sd > 0.0;
    if n < 2 || !spread || !in_open_unit(alpha) || !in_open_unit(power) || power <= alpha {
        return None;
    }
    let shift = increasing_root(|shift| power_at_shift(shift, n, alpha) - power)?;
    Some(shift * sd / (n as f64).sqrt())
}

/// The fewest paired seeds (at least 2) at which the two-sided paired t test finds a true mean difference `effect` with
/// probability `power`. `None` if no number does: no effect, no spread to judge by, or more than a million.
pub fn seeds_needed(effect: f64, sd: f64, alpha: f64, power: f64) -> Option<usize> {
    let defined = effect.is_finite() && effect != 0.0 && sd.is_finite() && sd > 0.0;
    if !defined || !in_open_unit(alpha) || !in_open_unit(power) {
        return None;
    }
    fewest(|n| paired_power(effect / sd, n, alpha).is_some_and(|reached| reached >= power))
}

/// The fewest paired seeds at which two one-sided tests at `alpha` show that the difference lies within ±`margin` with
/// probability at least `power`, if its true value is `difference`. Bounded by one minus the chances that either test
/// fails, which is slightly pessimistic. `None` if `difference` is not inside the margin or there is no spread.
pub fn seeds_needed_for_equivalence(difference: f64, sd: f64, margin: f64, alpha: f64, power: f64) -> Option<usize> {
    let inside = difference.abs() < margin && margin.is_finite();
    let spread = sd.is_finite() && sd > 0.0;
    if !inside || !spread || !in_open_unit(alpha) || !in_open_unit(power) {
        return None;
    }
    let one_sided = |room: f64, n: usize| {
        let freedom = n as f64 - 1.0;
        noncentral_upper_tail(upper_quantile(alpha, freedom), freedom, room / sd * (n as f64).sqrt())
    };
    fewest(|n| one_sided(margin - difference, n) + one_sided(margin + difference, n) - 1.0 >= power)
}

fn in_open_unit(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

/// The smallest n ≥ 2 that is `enough`, for a property that once true stays true.
fn fewest(enough: impl Fn(usize) -> bool) -> Option<usize> {
    let mut high = 2;
    while !enough(high) {
        if high >= MOST_SEEDS {
            return None;
        }
        high = (high * 2).min(MOST_SEEDS);
    }
    let mut low = high / 2;
    if low < 2 {
        return Some(high);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// The positive zero of an increasing function that is negative at 0: bracket by doubling, then the Illinois variant of
/// false position. `None` if it never becomes positive.
fn increasing_root(f: impl Fn(f64) -> f64) -> Option<f64> {
    let (mut low, mut at_low) = (0.0, f(0.0));
    let (mut high, mut at_high) = (4.0, f(4.0));
    while at_high < 0.0 {
        if high > 1e9 {
            return None;
        }
        (low, at_low) = (high, at_high);
        high *= 2.0;
        at_high = f(high);
    }
    let mut last_side = 0.0;
    for _ in 0..200 {
        let middle = high - at_high * (high - low) / (at_high - at_low);
        let value = f(middle);
        if value.abs() < 1e-12 || (high - low) < 1e-12 * high {
            return Some(middle);
        }
        if value > 0.0 {
            (high, at_high) = (middle, value);
            if last_side > 0.0 {
                at_low /= 2.0;
            }
        } else {
            (low, at_low) = (middle, value);
            if last_side < 0.0 {
                at_high /= 2.0;
            }
        }
        last_side = value;
    }
    Some((low + high) / 2.0)
}
