//! Conversion of numbers to text in one place, so that every table, figure and sentence rounds
//! alike.

/// The text for a value that is not defined.
pub const NOT_AVAILABLE: &str = "n/a";

/// The value with `decimals` digits after the point; a rounded zero has no sign.
pub fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return NOT_AVAILABLE.to_owned();
    }
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) => digits.to_owned(),
        _ => text,
    }
}

/// The text of [`fixed`] with a sign, except for values rounded to zero.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = fixed(value, decimals);
    let positive = value > 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if positive { format!("+{text}") } else { text }
}

/// The text of [`fixed`], or `n/a`.
pub fn optional(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| NOT_AVAILABLE.to_owned(), |value| fixed(value, decimals))
}

/// A point with its interval: `0.712 [0.690, 0.734]`, or `0.712 [n/a]` if the interval is not
/// defined.
pub fn estimate(
    point: Option<f64>,
    interval: Option<(f64, f64)>,
    number: impl Fn(f64) -> String,
) -> String {
    match (point, interval) {
        (None, _) => NOT_AVAILABLE.to_owned(),
        (Some(point), None) => format!("{} [{NOT_AVAILABLE}]", number(point)),
        (Some(point), Some((low, high))) => {
            format!("{} [{}, {}]", number(point), number(low), number(high))
        }
    }
}

/// A p-value with three significant digits and at most three decimals, and never as a bare zero.
pub fn p_value(p: Option<f64>) -> String {
    match p {
        Some(p) if p.is_finite() && p < 0.001 => "<0.001".to_owned(),
        Some(p) if p < 0.1 => fixed(p, 4).trim_end_matches('0').to_owned(),
        other => optional(other, 3),
    }
}

/// A number on an axis with up to four significant digits and without needless zeros, `1.5e12` if
/// it is long.
pub fn compact(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return format!("{value}");
    }
    // Rounded by way of text, so that 0.1 + 0.2 is 0.3.
    let short = format!("{value:.3e}").parse::<f64>().unwrap_or(value);
    match short.abs() {
        size if (1e-3..1e6).contains(&size) => format!("{short}"),
        _ => format!("{short:e}"),
    }
}

/// The number of decimals with which a number on an axis is shown.
pub fn decimals_of(value: f64) -> usize {
    let text = compact(value);
    text.split_once('.')
        .filter(|_| !text.contains('e'))
        .map_or(0, |(_, fraction)| fraction.len())
}

/// The number of decimals that leaves three significant digits.
pub fn decimals_for(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        3
    } else {
        (2.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize
    }
}

/// A number with separated thousands, for tokens and seconds: `12,345,678`.
pub fn grouped(value: Option<f64>, decimals: usize) -> String {
    let text = optional(value, decimals);
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let (sign, digits) = whole
        .strip_prefix('-')
        .map_or(("", whole), |digits| ("-", digits));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text;
    }
    let mut out = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A share in percent without needless zeros: `95`, `97.5`.
pub fn percent(share: f64) -> String {
    let text = fixed(100.0 * share, 1);
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A count with its noun: `3 seeds`, `1 seed`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rounded_zero_has_no_sign_and_nothing_is_called_zero_that_is_undefined() {
        assert_eq!(fixed(-0.0004, 3), "0.000");
        assert_eq!(fixed(-0.0006, 3), "-0.001");
        assert_eq!(fixed(f64::NAN, 2), "n/a");
        assert_eq!(
            [0.0004, 0.0006, -0.5].map(|value| signed(value, 3)),
            ["0.000", "+0.001", "-0.500"]
        );
        assert_eq!(
            estimate(Some(1.5), None, |value| fixed(value, 1)),
            "1.5 [n/a]"
        );
        assert_eq!(estimate(None, None, |value| fixed(value, 1)), "n/a");
    }

    #[test]
    fn p_values_are_readable_and_never_zero() {
        let shown = [
            Some(0.0),
            Some(0.00099),
            Some(0.0204474),
            Some(0.05),
            Some(0.125),
            Some(1.0),
            None,
        ]
        .map(p_value);
        assert_eq!(
            shown,
            [
                "<0.001", "<0.001", "0.0204", "0.05", "0.125", "1.000", "n/a"
            ]
        );
    }

    #[test]
    fn places_on_an_axis_are_short() {
        let shown = [0.1 + 0.2, 1000.0, 0.25, 1.5e12, 0.0004, 0.0, 116_722.0].map(compact);
        assert_eq!(
            shown,
            ["0.3", "1000", "0.25", "1.5e12", "4e-4", "0", "116722"]
        );
        assert_eq!([0.25, 16.0, 1.5e12].map(decimals_of), [2, 0, 0]);
        assert_eq!([1234.5, 0.0123, 7.0, 0.0].map(decimals_for), [0, 4, 2, 3]);
    }

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(Some(1_234_567.89), 1), "1,234,567.9");
        assert_eq!(grouped(Some(-999.0), 0), "-999");
        assert_eq!(grouped(None, 0), "n/a");
    }
}
