//! Power of paired comparisons: the effects that a number of seeds can detect, and the seeds that
//! an effect needs.

use super::student::{noncentral_upper_tail, upper_quantile};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The number of seeds beyond which no answer is given, since nobody would run as many.
const MOST_SEEDS: usize = 1_000_000;

/// The power of the two-sided paired t test over `n` pairs at a standardised effect `d` (mean
/// difference over the standard deviation of the differences), from the noncentral t distribution
/// (Cohen 1988). `None` below two pairs and for an `alpha` outside (0, 1).
pub fn paired_power(d: f64, n: usize, alpha: f64) -> Option<f64> {
    if n < 2 || !d.is_finite() || !in_open_unit(alpha) {
        return None;
    }
    let shift = d.abs() * (n as f64).sqrt();
    Some(power_at_shift(shift, n as f64 - 1.0, alpha))
}

fn power_at_shift(shift: f64, freedom: f64, alpha: f64) -> f64 {
    let critical = upper_quantile(alpha / 2.0, freedom);
    let wrong_side = noncentral_upper_tail(critical, freedom, -shift);
    (noncentral_upper_tail(critical, freedom, shift) + wrong_side).min(1.0)
}

/// The smallest true mean difference that the two-sided paired t test over `n` pairs finds with
/// probability `power`, when differences have the standard deviation `sd`: solved on the noncentral
/// t distribution, so it is also right for few pairs, for which the normal approximation is
/// optimistic. `None` if undefined: fewer than two pairs, no spread, or a `power` not above `alpha`
/// (which any effect reaches).
pub fn minimum_detectable_effect(sd: f64, n: usize, alpha: f64, power: f64) -> Option<f64> {
    if n < 2 {
        return None;
    }
    detectable_effect(sd / (n as f64).sqrt(), n as f64 - 1.0, alpha, power)
}

/// The smallest true value that the two-sided t test of an estimate finds with probability `power`,
/// when the estimate has the standard error `se` with `freedom` degrees of freedom. `None` if
/// undefined: no error, no degree of freedom, or a `power` not above `alpha`.
pub fn detectable_effect(se: f64, freedom: f64, alpha: f64, power: f64) -> Option<f64> {
    let defined = se.is_finite() && se > 0.0 && freedom > 0.0;
    if !defined || !in_open_unit(alpha) || !in_open_unit(power) || power <= alpha {
        return None;
    }
    Some(detectable_shift(freedom, alpha, power)? * se)
}

/// The noncentrality at which the test has this power. It is cached, because solving takes a
/// millisecond and a report asks for the same one thousands of times.
fn detectable_shift(freedom: f64, alpha: f64, power: f64) -> Option<f64> {
    static SOLVED: Mutex<BTreeMap<[u64; 3], Option<f64>>> = Mutex::new(BTreeMap::new());
    let key = [freedom, alpha, power].map(f64::to_bits);
    let solved = || SOLVED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shift) = solved().get(&key) {
        return *shift;
    }
    let shift = increasing_root(|shift| power_at_shift(shift, freedom, alpha) - power);
    solved().insert(key, shift);
    shift
}

/// The fewest paired seeds (at least 2) at which the two-sided paired t test finds a true mean
/// difference `effect` with probability `power`. `None` if there is no such number: no effect, no
/// spread, or more than a million seeds.
pub fn seeds_needed(effect: f64, sd: f64, alpha: f64, power: f64) -> Option<usize> {
    let defined = effect.is_finite() && effect != 0.0 && sd.is_finite() && sd > 0.0;
    if !defined || !in_open_unit(alpha) || !in_open_unit(power) {
        return None;
    }
    let enough = |n| paired_power(effect / sd, n, alpha).is_some_and(|reached| reached >= power);
    fewest(by_normal(effect / sd, alpha / 2.0, 1.0 - power), enough)
}

/// The fewest paired seeds at which two one-sided tests at `alpha` show that the difference lies
/// within ±`margin` with probability at least `power`, if its true value is `difference`. Bounded
/// by one minus the chances that either test fails, which is slightly pessimistic. `None` if
/// `difference` is not inside the margin or there is no spread.
pub fn seeds_needed_for_equivalence(
    difference: f64,
    sd: f64,
    margin: f64,
    alpha: f64,
    power: f64,
) -> Option<usize> {
    let inside = difference.abs() < margin && margin.is_finite();
    let spread = sd.is_finite() && sd > 0.0;
    if !inside || !spread || !in_open_unit(alpha) || !in_open_unit(power) {
        return None;
    }
    let one_sided = |room: f64, n: usize| {
        let freedom = n as f64 - 1.0;
        noncentral_upper_tail(
            upper_quantile(alpha, freedom),
            freedom,
            room / sd * (n as f64).sqrt(),
        )
    };
    let enough =
        |n| one_sided(margin - difference, n) + one_sided(margin + difference, n) - 1.0 >= power;
    fewest(
        by_normal((margin - difference.abs()) / sd, alpha, 1.0 - power),
        enough,
    )
}

fn in_open_unit(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

/// The number of pairs that would be needed if their spread were known, as the start of a search.
fn by_normal(d: f64, error: f64, miss: f64) -> usize {
    let quantile = |tail| upper_quantile(tail, f64::INFINITY);
    let pairs = ((quantile(error) + quantile(miss)) / d).powi(2);
    (pairs.clamp(2.0, MOST_SEEDS as f64)).ceil() as usize
}

/// The smallest n ≥ 2 that is `enough`, for a property that once true stays true. The search starts
/// at `guess` and doubles its steps, since each check takes a millisecond.
fn fewest(guess: usize, enough: impl Fn(usize) -> bool) -> Option<usize> {
    // The invariant from here on: `low` is not enough or is 1, and `high` is enough.
    let (mut low, mut high) = (1, guess);
    let mut step = 1;
    if enough(guess) {
        while guess > low + step {
            if !enough(guess - step) {
                low = guess - step;
                break;
            }
            high = guess - step;
            step *= 2;
        }
    } else {
        low = guess;
        loop {
            if low >= MOST_SEEDS {
                return None;
            }
            high = (guess + step).min(MOST_SEEDS);
            if enough(high) {
                break;
            }
            low = high;
            step *= 2;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle
        } else {
            low = middle
        }
    }
    Some(high)
}

/// The positive zero of an increasing function that is negative at 0: bracket by doubling, then the
/// Illinois variant of false position. `None` if it never becomes positive.
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

#[cfg(test)]
mod tests {
    use super::fewest;

    #[test]
    fn the_fewest_do_not_depend_on_where_the_search_begins() {
        for wanted in [2, 3, 7, 100, 999_999, 1_000_000] {
            for guess in [2, 3, 6, 7, 8, 99, 2000, 1_000_000] {
                assert_eq!(fewest(guess, |n| n >= wanted), Some(wanted), "from {guess}");
            }
        }
        assert_eq!(fewest(5, |_| false), None);
    }
}
