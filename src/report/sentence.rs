//! Sentences about comparisons, in which every word follows from a number.

use super::claims::{Judged, JudgedComparison, Reply};
use super::format;
use super::input::{Claim, Direction};
use super::view::View;
use crate::stats::Verdict;

/// The two sides that a claim compares, by their labels.
pub fn sides(view: &View, claim: &Claim) -> [String; 2] {
    match &claim.relative_to {
        None => [
            view.method_label(&claim.method).to_owned(),
            view.method_label(&claim.versus).to_owned(),
        ],
        Some(other) => [
            (&claim.method, &claim.versus),
            (&other.method, &other.versus),
        ]
        .map(|(a, b)| format!("({} − {})", view.method_label(a), view.method_label(b))),
    }
}

/// A claim's statement about its methods in mathematical signs.
pub fn signs(view: &View, claim: &Claim) -> String {
    let sign = match claim.direction {
        Direction::Greater => ">",
        Direction::Less => "<",
        Direction::Equivalent => "≈",
        Direction::NotWorse => "≳",
    };
    let [ours, theirs] = sides(view, claim);
    match claim.threshold {
        0.0 => format!("{ours} {sign} {theirs}"),
        threshold => format!("{ours} {sign} {theirs} {threshold:+}"),
    }
}

/// A difference: `+0.012 [-0.004, +0.028]`.
pub fn difference(point: f64, interval: Option<(f64, f64)>, decimals: usize) -> String {
    format::estimate(Some(point), interval, |value| {
        format::signed(value, decimals)
    })
}

/// The difference of a comparison and its number of pairs. A primary comparison uses the look that
/// decided it, or the last, with its simultaneous interval; others use all pairs with the ordinary
/// interval. `None` without data.
pub fn effect(part: &JudgedComparison) -> Option<(String, usize)> {
    let decimals = part.contrast.metric.decimals;
    if matches!(part.reply, Reply::NoData | Reply::NotRegistered) {
        return None;
    }
    if let Some(finding) = part.finding() {
        let interval = finding
            .interval
            .map(|interval| (interval.low, interval.high));
        return Some((difference(finding.estimate, interval, decimals), finding.n));
    }
    let found = part.contrast.paired?.difference;
    let interval = found.interval.map(|interval| (interval.low, interval.high));
    Some((difference(found.point, interval, decimals), found.n))
}

/// The difference at the last look of a comparison, if that look does not uphold the earlier
/// answer: `-0.024 [-0.066, +0.018] at 20 seeds`.
pub fn later_effect(part: &JudgedComparison) -> Option<String> {
    let later = part.not_upheld()?;
    let interval = later.interval.map(|interval| (interval.low, interval.high));
    let difference = difference(later.estimate, interval, part.contrast.metric.decimals);
    Some(format!(
        "{difference} at {}",
        format::count(later.n, "seed")
    ))
}

/// The name of a comparison within its claim: the metric, and the size if there are several.
pub fn part_label(view: &View, judged: &Judged, part: &JudgedComparison) -> String {
    let first = judged.parts.first().map(|first| &first.contrast.size);
    match judged
        .parts
        .iter()
        .all(|other| Some(&other.contrast.size) == first)
    {
        true => part.contrast.metric.label.clone(),
        false => format!(
            "{}, {}",
            part.contrast.metric.label,
            view.size_label(&part.contrast.size)
        ),
    }
}

/// The answer to a claim, with comparisons of equal findings named together. With `numbers`, each
/// has its difference.
pub fn answer(view: &View, judged: &Judged, numbers: bool) -> String {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for part in &judged.parts {
        let found = found(view, judged.claim, part);
        let label = part_label(view, judged, part);
        let label = match effect(part) {
            Some((effect, _)) if numbers => format!("{label} {effect}"),
            _ => label,
        };
        match groups.iter_mut().find(|(known, _)| *known == found) {
            Some((_, labels)) => labels.push(label),
            None => groups.push((found, vec![label])),
        }
    }
    let alone = groups.len() == 1 && judged.parts.len() == 1 && !numbers;
    let said = groups.into_iter().map(|(found, labels)| match alone {
        true => found,
        false => format!("{found} ({})", labels.join("; ")),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// The finding of one comparison, in words.
fn found(view: &View, claim: &Claim, part: &JudgedComparison) -> String {
    let [a, b] = sides(view, claim);
    match &part.reply {
        Reply::NoData => format!("no seed has both {a} and {b}"),
        Reply::NotRegistered => {
            format!("the registered seeds of {a} and {b} have not reached the first look")
        }
        Reply::Primary(finding) => match finding.verdict {
            Some(verdict) => told(verdict, claim, [&a, &b]),
            None => format!("{a} and {b} cannot be told apart without spread over seeds"),
        },
        Reply::Exploratory(it) => match it.q {
            None => format!("{a} and {b} cannot be tested"),
            Some(q) if q >= view.alpha() => match claim.direction {
                Direction::Greater | Direction::Less => {
                    format!("no sign of a difference between {a} and {b}")
                }
                Direction::Equivalent | Direction::NotWorse => {
                    format!("no sign that {}", told_supported(claim, [&a, &b]))
                }
            },
            Some(_) => match claim.direction {
                Direction::Greater if it.distance < 0.0 => {
                    told(Verdict::Contradicted, claim, [&a, &b])
                }
                Direction::Less if it.distance > 0.0 => {
                    told(Verdict::Contradicted, claim, [&a, &b])
                }
                _ => told_supported(claim, [&a, &b]),
            },
        },
    }
}

fn told_supported(claim: &Claim, sides: [&str; 2]) -> String {
    told(Verdict::Supported, claim, sides)
}

/// A verdict as a statement about the two sides.
fn told(verdict: Verdict, claim: &Claim, [a, b]: [&str; 2]) -> String {
    let margin = claim.margin.map(format::compact).unwrap_or_default();
    // The threshold is a part of the value that the difference is compared with.
    let (subject, than, and) = match claim.threshold {
        0.0 => (a.to_owned(), format!("than {b}"), format!("{a} and {b}")),
        threshold => {
            let level = format::signed(threshold, format::decimals_of(threshold));
            (
                format!("{a} minus {b}"),
                format!("than {level}"),
                format!("{a} minus {b} and {level}"),
            )
        }
    };
    match (verdict, claim.direction) {
        (Verdict::Supported, Direction::Greater) | (Verdict::Contradicted, Direction::Less) => {
            format!("{subject} is higher {than}")
        }
        (Verdict::Supported, Direction::Less) | (Verdict::Contradicted, Direction::Greater) => {
            format!("{subject} is lower {than}")
        }
        (Verdict::Equivalent, _) | (Verdict::Supported, Direction::Equivalent) => {
            format!("{and} differ by less than {margin}")
        }
        (Verdict::Contradicted, Direction::Equivalent) => {
            format!("{and} differ by more than {margin}")
        }
        (Verdict::Supported, Direction::NotWorse) => {
            format!("{subject} is not worse {than} by {margin}")
        }
        (Verdict::Contradicted, Direction::NotWorse) => {
            format!("{subject} is worse {than} by more than {margin}")
        }
        (Verdict::NotByMargin, Direction::Less) => {
            format!("{subject} is not lower {than} by more than {margin}")
        }
        (Verdict::NotByMargin, _) => {
            format!("{subject} is not higher {than} by more than {margin}")
        }
        (Verdict::Inconclusive, Direction::Greater) => {
            format!("open whether {subject} is higher {than}")
        }
        (Verdict::Inconclusive, Direction::Less) => {
            format!("open whether {subject} is lower {than}")
        }
        (Verdict::Inconclusive, Direction::Equivalent) => {
            format!("open whether {and} differ by less than {margin}")
        }
        (Verdict::Inconclusive, Direction::NotWorse) => {
            format!("open whether {subject} is worse {than} by {margin}")
        }
    }
}

/// The text with a capital letter, unless it begins with a sign.
pub fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// The items as a list in a sentence: `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Role;

    fn claim(direction: Direction, threshold: f64) -> Claim {
        let [id, text, source, method, versus] = ["c", "text", "ours", "a", "b"].map(str::to_owned);
        Claim {
            id,
            text,
            source,
            metrics: vec!["gold".to_owned()],
            method,
            versus,
            size: None,
            direction,
            threshold,
            role: Role::Primary,
            margin: Some(0.02),
            margin_reason: None,
            seen_before: None,
            relative_to: None,
        }
    }

    #[test]
    fn a_verdict_is_a_statement_about_the_sides() {
        let say =
            |verdict, direction, threshold| told(verdict, &claim(direction, threshold), ["A", "B"]);
        assert_eq!(
            say(Verdict::Supported, Direction::Greater, 0.0),
            "A is higher than B"
        );
        assert_eq!(
            say(Verdict::Contradicted, Direction::Less, 0.0),
            "A is higher than B"
        );
        assert_eq!(
            say(Verdict::Contradicted, Direction::Greater, 0.1),
            "A minus B is lower than +0.1"
        );
        assert_eq!(
            say(Verdict::Equivalent, Direction::Greater, 0.0),
            "A and B differ by less than 0.02"
        );
        assert_eq!(
            say(Verdict::NotByMargin, Direction::Greater, 0.0),
            "A is not higher than B by more than 0.02"
        );
        assert_eq!(
            say(Verdict::Inconclusive, Direction::NotWorse, 0.0),
            "open whether A is worse than B by 0.02"
        );
    }

    #[test]
    fn differences_have_signs_and_lists_an_and() {
        assert_eq!(
            difference(0.0123, Some((-0.004, 0.0281)), 3),
            "+0.012 [-0.004, +0.028]"
        );
        assert_eq!(listed(&["a", "b", "c"].map(str::to_owned)), "a, b and c");
        assert_eq!(capitalised("éa"), "Éa");
    }
}
